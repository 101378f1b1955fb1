//! What a pod asks of a node: the sums over its containers that limits and quotas are about. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    kinds::value::{entries, items, plain, text},
    quantity::Quantity,
};

/// Amounts by resource: `cpu` → `100m`.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// The amounts at a pointer; what is no quantity, which the schema excludes, is left out.
pub(super) fn amounts(object: &Value, pointer: &str) -> Amounts {
    entries(object, pointer)
        .filter_map(|(name, value)| Some((name.clone(), plain(value).parse().ok()?)))
        .collect()
}

/// Adds amounts.
pub(super) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        to.entry(name.clone())
            .and_modify(|sum| *sum = sum.plus(*amount))
            .or_insert(*amount);
    }
}

/// What a pod needs at its busiest: all containers and sidecars together, or an init container beside
/// the sidecars before it, whichever is more; and its overhead. `list` is `requests` or `limits`.
pub(super) fn total(pod: &Value, list: &str) -> Amounts {
    let pointer = format!("/resources/{list}");
    let mut running = Amounts::new();
    for container in items(pod, "/spec/containers") {
        add(&mut running, &amounts(container, &pointer));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in items(pod, "/spec/initContainers") {
        let own = amounts(container, &pointer);
        if text(container, "/restartPolicy") == "Always" {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            most(&mut starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &own);
            most(&mut starting, &together);
        }
    }
    most(&mut running, &starting);
    // What is said of the pod as a whole is meant.
    running.extend(amounts(pod, &format!("/spec/resources/{list}")));
    let overhead = amounts(pod, "/spec/overhead");
    if list == "requests" {
        add(&mut running, &overhead);
    } else {
        let limited: BTreeSet<String> = running.keys().cloned().collect();
        let overhead = overhead
            .into_iter()
            .filter(|(name, _)| limited.contains(name))
            .collect();
        add(&mut running, &overhead);
    }
    running
}

/// Raises each amount to the other's.
fn most(amounts: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        amounts
            .entry(name.clone())
            .and_modify(|own| *own = (*own).max(*amount))
            .or_insert(*amount);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(spec: Value, list: &str, expected: Expect) {
        let texts: Vec<String> = total(&json!({"spec": spec}), list)
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect();
        expected.assert_eq(&texts.join(","));
    }

    fn container(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_needs_what_it_needs_at_its_busiest() {
        let two = json!([container("100m"), container("200m")]);
        check(json!({"containers": two}), "requests", expect!["cpu=300m"]);
        check(
            json!({"containers": two, "initContainers": [container("1"), container("400m")]}),
            "requests",
            expect!["cpu=1"],
        );
        check(
            json!({"containers": two, "initContainers": [sidecar("1"), container("400m")]}),
            "requests",
            expect!["cpu=1400m"],
        );
        check(
            json!({"containers": two, "initContainers": [container("400m"), sidecar("1")]}),
            "requests",
            expect!["cpu=1300m"],
        );
    }

    #[test]
    fn overhead_counts_and_limits_what_is_limited() {
        let spec = json!({
            "containers": [container("100m")], "overhead": {"cpu": "10m", "memory": "1Mi"},
        });
        check(spec.clone(), "requests", expect!["cpu=110m,memory=1Mi"]);
        check(spec, "limits", expect!["cpu=110m"]);
    }
}
