//! Reading parts of an object by JSON pointer, and filling in what is missing.
//!
//! Pure. A part that is absent, null or of another type reads as empty: the schema has checked types.

use serde_json::{Map, Value};

/// The part at a pointer (`/spec/containers/0`); `Null` if there is none.
pub(crate) fn part<'a>(object: &'a Value, pointer: &str) -> &'a Value {
    // `Value::pointer` copies every key to undo escapes, which hardly any has.
    if pointer.contains('~') {
        return object.pointer(pointer).unwrap_or(&Value::Null);
    }
    let inner = |value: &'a Value, key: &str| match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    };
    let mut keys = pointer.split('/').skip(1);
    keys.try_fold(object, inner).unwrap_or(&Value::Null)
}

/// The string at a pointer; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    part(object, pointer).as_str().unwrap_or_default()
}

/// The whole number at a pointer.
pub(crate) fn number(object: &Value, pointer: &str) -> Option<i64> {
    part(object, pointer).as_i64()
}

/// The boolean at a pointer; false if there is none.
pub(crate) fn truth(object: &Value, pointer: &str) -> bool {
    part(object, pointer).as_bool().unwrap_or_default()
}

/// The list at a pointer; empty if there is none.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    part(object, pointer).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of the map at a pointer, in key order.
pub(crate) fn entries<'a>(
    object: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    part(object, pointer)
        .as_object()
        .into_iter()
        .flat_map(Map::iter)
}

/// True if something stands at a pointer.
pub(crate) fn present(object: &Value, pointer: &str) -> bool {
    !part(object, pointer).is_null()
}

/// A string, number or boolean as text without quotes; empty for anything else.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => String::new(),
    }
}

/// Sets a field that is absent or null.
pub(crate) fn fill(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut()
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// Sets a string field that is absent, null or empty.
pub(crate) fn fill_text(object: &mut Value, field: &str, value: &str) {
    if let Some(map) = object.as_object_mut()
        && map
            .get(field)
            .is_none_or(|old| old.is_null() || old.as_str() == Some(""))
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// Sets a field, whatever was there; an absent (null) value removes it.
pub(crate) fn put(object: &mut Value, field: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        if value.is_null() {
            map.remove(field);
        } else {
            map.insert(field.to_owned(), value);
        }
    }
}

/// The field that is an object, made if absent; `None` if something else stands there.
pub(crate) fn child<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    fill(object, field, Map::new());
    object.get_mut(field).filter(|value| value.is_object())
}

/// The field that is an object, if it is there.
pub(crate) fn find<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    object.get_mut(field).filter(|value| value.is_object())
}

/// The items of a list field, to be changed in place.
pub(crate) fn each<'a>(
    object: &'a mut Value,
    field: &str,
) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
