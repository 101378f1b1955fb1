//! Deletes pods that nobody else will: of nodes that are gone or out of service, unscheduled ones that were asked to
//! end, and the oldest of those that have ended once there are too many.
//!
//! Reads `Pod` and `Node`; writes the phase `Failed` and the condition `DisruptionTarget` of pods that have not ended,
//! and deletes. A node that has gone may come back: its pods are left alone for [`QUARANTINE`], and the apiserver is
//! asked once more before anything is deleted. What it remembers of that begins anew with the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within, within_opt};
use crate::key::Key;
use crate::manager::Manager;
use crate::metrics;
use crate::pod;
use crate::queue::{Action, Queue};

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Between looks at all pods.
const PERIOD: Duration = Duration::from_secs(20);
/// How long a node may be missing before its pods are deleted.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Since when nodes that pods name are missing.
type Missing = Mutex<HashMap<String, Instant>>;

/// Why a pod is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Ended,
    OutOfService,
    Orphaned,
    Unscheduled,
}

impl Why {
    /// As Kubernetes' metric calls it.
    fn as_str(self) -> &'static str {
        match self {
            Why::Ended => "terminated",
            Why::OutOfService => "out-of-service",
            Why::Orphaned => "orphaned",
            Why::Unscheduled => "unscheduled",
        }
    }
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("pod-garbage-collector"));
    context.pods.listen(on_pod(&queue));
    context.nodes.listen(on_node(&queue));
    queue.add(all());
    let missing = Arc::<Missing>::default();
    manager.work_at_once(1, queue, move |context, key| {
        reconcile(context, missing.clone(), key)
    });
}

/// Looks at all pods. There is one key, whatever it is.
async fn reconcile(context: Arc<Context>, missing: Arc<Missing>, _: Key) -> Result<Action, Error> {
    let pods = context.pods.all();
    let nodes: BTreeMap<String, Arc<Node>> = context
        .nodes
        .all()
        .into_iter()
        .map(|node| (node.name_any(), node))
        .collect();
    let named = pods.iter().filter_map(|pod| node_of(pod));
    let absent: BTreeSet<&str> = named.filter(|name| !nodes.contains_key(*name)).collect();
    let (suspects, next) = {
        let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
        quarantine(&mut missing, &absent, Instant::now())
    };
    let mut gone = BTreeSet::new();
    for name in suspects {
        let nodes: Api<Node> = Api::all(context.client.clone());
        if within(nodes.get_opt(&name)).await?.is_none() {
            gone.insert(name);
        }
    }
    let threshold = context.config.ended_pods;
    let doomed = plan(&pods, &nodes, &gone, threshold);
    let mut outcomes = stream::iter(doomed)
        .map(|(pod, why)| {
            let context = context.clone();
            async move { delete(&context, &pod, why).await }
        })
        .buffer_unordered(context.config.workers);
    let mut outcome = Ok(Action::After(next.unwrap_or(PERIOD).min(PERIOD)));
    while let Some(one) = outcomes.next().await {
        if let Err(error) = one {
            outcome = Err(error);
        }
    }
    outcome
}

