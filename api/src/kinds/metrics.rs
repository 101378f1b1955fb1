//! NodeMetrics and PodMetrics: what nodes and pods use now. Computed when asked for, never stored.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, column,
    value::{items, text},
};
use crate::quantity::Quantity;

/// The group of both.
pub(crate) const METRICS_GROUP: &str = "metrics.k8s.io";

/// What a node uses.
pub(crate) struct NodeMetrics;

/// What a pod's containers use.
pub(crate) struct PodMetrics;

static NODE: Names = Names {
    group: METRICS_GROUP,
    version: "v1beta1",
    kind: "NodeMetrics",
    plural: "nodes",
    singular: "node",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
};

static POD: Names = Names {
    kind: "PodMetrics",
    plural: "pods",
    singular: "pod",
    namespaced: true,
    definition: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
    ..NODE
};

const VERBS: &[&str] = &["get", "list"];

const COLUMNS: &[Column] = &[
    column::NAME,
    Column {
        format: "quantity",
        ..column::shown("cpu", "")
    },
    Column {
        format: "quantity",
        ..column::shown("memory", "")
    },
    Column {
        format: "duration",
        ..column::shown("Window", "")
    },
];

impl Kind for NodeMetrics {
    fn names(&self) -> &Names {
        &NODE
    }

    fn verbs(&self) -> &[&'static str] {
        VERBS
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/usage/cpu").into(),
            text(object, "/usage/memory").into(),
            text(object, "/window").into(),
        ]
    }
}

impl Kind for PodMetrics {
    fn names(&self) -> &Names {
        &POD
    }

    fn verbs(&self) -> &[&'static str] {
        VERBS
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            sum(object, "/usage/cpu"),
            sum(object, "/usage/memory"),
            text(object, "/window").into(),
        ]
    }
}

/// An amount over all containers.
fn sum(object: &Value, pointer: &str) -> Value {
    let amounts = items(object, "/containers")
        .iter()
        .filter_map(|container| text(container, pointer).parse::<Quantity>().ok());
    let sum = amounts.reduce(Quantity::plus);
    sum.map_or(Value::Null, |sum| sum.to_string().into())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::row;

    #[test]
    fn rows_show_usage_and_a_pods_is_of_all_its_containers() {
        expect!["n1|1500m|4Gi|15s"].assert_eq(&row(
            &NodeMetrics,
            "{metadata: {name: n1}, window: 15s, usage: {cpu: 1500m, memory: 4Gi}}",
        ));
        expect!["p|3m|1536Ki|15s"].assert_eq(&row(
            &PodMetrics,
            "{metadata: {name: p}, window: 15s, containers: [{name: a, usage: {cpu: 2500u, memory: 1Mi}}, {name: b, usage: {cpu: 500u, memory: 512Ki}}]}",
        ));
    }
}
