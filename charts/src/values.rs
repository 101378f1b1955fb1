//! The values of a chart: what users give, merged in Helm's order, and laid over the chart's own.
//!
//! - [`strvals`]: the grammar of `--set` and its kin.
//! - [`mod@coalesce`]: values over defaults, down to subcharts, with globals.
//! - [`inputs`]: files and flags in Helm's order, and which of them set a value.
//!
//! Reads no file itself: whoever calls gives a function that does.

pub mod coalesce;
pub mod inputs;
pub mod strvals;

use crate::{Map, Value, yaml};

pub use coalesce::{coalesce, merge};
pub use inputs::{Inputs, Origin};

/// The values of a YAML text: its documents, later ones merged over earlier ones.
pub fn load(text: &[u8]) -> Result<Map, yaml::Error> {
    let mut values = Map::new();
    for (line, document) in yaml::split(text) {
        let document = yaml::Document::parse_at(document, line)?;
        values = overlay(&values, &as_map(document.value()?)?);
    }
    Ok(values)
}

fn as_map(value: Value) -> Result<Map, yaml::Error> {
    match value {
        Value::Map(map) => Ok(map),
        Value::Nil => Ok(Map::new()),
        other => Err(yaml::Error::Type {
            found: crate::json::kind(&other),
            wanted: "map[string]interface {}",
        }),
    }
}

/// A map with the entries of both, maps merged, otherwise those of `over`. The values themselves are shared.
pub fn overlay(under: &Map, over: &Map) -> Map {
    let merged = Map::new();
    for (key, value, _) in under.reads() {
        merged.insert(key, value);
    }
    for (key, value, _) in over.reads() {
        let value = match (merged.peek(&key), &value) {
            (Some(Value::Map(under)), Value::Map(over)) => Value::Map(overlay(&under, over)),
            _ => value,
        };
        merged.insert(key, value);
    }
    merged
}

/// A value of its own: no map is shared with the original, and none counts as read.
pub fn deep_copy(value: &Value) -> Value {
    match value {
        Value::Map(map) => Value::Map(deep_copy_map(map)),
        Value::List(list) => {
            let items = list.items.iter().map(deep_copy).collect();
            Value::List(crate::List {
                items: std::rc::Rc::new(items),
                element: list.element,
            })
        }
        other => other.clone(),
    }
}

/// As [`deep_copy`].
pub fn deep_copy_map(map: &Map) -> Map {
    let copy = Map::new();
    for (key, value, _) in map.reads() {
        copy.insert(key, deep_copy(&value));
    }
    copy
}

/// The map that a path of keys, separated by dots, leads to.
pub fn table(values: &Map, path: &str) -> Option<Map> {
    path.split('.').try_fold(values.clone(), |table, key| {
        match table.peek(key.as_bytes())? {
            Value::Map(map) => Some(map),
            _ => None,
        }
    })
}

/// The value that is no map at the end of a path of keys.
pub fn leaf(values: &Map, path: &str) -> Option<Value> {
    let value = match path.rsplit_once('.') {
        Some((path, key)) => table(values, path)?.peek(key.as_bytes()),
        None => values.peek(path.as_bytes()),
    };
    value.filter(|value| !matches!(value, Value::Map(_)))
}

/// JSON of the plain kind, for records and schemas; whole numbers have no fraction.
pub fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::{Number, Value as Json};
    match value {
        Value::Nil => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number, _) => Json::from(*number),
        Value::Uint(number, _) => Json::from(*number),
        Value::Float(number) => {
            let whole = crate::float::json(*number).parse::<i64>().ok();
            whole.map_or_else(
                || Number::from_f64(*number).map_or(Json::Null, Json::Number),
                Json::from,
            )
        }
        Value::String(bytes) => Json::String(crate::json::text(bytes).into_owned()),
        Value::List(list) => list.items.iter().map(to_json).collect(),
        Value::Map(map) => Json::Object(to_json_map(map)),
        Value::Object(object) => to_json(&object.plain()),
    }
}

/// As [`to_json`].
pub fn to_json_map(map: &Map) -> serde_json::Map<String, serde_json::Value> {
    let entries = map.reads().into_iter();
    entries
        .map(|(key, value, _)| (crate::json::text(&key).into_owned(), to_json(&value)))
        .collect()
}

/// The value of plain JSON: numbers are floats, as if read.
pub fn from_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or_default()),
        Json::String(text) => Value::string(text.clone()),
        Json::Array(items) => Value::list(items.iter().map(from_json).collect()),
        Json::Object(map) => Value::Map(from_json_map(map)),
    }
}

/// As [`from_json`].
pub fn from_json_map(json: &serde_json::Map<String, serde_json::Value>) -> Map {
    let map = Map::new();
    for (key, value) in json {
        map.insert(key.clone(), from_json(value));
    }
    map
}
