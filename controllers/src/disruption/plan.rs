//! What the status of a budget should say. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::owners::Owners;
use crate::context::controller;
use crate::pod;

/// How long an evicted pod may take to begin to end; after that it is not counted as gone.
pub(super) const EVICTION_SECONDS: i64 = 120;

/// What the status should say.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Plan {
    pub(super) expected: i32,
    pub(super) desired: i32,
    pub(super) healthy: i32,
    pub(super) allowed: i32,
    /// Evicted pods that have not begun to end, by name, and when they were evicted.
    pub(super) disrupted: BTreeMap<String, Timestamp>,
    /// Evicted pods that have had their time and did not.
    pub(super) late: BTreeSet<String>,
    /// Whether there are pods that nobody wants a number of, and such a number is asked for.
    pub(super) unmanaged: bool,
}

/// Whether a budget counts by what the owners of its pods want.
pub(super) fn needs_owners(budget: &PodDisruptionBudget) -> bool {
    budget.spec.as_ref().is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

/// Decides what the status should say.
pub(super) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    owners: &Owners,
    now: Timestamp,
) -> Plan {
    let spec = budget.spec.clone().unwrap_or_default();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = expected(pods, owners);
            let most = share(most, expected);
            (expected, expected.saturating_sub(most).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (count(pods.len()), *least),
        (None, Some(least)) => {
            let expected = expected(pods, owners);
            (expected, share(least, expected))
        }
        (None, None) => (0, 0),
    };
    let status = budget.status.as_ref();
    let known = status.and_then(|status| status.disrupted_pods.as_ref());
    let (mut disrupted, mut late) = (BTreeMap::new(), BTreeSet::new());
    for (name, evicted) in known.into_iter().flatten() {
        let stays = |pod: &Arc<Pod>| {
            pod.metadata.name.as_ref() == Some(name) && pod.metadata.deletion_timestamp.is_none()
        };
        if !pods.iter().any(stays) {
            continue;
        }
        if now.duration_since(evicted.0).as_secs() < EVICTION_SECONDS {
            disrupted.insert(name.clone(), evicted.0);
        } else {
            late.insert(name.clone());
        }
    }
    let is_healthy = |pod: &&Arc<Pod>| {
        pod.metadata.deletion_timestamp.is_none()
            && pod::ready(pod)
            && !disrupted.contains_key(&pod.name_any())
    };
    let healthy = count(pods.iter().filter(is_healthy).count());
    let allowed = if expected > 0 {
        healthy.saturating_sub(desired).max(0)
    } else {
        0
    };
    let unmanaged = needs_owners(budget) && pods.iter().any(|pod| controller(&**pod).is_none());
    Plan {
        expected,
        desired,
        healthy,
        allowed,
        disrupted,
        late,
        unmanaged,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// How many pods there should be: what their controllers want. Those of none do not count.
fn expected(pods: &[Arc<Pod>], owners: &Owners) -> i32 {
    let references = pods.iter().filter_map(|pod| controller(&**pod));
    let wanted: HashMap<&str, i32> = references
        .filter_map(|reference| owners.of(&reference.uid))
        .map(|owner| (owner.uid.as_str(), owner.replicas))
        .collect();
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
            let exact = i64::from(all).saturating_mul(percent);
            i32::try_from(exact.saturating_add(99) / 100).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    /// `a+`: a ready pod of the set; `b-`: one that is not ready; `c!`: one that is being deleted;
    /// `d.`: a ready pod of no controller; `e*`: a ready pod of another set.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_at(text.len() - 1);
        let set = if state == "*" { "other" } else { "set" };
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": set, "controller": true,
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

    /// The set belongs to a Deployment of four; the other one is of three and its own.
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
        let owners = Owners::with(&[("set", "web", 4), ("other", "other", 3)]);
        let plan = plan(&budget, &pods, &owners, NOW.parse().expect("a time"));
        let mut shown = format!(
            "{} healthy of {} expected, {} desired: {} may go",
            plan.healthy, plan.expected, plan.desired, plan.allowed,
        );
        if !plan.disrupted.is_empty() {
            shown += &format!("; evicted {:?}", plan.disrupted.keys().collect::<Vec<_>>());
        }
        if !plan.late.is_empty() {
            shown += &format!("; late {:?}", plan.late);
        }
        if plan.unmanaged {
            shown += "; some unmanaged";
        }
        expect.assert_eq(&shown);
    }

    #[test]
    fn so_many_must_stay() {
        check(
            json!({"minAvailable": 2}),
            json!({}),
            "a+ b+ c+ d-",
            expect!["3 healthy of 4 expected, 2 desired: 1 may go"],
        );
        check(
            json!({"minAvailable": "60%"}),
            json!({}),
            "a+ b+ c+ d+",
            expect!["4 healthy of 4 expected, 3 desired: 1 may go"],
        );
        check(
            json!({"minAvailable": "100%"}),
            json!({}),
            "a+ b+ c+ d+ e*",
            expect!["5 healthy of 7 expected, 7 desired: 0 may go"],
        );
    }

    #[test]
    fn so_many_may_be_missing_of_those_that_the_controllers_want() {
        check(
            json!({"maxUnavailable": 1}),
            json!({}),
            "a+ b+ c!",
            expect!["2 healthy of 4 expected, 3 desired: 0 may go"],
        );
        check(
            json!({"maxUnavailable": "30%"}),
            json!({}),
            "a+ b+ c+ d+",
            expect!["4 healthy of 4 expected, 2 desired: 2 may go"],
        );
        check(
            json!({"maxUnavailable": 0}),
            json!({}),
            "a+ b+ c+ d+ e+",
            expect!["5 healthy of 4 expected, 4 desired: 1 may go"],
        );
        check(
            json!({"maxUnavailable": 9}),
            json!({}),
            "a+ e*",
            expect!["2 healthy of 7 expected, 0 desired: 2 may go"],
        );
    }

    #[test]
    fn a_pod_of_no_controller_is_not_expected() {
        check(
            json!({"maxUnavailable": 1}),
            json!({}),
            "a.",
            expect!["1 healthy of 0 expected, 0 desired: 0 may go; some unmanaged"],
        );
        check(
            json!({"minAvailable": 0}),
            json!({}),
            "a.",
            expect!["1 healthy of 1 expected, 0 desired: 1 may go"],
        );
    }

    #[test]
    fn a_budget_that_says_nothing_allows_nothing() {
        check(
            json!({}),
            json!({}),
            "a+ b+",
            expect!["2 healthy of 0 expected, 0 desired: 0 may go"],
        );
    }

    #[test]
    fn an_evicted_pod_counts_as_gone_until_it_has_had_its_time() {
        check(
            json!({"minAvailable": 1}),
            json!({"a": "2026-01-01T00:59:00Z", "b": "2026-01-01T00:50:00Z", "gone": NOW}),
            "a+ b+ c+",
            expect![[r#"2 healthy of 3 expected, 1 desired: 1 may go; evicted ["a"]; late {"b"}"#]],
        );
    }
}
