//! What configuration says to plugins that look at labels and at other pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;

use super::names;
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
        if let Some(required) = required {
            const FIELD: &str = "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
            let terms = required.node_selector_terms.iter();
            for (index, term) in terms.enumerate() {
                check_term(&format!("{path}.{FIELD}[{index}]"), term)?;
            }
        }
        let preferred = &added.preferred_during_scheduling_ignored_during_execution;
        for (index, preferred) in preferred.iter().flatten().enumerate() {
            const FIELD: &str = "preferredDuringSchedulingIgnoredDuringExecution";
            check_term(&format!("{path}.{FIELD}[{index}]"), &preferred.preference)?;
        }
        Ok(())
    }
}

fn check_term(path: &str, term: &core::NodeSelectorTerm) -> Result<(), String> {
    for (index, rule) in term.match_expressions.iter().flatten().enumerate() {
        check_expression(&format!("{path}.matchExpressions[{index}]"), rule)?;
    }
    for (index, rule) in term.match_fields.iter().flatten().enumerate() {
        let path = format!("{path}.matchFields[{index}]");
        let (operator, values) = (&rule.operator, rule.values.as_deref().unwrap_or_default());
        if !["In", "NotIn"].contains(&operator.as_str()) {
            let path = format!("{path}.operator");
            return Err(names::not_supported(&path, operator, &["In", "NotIn"]));
        }
        if values.len() != 1 {
            return Err(wrong_values(&path, values, "must have one element"));
        }
    }
    Ok(())
}

fn check_expression(path: &str, rule: &core::NodeSelectorRequirement) -> Result<(), String> {
    const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
    let (operator, values) = (
        rule.operator.as_str(),
        rule.values.as_deref().unwrap_or_default(),
    );
    if !OPERATORS.contains(&operator) {
        let path = format!("{path}.operator");
        return Err(names::not_supported(&path, operator, OPERATORS));
    }
    names::check(&format!("{path}.key"), &rule.key)?;
    match operator {
        "In" | "NotIn" if values.is_empty() => Err(wrong_values(
            path,
            values,
            "for 'in', 'notin' operators, values set can't be empty",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => Err(wrong_values(
            path,
            values,
            "values set must be empty for exists and does not exist",
        )),
        "Gt" | "Lt" if values.len() != 1 => Err(wrong_values(
            path,
            values,
            "for 'Gt', 'Lt' operators, exactly one value is required",
        )),
        "Gt" | "Lt" if values.iter().any(|value| value.parse::<i64>().is_err()) => {
            let value = &values[0];
            Err(format!(
                "{path}.values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ))
        }
        _ => Ok(()),
    }
}

fn wrong_values(path: &str, values: &[String], why: &str) -> String {
    let values = serde_json::json!(values);
    format!("{path}.values: Invalid value: {values}: {why}")
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

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Defaulting {
    #[default]
    System,
    List,
    /// Not one that there is.
    #[serde(untagged)]
    Unknown(String),
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
        let own = &self.default_constraints;
        match &self.defaulting_type {
            Defaulting::Unknown(other) => {
                let path = format!("{path}.defaultingType");
                return Err(names::not_supported(&path, other, &["System", "List"]));
            }
            Defaulting::System if !own.is_empty() => {
                return Err(format!(
                    "{path}.defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty"
                ));
            }
            Defaulting::System | Defaulting::List => {}
        }
        let mut seen = BTreeSet::new();
        for (index, rule) in own.iter().enumerate() {
            let path = format!("{path}.defaultConstraints[{index}]");
            check_rule(&path, rule)?;
            let (key, otherwise) = (&rule.topology_key, &rule.when_unsatisfiable);
            if !seen.insert((key, otherwise)) {
                return Err(format!(
                    "{path}: Duplicate value: \"{{{key}, {otherwise}}}\""
                ));
            }
        }
        Ok(())
    }
}

fn check_rule(path: &str, rule: &core::TopologySpreadConstraint) -> Result<(), String> {
    let skew = i64::from(rule.max_skew);
    within(path, "maxSkew", skew, skew > 0, "(0, inf)")?;
    let key = format!("{path}.topologyKey");
    if rule.topology_key.is_empty() {
        return Err(format!("{key}: Required value: can not be empty"));
    }
    names::check(&key, &rule.topology_key)?;
    let (otherwise, path_otherwise) = (
        &rule.when_unsatisfiable,
        format!("{path}.whenUnsatisfiable"),
    );
    if otherwise.is_empty() {
        return Err(format!(
            "{path_otherwise}: Required value: can not be empty"
        ));
    }
    let supported = ["DoNotSchedule", "ScheduleAnyway"];
    if !supported.contains(&otherwise.as_str()) {
        return Err(names::not_supported(&path_otherwise, otherwise, &supported));
    }
    if rule.label_selector.is_some() {
        return Err(format!(
            "{path}.labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod"
        ));
    }
    Ok(())
}

fn within(path: &str, field: &str, value: i64, valid: bool, range: &str) -> Result<(), String> {
    if valid {
        return Ok(());
    }
    Err(format!(
        "{path}.{field}: Invalid value: {value}: not in valid range {range}"
    ))
}
