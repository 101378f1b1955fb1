//! Namespace: a scope for names, emptied by its controller before it goes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, column,
    value::{child, part, put, text},
    write,
};
use crate::{name, object};

/// The kind.
pub(crate) struct Namespace;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short: &["ns"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.core.v1.Namespace",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Status", "Active, or Terminating while it is emptied"),
    column::AGE,
];

impl Kind for Namespace {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Finalize, Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        let name = object::name(object).to_owned();
        child(object, "spec");
        if !name.is_empty()
            && let Some(metadata) = child(object, "metadata")
            && let Some(labels) = child(metadata, "labels")
        {
            put(labels, "kubernetes.io/metadata.name", name.into());
        }
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::label_problems(name)
    }

    fn prepare_create(&self, object: &mut Value) {
        put(object, "spec", json!({ "finalizers": ["kubernetes"] }));
        put(object, "status", json!({ "phase": "Active" }));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        put(object, "spec", part(old, "/spec").clone());
        write::keep_status(object, old);
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", text(object, "/status/phase").to_owned())]
    }

    fn field_names(&self) -> &[&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/status/phase").into(),
            column::age(object, now),
        ]
    }
}
