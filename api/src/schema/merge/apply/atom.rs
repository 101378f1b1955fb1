//! Which values are one to their owners, and which are owned part by part.

use serde_json::{Map, Value};

use crate::schema::{ListType, Schema, model::Shape};

/// How a value is owned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Atom {
    /// As a whole: scalars, atomic lists, maps and structures.
    Leaf,
    /// Field by field, entry by entry.
    Map,
    /// Item by item.
    List,
}

/// How a value of a schema is owned. What the schema says nothing about is owned as it looks:
/// objects field by field, all else as a whole.
pub(super) fn of(schema: &Schema, value: &Value) -> Atom {
    let (parts, whole) = match schema.shape() {
        Shape::Object(_) | Shape::Map(_) if !schema.atomic_map() => (Atom::Map, Atom::Leaf),
        Shape::List(_) if is_associative(schema) => (Atom::List, Atom::Leaf),
        Shape::Any if !schema.atomic_map() && value.is_object() => (Atom::Map, Atom::Leaf),
        _ => (Atom::Leaf, Atom::Leaf),
    };
    let fits = match parts {
        Atom::Map => value.is_object() || value.is_null(),
        Atom::List => value.is_array() || value.is_null(),
        Atom::Leaf => true,
    };
    if fits { parts } else { whole }
}

/// True if the items of a list are told apart: it is a set, or a map.
pub(super) fn is_associative(list: &Schema) -> bool {
    list.list_type() == Some(ListType::Set) || is_keyed(list)
}

/// True if the items of a list are told apart by fields of theirs.
pub(super) fn is_keyed(list: &Schema) -> bool {
    list.list_type() == Some(ListType::Map) && !list.list_map_keys().is_empty()
}

/// The schema below a field or an entry, and whether it is a structure's own, declared field.
pub(super) fn child(schema: &Schema, name: &str) -> (Schema, bool) {
    match schema.property(name) {
        Some(property) => (property, true),
        None => {
            let values = schema.values();
            (values.unwrap_or_else(|| Schema::any().clone()), false)
        }
    }
}

/// The schema of a list's items.
pub(super) fn items(schema: &Schema) -> Schema {
    schema.items().unwrap_or_else(|| Schema::any().clone())
}

/// The fields of an object; a null has none.
pub(super) fn fields(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    let map: Option<&Map<String, Value>> = value.and_then(Value::as_object);
    map.into_iter().flatten()
}

/// The items of a list; a null has none.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// True if there is nothing in it: null, `{}`, `[]`, or no value at all.
pub(super) fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}
