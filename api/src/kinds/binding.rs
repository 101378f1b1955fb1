//! Binding: says on which node a pod runs. It is carried out and never stored.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Kind, Names, column};

/// The kind.
pub(crate) struct Binding;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.Binding",
};

impl Kind for Binding {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn verbs(&self) -> &[&'static str] {
        &["create"]
    }

    fn columns(&self) -> &[Column] {
        &[column::NAME, column::AGE]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![column::name(object), column::age(object, now)]
    }
}
