//! Notices nodes that fell silent, taints them, and evicts their pods.
//!
//! Reads `Node`, `Lease` and `Pod`; writes the `Ready` condition of silent nodes and their pods,
//! and the taints that follow from conditions; deletes pods that tolerate no longer, and says so on
//! them. Compares
//! leases by this process's clock only, so that nodes' clocks need not agree with it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::manager::Manager;
use crate::pod;
use crate::queue::{Action, Queue};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new pods away while they are true.
const PRESSURE: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "node.kubernetes.io/network-unavailable",
    ),
];
/// What admission gives pods that say nothing of their own.
const DEFAULT_TOLERATION: Duration = Duration::from_secs(300);
const COMPONENT: &str = "node-controller";

/// When a node was last heard of, as seen here.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    beat: Beat,
    at: Instant,
}

/// The times that a node writes of itself, by its own clock: into its lease, and into its status.
type Beat = (Option<Timestamp>, Option<Timestamp>);

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("node-lifecycle"));
    context.nodes.listen(on_node(&queue));
    context.leases.listen(on_lease(context, &queue));
    manager.work(queue, reconcile);
}

/// Works on one Node.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(node) = context.nodes.get(&key) else {
        context
            .heartbeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key.name);
        return Ok(Action::AwaitChange);
    };
    let silent_for = silence(&context, &key.name);
    let grace = context.config.node_grace;
    let silent = silent_for >= grace;
    let node = if silent && ready(&node) != "Unknown" {
        mark_unknown(&context, &node).await?
    } else {
        node
    };
    let taints = plan_taints(&node, Timestamp::now());
    if let Some(taints) = taints {
        let api: Api<Node> = Api::all(context.client.clone());
        let patch = json!({
            "metadata": {"uid": node.uid(), "resourceVersion": node.resource_version()},
            "spec": {"taints": taints},
        });
        let answer =
            within_opt(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))).await?;
        answer
            .into_iter()
            .for_each(|node| context.nodes.apply(node));
        return Ok(Action::After(Duration::from_millis(1)));
    }
    let evict_in = evict(&context, &node).await?;
    let silence_in = if silent { grace } else { grace - silent_for };
    Ok(Action::After(
        evict_in
            .map_or(silence_in, |evict| evict.min(silence_in))
            .max(Duration::from_millis(10)),
    ))
}

/// For how long neither the node's lease nor its status has changed.
fn silence(context: &Context, name: &str) -> Duration {
    let lease = context.leases.get(&Key::new("kube-node-lease", name));
    let node = context.nodes.get(&Key::new("", name));
    let beat: Beat = (
        lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0)),
        node.and_then(|node| status_beat(&node)),
    );
    let mut heartbeats = context
        .heartbeats
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let heartbeat = heartbeats
        .entry(name.to_owned())
        .or_insert(Heartbeat { beat, at: now });
    if heartbeat.beat != beat {
        *heartbeat = Heartbeat { beat, at: now };
    }
    heartbeat.at.elapsed()
}

fn status_beat(node: &Node) -> Option<Timestamp> {
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    ready.last_heartbeat_time.as_ref().map(|time| time.0)
}

async fn mark_unknown(context: &Context, node: &Arc<Node>) -> Result<Arc<Node>, Error> {
    let now = Timestamp::now();
    let conditions: Vec<_> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .map(|kind| {
            json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.", "lastTransitionTime": now,
            })
        })
        .into();
    let api: Api<Node> = Api::all(context.client.clone());
    let patch = json!({"status": {"conditions": conditions}});
    let answer = within_opt(api.patch_status(
        &node.name_any(),
        &PatchParams::default(),
        &Patch::Strategic(patch),
    ))
    .await?;
    let message = format!("Node {} status is now: NodeNotReady", node.name_any());
    context
        .recorder
        .named(COMPONENT)
        .record(&**node, Severity::Normal, "NodeNotReady", message);
    answer
        .into_iter()
        .for_each(|node| context.nodes.apply(node));
    for pod in context
        .pods
        .by("node", &node.name_any())
        .iter()
        .filter(|pod| pod::ready(pod))
    {
        let api: Api<Pod> =
            Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "NodeNotReady",
                "lastTransitionTime": now}]}});
        let answer = within_opt(api.patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(patch),
        ))
        .await?;
        answer.into_iter().for_each(|pod| context.pods.apply(pod));
    }
    Ok(context
        .nodes
        .get(&Key::of(&**node))
        .unwrap_or_else(|| node.clone()))
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| condition.status.as_str())
}

fn ready(node: &Node) -> &str {
    condition(node, "Ready").unwrap_or("False")
}

/// The taints that the node should carry, if they are not those that it does.
fn plan_taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready(node) {
        "True" => {}
        "Unknown" => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        _ => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    wanted.extend(
        PRESSURE
            .iter()
            .filter(|(kind, _)| condition(node, kind) == Some("True"))
            .map(|(_, key)| (*key, "NoSchedule")),
    );
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURE.iter().any(|(_, key)| *key == taint.key)
    };
    let old = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let mut taints: Vec<Taint> = old.iter().filter(|taint| !ours(taint)).cloned().collect();
    for (key, effect) in wanted {
        let known = old
            .iter()
            .find(|taint| taint.key == key && taint.effect == effect)
            .cloned();
        taints.push(known.unwrap_or_else(|| {
            Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: (effect == "NoExecute")
                    .then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)),
                value: None,
            }
        }));
    }
    let by_name = |taints: &[Taint]| -> BTreeMap<(String, String), Option<String>> {
        taints
            .iter()
            .map(|taint| {
                (
                    (taint.key.clone(), taint.effect.clone()),
                    taint.value.clone(),
                )
            })
            .collect()
    };
    (by_name(&old) != by_name(&taints)).then_some(taints)
}

