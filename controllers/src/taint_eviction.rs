//! Deletes pods that do not tolerate the NoExecute taints of their node, or no longer.
//!
//! Reads `Node` and `Pod`; writes the condition `DisruptionTarget` and Events of pods, and deletes them. How
//! long a pod stays counts from the taint's `timeAdded` if it has one, so that a restart gives nobody more
//! time; else from when the taint was first seen. A pod of a node that is gone or silent stays terminating
//! until that comes back, or until the pods of nodes that are gone are collected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
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
use crate::taint;

const COMPONENT: &str = "taint-eviction-controller";
/// Pods of one node that are deleted at a time.
const AT_ONCE: usize = 32;

/// Until when the pods of one node may stay, by their uids.
type Deadlines = HashMap<String, Instant>;
/// Those of every node that has any.
type Pending = Mutex<HashMap<String, Deadlines>>;

/// A stay that is longer than this is for ever.
const LONGEST_STAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("taint-eviction"));
    context.nodes.listen(on_node(&queue));
    context.pods.listen(on_pod(context, &queue));
    let pending = Arc::<Pending>::default();
    manager.work(queue, move |context, key| {
        reconcile(context, pending.clone(), key)
    });
}

/// Works on the pods of one node.
async fn reconcile(
    context: Arc<Context>,
    pending: Arc<Pending>,
    key: Key,
) -> Result<Action, Error> {
    let node = context.nodes.get(&key);
    let taints = node.as_deref().map(executing).unwrap_or_default();
    let plan = {
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        if taints.is_empty() && !pending.contains_key(&key.name) {
            return Ok(Action::AwaitChange);
        }
        let pods = context.pods.by("node", &key.name);
        let deadlines = pending.remove(&key.name).unwrap_or_default();
        let now = (Timestamp::now(), Instant::now());
        let (plan, deadlines) = plan(&pods, &taints, &deadlines, now);
        if !deadlines.is_empty() {
            pending.insert(key.name.clone(), deadlines);
        }
        plan
    };
    for pod in &plan.spared {
        let message = format!("Cancelling deletion of Pod {}", Key::of(&**pod));
        tell(&context, pod, message);
    }
    let requests = plan.evict.iter().map(|pod| evict(&context, pod));
    let requests = stream::iter(requests.collect::<Vec<_>>());
    let outcomes: Vec<_> = requests.buffer_unordered(AT_ONCE).collect().await;
    let outcome: Result<(), Error> = outcomes.into_iter().collect();
    if outcome.is_err() {
        // Their time stays over.
        let over = plan
            .evict
            .iter()
            .map(|pod| (pod.uid().unwrap_or_default(), Instant::now()));
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.entry(key.name).or_default().extend(over);
    }
    outcome?;
    Ok(plan.next.map_or(Action::AwaitChange, Action::After))
}

/// What to do about the pods of one node.
#[derive(Default)]
struct Plan {
    evict: Vec<Arc<Pod>>,
    /// Those that would have been deleted and may stay after all.
    spared: Vec<Arc<Pod>>,
    /// When the next one's time is over.
    next: Option<Duration>,
}

/// Pure. Answers the deadlines that are left, too.
fn plan(
    pods: &[Arc<Pod>],
    taints: &[Taint],
    deadlines: &Deadlines,
    now: (Timestamp, Instant),
) -> (Plan, Deadlines) {
    let (mut plan, mut left) = (Plan::default(), Deadlines::new());
    for pod in pods {
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let uid = pod.uid().unwrap_or_default();
        let before = deadlines.get(&uid).copied();
        let Some(allowed) = stay(pod, taints, now.0) else {
            if before.is_some() {
                plan.spared.push(pod.clone());
            }
            continue;
        };
        // A time that runs goes on though the taint changes.
        let deadline = before.into_iter().chain([now.1 + allowed]).min();
        let deadline = deadline.unwrap_or(now.1);
        if deadline <= now.1 {
            plan.evict.push(pod.clone());
        } else {
            plan.next = plan.next.into_iter().chain([deadline - now.1]).min();
            left.insert(uid, deadline);
        }
    }
    (plan, left)
}

/// For how long from now the pod may stay; `None` is for ever.
fn stay(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Duration> {
    let tolerations = taint::tolerations(pod);
    let scheduled = pod::condition(pod, "PodScheduled");
    let scheduled = scheduled.and_then(|condition| condition.last_transition_time.as_ref());
    let left = taints.iter().filter_map(|taint| {
        let Some(toleration) = taint::covering(tolerations, taint) else {
            return Some(Duration::ZERO);
        };
        let seconds = u64::try_from(toleration.toleration_seconds?).unwrap_or(0);
        // Of a taint that was there before the pod came its time counts from then.
        let since = taint.time_added.iter().chain(scheduled);
        let since = since.map(|time| time.0).max().unwrap_or(now);
        let since = taint.time_added.as_ref().map_or(now, |_| since);
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        Some(Duration::from_secs(seconds).saturating_sub(passed))
    });
    left.min().filter(|left| *left <= LONGEST_STAY)
}

fn executing(node: &Node) -> Vec<Taint> {
    let taints = taint::of(node).iter();
    let executing = taints.filter(|taint| taint.effect == taint::NO_EXECUTE);
    executing.cloned().collect()
}

fn tell(context: &Context, pod: &Pod, message: String) {
    let recorder = context.recorder.named(COMPONENT);
    recorder.record(pod, Severity::Normal, "TaintManagerEviction", message);
}

/// Says on the pod why it ends, and deletes it.
async fn evict(context: &Context, pod: &Pod) -> Result<(), Error> {
    let message = format!("Marking for deletion Pod {}", Key::of(pod));
    tell(context, pod, message);
    match disrupt(context, pod).await {
        // Gone, or another pod has the name now.
        Ok(()) | Err(Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn disrupt(context: &Context, pod: &Pod) -> Result<(), Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": Timestamp::now(),
    });
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    within_opt(api.patch_status(&pod.name_any(), &params, &patch)).await?;
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: pod.uid(),
        resource_version: None,
    });
    let answer = within_opt(api.delete(&pod.name_any(), &params)).await?;
    let going = answer.and_then(|answer| answer.left());
    going.into_iter().for_each(|pod| context.pods.apply(pod));
    Ok(())
}

