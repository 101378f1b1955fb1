//! A cluster for tests: the controllers on an API in memory, and a nodelet that runs nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fake_api::FakeApi;
use crate::{Config, Controllers};

/// Longest time, by the paused clock, that a test waits for something.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Ends with the value.
pub(crate) struct Cluster {
    pub(crate) api: FakeApi,
    /// Whether pods become ready.
    pub(crate) starting: Arc<AtomicBool>,
    /// Whether pods that are asked to end do.
    pub(crate) ending: Arc<AtomicBool>,
    node_grace: Duration,
    stop: CancellationToken,
    controllers: JoinSet<anyhow::Result<()>>,
    _nodelet: JoinSet<()>,
}

impl Cluster {
    /// The nodelet sends no heartbeats, so its node may be silent for as long as it likes.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_node_grace(seed, Duration::from_secs(1 << 30))
    }

    pub(crate) fn with_node_grace(seed: u64, node_grace: Duration) -> Self {
        let api = FakeApi::new(seed);
        let (starting, ending) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicBool::new(true)),
        );
        let ready = json!([{"type": "Ready", "status": "True"}]);
        api.create(
            "nodes",
            json!({"metadata": {"name": "n"}, "status": {"conditions": ready}}),
        );
        let mut nodelet = JoinSet::new();
        nodelet.spawn(run_pods(api.clone(), starting.clone(), ending.clone()));
        let mut cluster = Self {
            api,
            starting,
            ending,
            node_grace,
            stop: CancellationToken::new(),
            controllers: JoinSet::new(),
            _nodelet: nodelet,
        };
        cluster.start();
        cluster
    }

    /// Adds a node that is ready.
    pub(crate) fn add_node(&self, name: &str, labels: Value) {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let node =
            json!({"metadata": {"name": name, "labels": labels}, "status": {"conditions": ready}});
        self.api.create("nodes", node);
    }

    fn start(&mut self) {
        self.stop = CancellationToken::new();
        let config = Config {
            node_grace: self.node_grace,
            ..Config::default()
        };
        let controllers = Controllers::new(self.api.client(), config);
        self.controllers.spawn(controllers.run(self.stop.clone()));
    }

    /// Ends the controllers, in the middle of whatever they do, and starts new ones.
    pub(crate) async fn restart(&mut self) {
        self.controllers.shutdown().await;
        self.start();
    }

    /// Waits until something holds of the API.
    #[track_caller]
    pub(crate) fn wait<'a>(
        &'a self,
        what: &'a str,
        holds: impl Fn(&FakeApi) -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let mut changed = self.api.changed();
        let place = std::panic::Location::caller();
        async move {
            let reached = tokio::time::timeout(PATIENCE, async {
                while !holds(&self.api) {
                    changed.changed().await.unwrap();
                }
            });
            if reached.await.is_err() {
                let shown = [
                    "deployments",
                    "replicasets",
                    "statefulsets",
                    "pods",
                    "configmaps",
                ]
                .map(|of| self.api.all(of));
                panic!("{place}: {what} is not so; there are {shown:#?}");
            }
        }
    }

    /// Deploys `replicas` pods of an image.
    pub(crate) fn deploy(&self, replicas: i32, strategy: Value) {
        self.api.create(
            "deployments",
            json!({
                "metadata": {"name": "web", "namespace": "ns"},
                "spec": {
                    "replicas": replicas, "strategy": strategy,
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": template("one"),
                },
            }),
        );
    }

    /// Waits until the roll-out of an image is over.
    pub(crate) async fn rolled_out(&self, image: &str, replicas: usize) {
        let what = format!("{replicas} of {image}");
        self.wait(&what, |api| {
            let pods = api.all("pods");
            let status = &api.find("deployments", "web").unwrap()["status"];
            pods.len() == replicas
                && pods
                    .iter()
                    .all(|pod| pod["spec"]["containers"][0]["image"] == image)
                && ["replicas", "updatedReplicas", "availableReplicas"]
                    .iter()
                    .all(|count| status[count].as_u64() == u64::try_from(replicas).ok())
        })
        .await;
    }

    /// Ends the controllers when the API has fallen silent, and starts new ones.
    pub(crate) async fn restart_when_silent(&mut self, writes: usize) {
        self.api.fall_silent_after(Some(writes));
        let silent = async {
            while !self.api.silent() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        // There may be no more to write.
        let _ = tokio::time::timeout(Duration::from_secs(120), silent).await;
        self.controllers.shutdown().await;
        self.api.fall_silent_after(None);
        self.start();
    }

    /// The messages of Events with a reason, in the order in which they happened.
    pub(crate) fn messages(&self, reason: &str) -> Vec<String> {
        let mut events = self.api.all("events");
        events.retain(|event| event["reason"] == reason);
        events.sort_by_key(|event| {
            let revision = event["metadata"]["resourceVersion"].as_str().unwrap();
            revision.parse::<usize>().unwrap()
        });
        let text = |event: &Value| event["message"].as_str().unwrap().to_owned();
        events.iter().map(text).collect()
    }
}