/// Deletes pods whose tolerance has run out; says when the next one's will.
async fn evict(context: &Context, node: &Node) -> Result<Option<Duration>, Error> {
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let taints: Vec<Taint> = taints
        .into_iter()
        .filter(|taint| taint.effect == "NoExecute")
        .collect();
    let mut next = None;
    for pod in context.pods.by("node", &node.name_any()) {
        if taints.is_empty() || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        match plan_eviction(&pod, &taints, Timestamp::now()) {
            None => {}
            Some(left) if left.is_zero() => {
                let message = format!("Marking for deletion Pod {}", Key::of(&*pod));
                context.recorder.named("taint-eviction-controller").record(
                    &*pod,
                    Severity::Normal,
                    "TaintManagerEviction",
                    message,
                );
                disrupt(context, &pod).await?;
                delete(context, &pod).await?;
            }
            Some(left) => next = Some(next.map_or(left, |next: Duration| next.min(left))),
        }
    }
    Ok(next)
}

/// How long the pod may stay; `None` is for ever.
fn plan_eviction(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Duration> {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.clone())
        .unwrap_or_default();
    let left = taints.iter().filter_map(|taint| {
        let mut matching = tolerations
            .iter()
            .filter(|toleration| {
                let key = toleration.key.as_deref().unwrap_or("");
                let exists = toleration.operator.as_deref() == Some("Exists");
                toleration
                    .effect
                    .as_deref()
                    .is_none_or(|effect| effect.is_empty() || effect == "NoExecute")
                    && (key == taint.key || (key.is_empty() && exists))
                    && (exists
                        || toleration.value.as_deref().unwrap_or("")
                            == taint.value.as_deref().unwrap_or(""))
            })
            .peekable();
        let builtin = taint.key == NOT_READY || taint.key == UNREACHABLE;
        let allowed = if matching.peek().is_some() {
            let seconds = matching
                .filter_map(|toleration| toleration.toleration_seconds)
                .min()?;
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        } else if builtin {
            DEFAULT_TOLERATION
        } else {
            Duration::ZERO
        };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        Some(allowed.saturating_sub(passed))
    });
    left.min()
}

/// Says on the pod why it ends.
async fn disrupt(context: &Context, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> =
        Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": Timestamp::now(),
    });
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
    within_opt(api.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Strategic(patch),
    ))
    .await?;
    Ok(())
}

async fn delete(context: &Context, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> =
        Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: pod.uid(),
        resource_version: None,
    });
    within_opt(api.delete(&pod.name_any(), &params)).await?;
    Ok(())
}

fn on_node(queue: &Queue<Key>) -> Listener<Node> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        old.or(new)
            .into_iter()
            .for_each(|node| queue.add(Key::of(&**node)));
    })
}

/// Notes the heartbeat; wakes the controller only for a node that counts as lost.
fn on_lease(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Lease> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |_, new| {
        let (Some(context), Some(lease)) = (context.upgrade(), new) else {
            return;
        };
        let name = lease.name_any();
        silence(&context, &name);
        let key = Key::new("", &name);
        if context
            .nodes
            .get(&key)
            .is_some_and(|node| ready(&node) != "True")
        {
            queue.add(key);
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(ready: &str, taints: &[(&str, &str)], expect: Expect) {
        let taints: Vec<_> = taints
            .iter()
            .map(|(key, effect)| json!({"key": key, "effect": effect}))
            .collect();
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap();
        let said =
            plan_taints(&node, Timestamp::UNIX_EPOCH).map_or("as it is".to_owned(), |taints| {
                taints
                    .iter()
                    .map(|taint| format!("{}:{}", taint.key, taint.effect))
                    .collect::<Vec<_>>()
                    .join(" ")
            });
        expect.assert_eq(&said);
    }

    #[test]
    fn taints_follow_the_ready_condition() {
        check("True", &[], expect!["as it is"]);
        check(
            "False",
            &[],
            expect![
                "node.kubernetes.io/not-ready:NoSchedule node.kubernetes.io/not-ready:NoExecute"
            ],
        );
        check(
            "True",
            &[(UNREACHABLE, "NoExecute"), ("mine", "NoSchedule")],
            expect!["mine:NoSchedule"],
        );
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let taint = |key: &str| Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            ..Taint::default()
        };
        let pod = |tolerations| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}}))
                .unwrap()
        };
        let left = |tolerations, key: &str| {
            plan_eviction(&pod(tolerations), &[taint(key)], Timestamp::UNIX_EPOCH)
        };
        assert_eq!(left(json!([]), "mine"), Some(Duration::ZERO));
        assert_eq!(left(json!([]), NOT_READY), Some(DEFAULT_TOLERATION));
        assert_eq!(
            left(
                json!([{"key": "mine", "operator": "Exists", "tolerationSeconds": 7}]),
                "mine"
            ),
            Some(Duration::from_secs(7))
        );
        assert_eq!(left(json!([{"operator": "Exists"}]), "mine"), None);
    }
}
