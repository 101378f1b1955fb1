//! What follows a decision: volumes are asked for, the pod is bound, or the decision is taken back.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::State;
use crate::framework::Change;
use crate::metrics;
use crate::pod::{Pod, PodClaim};
use crate::prebind::{self, Progress};
use crate::report::{Condition, Outcome};
use crate::storage::Claim;

/// A binding that ended, or what had to be asked for before it.
pub(super) struct Bound {
    pod: Arc<Pod>,
    node: Arc<str>,
    stage: Stage,
    outcome: anyhow::Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The pod's volumes were asked for.
    Volumes,
    /// The pod was bound.
    Pod,
}

impl State {
    /// Binds a pod, or asks for its volumes first.
    pub(super) fn place(&mut self, pod: Arc<Pod>, node: Arc<str>, now: Instant) {
        let fates = self.snapshot.fates(&pod, &node);
        self.snapshot.assume(&pod, &node);
        let ready = |claim: &PodClaim| {
            let claim = self.snapshot.storage.claim(&claim.key);
            claim.is_some_and(Claim::is_ready)
        };
        if pod.claims.iter().all(ready) {
            self.bind(pod, node);
            return;
        }
        let storage = &mut self.snapshot.storage;
        let writes = prebind::writes(storage, &fates);
        for (claim, fate) in fates {
            storage.assume(&claim, &pod.uid, fate);
        }
        if writes.is_empty() {
            self.waiting.add(pod, node, now);
            self.stirred = true;
            return;
        }
        let client = self.client.clone();
        let stage = Stage::Volumes;
        self.start(pod, node, stage, async move {
            prebind::write(client, writes).await
        });
    }

    pub(super) fn bind(&mut self, pod: Arc<Pod>, node: Arc<str>) {
        let client = self.client.clone();
        let (bound, target) = (Arc::clone(&pod), Arc::clone(&node));
        let write = async move { bind(client, &bound, &target).await };
        self.start(pod, node, Stage::Pod, write);
    }

    pub(super) fn start(
        &mut self,
        pod: Arc<Pod>,
        node: Arc<str>,
        stage: Stage,
        write: impl Future<Output = kube::Result<()>> + Send + 'static,
    ) {
        let timeout = self.config.request_timeout;
        self.bindings.spawn(async move {
            let outcome = match tokio::time::timeout(timeout, write).await {
                Ok(outcome) => outcome.map_err(anyhow::Error::from),
                Err(_) => Err(anyhow::anyhow!("no answer within {timeout:?}")),
            };
            Bound {
                pod,
                node,
                stage,
                outcome,
            }
        });
    }

    /// Binds the pods whose volumes are there, and decides those again whose will not come.
    pub(super) fn advance(&mut self, now: Instant) {
        if !self.stirred && self.waiting.next_due().is_none_or(|due| due > now) {
            return;
        }
        self.stirred = false;
        let snapshot = &self.snapshot;
        let node = |name: &str| snapshot.node(name).cloned();
        for (waiting, progress) in self.waiting.settled(&snapshot.storage, node, now) {
            match progress {
                Progress::Failed(why) => {
                    let why = anyhow::anyhow!(
                        "running PreBind plugin \"VolumeBinding\": binding volumes: {why}"
                    );
                    self.fail(&waiting.pod, why);
                }
                Progress::Ready | Progress::Under => self.bind(waiting.pod, waiting.node),
            }
        }
    }

    /// Takes the decision for a pod back; it is tried again.
    pub(super) fn fail(&mut self, pod: &Arc<Pod>, error: anyhow::Error) {
        metrics::attempted("error");
        let now = Instant::now();
        warn!(
            namespace = &*pod.namespace,
            name = &*pod.name,
            "not bound: {error:#}"
        );
        self.snapshot.storage.forget(&pod.uid);
        if let Some(gone) = self.snapshot.forget(&pod.uid) {
            self.wake(&Change::PodRemoved(&gone));
        }
        self.queue.retry(&pod.uid, now);
        let message = format!("{error:#}");
        let condition = Condition::Kept;
        self.reporter
            .report(pod, Outcome::Failed { message, condition });
    }

    /// Takes in how a binding ended. One that succeeded stays assumed until the watch shows it.
    pub(super) fn settle(&mut self, bound: Bound) {
        let Bound {
            pod,
            node,
            stage,
            outcome,
        } = bound;
        match outcome {
            Ok(()) if stage == Stage::Volumes => {
                if self.snapshot.is_assumed(&pod.uid) {
                    self.waiting.add(pod, node, Instant::now());
                    self.stirred = true;
                }
            }
            Ok(()) => {
                self.snapshot.storage.forget(&pod.uid);
                metrics::attempted("scheduled");
                debug!(namespace = &*pod.namespace, name = &*pod.name, %node, "bound");
                self.reporter.report(&pod, Outcome::Scheduled(node));
            }
            Err(error) => {
                let error = match stage {
                    Stage::Volumes => {
                        error.context("running PreBind plugin \"VolumeBinding\": binding volumes")
                    }
                    Stage::Pod => error.context(format!("binding to {node} failed")),
                };
                self.fail(&pod, error);
            }
        }
    }
}

/// Posts the binding; the uid makes sure that it is this pod that is bound.
async fn bind(client: Client, pod: &Pod, node: &str) -> kube::Result<()> {
    let pods: Api<core::Pod> = Api::namespaced(client, &pod.namespace);
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "namespace": &*pod.namespace, "name": &*pod.name, "uid": &*pod.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    let bound: kube::Result<Value> = pods
        .create_subresource("binding", &pod.name, &PostParams::default(), &binding)
        .await;
    bound.map(drop)
}
