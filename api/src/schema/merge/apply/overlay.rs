//! An applied configuration laid over the live object: what it says holds, the rest stays.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    atom::{self, Atom},
    element,
};
use crate::schema::Schema;

/// The live object with what the configuration says.
pub fn overlay(schema: &Schema, live: Value, config: &Value) -> Value {
    match (atom::of(schema, config), live, config) {
        (Atom::Map, Value::Object(live), Value::Object(config)) => {
            Value::Object(fields(schema, live, config))
        }
        (Atom::List, Value::Array(live), Value::Array(config)) => {
            Value::Array(items(schema, live, config))
        }
        (_, _, config) => config.clone(),
    }
}

fn fields(
    schema: &Schema,
    mut live: Map<String, Value>,
    config: &Map<String, Value>,
) -> Map<String, Value> {
    for (name, value) in config {
        let merged = match live.remove(name) {
            Some(live) => overlay(&atom::child(schema, name).0, live, value),
            None => value.clone(),
        };
        live.insert(name.clone(), merged);
    }
    live
}

/// Items that both have come in the configuration's order. The live object's own stay in front of
/// the item that they stood in front of.
fn items(schema: &Schema, live: Vec<Value>, config: &[Value]) -> Vec<Value> {
    let elements: Vec<Option<String>> = live
        .iter()
        .map(|item| element::item(schema, item).ok())
        .collect();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut unclear: HashSet<&str> = HashSet::new();
    for (place, element) in elements.iter().enumerate() {
        if let Some(element) = element.as_deref()
            && places.insert(element, place).is_some()
        {
            unclear.insert(element);
        }
    }
    let config: Vec<(String, &Value)> = config
        .iter()
        .map(|item| (element::item(schema, item).unwrap_or_default(), item))
        .collect();
    let shared: HashSet<&str> = config
        .iter()
        .map(|(element, _)| element.as_str())
        .filter(|element| places.contains_key(element))
        .collect();
    // Where the next shared item of the configuration stands, for each of its items.
    let mut next = None;
    let mut until: Vec<Option<usize>> = Vec::with_capacity(config.len());
    for (element, _) in config.iter().rev() {
        next = places.get(element.as_str()).copied().or(next);
        until.push(next);
    }
    until.reverse();

    let items = atom::items(schema);
    let is_shared = |element: &Option<String>| {
        element
            .as_deref()
            .is_some_and(|element| shared.contains(element))
    };
    let mut live: Vec<Option<Value>> = live.into_iter().map(Some).collect();
    let mut merged = Vec::with_capacity(live.len().max(config.len()));
    let mut at = 0;
    for ((element, item), until) in config.iter().zip(until) {
        // If no shared item is ahead, the rest of the live list comes first.
        let end = match until {
            Some(place) if place >= at => place,
            _ => live.len(),
        };
        while at < end {
            if !is_shared(&elements[at]) {
                merged.extend(live[at].take());
            }
            at += 1;
        }
        let own = places.get(element.as_str()).copied();
        let known = own
            .filter(|_| !unclear.contains(element.as_str()))
            .and_then(|place| live[place].take());
        merged.push(match known {
            Some(known) => overlay(&items, known, item),
            None => (*item).clone(),
        });
        if own == Some(at) {
            at += 1;
        }
    }
    // What the live list has besides.
    for place in at..live.len() {
        if !is_shared(&elements[place]) {
            merged.extend(live[place].take());
        }
    }
    merged
}
