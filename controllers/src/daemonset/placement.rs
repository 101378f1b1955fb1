//! On which nodes a DaemonSet's pods belong.
//!
//! Pure. Reads of the template what ties pods to nodes: `nodeName`, `nodeSelector`, required node
//! affinity and tolerations, with those that every pod of a DaemonSet gets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Toleration,
};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::taint;

/// What every pod of a DaemonSet tolerates.
const TOLERATED: &[(&str, &str)] = &[
    (taint::NOT_READY, taint::NO_EXECUTE),
    (taint::UNREACHABLE, taint::NO_EXECUTE),
    (taint::DISK_PRESSURE, taint::NO_SCHEDULE),
    (taint::MEMORY_PRESSURE, taint::NO_SCHEDULE),
    (taint::PID_PRESSURE, taint::NO_SCHEDULE),
    (taint::UNSCHEDULABLE, taint::NO_SCHEDULE),
];
/// And this, if it has the network of its host.
const TOLERATED_ON_HOST: (&str, &str) = (taint::NETWORK_UNAVAILABLE, taint::NO_SCHEDULE);

/// What a template says of nodes.
pub(super) struct Placement {
    node_name: String,
    selector: BTreeMap<String, String>,
    affinity: Option<NodeSelector>,
    tolerations: Vec<Toleration>,
}

/// What a node is to a DaemonSet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// A pod should run there.
    pub(super) runs: bool,
    /// One that is there already may stay.
    pub(super) stays: bool,
}

impl Placement {
    pub(super) fn of(set: &DynamicObject) -> Self {
        let spec = set.data.pointer("/spec/template/spec");
        let spec = spec.unwrap_or(&Value::Null);
        let affinity =
            spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
        Self {
            node_name: spec["nodeName"].as_str().unwrap_or_default().to_owned(),
            selector: read(&spec["nodeSelector"]).unwrap_or_default(),
            affinity: affinity
                .filter(|affinity| !affinity.is_null())
                .map(|affinity| read(affinity).unwrap_or_default()),
            tolerations: tolerations(spec).iter().filter_map(read).collect(),
        }
    }

    pub(super) fn verdict(&self, node: &Node) -> Verdict {
        if !self.selects(node) {
            return Verdict::default();
        }
        let untolerated = |effects: &[&str]| {
            taint::of(node).iter().any(|taint| {
                effects.contains(&taint.effect.as_str())
                    && taint::covering(&self.tolerations, taint).is_none()
            })
        };
        Verdict {
            runs: !untolerated(&[taint::NO_SCHEDULE, taint::NO_EXECUTE]),
            stays: !untolerated(&[taint::NO_EXECUTE]),
        }
    }

    fn selects(&self, node: &Node) -> bool {
        let named = self.node_name.is_empty() || self.node_name == node.name_any();
        let mut selector = self.selector.iter();
        let labelled = selector.all(|(name, value)| node.labels().get(name) == Some(value));
        let affine = self.affinity.as_ref().is_none_or(|affinity| {
            let mut terms = affinity.node_selector_terms.iter();
            terms.any(|term| holds(term, node))
        });
        named && labelled && affine
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

/// A term holds if everything in it does; an empty one never does.
fn holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.name_any();
    let label = |key: &str| node.labels().get(key).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then_some(name.as_str());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|need| met(need, label(&need.key)))
        && fields.iter().all(|need| met(need, field(&need.key)))
}

