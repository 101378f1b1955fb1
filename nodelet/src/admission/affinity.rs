//! `nodeSelector` and required node affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Whether the pod may be on the node of this name with these labels.
pub(super) fn matches(spec: &PodSpec, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let mut selector = spec.node_selector.iter().flatten();
    if !selector.all(|(name, value)| labels.get(name) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref();
    let required = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    required.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter();
        terms.any(|term| holds(term, node, labels))
    })
}

/// A term without requirements matches nothing.
fn holds(term: &NodeSelectorTerm, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |name: &str| labels.get(name).map(String::as_str);
    let field = |name: &str| (name == "metadata.name").then_some(node);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|one| met(one, label(&one.key)))
        && fields.iter().all(|one| met(one, field(&one.key)))
}

fn met(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || found.is_some_and(|found| values.iter().any(|value| value == found));
    let compared = |holds: fn(i64, i64) -> bool| {
        let wanted = values.first().and_then(|value| value.parse().ok());
        let found = found.and_then(|found| found.parse().ok());
        found
            .zip(wanted)
            .is_some_and(|(found, wanted)| holds(found, wanted))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared(|found, wanted| found > wanted),
        "Lt" => compared(|found, wanted| found < wanted),
        _ => false,
    }
}
