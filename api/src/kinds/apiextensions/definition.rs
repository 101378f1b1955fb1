//! CustomResourceDefinition: a kind that users define.
//!
//! What is defined is served by `crate::custom`, which also writes the conditions.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{names, versions};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        value::{self, child, each, fill, fill_text, items, part, put, text},
        write,
    },
    object,
};

/// The finalizer that keeps a definition until the objects of its kind are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The kind.
pub(crate) struct CustomResourceDefinition;

static NAMES: Names = Names {
    group: "apiextensions.k8s.io",
    version: "v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    definition: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    Column {
        r#type: "date",
        ..column::shown("Created At", "When the definition was created")
    },
];

impl Kind for CustomResourceDefinition {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = value::find(object, "spec") else {
            return;
        };
        if let Some(names) = value::find(spec, "names") {
            let kind = text(names, "/kind").to_owned();
            if !kind.is_empty() {
                fill_text(names, "singular", &kind.to_lowercase());
                fill_text(names, "listKind", &format!("{kind}List"));
            }
        }
        fill(spec, "conversion", json!({"strategy": "None"}));
        if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service") {
            fill(service, "port", 443);
        }
        for version in each(spec, "versions") {
            fill(version, "served", false);
            fill(version, "storage", false);
        }
    }

    fn new_status(&self, object: &Value) -> Value {
        let stored: Vec<_> = stored_version(object).collect();
        json!({
            "conditions": [],
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored,
        })
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        write::keep_status(object, old);
        write::count_generation(object, old, self.counted());
        let stored: Vec<String> = stored_version(object).map(str::to_owned).collect();
        if let Some(status) = child(object, "status") {
            let mut all = items(status, "/storedVersions").to_vec();
            all.extend(
                stored
                    .into_iter()
                    .map(Value::from)
                    .filter(|version| !items(status, "/storedVersions").contains(version)),
            );
            put(status, "storedVersions", all.into());
        }
    }

    fn prepare_delete(&self, object: &mut Value) {
        let mut finalizers: Vec<_> = object::finalizers(object)
            .into_iter()
            .map(str::to_owned)
            .collect();
        if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
            finalizers.push(CLEANUP.to_owned());
            object::set(object, "finalizers", finalizers);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        names::validate(object, errors);
        versions::validate(object, errors);
        let path = Path::root("status").field("storedVersions");
        for (index, version) in items(object, "/status/storedVersions").iter().enumerate() {
            let known = items(object, "/spec/versions");
            if !known.iter().any(|known| known["name"] == *version) {
                let detail = "must appear in spec.versions";
                errors.invalid(&path.index(index), version.clone(), detail);
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let spec = Path::root("spec");
        let mut kept = vec![
            ("/spec/group", spec.field("group")),
            ("/spec/names/plural", spec.field("names").field("plural")),
        ];
        if condition(old, "Established") == "True" {
            kept.push(("/spec/scope", spec.field("scope")));
            kept.push(("/spec/names/kind", spec.field("names").field("kind")));
        }
        for (pointer, path) in kept {
            check::immutable(&path, object, old, pointer, errors);
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            part(object, "/metadata/creationTimestamp").clone(),
        ]
    }
}

/// The status of a condition; empty if there is none.
pub(crate) fn condition<'a>(object: &'a Value, name: &str) -> &'a str {
    items(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == name)
        .map_or("", |condition| text(condition, "/status"))
}

fn stored_version(object: &Value) -> impl Iterator<Item = &str> {
    items(object, "/spec/versions")
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| text(version, "/name"))
}

#[cfg(test)]
mod tests;