fn node_of(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.node_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

/// Notes which nodes are missing; answers those that have been for long enough, and when the next will have been.
fn quarantine(
    missing: &mut HashMap<String, Instant>,
    absent: &BTreeSet<&str>,
    now: Instant,
) -> (Vec<String>, Option<Duration>) {
    missing.retain(|name, _| absent.contains(name.as_str()));
    let mut suspects = Vec::new();
    let mut next = None;
    for name in absent {
        let since = *missing.entry((*name).to_owned()).or_insert(now);
        let left = QUARANTINE.saturating_sub(now - since);
        if left.is_zero() {
            suspects.push((*name).to_owned());
        } else {
            next = next.into_iter().chain([left]).min();
        }
    }
    (suspects, next)
}

/// Which pods to delete, and why. `gone` are nodes that are known not to exist.
fn plan(
    pods: &[Arc<Pod>],
    nodes: &BTreeMap<String, Arc<Node>>,
    gone: &BTreeSet<String>,
    threshold: usize,
) -> Vec<(Arc<Pod>, Why)> {
    let mut doomed = Vec::new();
    let mut ended = Vec::new();
    for pod in pods {
        let asked = pod.metadata.deletion_timestamp.is_some();
        let node = node_of(pod);
        let lost = node
            .and_then(|name| nodes.get(name))
            .is_some_and(|node| out_of_service(node));
        if node.is_some_and(|name| gone.contains(name)) {
            doomed.push((pod.clone(), Why::Orphaned));
        } else if asked && node.is_none() {
            doomed.push((pod.clone(), Why::Unscheduled));
        } else if asked && lost {
            doomed.push((pod.clone(), Why::OutOfService));
        } else if pod::ended(pod) {
            ended.push(pod);
        }
    }
    if threshold > 0 && ended.len() > threshold {
        // Evicted ones first, for controllers look at the others.
        ended.sort_by_key(|pod| {
            let status = pod.status.as_ref();
            let evicted = status.is_some_and(|status| status.reason.as_deref() == Some("Evicted"));
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (!evicted, created, pod.name_any())
        });
        let surplus = ended.len() - threshold;
        doomed.extend(
            ended[..surplus]
                .iter()
                .map(|pod| ((*pod).clone(), Why::Ended)),
        );
    }
    doomed
}

/// Whether the node is down and an operator has said that it stays so.
fn out_of_service(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions
        .filter(|condition| condition.type_ == "Ready")
        .any(|condition| condition.status == "True");
    let mut taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    !ready && taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Fails a pod that has not ended, since nobody else will say so, and deletes it at once.
async fn delete(context: &Context, pod: &Pod, why: Why) -> Result<(), Error> {
    let name = pod.name_any();
    let api: Api<Pod> =
        Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    if !pod::ended(pod) {
        let mut status = json!({"phase": "Failed"});
        if why == Why::Orphaned {
            status["conditions"] = json!([{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": Timestamp::now(),
            }]);
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
        match within_opt(api.patch_status(&name, &PatchParams::default(), &patch)).await {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            // Another pod has the name now.
            Err(Error::Conflict(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let params = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
    match within_opt(api.delete(&name, &params)).await {
        Ok(_) => {
            metrics::pod_deleted(why.as_str());
            Ok(())
        }
        Err(Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A pod that nobody works on need not wait for the next look.
fn on_pod(queue: &Queue<Key>) -> Listener<Pod> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        let asked = new.filter(|pod| pod.metadata.deletion_timestamp.is_some());
        if asked.is_some_and(|pod| node_of(pod).is_none()) {
            queue.add(all());
        }
    })
}

/// Nor those of a node that has gone or is out of service.
fn on_node(queue: &Queue<Key>) -> Listener<Node> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        let was = old.is_some_and(|node| out_of_service(node));
        if new.is_none_or(|node| out_of_service(node) && !was) {
            queue.add(all());
        }
    })
}

/// The queue's one key.
fn all() -> Key {
    Key::new("", "pods")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Pods as `name phase [node] [asked] [evicted] [@second]`; nodes `up` and `down`, which is out of service, are there.
    #[track_caller]
    fn check(pods: &[&str], gone: &[&str], threshold: usize, want: Expect) {
        let pods: Vec<Arc<Pod>> = pods.iter().map(|line| Arc::new(parse(line))).collect();
        let node = |name: &str, ready: &str, taints: serde_json::Value| {
            let node = json!({
                "metadata": {"name": name}, "spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            let node: Node = serde_json::from_value(node).unwrap();
            (name.to_owned(), Arc::new(node))
        };
        let taint = json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]);
        let nodes = [
            node("up", "True", taint.clone()),
            node("slow", "Unknown", json!([])),
            node("down", "Unknown", taint),
        ];
        let gone = gone.iter().map(|name| (*name).to_owned()).collect();
        let doomed = plan(&pods, &nodes.into(), &gone, threshold);
        let lines: Vec<String> = doomed
            .iter()
            .map(|(pod, why)| format!("{} {}", pod.name_any(), why.as_str()))
            .collect();
        want.assert_eq(&lines.join(", "));
    }

    fn parse(line: &str) -> Pod {
        let mut words = line.split(' ');
        let (name, phase) = (words.next().unwrap(), words.next().unwrap());
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "ns"}, "spec": {"containers": []},
            "status": {"phase": phase},
        });
        for word in words {
            match word {
                "asked" => pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
                "evicted" => pod["status"]["reason"] = "Evicted".into(),
                at if at.starts_with('@') => {
                    let time = format!("2026-01-01T00:00:0{}Z", &at[1..]);
                    pod["metadata"]["creationTimestamp"] = time.into();
                }
                node => pod["spec"]["nodeName"] = node.into(),
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn pods_that_nobody_looks_after_go() {
        let pods = [
            "a Running up",
            "b Running up asked",
            "c Running slow asked",
            "d Running down asked",
            "e Running down",
            "f Pending",
            "g Pending asked",
            "h Running gone",
            "i Running new",
        ];
        check(
            &pods,
            &["gone"],
            1,
            expect!["d out-of-service, g unscheduled, h orphaned"],
        );
    }

    #[test]
    fn of_too_many_that_have_ended_the_evicted_and_the_oldest_go() {
        let pods = [
            "a Succeeded up @3",
            "b Failed up @1",
            "c Failed up evicted @4",
            "d Succeeded up @2",
            "e Running up @0",
        ];
        check(&pods, &[], 2, expect!["c terminated, b terminated"]);
        check(&pods, &[], 4, expect![""]);
        check(&pods, &[], 0, expect![""]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_missing_for_a_while_before_it_is_gone() {
        let mut missing = HashMap::new();
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let absent = BTreeSet::from(["a"]);
        let (suspects, next) = quarantine(&mut missing, &absent, start);
        assert_eq!((suspects.len(), next), (0, Some(QUARANTINE)));
        let (suspects, next) = quarantine(&mut missing, &absent, start + seconds(30));
        assert_eq!((suspects.len(), next), (0, Some(seconds(10))));
        quarantine(&mut missing, &BTreeSet::new(), start + seconds(35));
        let (suspects, _) = quarantine(&mut missing, &absent, start + seconds(50));
        assert_eq!(suspects.len(), 0);
        let (suspects, _) = quarantine(&mut missing, &absent, start + seconds(90));
        assert_eq!(suspects, ["a"]);
    }
}
