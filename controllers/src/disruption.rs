//! Keeps the status of each PodDisruptionBudget: how many of its pods are healthy, how many must be, and
//! how many may be evicted now.
//!
//! Reads `PodDisruptionBudget`, `Pod`, `ReplicaSet` and `Deployment`; writes the budget's status. Never
//! evicts anything: that is the apiserver's, which trusts this status and spends from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::manager::Manager;
use crate::pod;
use crate::queue::{Action, Queue};

/// How long an evicted pod may take to begin to end; after that it is not counted as gone.
const EVICTION_SECONDS: i64 = 120;

/// What the status should say.
#[derive(Clone, PartialEq, Debug, Default)]
struct Plan {
    expected: i32,
    desired: i32,
    healthy: i32,
    allowed: i32,
    /// Evicted pods that have not begun to end, by name, and when they were evicted.
    disrupted: BTreeMap<String, Timestamp>,
}

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("disruption"));
    context.pods.listen(on_pod(context, &queue));
    context.replicasets.listen(on_scale(context, &queue));
    context.deployments.listen(on_scale(context, &queue));
    context.budgets.listen(on_budget(&queue));
    manager.work(queue, reconcile);
}

/// Works on one budget.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(budget) = context.budgets.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    if budget.metadata.deletion_timestamp.is_some() {
        return Ok(Action::AwaitChange);
    }
    let now = Timestamp::now();
    let pods: Vec<Arc<Pod>> = context
        .pods
        .by("namespace", &key.namespace)
        .into_iter()
        .filter(|pod| selects(&budget, pod))
        .collect();
    let sets = context.replicasets.by("namespace", &key.namespace);
    let deployments = context.deployments.by("namespace", &key.namespace);
    let plan = plan(&budget, &pods, &scales(&sets, &deployments), now);
    let wait = plan
        .disrupted
        .values()
        .map(|evicted| EVICTION_SECONDS - now.duration_since(*evicted).as_secs())
        .min();
    write(&context, &budget, plan, now).await?;
    Ok(match wait {
        Some(seconds) => Action::After(Duration::from_secs(seconds.max(1).unsigned_abs())),
        None => Action::AwaitChange,
    })
}

/// How many replicas each controller wants, by its uid: a ReplicaSet of a Deployment stands for it.
fn scales(
    sets: &[Arc<DynamicObject>],
    deployments: &[Arc<DynamicObject>],
) -> HashMap<String, (String, i32)> {
    let replicas = |object: &DynamicObject| {
        let replicas = object.data.pointer("/spec/replicas");
        let replicas = replicas.and_then(serde_json::Value::as_i64).unwrap_or(1);
        i32::try_from(replicas).unwrap_or(i32::MAX)
    };
    let wanted: HashMap<String, i32> = deployments
        .iter()
        .filter_map(|deployment| Some((deployment.uid()?, replicas(deployment))))
        .collect();
    sets.iter()
        .filter_map(|set| {
            let own = set.uid()?;
            let owner = controller(set.owner_references()).map(|owner| owner.uid.clone());
            let scale = match owner {
                Some(owner) => wanted.get(&owner).map(|wanted| (owner.clone(), *wanted)),
                None => None,
            };
            Some((own.clone(), scale.unwrap_or((own, replicas(set)))))
        })
        .collect()
}

fn controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Decides what the status should say. Pure.
fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scales: &HashMap<String, (String, i32)>,
    now: Timestamp,
) -> Plan {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let spec = budget.spec.clone().unwrap_or_default();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = expected(pods, scales);
            (expected, (expected - share(most, expected)).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (count(pods.len()), *least),
        (None, Some(least)) => {
            let expected = expected(pods, scales);
            (expected, share(least, expected))
        }
        (None, None) => (count(pods.len()), 0),
    };
    let known = budget
        .status
        .as_ref()
        .and_then(|status| status.disrupted_pods.as_ref());
    let disrupted: BTreeMap<String, Timestamp> = known
        .into_iter()
        .flatten()
        .map(|(name, evicted)| (name.clone(), evicted.0))
        .filter(|(name, evicted)| {
            let waits = pods.iter().any(|pod| {
                pod.metadata.name.as_ref() == Some(name)
                    && pod.metadata.deletion_timestamp.is_none()
            });
            waits && now.duration_since(*evicted).as_secs() < EVICTION_SECONDS
        })
        .collect();
    let healthy = pods
        .iter()
        .filter(|pod| {
            pod.metadata.deletion_timestamp.is_none()
                && pod::ready(pod)
                && !disrupted.contains_key(&pod.name_any())
        })
        .count();
    let healthy = count(healthy);
    let allowed = if expected > 0 {
        (healthy - desired).max(0)
    } else {
        0
    };
    Plan {
        expected,
        desired,
        healthy,
        allowed,
        disrupted,
    }
}

