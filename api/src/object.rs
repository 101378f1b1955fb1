//! Reads and writes the parts of an object that every kind has: its `metadata`.
//!
//! Pure. Works on JSON values; a missing or mistyped field reads as absent, never as a panic.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The `metadata` of an object, if it has one.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// The `metadata` of an object, made if it is missing.
///
/// # Panics
/// If `object` is not a JSON object; the schema has made sure that it is.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata
        .as_object_mut()
        .expect("it was made an object above")
}

/// A text field of the metadata; empty if it is not there.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object)
        .and_then(|metadata| metadata.get(field)?.as_str())
        .unwrap_or_default()
}

/// Sets a field of the metadata.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(field.to_owned(), value.into());
}

/// Takes a field out of the metadata.
pub fn unset(object: &mut Value, field: &str) {
    take(object, field);
}

/// Takes a field out of the metadata and answers what it was.
pub fn take(object: &mut Value, field: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(field)
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.namespace`; empty for a cluster-scoped object.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`; empty if the object was never stored.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`; 0 if it has none.
pub fn generation(object: &Value) -> i64 {
    metadata(object)
        .and_then(|metadata| metadata.get("generation")?.as_i64())
        .unwrap_or_default()
}

/// `metadata.labels`, text values only.
pub fn labels(object: &Value) -> BTreeMap<String, String> {
    metadata(object)
        .and_then(|metadata| metadata.get("labels")?.as_object())
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    metadata(object)
        .and_then(|metadata| metadata.get("finalizers")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// True if someone has asked for the object to be deleted.
pub fn deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_seconds(object: &Value) -> Option<i64> {
    metadata(object)?
        .get("deletionGracePeriodSeconds")?
        .as_i64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mistyped_metadata_reads_as_absent() {
        for object in [
            json!({}),
            json!({"metadata": 3}),
            json!({"metadata": {"name": 3}}),
        ] {
            assert_eq!(name(&object), "");
            assert_eq!(finalizers(&object), Vec::<&str>::new());
            assert!(!deleting(&object));
        }
    }

    #[test]
    fn a_field_can_be_set_where_there_was_no_metadata() {
        let mut object = json!({});
        set(&mut object, "name", "a");
        assert_eq!(object, json!({"metadata": {"name": "a"}}));
        unset(&mut object, "name");
        assert_eq!(object, json!({"metadata": {}}));
    }
}
