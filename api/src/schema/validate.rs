//! What is wrong with the object of a custom resource, by its schema.
//!
//! Pure. Types, limits and list types, with Kubernetes' texts. What an update leaves as it was is not
//! complained about (KEP-4008), so that a schema may get stricter under objects that exist.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    limits::{is_integer, path, wrong_type},
    model::{ListType, Schema, Shape},
    trail::{MOST_FINDINGS, Trail},
};
use crate::field::{Cause, FieldErrors};

/// Says what is wrong with an object; `old` is what it was before an update.
pub(crate) fn validate(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    errors: &mut FieldErrors,
) {
    walk(schema, value, old, &Trail::Root, errors);
}

fn walk(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    at: &Trail<'_>,
    errors: &mut FieldErrors,
) {
    let Some(custom) = schema.custom() else {
        return;
    };
    if errors.0.len() >= MOST_FINDINGS || old == Some(value) {
        return;
    }
    if let Some(expected) = expected(schema, value, custom.nullable) {
        wrong_type(expected, value, at, errors);
        return;
    }
    if value.is_null() {
        return;
    }
    if custom.embedded {
        embedded(value, at, errors);
    }
    custom.limits.check(value, at, errors);
    match (schema.shape(), value) {
        (Shape::Object(properties), Value::Object(fields)) => {
            for (name, field) in fields {
                if let Some(property) = properties.get(name) {
                    let old = old.and_then(|old| old.get(name));
                    walk(property, field, old, &Trail::Field(at, name), errors);
                }
            }
        }
        (Shape::Map(values), Value::Object(entries)) => {
            for (key, entry) in entries {
                let old = old.and_then(|old| old.get(key));
                walk(values, entry, old, &Trail::Field(at, key), errors);
            }
        }
        (Shape::List(items), Value::Array(list)) => {
            unique(schema, list, at, errors);
            let known = correlated(schema, list, old);
            for (index, item) in list.iter().enumerate() {
                walk(items, item, known[index], &Trail::Index(at, index), errors);
            }
        }
        _ => {}
    }
}

/// The type that a value is not of.
fn expected(schema: &Schema, value: &Value, nullable: bool) -> Option<&'static str> {
    let (name, fits) = match schema.shape() {
        Shape::Object(_) | Shape::Map(_) => ("object", value.is_object()),
        Shape::List(_) => ("array", value.is_array()),
        Shape::String => ("string", value.is_string()),
        Shape::Boolean => ("boolean", value.is_boolean()),
        Shape::Int64 => ("integer", is_integer(value)),
        Shape::Number => ("number", value.is_number()),
        Shape::IntOrString => ("integer,string", value.is_string() || is_integer(value)),
        _ => return None,
    };
    let fits = fits || (nullable && value.is_null());
    (!fits).then_some(name)
}

/// An object within an object says what it is.
fn embedded(value: &Value, at: &Trail<'_>, errors: &mut FieldErrors) {
    if matches!(at, Trail::Root) {
        return;
    }
    for field in ["apiVersion", "kind"] {
        if value[field].as_str().unwrap_or_default().is_empty() {
            let path = path(&Trail::Field(at, field));
            errors.required(&path, "must not be empty");
        }
    }
}

/// Sets hold a value once; maps of objects hold their keys once.
fn unique(schema: &Schema, list: &[Value], at: &Trail<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (index, item) in list.iter().enumerate() {
        let shown = match schema.list_type() {
            Some(ListType::Set) => item.clone(),
            Some(ListType::Map) if item.is_object() => keys(schema, item),
            _ => return,
        };
        if !seen.insert(shown.to_string()) {
            errors.push(&path(&Trail::Index(at, index)), Cause::Duplicate, shown, "");
        }
    }
}

/// The fields that tell an item of a list map apart.
fn keys(schema: &Schema, item: &Value) -> Value {
    let keys = schema.list_map_keys().iter();
    let found: Map<_, _> = keys
        .filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
        .collect();
    found.into()
}

/// What each item of a list was before: those of a list map are told apart by their keys, others
/// cannot be.
pub(crate) fn correlated<'a>(
    schema: &Schema,
    list: &[Value],
    old: Option<&'a Value>,
) -> Vec<Option<&'a Value>> {
    let before = old.and_then(Value::as_array);
    let (Some(before), Some(ListType::Map)) = (before, schema.list_type()) else {
        return vec![None; list.len()];
    };
    let before: std::collections::HashMap<_, _> = before
        .iter()
        .map(|item| (keys(schema, item).to_string(), item))
        .collect();
    list.iter()
        .map(|item| before.get(&keys(schema, item).to_string()).copied())
        .collect()
}

#[cfg(test)]
mod tests;