fn met(need: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = need.values.as_deref().unwrap_or_default();
    let listed = || found.is_some_and(|found| values.iter().any(|value| value == found));
    let compared = |holds: fn(&i64, &i64) -> bool| {
        let bound: Option<i64> = values.first().and_then(|value| value.parse().ok());
        let found: Option<i64> = found.and_then(|found| found.parse().ok());
        found
            .zip(bound)
            .is_some_and(|(found, bound)| holds(&found, &bound))
    };
    match need.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

/// The tolerations of a pod spec, with those that every pod of a DaemonSet has.
pub(super) fn tolerations(spec: &Value) -> Vec<Value> {
    let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let on_host = (spec["hostNetwork"] == true).then_some(&TOLERATED_ON_HOST);
    for (key, effect) in TOLERATED.iter().chain(on_host) {
        let ours = json!({"key": key, "operator": "Exists", "effect": effect});
        let told = |toleration: &&mut Value| {
            ["key", "operator", "effect"]
                .iter()
                .all(|field| toleration[field] == ours[field])
        };
        match all.iter_mut().find(told) {
            // Without `tolerationSeconds`: for ever.
            Some(toleration) => *toleration = ours,
            None => all.push(ours),
        }
    }
    all
}

/// An affinity that ties a pod to the node of this name; what is only preferred stays.
pub(super) fn pinned(affinity: &Value, node: &str) -> Value {
    let mut affinity = match affinity {
        Value::Object(_) => affinity.clone(),
        _ => json!({}),
    };
    affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
        "nodeSelectorTerms": [{
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}],
        }],
    });
    affinity
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Nodes `a` and `b`, with the label `size` 1 and 2; `b` has `taint`, if one is given.
    #[track_caller]
    fn check(spec: Value, taint: &str, expect: Expect) {
        let set: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "d"}, "spec": {"template": {"spec": spec}},
        }))
        .unwrap();
        let placement = Placement::of(&set);
        let node = |name: &str, size: &str, taints: Value| -> Node {
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {"size": size}}, "spec": {"taints": taints},
            }))
            .unwrap()
        };
        let taints = taint
            .split_once(':')
            .map(|(key, effect)| json!([{"key": key, "effect": effect}]));
        let nodes = [
            node("a", "1", json!([])),
            node("b", "2", taints.unwrap_or_else(|| json!([]))),
        ];
        let said = nodes.map(|node| {
            let verdict = placement.verdict(&node);
            let word = match (verdict.runs, verdict.stays) {
                (true, _) => "runs",
                (false, true) => "stays",
                (false, false) => "no",
            };
            format!("{} {word}", node.name_any())
        });
        expect.assert_eq(&said.join(", "));
    }

    fn affinity(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}})
    }

    #[test]
    fn pods_run_where_name_labels_and_affinity_say() {
        check(json!({}), "", expect!["a runs, b runs"]);
        check(json!({"nodeName": "b"}), "", expect!["a no, b runs"]);
        let selector = json!({"nodeSelector": {"size": "1"}});
        check(selector, "", expect!["a runs, b no"]);
        let one = |key: &str, operator: &str, values: &[&str]| {
            affinity(json!([{"matchExpressions": [
                {"key": key, "operator": operator, "values": values}]}]))
        };
        check(one("size", "Gt", &["1"]), "", expect!["a no, b runs"]);
        check(one("size", "Lt", &["2"]), "", expect!["a runs, b no"]);
        check(one("size", "NotIn", &["2"]), "", expect!["a runs, b no"]);
        check(one("none", "Exists", &[]), "", expect!["a no, b no"]);
        let named = json!([
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]},
        ]);
        check(affinity(named), "", expect!["a no, b runs"]);
        check(affinity(json!([])), "", expect!["a no, b no"]);
        check(affinity(json!([{}])), "", expect!["a no, b no"]);
    }

    #[test]
    fn a_taint_keeps_pods_away_or_takes_them() {
        check(json!({}), "mine:NoSchedule", expect!["a runs, b stays"]);
        check(json!({}), "mine:NoExecute", expect!["a runs, b no"]);
        let preferred = "mine:PreferNoSchedule";
        check(json!({}), preferred, expect!["a runs, b runs"]);
        let tolerant = json!({"tolerations": [{"key": "mine", "operator": "Exists"}]});
        check(tolerant, "mine:NoExecute", expect!["a runs, b runs"]);
    }

    #[test]
    fn nodes_in_trouble_keep_their_daemons() {
        for (key, effect) in TOLERATED {
            let taint = format!("{key}:{effect}");
            check(json!({}), &taint, expect!["a runs, b runs"]);
        }
        let taint = format!("{}:NoSchedule", taint::NETWORK_UNAVAILABLE);
        check(json!({}), &taint, expect!["a runs, b stays"]);
        let host = json!({"hostNetwork": true});
        check(host, &taint, expect!["a runs, b runs"]);
    }

    #[test]
    fn a_pod_is_tied_to_its_node_and_keeps_what_it_prefers() {
        let affinity = json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"x": 1}]},
            "preferredDuringSchedulingIgnoredDuringExecution": [],
        }});
        expect![[r#"{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[],"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["a"]}]}]}}}"#]]
        .assert_eq(&pinned(&affinity, "a").to_string());
    }
}
