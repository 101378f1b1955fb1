//! Pods of containers, through the API.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Measured;

const SOON: Duration = Duration::from_secs(60);
/// For many, and for what is asked again and again.
const LATE: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_millis(50);
const CROWD: &str = "crowd";

pub(super) struct Pods {
    runtime: Runtime,
    client: Client,
}

impl Pods {
    pub(super) fn connect(kubeconfig: &Path) -> Pods {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(async {
            let config = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(config, &options).await;
            Client::try_from(config.expect("it is complete")).expect("a client")
        });
        Pods { runtime, client }
    }

    /// From a pod's creation to the watch event that says that its container runs; then it is removed.
    pub(super) fn start(&self, name: &str, image: &str) -> Measured<Duration> {
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        self.runtime.block_on(async {
            let started = tokio::time::timeout(SOON, created_to_running(&pods, name, image)).await;
            let started = match started {
                Ok(started) => started.map_err(|error| error.to_string()),
                Err(_) => Err(why_not(&pods, name).await),
            };
            let now = DeleteParams::default().grace_period(0);
            pods.delete(name, &now)
                .await
                .map_err(|error| error.to_string())?;
            until(async || matches!(pods.get_opt(name).await, Ok(None))).await?;
            started
        })
    }

    /// From the creation of a Deployment to all its pods being Ready.
    pub(super) fn crowd(&self, count: usize, image: &str) -> Measured<Duration> {
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let mut template = pod(CROWD, image);
        template["metadata"] = json!({"labels": {"app": CROWD}});
        let deployment = json!({
            "metadata": {"name": CROWD},
            "spec": {"replicas": count, "selector": {"matchLabels": {"app": CROWD}}, "template": template},
        });
        let deployment = serde_json::from_value(deployment).expect("a Deployment");
        self.runtime.block_on(async {
            let begun = Instant::now();
            deployments
                .create(&PostParams::default(), &deployment)
                .await
                .map_err(|error| error.to_string())?;
            until(async || {
                let found = deployments.get(CROWD).await.ok();
                let ready = found.and_then(|deployment| deployment.status?.ready_replicas);
                ready.and_then(|ready| usize::try_from(ready).ok()) == Some(count)
            })
            .await?;
            Ok(begun.elapsed())
        })
    }

    pub(super) fn remove_crowd(&self) -> Measured<()> {
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        self.runtime.block_on(async {
            deployments
                .delete(CROWD, &DeleteParams::background())
                .await
                .map_err(|error| error.to_string())?;
            let of = ListParams::default().labels(&format!("app={CROWD}"));
            until(async || {
                let now = DeleteParams::default().grace_period(0);
                let _ = pods.delete_collection(&now, &of).await;
                pods.list(&of).await.is_ok_and(|pods| pods.items.is_empty())
            })
            .await
        })
    }
}

fn pod(name: &str, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "command": ["/bin/sleep", "1000000"]}],
        },
    })
}

async fn created_to_running(pods: &Api<Pod>, name: &str, image: &str) -> kube::Result<Duration> {
    let pod: Pod = serde_json::from_value(pod(name, image)).expect("a pod");
    let begun = Instant::now();
    let made = pods.create(&PostParams::default(), &pod).await?;
    let version = made.metadata.resource_version.unwrap_or_default();
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = pods.watch(&only, &version).await?.boxed();
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Modified(pod) = event
            && runs(&pod)
        {
            return Ok(begun.elapsed());
        }
    }
    panic!("the watch of {name} ended before it ran");
}

fn runs(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| &status.container_statuses);
    let mut states = statuses
        .flatten()
        .filter_map(|status| status.state.as_ref());
    states.any(|state| state.running.is_some())
}

/// What a pod that does not run waits for.
async fn why_not(pods: &Api<Pod>, name: &str) -> String {
    let status = pods.get(name).await.ok().and_then(|pod| pod.status);
    let waiting = status.as_ref().and_then(|status| {
        let first = status.container_statuses.as_ref()?.first()?;
        let waiting = first.state.as_ref()?.waiting.as_ref()?;
        Some(format!(
            "{} {}",
            waiting.reason.as_deref().unwrap_or_default(),
            waiting.message.as_deref().unwrap_or_default()
        ))
    });
    format!(
        "does not run: {}",
        waiting.unwrap_or_else(|| "nobody says why".to_owned())
    )
}

async fn until(done: impl AsyncFn() -> bool) -> Measured<()> {
    let wait = async {
        while !done().await {
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(LATE, wait)
        .await
        .map_err(|_| format!("not within {LATE:?}"))
}
