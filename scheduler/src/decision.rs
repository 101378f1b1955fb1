//! Where a pod goes, or why nowhere.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::filter;
use crate::score::score;
use crate::snapshot::{PodNeeds, Snapshot};

/// What the scheduler says of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The node that it should be on.
    Bind(String),
    /// No node will do; the text is that of the Event.
    Unschedulable(String),
}

/// Decides for one pod. Pure: `seed` breaks ties, so the same inputs give the same decision.
pub fn schedule(snapshot: &Snapshot, pod: &Pod, seed: u64) -> Decision {
    let needs = PodNeeds::of(pod);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut best: Option<(i128, u64, &str)> = None;
    for (place, state) in (0_u64..).zip(snapshot.nodes.values()) {
        let against = filter::reasons(state, pod, &needs);
        if against.is_empty() {
            let candidate = (score(state, pod, &needs), mix(seed, place), state.name());
            best = best.max(Some(candidate));
        }
        for reason in against {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    match best {
        Some((_, _, node)) => Decision::Bind(node.to_owned()),
        None => Decision::Unschedulable(message(snapshot.nodes.len(), &reasons)),
    }
}

fn message(nodes: usize, reasons: &BTreeMap<String, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut counted: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    counted.sort();
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}

/// A number that looks random, the same for the same inputs (the finisher of SplitMix64).
fn mix(seed: u64, place: u64) -> u64 {
    let mut mixed = seed.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// `a cpu=2 taint=k:v closed disk=ssd`: a node, with labels for other words.
    fn snapshot(text: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for line in text.split(';') {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            let (mut cpu, mut used, mut labels, mut spec) = ("4", None, json!({}), json!({}));
            for word in words {
                match word.split_once('=') {
                    Some(("cpu", value)) => cpu = value,
                    Some(("used", value)) => used = Some(value),
                    Some(("taint", value)) => {
                        let (key, value) = value.split_once(':').unwrap();
                        spec["taints"] =
                            json!([{"key": key, "value": value, "effect": "NoSchedule"}]);
                    }
                    Some((label, value)) => labels[label] = json!(value),
                    None => spec["unschedulable"] = json!(true),
                }
            }
            snapshot.set_node(
                serde_json::from_value(json!({
                    "metadata": {"name": name, "labels": labels}, "spec": spec,
                    "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}},
                }))
                .unwrap(),
            );
            if let Some(used) = used {
                snapshot.place(
                    &format!("on-{name}"),
                    name,
                    PodNeeds::of(&pod(json!({}), used)),
                );
            }
        }
        snapshot
    }

    fn pod(mut spec: Value, cpu: &str) -> Pod {
        spec["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": [{"containerPort": 80, "hostPort": spec["hostPort"]}]}]);
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[track_caller]
    fn check(nodes: &str, cpu: &str, spec: Value, expect: Expect) {
        let said = match schedule(&snapshot(nodes), &pod(spec, cpu), 1) {
            Decision::Bind(node) => node,
            Decision::Unschedulable(why) => why,
        };
        expect.assert_eq(&said);
    }

    #[test]
    fn the_emptiest_node_that_fits_wins() {
        check("a used=3; b used=1", "1", json!({}), expect!["b"]);
        check("a used=1; b cpu=64 used=60", "1", json!({}), expect!["a"]);
    }

    #[test]
    fn reasons_are_counted_by_node() {
        check(
            "a cpu=1; b taint=k:v; c closed",
            "2",
            json!({}),
            expect![
                "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable."
            ],
        );
        check(
            "a; b",
            "1",
            json!({"nodeSelector": {"disk": "ssd"}}),
            expect![
                "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
            ],
        );
    }

    #[test]
    fn a_toleration_opens_a_tainted_node() {
        check(
            "a taint=k:v",
            "1",
            json!({"tolerations": [{"key": "k", "operator": "Exists"}]}),
            expect!["a"],
        );
    }

    #[test]
    fn affinity_is_required_or_preferred() {
        let term =
            json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]});
        check(
            "a; b disk=ssd used=3",
            "1",
            json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
            expect!["b"],
        );
        check(
            "a; b disk=ssd used=2",
            "1",
            json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}}}),
            expect!["b"],
        );
    }

    #[test]
    fn a_removed_pod_gives_back_what_it_took() {
        let mut snapshot = snapshot("a cpu=1 used=1");
        assert!(matches!(
            schedule(&snapshot, &pod(json!({}), "1"), 1),
            Decision::Unschedulable(_)
        ));
        assert!(snapshot.remove_pod("on-a"));
        assert_eq!(
            schedule(&snapshot, &pod(json!({}), "1"), 1),
            Decision::Bind("a".into())
        );
    }
}
