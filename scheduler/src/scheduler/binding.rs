//! What follows a decision: Reserve, Permit, PreBind and Bind, or the decision is taken back.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource as _};
use serde_json::json;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::State;
use crate::framework::{Change, Permit, Plugin};
use crate::metrics;
use crate::pod::Pod;
use crate::prebind::{self, Progress, Waiting};
use crate::profile::Profile;
use crate::report::Outcome;

/// A binding that ended, or what had to be asked for before it.
pub(super) struct Bound {
    pod: Arc<Pod>,
    node: Arc<str>,
    stage: Stage,
    outcome: anyhow::Result<()>,
}

enum Stage {
    /// What this plugin asked for before the binding was written, and until when it is waited for.
    Asked(Arc<dyn Plugin>, Instant),
    /// The pod was bound.
    Pod,
}

impl State {
    /// Assumes a pod on its node and brings it on the way to its binding.
    pub(super) fn place(&mut self, profile: &Profile, pod: Arc<Pod>, node: Arc<str>, now: Instant) {
        let nominated = self.snapshot.denominate(&pod.uid);
        self.snapshot.assume(&pod, &node);
        // It takes the room that was made for it, or leaves it to others.
        if let Some(before) = nominated.filter(|before| before.node != node) {
            self.left(&before);
        }
        for plugin in &profile.reserves {
            if let Err(why) = plugin.reserve(&mut self.snapshot, &pod, &node) {
                let name = plugin.name();
                let why = anyhow::anyhow!("running Reserve plugin {name:?}: {why}");
                self.fail(&pod, why);
                return;
            }
        }
        // Others wait for pods like this one, at Permit or in the queue.
        self.waiting.stir_permits();
        if let Some(placed) = self.snapshot.placed(&pod.uid).cloned() {
            self.queue.wake(&Change::PodPlaced(&placed), now);
        }
        self.ask_permits(profile, pod, node, 0, now);
    }

    /// Permit, from one of the plugins on.
    fn ask_permits(
        &mut self,
        profile: &Profile,
        pod: Arc<Pod>,
        node: Arc<str>,
        from: usize,
        now: Instant,
    ) {
        for (index, plugin) in profile.permits.iter().enumerate().skip(from) {
            match plugin.permit(&self.snapshot, &pod, &node) {
                Permit::Allow => {}
                Permit::Wait(patience) => {
                    let plugin = Arc::clone(plugin);
                    let waiting = Waiting::for_permit(pod, node, plugin, index, now + patience);
                    self.waiting.add(waiting);
                    return;
                }
                Permit::Deny(why) => {
                    let why = anyhow::anyhow!("{why}");
                    self.fail(&pod, why);
                    return;
                }
            }
        }
        self.pre_bind(profile, pod, node, now);
    }

    /// PreBind: the pod is bound, or what a plugin needs before that is asked for.
    fn pre_bind(&mut self, profile: &Profile, pod: Arc<Pod>, node: Arc<str>, now: Instant) {
        let mut plugins = profile.pre_binds.iter();
        let needed = plugins.find_map(|plugin| {
            let needed = plugin.pre_bind(&self.snapshot, &pod, &node)?;
            Some((Arc::clone(plugin), needed))
        });
        let Some((plugin, needed)) = needed else {
            self.to_bind.push_back((pod, node));
            return;
        };
        let until = now + needed.patience;
        if needed.writes.is_empty() {
            self.waiting.add(Waiting::new(pod, node, plugin, until));
            return;
        }
        let client = self.client.clone();
        let write = async move { prebind::write(client, needed.writes).await };
        self.start(pod, node, Stage::Asked(plugin, until), write);
    }

    /// Binds pods as far as there are slots.
    pub(super) fn start_bindings(&mut self) {
        while self.bindings.len() < self.config.bind_concurrency.max(1)
            && let Some((pod, node)) = self.to_bind.pop_front()
        {
            let client = self.client.clone();
            let (bound, target) = (Arc::clone(&pod), Arc::clone(&node));
            let write = async move { bind(client, &bound, &target).await };
            self.start(pod, node, Stage::Pod, write);
        }
    }

