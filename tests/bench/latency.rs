//! How long a pod takes, seen by a client in the cluster's own network.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

/// Pods that are measured, after some that warm up.
const PODS: usize = 200;
const WARM: usize = 10;
const SOON: Duration = Duration::from_secs(30);

/// Makes pods one after another and prints p50 and p99 in milliseconds.
pub(crate) fn within(kubeconfig: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut times = runtime.block_on(measure(kubeconfig));
    times.sort_unstable();
    let millis = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1000.0;
    #[expect(clippy::print_stdout, reason = "the caller reads it")]
    {
        println!("{:.1} {:.1}", millis(50), millis(99));
    }
}

async fn measure(kubeconfig: &Path) -> Vec<Duration> {
    // There may be one already: the process' own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.expect("it is complete")).expect("a client");
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut times = Vec::new();
    for number in 0..PODS + WARM {
        let name = format!("pod-{number}");
        let took = tokio::time::timeout(SOON, one(&pods, &name)).await;
        let took = took.expect("the pod gets ready");
        if number >= WARM {
            times.push(took);
        }
        let now = DeleteParams::default().grace_period(0);
        pods.delete(&name, &now).await.expect("it is deleted");
    }
    times
}

async fn one(pods: &Api<Pod>, name: &str) -> Duration {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{
            "name": "hello",
            "image": format!("file://{}", e2e::example("hello.wat")),
            "ports": [{"containerPort": 8080}],
        }]},
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    let begun = Instant::now();
    let made = pods.create(&PostParams::default(), &pod).await;
    let version = made.expect("it is created").metadata.resource_version;
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let watch = pods.watch(&only, &version.unwrap_or_default()).await;
    let mut events = watch.expect("a watch").boxed();
    while let Some(event) = events.try_next().await.expect("the watch goes on") {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else {
            continue;
        };
        let conditions = pod.status.and_then(|status| status.conditions);
        let mut conditions = conditions.into_iter().flatten();
        if conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            return begun.elapsed();
        }
    }
    panic!("the watch of {name} ended before it was Ready");
}
