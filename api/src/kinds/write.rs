//! What a write may touch: spec and status are written apart, and `metadata.generation` counts
//! changes of what is wanted.
//!
//! Pure. `metadata` otherwise belongs to the verbs.

use serde_json::{Map, Value};

use super::value::{child, number, part, put};

/// Sets `metadata.generation` to 1.
pub(crate) fn start_generation(object: &mut Value) {
    if let Some(metadata) = child(object, "metadata") {
        put(metadata, "generation", 1.into());
    }
}

/// Keeps the old status.
pub(crate) fn keep_status(object: &mut Value, old: &Value) {
    put(object, "status", part(old, "/status").clone());
}

/// Raises the generation if one of these fields changed.
pub(crate) fn count_generation(object: &mut Value, old: &Value, wanted: &[&str]) {
    let changed = wanted
        .iter()
        .any(|field| object.get(field) != old.get(field));
    let generation = number(old, "/metadata/generation").unwrap_or(1) + i64::from(changed);
    if let Some(metadata) = child(object, "metadata") {
        put(metadata, "generation", generation.into());
    }
}

/// Takes the status from the request and everything else from the old object, but for the
/// annotations and the revision that the request is about.
pub(crate) fn status(object: &mut Value, old: &Value) {
    let request = std::mem::replace(object, old.clone());
    put(object, "status", part(&request, "/status").clone());
    if let Some(metadata) = child(object, "metadata") {
        for field in ["annotations", "resourceVersion"] {
            put(
                metadata,
                field,
                part(&request, "/metadata")
                    .get(field)
                    .cloned()
                    .unwrap_or_default(),
            );
        }
    }
}

/// An empty object, for a status that is there but says nothing.
pub(crate) fn empty() -> Value {
    Value::Object(Map::new())
}