    fn start(
        &mut self,
        pod: Arc<Pod>,
        node: Arc<str>,
        stage: Stage,
        write: impl Future<Output = kube::Result<()>> + Send + 'static,
    ) {
        let timeout = self.config.request_timeout;
        self.bindings.spawn(async move {
            let begun = Instant::now();
            let outcome = match tokio::time::timeout(timeout, write).await {
                Ok(outcome) => outcome.map_err(anyhow::Error::from),
                Err(_) => Err(anyhow::anyhow!("no answer within {timeout:?}")),
            };
            let point = match stage {
                Stage::Asked(..) => "PreBind",
                Stage::Pod => "Bind",
            };
            let seconds = begun.elapsed().as_secs_f64();
            metrics::extended(&pod.scheduler, point, outcome.is_ok(), seconds);
            Bound {
                pod,
                node,
                stage,
                outcome,
            }
        });
    }

    /// Brings the pods on for which what they waited for is there, and decides those again for which it will not come.
    pub(super) fn advance(&mut self, now: Instant) {
        for (waiting, progress) in self.waiting.settled(&self.snapshot, now) {
            let Waiting {
                pod,
                node,
                plugin,
                permit,
                ..
            } = waiting;
            let Some(profile) = self.profile(&pod) else {
                continue;
            };
            match (progress, permit) {
                (Progress::Failed(why), None) => {
                    let name = plugin.name();
                    let why = anyhow::anyhow!("running PreBind plugin {name:?}: {why}");
                    self.fail(&pod, why);
                }
                (Progress::Failed(why), Some(_)) => self.fail(&pod, anyhow::anyhow!(why)),
                (_, Some(index)) => self.ask_permits(&profile, pod, node, index + 1, now),
                (_, None) => self.to_bind.push_back((pod, node)),
            }
        }
    }

    /// Takes the decision for a pod back; it is tried again.
    pub(super) fn fail(&mut self, pod: &Arc<Pod>, error: anyhow::Error) {
        metrics::attempted(&pod.scheduler, "error");
        let now = Instant::now();
        warn!(
            namespace = &*pod.namespace,
            name = &*pod.name,
            "not bound: {error:#}"
        );
        self.attempts.remove(&pod.uid);
        self.unreserve(pod);
        if let Some(gone) = self.snapshot.forget(&pod.uid) {
            self.left(&gone);
        }
        self.queue.retry(&pod.uid, now);
        let message = format!("{error:#}");
        let failed = Outcome::Failed {
            message,
            status: None,
        };
        self.reporter.report(pod, failed);
    }

    /// Unreserve.
    pub(super) fn unreserve(&mut self, pod: &Pod) {
        if let Some(profile) = self.profile(pod) {
            for plugin in profile.reserves.iter().rev() {
                plugin.unreserve(&mut self.snapshot, pod);
            }
        }
    }

    /// Takes in how a binding ended. One that succeeded stays assumed until the watch shows it.
    pub(super) fn settle(&mut self, bound: Bound) {
        let Bound {
            pod,
            node,
            stage,
            outcome,
        } = bound;
        match (outcome, stage) {
            (Ok(()), Stage::Asked(plugin, until)) => {
                if self.snapshot.is_assumed(&pod.uid) {
                    self.waiting.add(Waiting::new(pod, node, plugin, until));
                } else {
                    // It is gone.
                    self.unreserve(&pod);
                }
            }
            (Ok(()), Stage::Pod) => {
                // What was reserved is in the API now.
                self.unreserve(&pod);
                metrics::attempted(&pod.scheduler, "scheduled");
                if let Some((since, number)) = self.attempts.remove(&pod.uid) {
                    metrics::placed(since.elapsed().as_secs_f64(), number);
                }
                debug!(namespace = &*pod.namespace, name = &*pod.name, %node, "bound");
                self.reporter.report(&pod, Outcome::Scheduled(node));
            }
            (Err(error), Stage::Asked(plugin, _)) => {
                let name = plugin.name();
                let error =
                    error.context(format!("running PreBind plugin {name:?}: binding volumes"));
                self.fail(&pod, error);
            }
            (Err(error), Stage::Pod) => {
                self.fail(&pod, error.context(format!("binding to {node} failed")));
            }
        }
    }
}

/// Posts the binding; the uid makes sure that it is this pod that is bound.
async fn bind(client: Client, pod: &Pod, node: &str) -> kube::Result<()> {
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "namespace": &*pod.namespace, "name": &*pod.name, "uid": &*pod.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    let request = Request::new(core::Pod::url_path(&(), Some(&pod.namespace)));
    let body = binding.to_string().into_bytes();
    let request = request.create_subresource("binding", &pod.name, &PostParams::default(), body);
    let request = request.map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await.map(drop)
}