/// A node whose NoExecute taints changed.
fn on_node(queue: &Queue<Key>) -> Listener<Node> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        let taints = |node: Option<&Arc<Node>>| node.map(|node| executing(node));
        if taints(old).unwrap_or_default() != taints(new).unwrap_or_default() {
            let node = new.or(old).into_iter();
            node.for_each(|node| queue.add(Key::of(&**node)));
        }
    })
}

/// A pod that came to a node with such taints, or tolerates something else now.
fn on_pod(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Pod> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some((new, name)) = new.and_then(|new| Some((new, pod::node(new)?))) else {
            return;
        };
        let known = old.is_some_and(|old| {
            pod::node(old) == Some(name) && taint::tolerations(old) == taint::tolerations(new)
        });
        let (key, context) = (Key::new("", name), context.upgrade());
        let node = context.filter(|_| !known).and_then(|c| c.nodes.get(&key));
        if node.is_some_and(|node| !executing(&node).is_empty()) {
            queue.add(key);
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn taint(key: &str, added: Option<i64>) -> Taint {
        let time = |second| Timestamp::from_second(second).unwrap();
        let added = added.map(|second| json!(time(second)));
        let taint = json!({"key": key, "effect": "NoExecute", "timeAdded": added});
        serde_json::from_value(taint).unwrap()
    }

    fn pod(tolerations: Value, scheduled: i64) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "tolerations": tolerations},
            "status": {"conditions": [{"type": "PodScheduled", "status": "True",
                "lastTransitionTime": Timestamp::from_second(scheduled).unwrap()}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Value {
        json!({"key": key, "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": seconds})
    }

    #[track_caller]
    fn check(tolerations: Value, taints: &[Taint], seconds: Option<u64>) {
        let now = Timestamp::from_second(1000).unwrap();
        let left = stay(&pod(tolerations, 900), taints, now);
        assert_eq!(left.map(|left| left.as_secs()), seconds);
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates_all_taints() {
        let mine = || taint("mine", None);
        check(json!([]), &[], None);
        check(json!([]), &[mine()], Some(0));
        check(json!([toleration("mine", None)]), &[mine()], None);
        check(json!([toleration("mine", Some(30))]), &[mine()], Some(30));
        check(json!([toleration("mine", Some(-1))]), &[mine()], Some(0));
        check(json!([{"operator": "Exists"}]), &[mine()], None);
        let ages = json!([toleration("mine", Some(i64::MAX))]);
        check(ages, &[mine()], None);
        let two = json!([toleration("mine", Some(30)), toleration("other", Some(20))]);
        check(two.clone(), &[mine(), taint("other", None)], Some(20));
        check(two, &[mine(), taint("third", None)], Some(0));
        // Of several that cover a taint the first counts.
        let twice = json!([toleration("mine", None), toleration("mine", Some(1))]);
        check(twice, &[mine()], None);
    }

    #[test]
    fn its_time_counts_from_when_pod_and_taint_met() {
        let tolerations = || json!([toleration("mine", Some(300))]);
        check(tolerations(), &[taint("mine", Some(950))], Some(250));
        check(tolerations(), &[taint("mine", Some(10))], Some(200));
        check(tolerations(), &[taint("mine", None)], Some(300));
        check(tolerations(), &[taint("mine", Some(2000))], Some(300));
    }

    #[test]
    fn a_time_that_runs_goes_on_and_ends_with_the_taint() {
        let pods = [pod(json!([toleration("mine", Some(30))]), 900)];
        let (wall, begun) = (Timestamp::from_second(1000).unwrap(), Instant::now());
        let at = |second| (wall, begun + Duration::from_secs(second));
        let taints = [taint("mine", None)];
        let (first, left) = plan(&pods, &taints, &Deadlines::new(), at(0));
        assert_eq!(first.next, Some(Duration::from_secs(30)));
        let (second, left) = plan(&pods, &taints, &left, at(20));
        assert_eq!(second.next, Some(Duration::from_secs(10)));
        let (spared, none) = plan(&pods, &[], &left, at(25));
        assert_eq!((spared.spared.len(), none.len()), (1, 0));
        let (over, none) = plan(&pods, &taints, &left, at(30));
        assert_eq!((over.evict.len(), none.len()), (1, 0));
    }
}
