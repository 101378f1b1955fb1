//! Notices nodes that fell silent, and keeps pods away from nodes in trouble.
//!
//! Reads `Node`, `Lease` and `Pod`; writes the conditions of silent nodes, the `Ready` condition of their
//! pods, and the taints and labels that follow from what nodes say. Never deletes: a NoExecute taint asks
//! [`crate::taint_eviction`] to, and nodes get it one after another, as [`zones`] allows. Two queues: one
//! looks at all nodes every few seconds and decides, the other writes to one node at a time.

mod conditions;
mod health;
mod taints;
mod zones;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use self::conditions::ready;
use self::health::Nodes;
use self::taints::NoExecute;
use self::zones::Zones;
use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::manager::Manager;
use crate::pod;
use crate::queue::{Action, Queue};

const COMPONENT: &str = "node-controller";
/// Between looks at all nodes.
const PERIOD: Duration = Duration::from_secs(5);
/// Requests in flight about silent nodes, or about the pods of one.
const AT_ONCE: usize = 32;

/// What is kept between looks.
struct Lifecycle {
    state: Mutex<State>,
    /// Nodes to write to.
    nodes: Queue<Key>,
}

#[derive(Default)]
struct State {
    nodes: Nodes,
    zones: Zones,
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (look, nodes) = (Queue::new("node-lifecycle"), Queue::new("node-taints"));
    manager.context.nodes.listen(on_node(&look, &nodes));
    look.add(all());
    let lifecycle = Arc::new(Lifecycle {
        state: Mutex::default(),
        nodes: nodes.clone(),
    });
    let looking = lifecycle.clone();
    manager.work_at_once(1, look, move |context, _| {
        let lifecycle = looking.clone();
        async move { lifecycle.look(&context).await }
    });
    manager.work(nodes, move |context, key| {
        let lifecycle = lifecycle.clone();
        async move { lifecycle.tend(&context, &key).await }
    });
}

impl Lifecycle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all nodes.
    async fn look(&self, context: &Context) -> Result<Action, Error> {
        let lease = |name: &str| {
            let lease = context.leases.get(&Key::new("kube-node-lease", name))?;
            Some(lease.spec.as_ref()?.renew_time.as_ref()?.0)
        };
        let (nodes, grace) = (context.nodes.all(), context.config.node_grace);
        let look = self
            .state()
            .nodes
            .look(&nodes, lease, grace, Instant::now());
        for node in &look.registered {
            let message = format!("Registered Node {} in Controller", node.name_any());
            tell(context, node, "RegisteredNode", message);
        }
        for node in &look.removed {
            let message = format!("Removing Node {} from Controller", node.name_any());
            tell(context, node, "RemovingNode", message);
        }
        let marked = look.silent.iter().map(|node| mark_unknown(context, node));
        let mut outcomes = at_once(marked.collect()).await;
        let nodes = context.nodes.all();
        let next = self.decide(&nodes, Instant::now());
        for node in nodes.iter().filter(|node| ready(node) == Some("Unknown")) {
            let name = node.name_any();
            if self.state().nodes.is_untold(&name) {
                let told = mark_pods(context, &name).await;
                if told.is_ok() {
                    self.state().nodes.told(&name);
                }
                outcomes.push(told);
            }
        }
        outcomes.into_iter().collect::<Result<(), Error>>()?;
        Ok(Action::After(next.map_or(PERIOD, |next| next.min(PERIOD))))
    }

    /// Decides which nodes keep their pods; says when the next node that waits for its turn may have it.
    fn decide(&self, nodes: &[Arc<Node>], now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let State {
            nodes: health,
            zones,
        } = &mut *state;
        let seen = nodes
            .iter()
            .map(|node| (&**node, ready(node) == Some("True")));
        if zones.look(seen, now) {
            health.hear_all(now);
        }
        let mut lost: Vec<&Arc<Node>> = Vec::new();
        for node in nodes {
            let name = node.name_any();
            match ready(node) {
                Some("True") => health.decide(&name, NoExecute::Lift),
                _ if zones.stopped() => health.decide(&name, NoExecute::Lift),
                Some(_) => lost.push(node),
                None => {}
            }
        }
        lost.sort_by_cached_key(|node| {
            let ready = conditions::condition(node, "Ready");
            let since = ready.and_then(|ready| ready.last_transition_time.clone());
            (since.map(|time| time.0), node.name_any())
        });
        let mut next = None;
        for node in lost {
            let (name, key) = (node.name_any(), taints::lost(ready(node)));
            let Some(key) = key else { continue };
            let begun = matches!(health.decision(&name), NoExecute::Put(_))
                || taints::executing(node).is_some();
            let turn = if begun { Ok(()) } else { zones.take(node, now) };
            match turn {
                Ok(()) => health.decide(&name, NoExecute::Put(key)),
                Err(left) => next = next.into_iter().chain(left).min(),
            }
        }
        let now = Timestamp::now();
        for node in nodes {
            if taints::plan(node, health.decision(&node.name_any()), now).is_some() {
                self.nodes.add(Key::of(&**node));
            }
        }
        next
    }

    /// Writes the taints and labels of one node.
    async fn tend(&self, context: &Context, key: &Key) -> Result<Action, Error> {
        let Some(node) = context.nodes.get(key) else {
            return Ok(Action::AwaitChange);
        };
        let decision = self.state().nodes.decision(&key.name);
        let taints = taints::plan(&node, decision, Timestamp::now());
        let labels = taints::labels(&node);
        let mut patch = json!({"metadata": {"uid": node.uid()}});
        if let Some(taints) = &taints {
            patch["metadata"]["resourceVersion"] = json!(node.resource_version());
            patch["spec"] = json!({"taints": taints});
        }
        if !labels.is_empty() {
            patch["metadata"]["labels"] = labels.clone().into();
        }
        if taints.is_none() && labels.is_empty() {
            return Ok(Action::AwaitChange);
        }
        let api: Api<Node> = Api::all(context.client.clone());
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let answer = within_opt(api.patch(&key.name, &params, &patch)).await?;
        answer
            .into_iter()
            .for_each(|node| context.nodes.apply(node));
        Ok(Action::AwaitChange)
    }
}

