//! What configuration says to plugins that look at labels and at other pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;

use crate::pod::{Labels, Spread};

/// `NodeAffinityArgs`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct NodeAffinityArgs {
    pub(crate) added_affinity: Option<core::NodeAffinity>,
}

impl NodeAffinityArgs {
    /// # Errors
    /// The first value that can't be.
    pub(crate) fn check(&self, path: &str) -> Result<(), String> {
        let Some(added) = &self.added_affinity else {
            return Ok(());
        };
        let path = format!("{path}.addedAffinity");
        let required = &added.required_during_scheduling_ignored_during_execution;
        let required = required.iter().flat_map(|all| &all.node_selector_terms);
        for (index, term) in required.enumerate() {
            const FIELD: &str = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
            check_term(&format!("{path}.{FIELD}[{index}]"), term)?;
        }
        let preferred = &added.preferred_during_scheduling_ignored_during_execution;
        for (index, preferred) in preferred.iter().flatten().enumerate() {
            const FIELD: &str = "preferredDuringSchedulingIgnoredDuringExecution";
            let path = format!("{path}.{FIELD}[{index}].preference");
            check_term(&path, &preferred.preference)?;
        }
        Ok(())
    }
}

fn check_term(path: &str, term: &core::NodeSelectorTerm) -> Result<(), String> {
    const LABELS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
    let lists = [
        ("matchExpressions", &term.match_expressions, LABELS),
        ("matchFields", &term.match_fields, &["In", "NotIn"]),
    ];
    for (field, rules, operators) in lists {
        for (index, rule) in rules.iter().flatten().enumerate() {
            if !operators.contains(&rule.operator.as_str()) {
                let operator = &rule.operator;
                return Err(format!(
                    "{path}.{field}[{index}].operator: Invalid value: {operator:?}: not a valid selector operator"
                ));
            }
        }
    }
    Ok(())
}

/// `InterPodAffinityArgs`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct InterPodAffinityArgs {
    pub(crate) hard_pod_affinity_weight: i64,
    pub(crate) ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self {
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

impl InterPodAffinityArgs {
    /// # Errors
    /// The first value that can't be.
    pub(crate) fn check(&self, path: &str) -> Result<(), String> {
        let weight = self.hard_pod_affinity_weight;
        within(
            path,
            "hardPodAffinityWeight",
            weight,
            (0..=100).contains(&weight),
            "[0, 100]",
        )
    }
}

/// `DefaultPreemptionArgs`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct DefaultPreemptionArgs {
    pub(crate) min_candidate_nodes_percentage: i64,
    pub(crate) min_candidate_nodes_absolute: i64,
}

impl Default for DefaultPreemptionArgs {
    fn default() -> Self {
        Self {
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
        }
    }
}

impl DefaultPreemptionArgs {
    /// # Errors
    /// The first value that can't be.
    pub(crate) fn check(&self, path: &str) -> Result<(), String> {
        let (percentage, fewest) = (
            self.min_candidate_nodes_percentage,
            self.min_candidate_nodes_absolute,
        );
        let names = ("minCandidateNodesPercentage", "minCandidateNodesAbsolute");
        let valid = (0..=100).contains(&percentage);
        within(path, names.0, percentage, valid, "[0, 100]")?;
        within(path, names.1, fewest, fewest >= 0, "[0, inf)")?;
        if percentage == 0 && fewest == 0 {
            return Err(format!(
                "{path}.{}: Invalid value: 0: cannot be zero at the same time as {}",
                names.0, names.1
            ));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Defaulting {
    #[default]
    System,
    List,
}

/// `PodTopologySpreadArgs`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct PodTopologySpreadArgs {
    default_constraints: Vec<core::TopologySpreadConstraint>,
    pub(crate) defaulting_type: Defaulting,
}

impl PodTopologySpreadArgs {
    /// The rules of pods that have none.
    pub(crate) fn rules(&self) -> Vec<Spread> {
        let rules = self.default_constraints.iter();
        rules
            .map(|rule| Spread::parse(rule, &Labels::new()))
            .collect()
    }

    /// # Errors
    /// The first value that can't be.
    pub(crate) fn check(&self, path: &str) -> Result<(), String> {
        if self.defaulting_type == Defaulting::System && !self.default_constraints.is_empty() {
            return Err(format!(
                "{path}.defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty"
            ));
        }
        let mut seen = BTreeSet::new();
        for (index, rule) in self.default_constraints.iter().enumerate() {
            let path = format!("{path}.defaultConstraints[{index}]");
            let skew = i64::from(rule.max_skew);
            within(&path, "maxSkew", skew, skew > 0, "(0, inf)")?;
            let otherwise = &rule.when_unsatisfiable;
            let complaint = if rule.topology_key.is_empty() {
                "topologyKey: Required value: can not be empty".to_owned()
            } else if otherwise.is_empty() {
                "whenUnsatisfiable: Required value: can not be empty".to_owned()
            } else if !["DoNotSchedule", "ScheduleAnyway"].contains(&otherwise.as_str()) {
                format!(
                    "whenUnsatisfiable: Unsupported value: {otherwise:?}: supported values: \"DoNotSchedule\", \"ScheduleAnyway\""
                )
            } else if rule.label_selector.is_some() {
                "labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod".to_owned()
            } else if !seen.insert((&rule.topology_key, otherwise)) {
                let key = &rule.topology_key;
                format!(
                    "{{topologyKey, whenUnsatisfiable}}: Duplicate value: \"{{{key}, {otherwise}}}\""
                )
            } else {
                continue;
            };
            return Err(format!("{path}.{complaint}"));
        }
        Ok(())
    }
}

fn within(path: &str, field: &str, value: i64, valid: bool, range: &str) -> Result<(), String> {
    if valid {
        return Ok(());
    }
    Err(format!(
        "{path}.{field}: Invalid value: {value}: not in valid range {range}"
    ))
}