/// How many pods there should be: what their controllers want. Pods of a controller that is not known
/// count as they are; those of none do not count.
fn expected(pods: &[Arc<Pod>], scales: &HashMap<String, (String, i32)>) -> i32 {
    let mut wanted: HashMap<String, i32> = HashMap::new();
    for pod in pods {
        let Some(owner) = controller(pod.owner_references()) else {
            continue;
        };
        match scales.get(&owner.uid) {
            Some((scaled, replicas)) => {
                wanted.insert(scaled.clone(), *replicas);
            }
            None => *wanted.entry(owner.uid.clone()).or_default() += 1,
        }
    }
    wanted.into_values().fold(0, i32::saturating_add)
}

/// A number, or a percentage of `all`, rounded up.
fn share(amount: &IntOrString, all: i32) -> i32 {
    match amount {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0);
            let exact = i64::from(all) * percent;
            i32::try_from((exact + 99) / 100).unwrap_or(i32::MAX)
        }
    }
}

/// Writes the status, if it says something else.
async fn write(
    context: &Context,
    budget: &PodDisruptionBudget,
    plan: Plan,
    now: Timestamp,
) -> Result<(), Error> {
    let status = budget.status.clone().unwrap_or_default();
    let disrupted: BTreeMap<String, Time> = plan
        .disrupted
        .into_iter()
        .map(|(name, evicted)| (name, Time(evicted)))
        .collect();
    let generation = budget.metadata.generation;
    let unchanged = status.observed_generation == generation
        && status.expected_pods == Some(plan.expected)
        && status.desired_healthy == Some(plan.desired)
        && status.current_healthy == Some(plan.healthy)
        && status.disruptions_allowed == Some(plan.allowed)
        && status.disrupted_pods.clone().unwrap_or_default() == disrupted
        && status
            .conditions
            .as_ref()
            .is_some_and(|all| !all.is_empty());
    if unchanged {
        return Ok(());
    }
    let (is, reason) = if plan.allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let before = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "DisruptionAllowed" && condition.status == is);
    let since = before.map_or(Time(now), |condition| {
        condition.last_transition_time.clone()
    });
    // Those that wait no longer are taken out one by one: a merge leaves what it does not name.
    let mut waiting = json!(disrupted);
    for name in status.disrupted_pods.iter().flatten().map(|(name, _)| name) {
        if !disrupted.contains_key(name) {
            waiting[name] = serde_json::Value::Null;
        }
    }
    let patch = json!({
        // An eviction since this was read has spent a disruption: then this status is not true any more.
        "metadata": {"resourceVersion": budget.metadata.resource_version},
        "status": {
            "observedGeneration": generation,
            "expectedPods": plan.expected,
            "desiredHealthy": plan.desired,
            "currentHealthy": plan.healthy,
            "disruptionsAllowed": plan.allowed,
            "disruptedPods": waiting,
            "conditions": [{
                "type": "DisruptionAllowed", "status": is, "reason": reason, "message": "",
                "observedGeneration": generation, "lastTransitionTime": since,
            }],
        },
    });
    let namespace = budget.namespace().unwrap_or_default();
    let api: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), &namespace);
    let written = within_opt(api.patch_status(
        &budget.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    ))
    .await?;
    if let Some(budget) = written {
        context.budgets.apply(budget);
    }
    Ok(())
}

/// Whether a budget is about a pod: one without a selector is about none, an empty one about all.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    selector
        .and_then(|selector: LabelSelector| Selector::try_from(selector).ok())
        .is_some_and(|selector| selector.matches(pod.labels()))
}

