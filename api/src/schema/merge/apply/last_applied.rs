//! Objects that `kubectl apply` made by itself: what it applied stands in an annotation.
//!
//! When kubectl goes over to server-side apply, what it applied before is its own; and the
//! annotation is kept in step, so that it can go back.

use serde_json::Value;

use super::{compare::compare, field_set::FieldSet, set_of::set_of};
use crate::{
    object,
    schema::{self, Schema},
};

/// Where kubectl keeps what it applied last.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The only manager that this is about.
pub(super) const KUBECTL: &str = "kubectl";

/// Bytes that all annotations may have together.
const MOST_BYTES: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    let annotations = object::metadata(object)?.get("annotations")?;
    let text = annotations.get(ANNOTATION)?.as_str()?;
    (!text.is_empty()).then_some(text)
}

/// The fields that kubectl applied last and that are still as it wanted them.
pub(super) fn owned(schema: &Schema, live: &Value, api_version: &str) -> Option<FieldSet> {
    let last: Value = serde_json::from_str(annotation(live)?).ok()?;
    if last["apiVersion"] != api_version {
        return None;
    }
    let checked = schema::check(schema, last);
    if !checked.errors.is_empty() {
        return None;
    }
    let set = set_of(schema, &checked.value).ok()?;
    let since = compare(schema, &checked.value, live);
    Some(set.difference(&since.changed).difference(&since.removed))
}

/// Makes the annotation of an object that has one what was applied now.
pub(super) fn keep_in_step(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    let own = config
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut);
    if let Some(annotations) = own {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = object::metadata_mut(object)
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), format!("{config}\n").into());
    let size = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > MOST_BYTES {
        annotations.remove(ANNOTATION);
    }
}
