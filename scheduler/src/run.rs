//! The loop around the pure decision.
//!
//! Watches `Node` and `Pod`; binds through `pods/binding`; writes the condition `PodScheduled` of
//! pods that fit nowhere, and Events. A pod counts on its node from the moment of the decision, so
//! that a burst is decided without waiting for any answer. Never moves a pod that has a node.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::decision::{Decision, schedule};
use crate::snapshot::{PodNeeds, Snapshot};

const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A pod that fits nowhere is tried again after this even when nothing seems to have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How long a stopping scheduler waits for its requests.
const DRAIN: Duration = Duration::from_secs(5);

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` is another one are left alone.
    pub name: String,
    /// Requests in flight; decisions wait when there are so many.
    pub requests: usize,
    /// Breaks ties between equally good nodes.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default-scheduler".into(),
            requests: 64,
            seed: rand::random(),
        }
    }
}

/// The scheduler, ready to run.
pub struct Scheduler {
    client: Client,
    config: Config,
    snapshot: Snapshot,
    waiting: HashMap<String, Waiting>,
    ready: VecDeque<String>,
    later: BTreeSet<(Instant, String)>,
    requests: JoinSet<Outcome>,
    decisions: u64,
}

/// A pod without a node.
struct Waiting {
    pod: Pod,
    tries: u32,
    not_before: Instant,
    queued: bool,
    /// What it was last told, and when in its Event's count.
    told: Option<(String, String, i32)>,
}

/// What came of a request.
enum Outcome {
    Bound,
    NotBound {
        uid: String,
        live: Option<Box<Pod>>,
    },
    Told {
        uid: String,
        message: String,
        event: String,
        count: i32,
    },
    Nothing,
}

impl Scheduler {
    /// The client's identity should be `system:kube-scheduler`.
    pub fn new(client: Client, config: Config) -> Self {
        Self {
            client,
            config,
            snapshot: Snapshot::default(),
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            requests: JoinSet::new(),
            decisions: 0,
        }
    }

    /// Schedules until `stop`, then waits for the requests in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        let client = self.client.clone();
        let mut nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .boxed();
        let mut pods = watcher(Api::<Pod>::all(client), watcher::Config::default())
            .default_backoff()
            .boxed();
        let (mut seen_nodes, mut seen_pods) = (Seen::default(), Seen::default());
        while !stop.is_cancelled() {
            let listed = seen_nodes.complete && seen_pods.complete;
            let can_decide =
                listed && self.requests.len() < self.config.requests && !self.ready.is_empty();
            let next = self.later.first().map(|(due, _)| *due);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(outcome) = self.requests.join_next() => match outcome {
                    Ok(outcome) => self.settle(outcome),
                    Err(error) => tracing::error!(%error, "a request of the scheduler ended"),
                },
                event = nodes.try_next() => match event {
                    Ok(Some(event)) => self.see_node(event, &mut seen_nodes),
                    Ok(None) => break,
                    Err(error) => tracing::warn!(%error, "watch of nodes failed; trying again"),
                },
                event = pods.try_next() => match event {
                    Ok(Some(event)) => self.see_pod(event, &mut seen_pods),
                    Ok(None) => break,
                    Err(error) => tracing::warn!(%error, "watch of pods failed; trying again"),
                },
                () = until(next) => self.bring_due(),
                () = std::future::ready(()), if can_decide => self.decide_next(),
            }
        }
        let drain = async { while self.requests.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drain).await.is_err() {
            tracing::warn!("requests of the scheduler were cut off at the end");
        }
    }

    fn see_node(&mut self, event: Event<Node>, seen: &mut Seen) {
        match event {
            Event::Init => seen.start(),
            Event::InitApply(node) | Event::Apply(node) => {
                seen.add(node.name_any());
                self.snapshot.set_node(node);
                self.retry_all();
            }
            Event::Delete(node) => {
                seen.remove(&node.name_any());
                self.snapshot.remove_node(&node.name_any());
            }
            Event::InitDone => seen
                .finish()
                .iter()
                .for_each(|name| self.snapshot.remove_node(name)),
        }
    }

    fn see_pod(&mut self, event: Event<Pod>, seen: &mut Seen) {
        match event {
            Event::Init => seen.start(),
            Event::InitApply(pod) | Event::Apply(pod) => {
                seen.add(pod.uid().unwrap_or_default());
                self.take_in(pod);
            }
            Event::Delete(pod) => {
                seen.remove(&pod.uid().unwrap_or_default());
                self.forget(&pod.uid().unwrap_or_default());
            }
            Event::InitDone => seen.finish().iter().for_each(|uid| self.forget(uid)),
        }
    }

    fn take_in(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let node = spec
            .and_then(|spec| spec.node_name.clone())
            .filter(|node| !node.is_empty());
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending");
        if matches!(phase, "Succeeded" | "Failed") {
            return self.forget(&uid);
        }
        if let Some(node) = node {
            self.waiting.remove(&uid);
            return self.snapshot.place(&uid, &node, PodNeeds::of(&pod));
        }
        let ours = spec
            .and_then(|spec| spec.scheduler_name.as_deref())
            .is_none_or(|name| name == self.config.name);
        let gated = spec
            .and_then(|spec| spec.scheduling_gates.as_ref())
            .is_some_and(|gates| !gates.is_empty());
        if !ours || gated || pod.metadata.deletion_timestamp.is_some() {
            self.waiting.remove(&uid);
            return;
        }
        if let Some(waiting) = self.waiting.get_mut(&uid) {
            let changed = waiting.pod.spec != pod.spec;
            waiting.pod = pod;
            if changed {
                self.want(&uid);
            }
        } else if !self.snapshot.holds(&uid) {
            self.waiting.insert(
                uid.clone(),
                Waiting {
                    pod,
                    tries: 0,
                    not_before: Instant::now(),
                    queued: false,
                    told: None,
                },
            );
            self.want(&uid);
        }
    }

    fn forget(&mut self, uid: &str) {
        self.waiting.remove(uid);
        if self.snapshot.remove_pod(uid) {
            self.retry_all();
        }
    }

    /// Puts a pod into the queue, now or when its back-off ends.
    fn want(&mut self, uid: &str) {
        let Some(waiting) = self.waiting.get_mut(uid) else {
            return;
        };
        if waiting.queued {
            return;
        }
        if waiting.not_before > Instant::now() {
            self.later.insert((waiting.not_before, uid.to_owned()));
        } else {
            waiting.queued = true;
            self.ready.push_back(uid.to_owned());
        }
    }

    /// Something changed that may make room.
    fn retry_all(&mut self) {
        let uids: Vec<String> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| !waiting.queued)
            .map(|(uid, _)| uid.clone())
            .collect();
        uids.iter().for_each(|uid| self.want(uid));
    }

    fn bring_due(&mut self) {
        while let Some((due, uid)) = self.later.first().cloned() {
            if due > Instant::now() {
                break;
            }
            self.later.pop_first();
            self.want(&uid);
        }
    }

    fn decide_next(&mut self) {
        let Some(uid) = self.ready.pop_front() else {
            return;
        };
        let Some(waiting) = self.waiting.get_mut(&uid) else {
            return;
        };
        waiting.queued = false;
        self.decisions += 1;
        match schedule(
            &self.snapshot,
            &waiting.pod,
            self.config.seed.wrapping_add(self.decisions),
        ) {
            Decision::Bind(node) => {
                if let Some(waiting) = self.waiting.remove(&uid) {
                    self.snapshot.place(&uid, &node, PodNeeds::of(&waiting.pod));
                    self.requests.spawn(bind(
                        self.client.clone(),
                        self.config.name.clone(),
                        waiting.pod,
                        node,
                    ));
                }
            }
            Decision::Unschedulable(message) => {
                waiting.tries += 1;
                let pause = FIRST_BACKOFF.saturating_mul(1 << waiting.tries.min(5)) / 2;
                waiting.not_before = Instant::now() + pause.min(LONGEST_BACKOFF);
                self.later
                    .insert((Instant::now() + LOOK_AGAIN, uid.clone()));
                let told = waiting.told.take();
                let (client, name, pod) = (
                    self.client.clone(),
                    self.config.name.clone(),
                    waiting.pod.clone(),
                );
                self.requests
                    .spawn(tell(client, name, pod, uid, message, told));
            }
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Bound | Outcome::Nothing => {}
            Outcome::NotBound { uid, live } => {
                self.snapshot.remove_pod(&uid);
                if let Some(pod) = live {
                    self.take_in(*pod);
                }
                self.retry_all();
            }
            Outcome::Told {
                uid,
                message,
                event,
                count,
            } => {
                if let Some(waiting) = self.waiting.get_mut(&uid) {
                    waiting.told = Some((message, event, count));
                }
            }
        }
    }
}

/// What one watch has listed, to notice what went while it was down.
#[derive(Default)]
struct Seen {
    complete: bool,
    before: HashSet<String>,
    now: HashSet<String>,
}

impl Seen {
    fn start(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    fn add(&mut self, name: String) {
        self.now.insert(name);
    }

    fn remove(&mut self, name: &str) {
        self.now.remove(name);
    }

    fn finish(&mut self) -> Vec<String> {
        self.complete = true;
        std::mem::take(&mut self.before)
            .into_iter()
            .filter(|name| !self.now.contains(name))
            .collect()
    }
}

async fn bind(client: Client, scheduler: String, pod: Pod, node: String) -> Outcome {
    let (namespace, name, uid) = (
        pod.namespace().unwrap_or_default(),
        pod.name_any(),
        pod.uid().unwrap_or_default(),
    );
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let post = PostParams::default();
    let request = api.create_subresource::<Value, Value>("binding", &name, &post, &binding);
    let failure = match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(Ok(_)) => None,
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            // Gone, or bound already: what is there now says which.
            let live = tokio::time::timeout(REQUEST_DEADLINE, api.get_opt(&name)).await;
            let live = live
                .ok()
                .and_then(Result::ok)
                .flatten()
                .filter(|live| live.uid() == pod.uid());
            if live.is_some() {
                tokio::time::sleep(FIRST_BACKOFF).await;
            }
            return Outcome::NotBound {
                uid,
                live: live.map(Box::new),
            };
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(elapsed) => Some(elapsed.to_string()),
    };
    if let Some(error) = failure {
        tracing::warn!(
            namespace,
            name,
            node,
            error,
            "a pod was not bound; trying again"
        );
        tokio::time::sleep(FIRST_BACKOFF).await;
        return Outcome::NotBound {
            uid,
            live: Some(Box::new(pod)),
        };
    }
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    write_event(&client, &scheduler, &pod, "Normal", "Scheduled", &message).await;
    Outcome::Bound
}

/// Tells the user why the pod waits: once as a condition, and as an Event that counts.
async fn tell(
    client: Client,
    scheduler: String,
    pod: Pod,
    uid: String,
    message: String,
    told: Option<(String, String, i32)>,
) -> Outcome {
    let namespace = pod.namespace().unwrap_or_default();
    if let Some((before, event, count)) = told.filter(|(before, ..)| *before == message) {
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client, &namespace);
        let patch = json!({"count": count + 1, "lastTimestamp": Timestamp::now()});
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        let _ = tokio::time::timeout(REQUEST_DEADLINE, api.patch(&event, &params, &patch)).await;
        return Outcome::Told {
            uid,
            message: before,
            event,
            count: count + 1,
        };
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": Timestamp::now(),
    }]}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    match tokio::time::timeout(
        REQUEST_DEADLINE,
        api.patch_status(&pod.name_any(), &params, &patch),
    )
    .await
    {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "PodScheduled was not written"),
        Err(error) => tracing::debug!(%error, "PodScheduled was not written"),
    }
    match write_event(
        &client,
        &scheduler,
        &pod,
        "Warning",
        "FailedScheduling",
        &message,
    )
    .await
    {
        Some(event) => Outcome::Told {
            uid,
            message,
            event,
            count: 1,
        },
        None => Outcome::Nothing,
    }
}

/// Gives the name of the Event that was written.
async fn write_event(
    client: &Client,
    scheduler: &str,
    pod: &Pod,
    severity: &str,
    reason: &str,
    message: &str,
) -> Option<String> {
    let namespace = pod.namespace().unwrap_or_default();
    let name = format!("{}.{:016x}", pod.name_any(), rand::random::<u64>());
    let now = Timestamp::now();
    let event = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod.name_any(), "uid": pod.uid()},
        "type": severity, "reason": reason, "message": message, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
        "source": {"component": scheduler}, "reportingComponent": scheduler, "reportingInstance": "",
    }));
    let event: k8s_openapi::api::core::v1::Event = event.ok()?;
    let api = Api::namespaced(client.clone(), &namespace);
    let params = PostParams::default();
    match tokio::time::timeout(REQUEST_DEADLINE, api.create(&params, &event)).await {
        Ok(Ok(_)) => Some(name),
        Ok(Err(error)) => {
            tracing::debug!(%error, reason, "an Event was not written");
            None
        }
        Err(_) => None,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