fn tell(context: &Context, node: &Node, reason: &'static str, message: String) {
    let recorder = context.recorder.named(COMPONENT);
    recorder.record(node, Severity::Normal, reason, message);
}

/// Says on a node that nothing is known of it any more.
async fn mark_unknown(context: &Context, node: &Node) -> Result<(), Error> {
    let conditions = conditions::unknown(node, Timestamp::now());
    let api: Api<Node> = Api::all(context.client.clone());
    // What the node says meanwhile goes first.
    let metadata = json!({"uid": node.uid(), "resourceVersion": node.resource_version()});
    let patch = json!({"metadata": metadata, "status": {"conditions": conditions}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    let name = node.name_any();
    let Some(marked) = within_opt(api.patch_status(&name, &params, &patch)).await? else {
        return Ok(());
    };
    if ready(node) == Some("True") {
        let message = format!("Node {name} status is now: NodeNotReady");
        tell(context, node, "NodeNotReady", message);
    }
    context.nodes.apply(marked);
    Ok(())
}

/// Says on the pods of a lost node that they are not ready: nobody knows.
async fn mark_pods(context: &Context, node: &str) -> Result<(), Error> {
    let mut pods = context.pods.by("node", node);
    pods.retain(|pod| pod::ready(pod));
    let marked = pods.iter().map(|pod| mark_pod(context, pod));
    at_once(marked.collect()).await.into_iter().collect()
}

async fn at_once<F: Future<Output = Result<(), Error>>>(requests: Vec<F>) -> Vec<F::Output> {
    let requests = stream::iter(requests).buffer_unordered(AT_ONCE);
    requests.collect().await
}

async fn mark_pod(context: &Context, pod: &Pod) -> Result<(), Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let condition =
        json!({"type": "Ready", "status": "False", "lastTransitionTime": Timestamp::now()});
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    match within_opt(api.patch_status(&pod.name_any(), &params, &patch)).await {
        Ok(Some(marked)) => {
            let recorder = context.recorder.named(COMPONENT);
            let message = "Node is not ready".to_owned();
            recorder.record(pod, Severity::Warning, "NodeNotReady", message);
            context.pods.apply(marked);
            Ok(())
        }
        // Gone, or another pod has the name now.
        Ok(None) | Err(Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Any change of a node may ask for other taints; the nodes together are looked at when one comes, goes, or
/// becomes ready or not.
fn on_node(look: &Queue<Key>, nodes: &Queue<Key>) -> Listener<Node> {
    let (look, nodes) = (look.clone(), nodes.clone());
    Box::new(move |old, new| {
        new.into_iter().for_each(|node| nodes.add(Key::of(&**node)));
        let ready = |node: Option<&Arc<Node>>| node.map(|node| ready(node).map(str::to_owned));
        if ready(old) != ready(new) {
            look.add(all());
        }
    })
}

/// The key of the queue that looks at all nodes.
fn all() -> Key {
    Key::new("", "nodes")
}
