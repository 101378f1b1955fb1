//! Why a pod cannot be on a node: the filters, in the order in which they are asked.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

use crate::snapshot::{NodeState, PodNeeds};

/// The reasons against this node, in the words of the Event; empty if there are none.
pub(crate) fn reasons(state: &NodeState, pod: &Pod, needs: &PodNeeds) -> Vec<String> {
    let filters: [fn(&NodeState, &Pod, &PodNeeds) -> Vec<String>; 6] =
        [unschedulable, node_name, taints, affinity, host_ports, fits];
    filters
        .iter()
        .map(|filter| filter(state, pod, needs))
        .find(|reasons| !reasons.is_empty())
        .unwrap_or_default()
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default()
}

fn unschedulable(state: &NodeState, pod: &Pod, _: &PodNeeds) -> Vec<String> {
    let closed = state.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    if closed && !tolerated(&taint, tolerations(pod)) {
        return vec!["node(s) were unschedulable".into()];
    }
    Vec::new()
}

fn node_name(state: &NodeState, pod: &Pod, _: &PodNeeds) -> Vec<String> {
    let wanted = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or("");
    if wanted.is_empty() || wanted == state.name() {
        return Vec::new();
    }
    vec!["node(s) didn't match the requested node name".into()]
}

fn taints(state: &NodeState, pod: &Pod, _: &PodNeeds) -> Vec<String> {
    let taints = state
        .node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let against = taints.iter().find(|taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !tolerated(taint, tolerations(pod))
    });
    against
        .map(|taint| {
            format!(
                "node(s) had untolerated taint {{{}: {}}}",
                taint.key,
                taint.value.as_deref().unwrap_or("")
            )
        })
        .into_iter()
        .collect()
}

/// Whether one of the tolerations covers the taint.
pub(crate) fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or("");
        let exists = toleration.operator.as_deref() == Some("Exists");
        toleration
            .effect
            .as_deref()
            .is_none_or(|effect| effect.is_empty() || effect == taint.effect)
            && (key == taint.key || (key.is_empty() && exists))
            && (exists
                || toleration.value.as_deref().unwrap_or("")
                    == taint.value.as_deref().unwrap_or(""))
    })
}

fn affinity(state: &NodeState, pod: &Pod, _: &PodNeeds) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let empty = BTreeMap::new();
    let labels = state.node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(name, value)| labels.get(name) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let required = required.is_none_or(|selector| {
        selector
            .node_selector_terms
            .iter()
            .any(|term| term_matches(term, &state.node))
    });
    if selected && required {
        return Vec::new();
    }
    vec!["node(s) didn't match Pod's node affinity/selector".into()]
}

/// Whether a term holds for a node; a term that says nothing holds for none.
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let fields = BTreeMap::from([(
        "metadata.name".to_owned(),
        node.metadata.name.clone().unwrap_or_default(),
    )]);
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let on_fields = term.match_fields.as_deref().unwrap_or_default();
    !(expressions.is_empty() && on_fields.is_empty())
        && expressions
            .iter()
            .all(|requirement| requirement_holds(requirement, &labels))
        && on_fields
            .iter()
            .all(|requirement| requirement_holds(requirement, &fields))
}

fn requirement_holds(
    requirement: &NodeSelectorRequirement,
    labels: &BTreeMap<String, String>,
) -> bool {
    let has = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let numbers = || {
        Some((
            has?.parse::<i64>().ok()?,
            values.first()?.parse::<i64>().ok()?,
        ))
    };
    match requirement.operator.as_str() {
        "In" => has.is_some_and(|has| values.contains(has)),
        "NotIn" => !has.is_some_and(|has| values.contains(has)),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => numbers().is_some_and(|(has, wanted)| has > wanted),
        "Lt" => numbers().is_some_and(|(has, wanted)| has < wanted),
        _ => false,
    }
}

fn host_ports(state: &NodeState, _: &Pod, needs: &PodNeeds) -> Vec<String> {
    let any = |address: &str| address.is_empty() || address == "0.0.0.0";
    let taken = needs.host_ports.iter().any(|(protocol, address, port)| {
        state
            .host_ports
            .iter()
            .any(|(p, a, n)| p == protocol && n == port && (a == address || any(a) || any(address)))
    });
    if taken {
        vec!["node(s) didn't have free ports for the requested pod ports".into()]
    } else {
        Vec::new()
    }
}

fn fits(state: &NodeState, _: &Pod, needs: &PodNeeds) -> Vec<String> {
    let short = needs.amounts.iter().filter(|(name, amount)| {
        let free = state.allocatable.get(*name).copied().unwrap_or(0)
            - state.used.get(*name).copied().unwrap_or(0);
        **amount > 0 && **amount > free
    });
    short
        .map(|(name, _)| {
            if name == "pods" {
                "Too many pods".to_owned()
            } else {
                format!("Insufficient {name}")
            }
        })
        .collect()
}