/// A pod template with an image.
pub(crate) fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80}]}]},
    })
}

/// Whether a pod is ready.
pub(crate) fn ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

/// The node that a pod's affinity names; `n` for others.
fn node_for(pod: &Value) -> &str {
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let name = format!("{required}/nodeSelectorTerms/0/matchFields/0/values/0");
    pod.pointer(&name).and_then(Value::as_str).unwrap_or("n")
}

/// How the program of a pod ends, if its annotation `ends` says that it does: `well`, `badly`, `oddly` (badly
/// if its completion index is odd), `mixed` (by its uid).
fn exit_code(pod: &Value) -> Option<i32> {
    let annotations = &pod["metadata"]["annotations"];
    let index = annotations["batch.kubernetes.io/job-completion-index"].as_str();
    let odd = index.is_some_and(|index| index.parse::<i32>().unwrap() % 2 == 1);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    match annotations["ends"].as_str()? {
        "well" => Some(0),
        "badly" => Some(1),
        "oddly" => Some(i32::from(odd)),
        "mixed" => Some(i32::from(uid.bytes().map(u32::from).sum::<u32>() % 3 == 0)),
        other => panic!("{other}"),
    }
}

async fn run_pods(api: FakeApi, starting: Arc<AtomicBool>, ending: Arc<AtomicBool>) {
    let mut changed = api.changed();
    let (mut seen, mut address) = (0, 0);
    let (mut waiting, mut switches) = (BTreeSet::new(), (true, true));
    loop {
        let now = *changed.borrow_and_update();
        for change in api.written_after("pods", seen) {
            let name = change["object"]["metadata"]["name"].as_str().unwrap();
            waiting.insert(name.to_owned());
        }
        seen = now;
        let set = (
            starting.load(Ordering::SeqCst),
            ending.load(Ordering::SeqCst),
        );
        if set != switches {
            let pods = api.all("pods");
            let names = pods.iter().map(|pod| pod["metadata"]["name"].as_str());
            waiting.extend(names.map(|name| name.unwrap().to_owned()));
            switches = set;
        }
        for name in std::mem::take(&mut waiting) {
            let Some(pod) = api.find("pods", &name) else {
                continue;
            };
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                let held = pod["metadata"]["finalizers"].as_array();
                let held = held.is_some_and(|held| !held.is_empty());
                let told = pod["metadata"]["deletionGracePeriodSeconds"] == 0;
                if switches.1 && !held {
                    api.purge("pods", &name);
                } else if switches.1 && !told {
                    let phase = match pod["status"]["phase"].as_str() {
                        Some("Succeeded") => "Succeeded",
                        _ => "Failed",
                    };
                    let over = json!({"metadata": {"deletionGracePeriodSeconds": 0},
                        "status": {"phase": phase}});
                    api.patch("pods", &name, over);
                }
            } else if pod["status"]["phase"] == "Running"
                && let Some(code) = exit_code(&pod)
            {
                let phase = if code == 0 { "Succeeded" } else { "Failed" };
                let end = json!({"exitCode": code, "finishedAt": crate::clock::now()});
                let status = json!({"name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": end}});
                let over = json!({"phase": phase, "containerStatuses": [status],
                    "conditions": [{"type": "Ready", "status": "False"}]});
                api.patch("pods", &name, json!({"status": over}));
            } else if pod["status"].is_null() && switches.0 {
                let node = node_for(&pod);
                if api.find("nodes", node).is_none() {
                    waiting.insert(name);
                    continue;
                }
                address += 1;
                api.patch(
                    "pods",
                    &name,
                    json!({
                        "spec": {"nodeName": node},
                        "status": {
                            "phase": "Running", "startTime": jiff::Timestamp::now(),
                            "podIP": format!("10.64.{}.{}", address / 256, address % 256),
                            "conditions": [{"type": "Ready", "status": "True",
                                "lastTransitionTime": jiff::Timestamp::now()}],
                        },
                    }),
                );
            }
        }
        // Now and then without a change too, for the switches make none.
        let pause = Duration::from_millis(500);
        if let Ok(Err(_)) = tokio::time::timeout(pause, changed.changed()).await {
            return;
        }
    }
}