/// A pod wakes the budgets that select it, before or after the change.
fn on_pod(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Pod> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        let Some(pod) = new.or(old) else { return };
        let namespace = pod.namespace().unwrap_or_default();
        for budget in context.budgets.by("namespace", &namespace) {
            if old.into_iter().chain(new).any(|pod| selects(&budget, pod)) {
                queue.add(Key::of(&*budget));
            }
        }
    })
}

/// What a controller wants is part of what a budget expects.
fn on_scale(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<DynamicObject> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        let replicas = |object: &Arc<DynamicObject>| object.data.pointer("/spec/replicas").cloned();
        if old.map(replicas) == new.map(replicas) {
            return;
        }
        let Some(object) = new.or(old) else { return };
        let namespace = object.namespace().unwrap_or_default();
        for budget in context.budgets.by("namespace", &namespace) {
            queue.add(Key::of(&*budget));
        }
    })
}

fn on_budget(queue: &Queue<Key>) -> Listener<PodDisruptionBudget> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .for_each(|budget| queue.add(Key::of(&**budget)));
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::Value;

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    /// `a+`: a ready pod of the set; `b-`: one that is not ready; `c!`: one that is being deleted;
    /// `d.`: a ready pod of no controller.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_at(text.len() - 1);
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "uid": "set", "controller": true,
            }]},
            "status": {"conditions": [{"type": "Ready", "status": if state == "-" { "False" } else { "True" }}]},
        });
        if state == "!" {
            pod["metadata"]["deletionTimestamp"] = NOW.into();
        }
        if state == "." {
            pod["metadata"]["ownerReferences"] = json!([]);
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    /// The set belongs to a Deployment of four.
    #[track_caller]
    fn check(spec: Value, disrupted: Value, pods: &str, expect: Expect) {
        let budget: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "b"},
            "spec": spec,
            "status": {"disruptedPods": disrupted, "currentHealthy": 0, "desiredHealthy": 0,
                "disruptionsAllowed": 0, "expectedPods": 0},
        }))
        .expect("a budget");
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let scales = HashMap::from([("set".to_owned(), ("web".to_owned(), 4))]);
        let plan = plan(&budget, &pods, &scales, NOW.parse().expect("a time"));
        expect.assert_eq(&format!(
            "{} healthy of {} expected, {} desired: {} may go; evicted {:?}",
            plan.healthy,
            plan.expected,
            plan.desired,
            plan.allowed,
            plan.disrupted.keys().collect::<Vec<_>>()
        ));
    }

    #[test]
    fn so_many_must_stay() {
        check(
            json!({"minAvailable": 2}),
            json!({}),
            "a+ b+ c+ d-",
            expect!["3 healthy of 4 expected, 2 desired: 1 may go; evicted []"],
        );
        check(
            json!({"minAvailable": "60%"}),
            json!({}),
            "a+ b+ c+ d+",
            expect!["4 healthy of 4 expected, 3 desired: 1 may go; evicted []"],
        );
    }

    #[test]
    fn so_many_may_be_missing_of_those_that_the_controller_wants() {
        check(
            json!({"maxUnavailable": 1}),
            json!({}),
            "a+ b+ c!",
            expect!["2 healthy of 4 expected, 3 desired: 0 may go; evicted []"],
        );
        check(
            json!({"maxUnavailable": "30%"}),
            json!({}),
            "a+ b+ c+ d+",
            expect!["4 healthy of 4 expected, 2 desired: 2 may go; evicted []"],
        );
    }

    #[test]
    fn a_pod_of_no_controller_is_not_expected() {
        check(
            json!({"maxUnavailable": 1}),
            json!({}),
            "a.",
            expect!["1 healthy of 0 expected, 0 desired: 0 may go; evicted []"],
        );
    }

    #[test]
    fn an_evicted_pod_counts_as_gone_until_it_has_had_its_time() {
        check(
            json!({"minAvailable": 1}),
            json!({"a": "2026-01-01T00:59:00Z", "b": "2026-01-01T00:50:00Z", "gone": NOW}),
            "a+ b+ c+",
            expect![[r#"2 healthy of 3 expected, 1 desired: 1 may go; evicted ["a"]"#]],
        );
    }
}
