//! What a kind whose spec runs something shares with pods: the environment, volumes and resources of one
//! container, written into the spec itself.
//!
//! Pure. Such a spec says nothing of ports, probes or security.

use serde_json::Value;

use super::{
    container::{self, Context},
    volume,
};
use crate::{
    field::{FieldErrors, Path},
    kinds::value::{each, entries, fill_text, find, items, put},
};

/// The sources of volumes that need no pod and no node of their own.
const SOURCES: &[&str] = &[
    "configMap",
    "downwardAPI",
    "emptyDir",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The fields that a container has too.
const CONTAINER: &[&str] = &[
    "image",
    "command",
    "args",
    "env",
    "envFrom",
    "volumeMounts",
    "resources",
];

/// Fills in what a pod's spec would say.
pub(crate) fn default(spec: &mut Value) {
    for variable in each(spec, "env") {
        if let Some(source) = find(variable, "valueFrom")
            && let Some(field) = find(source, "fieldRef")
        {
            fill_text(field, "apiVersion", "v1");
        }
    }
    for volume in each(spec, "volumes") {
        volume::default(volume);
    }
}

/// Checks a spec that stands at `path`.
pub(crate) fn validate(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let volumes = items(spec, "/volumes");
    let names = volume::validate(&path.field("volumes"), volumes, errors);
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.field("volumes").index(index);
        for (source, _) in entries(volume, "").filter(|(field, value)| {
            *field != "name" && !value.is_null() && !SOURCES.contains(&field.as_str())
        }) {
            errors.not_supported(&path, source.as_str(), SOURCES);
        }
    }
    // A container has a name, which is never told; the spec has none.
    let mut one = serde_json::json!({ "name": "instance" });
    for field in CONTAINER {
        let value = spec.get(field).cloned().unwrap_or_default();
        put(&mut one, field, value);
    }
    container::validate(path, &one, &Context::of(&Value::Null, names), errors);
}
