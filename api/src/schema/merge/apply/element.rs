//! The steps of a path as `fieldsV1` spells them: `f:spec`, `k:{"name":"web"}`, `v:"a"`, `i:0`.

use serde_json::{Map, Value};

use super::atom;
use crate::schema::{ListType, Schema};

/// Marks, among the steps below a path, that the path itself is in the set.
pub(super) const SELF: &str = ".";

/// The step to a field of a structure or an entry of a map.
pub(super) fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The name of the field that a step leads to. None if it leads to an item of a list.
pub(super) fn field_name(element: &str) -> Option<&str> {
    element.strip_prefix("f:")
}

/// The step to an item of a list that is a set or a map. `Err` says why nothing tells the item apart.
pub(super) fn item(list: &Schema, item: &Value) -> Result<String, String> {
    if list.list_type() == Some(ListType::Set) {
        return match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Null | Value::Array(_) => {
                Err("associative list without keys may only have scalars".to_owned())
            }
            scalar => Ok(format!("v:{scalar}")),
        };
    }
    let Value::Object(fields) = item else {
        return Err("associative list with keys may not have non-map elements".to_owned());
    };
    let items = list.items();
    let mut keys: Vec<&String> = list.list_map_keys().iter().collect();
    keys.sort();
    let mut found = Map::new();
    for key in keys {
        let property = items.as_ref().and_then(|items| items.property(key));
        let default = || {
            property
                .as_ref()
                .and_then(|schema| schema.default().cloned())
        };
        if let Some(value) = fields.get(key).cloned().or_else(default) {
            found.insert(key.clone(), value);
        }
    }
    match list.list_map_keys() {
        // A key may be left out where others are there.
        [first, ..] if found.is_empty() => Err(format!(
            "associative list with keys has an element that omits key field {first:?} (and doesn't have default value)"
        )),
        _ => Ok(keyed(&found)),
    }
}

/// True if a field tells its item apart: it cannot be taken away from the item.
pub(super) fn is_key(list: &Schema, field: &str) -> bool {
    atom::is_keyed(list) && list.list_map_keys().iter().any(|key| key == field)
}

fn keyed(fields: &Map<String, Value>) -> String {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let pairs: Vec<String> = sorted
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
        .collect();
    format!("k:{{{}}}", pairs.join(","))
}

/// A step that a client wrote, in our own spelling. `Err` says what is wrong with it.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let unreadable = |what: &str| format!("cannot read {what} in field path element {text:?}");
    let (sort, rest) = text.split_once(':').unwrap_or((text, ""));
    match sort {
        "f" if text.contains(':') => Ok(text.to_owned()),
        "k" => match serde_json::from_str(rest) {
            Ok(Value::Object(fields)) => Ok(keyed(&fields)),
            _ => Err(unreadable("the key")),
        },
        "v" => match serde_json::from_str::<Value>(rest) {
            Ok(value) => Ok(format!("v:{value}")),
            Err(_) => Err(unreadable("the value")),
        },
        "i" => match rest.parse::<i64>() {
            Ok(index) => Ok(format!("i:{index}")),
            Err(_) => Err(unreadable("the index")),
        },
        _ => Err(format!("unknown field path element {text:?}")),
    }
}

/// A step as messages show it: `.spec`, `[name="web"]`, `[="a"]`, `[0]`.
pub(super) fn shown(element: &str) -> String {
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("i:", index)) => format!("[{index}]"),
        Some(("k:", key)) => {
            let fields: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let pairs: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("[{}]", pairs.join(","))
        }
        _ => format!(".{element}"),
    }
}
