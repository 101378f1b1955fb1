//! The taints and labels that a node should carry.
//!
//! Pure. Taints of other keys or effects are nobody's business here.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Map, Value};

use super::conditions::{condition, ready};
use crate::taint::{
    self, DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NO_EXECUTE, NO_SCHEDULE, NOT_READY,
    PID_PRESSURE, UNREACHABLE, UNSCHEDULABLE,
};

/// Conditions that keep new pods away while they are true.
const TROUBLE: &[(&str, &str)] = &[
    ("MemoryPressure", MEMORY_PRESSURE),
    ("DiskPressure", DISK_PRESSURE),
    ("NetworkUnavailable", NETWORK_UNAVAILABLE),
    ("PIDPressure", PID_PRESSURE),
];
/// Labels that had another name once, which they keep too.
const RENAMED: &[(&str, &str)] = &[
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
];

/// What becomes of the pods of a node that is not ready.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum NoExecute {
    /// Its taints stay as they are.
    #[default]
    Leave,
    /// It takes none from its pods.
    Lift,
    /// It takes them by this taint.
    Put(&'static str),
}

/// The taint of a node by its condition `Ready`.
pub(super) fn lost(ready: Option<&str>) -> Option<&'static str> {
    match ready {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        // One that has said nothing yet takes no pods either.
        _ => Some(NOT_READY),
    }
}

/// The taint by which a node takes its pods' place, if it has one.
pub(super) fn executing(node: &Node) -> Option<&Taint> {
    let mut taints = taint::of(node).iter();
    taints.find(|taint| taint.effect == NO_EXECUTE && is_lost(taint))
}

fn is_lost(taint: &Taint) -> bool {
    [NOT_READY, UNREACHABLE].contains(&taint.key.as_str())
}

fn is_trouble(taint: &Taint) -> bool {
    taint.key == UNSCHEDULABLE || TROUBLE.iter().any(|(_, key)| *key == taint.key)
}

/// The taints that the node should carry, if they are not those that it does.
pub(super) fn plan(node: &Node, decision: NoExecute, now: Timestamp) -> Option<Vec<Taint>> {
    let holds = |kind: &str| condition(node, kind).is_some_and(|c| c.status == "True");
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    wanted.extend(lost(ready(node)).map(|key| (key, NO_SCHEDULE)));
    let trouble = TROUBLE.iter().filter(|(kind, _)| holds(kind));
    wanted.extend(trouble.map(|(_, key)| (*key, NO_SCHEDULE)));
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let decision = match ready(node) {
        Some("True") => NoExecute::Lift,
        _ => decision,
    };
    if let NoExecute::Put(key) = decision {
        wanted.push((key, NO_EXECUTE));
    }
    let ours = |taint: &Taint| match taint.effect.as_str() {
        NO_SCHEDULE => is_lost(taint) || is_trouble(taint),
        NO_EXECUTE => is_lost(taint) && decision != NoExecute::Leave,
        _ => false,
    };
    let is =
        |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let old = taint::of(node);
    let mut taints = old.to_vec();
    taints.retain(|taint| !ours(taint) || wanted.iter().any(|want| is(taint, *want)));
    for want in wanted {
        if !taints.iter().any(|taint| is(taint, want)) {
            taints.push(Taint {
                key: want.0.to_owned(),
                effect: want.1.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    (old != taints).then_some(taints)
}

/// The labels that the node lacks.
pub(super) fn labels(node: &Node) -> Map<String, Value> {
    let labels = node.labels();
    let stale = RENAMED.iter().filter_map(|(new, old)| {
        let value = labels.get(*new)?;
        (labels.get(*old) != Some(value)).then(|| ((*old).to_owned(), value.clone().into()))
    });
    stale.collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(conditions: &str, taints: &str, decision: NoExecute, expect: Expect) {
        let conditions: Vec<_> = conditions
            .split_whitespace()
            .filter_map(|text| text.split_once('='))
            .map(|(kind, status)| json!({"type": kind, "status": status}))
            .collect();
        let taints: Vec<_> = taints
            .split_whitespace()
            .filter_map(|text| text.split_once(':'))
            .map(|(key, effect)| json!({"key": long(key), "effect": effect}))
            .collect();
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"conditions": conditions},
        }))
        .unwrap();
        let said = plan(&node, decision, Timestamp::UNIX_EPOCH).map(|taints| {
            let text = |taint: &Taint| format!("{}:{}", taint.key, taint.effect);
            let text = taints.iter().map(text).collect::<Vec<_>>().join(" ");
            text.replace("node.kubernetes.io/", "")
        });
        expect.assert_eq(&said.unwrap_or_else(|| "as it is".to_owned()));
    }

    fn long(key: &str) -> String {
        match key {
            "mine" => key.to_owned(),
            key => format!("node.kubernetes.io/{key}"),
        }
    }

    #[test]
    fn conditions_keep_new_pods_away() {
        use NoExecute::Leave;
        check("Ready=True", "", Leave, expect!["as it is"]);
        check("", "", Leave, expect!["not-ready:NoSchedule"]);
        check("Ready=False", "", Leave, expect!["not-ready:NoSchedule"]);
        check(
            "Ready=Unknown",
            "not-ready:NoSchedule",
            Leave,
            expect!["unreachable:NoSchedule"],
        );
        check(
            "Ready=True DiskPressure=True NetworkUnavailable=True MemoryPressure=Unknown",
            "",
            Leave,
            expect!["disk-pressure:NoSchedule network-unavailable:NoSchedule"],
        );
        check(
            "Ready=True",
            "memory-pressure:NoSchedule memory-pressure:NoExecute mine:NoSchedule",
            Leave,
            expect!["memory-pressure:NoExecute mine:NoSchedule"],
        );
    }

    #[test]
    fn pods_are_taken_only_by_decision() {
        use NoExecute::{Leave, Lift, Put};
        check(
            "Ready=False",
            "not-ready:NoSchedule",
            Put(NOT_READY),
            expect!["not-ready:NoSchedule not-ready:NoExecute"],
        );
        let both = "unreachable:NoSchedule unreachable:NoExecute";
        check("Ready=Unknown", both, Put(UNREACHABLE), expect!["as it is"]);
        check("Ready=Unknown", both, Leave, expect!["as it is"]);
        check(
            "Ready=Unknown",
            both,
            Lift,
            expect!["unreachable:NoSchedule"],
        );
        check("Ready=True", both, Put(UNREACHABLE), expect![""]);
        check(
            "Ready=False",
            both,
            Put(NOT_READY),
            expect!["not-ready:NoSchedule not-ready:NoExecute"],
        );
    }

    #[test]
    fn old_names_of_labels_follow_the_new_ones() {
        let node = |labels: Value| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels}})).unwrap()
        };
        let lacking = labels(&node(json!({
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64",
            "beta.kubernetes.io/arch": "arm64",
        })));
        assert_eq!(
            Value::from(lacking),
            json!({"beta.kubernetes.io/os": "linux"})
        );
        assert!(labels(&node(json!({}))).is_empty());
    }
}
