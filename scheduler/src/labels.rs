//! Requirements on labels and fields of a node, as node affinity states them.
//!
//! Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::node::Node;

/// All of these must hold; a term without any requirement holds for no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// The API server refuses these; should one come, no node fits.
    Unknown,
}

impl Term {
    /// The names that its fields let a node have; `None` if they say nothing of that.
    pub(crate) fn names(&self) -> Option<Vec<&str>> {
        let mut lists = self
            .fields
            .iter()
            .filter_map(|field| match &field.operator {
                Operator::In(names) if field.key == "metadata.name" => Some(names),
                _ => None,
            });
        let first = lists.next()?;
        let lists: Vec<_> = lists.collect();
        let in_all = first
            .iter()
            .filter(|name| lists.iter().all(|list| list.contains(name)));
        Some(in_all.map(String::as_str).collect())
    }

    /// True if the node meets every requirement.
    pub(crate) fn holds(&self, node: &Node) -> bool {
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then_some(&*node.name);
        self.labels
            .iter()
            .all(|requirement| requirement.holds(label(&node.labels, &requirement.key)))
            && self
                .fields
                .iter()
                .all(|requirement| requirement.holds(field(&requirement.key)))
    }
}

fn label<'a>(labels: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    labels.get(key).map(String::as_str)
}

impl From<&NodeSelectorTerm> for Term {
    fn from(term: &NodeSelectorTerm) -> Self {
        let read = |list: &Option<Vec<NodeSelectorRequirement>>| {
            list.iter().flatten().map(Requirement::from).collect()
        };
        Self {
            labels: read(&term.match_expressions),
            fields: read(&term.match_fields),
        }
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        let among =
            |values: &[String]| value.is_some_and(|value| values.iter().any(|v| v == value));
        match &self.operator {
            Operator::In(values) => among(values),
            Operator::NotIn(values) => !among(values),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(bound) => number().is_some_and(|number| number > *bound),
            Operator::Lt(bound) => number().is_some_and(|number| number < *bound),
            Operator::Unknown => false,
        }
    }
}

impl From<&NodeSelectorRequirement> for Requirement {
    fn from(requirement: &NodeSelectorRequirement) -> Self {
        let values = requirement.values.clone().unwrap_or_default();
        let bound = || values.first().and_then(|value| value.parse().ok());
        let operator = match requirement.operator.as_str() {
            "In" => Operator::In(values),
            "NotIn" => Operator::NotIn(values),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => bound().map_or(Operator::Unknown, Operator::Gt),
            "Lt" => bound().map_or(Operator::Unknown, Operator::Lt),
            _ => Operator::Unknown,
        };
        Self {
            key: requirement.key.clone(),
            operator,
        }
    }
}
