//! The set of an object: every field that it says something about.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    atom::{self, Atom},
    element,
    field_set::{FieldSet, leaf, node},
};
use crate::schema::Schema;

/// What cannot be told apart, and where: `.spec.ports: duplicate entries for key [port=80]`.
type Problem = (String, String);

/// The fields that an object says something about. `Err`: what is wrong with its lists.
pub fn set_of(schema: &Schema, object: &Value) -> Result<FieldSet, Vec<String>> {
    let mut problems = Vec::new();
    let node = walk(schema, object, &mut problems);
    if problems.is_empty() {
        Ok(FieldSet::below(node))
    } else {
        let told = problems
            .into_iter()
            .map(|(path, message)| format!("{path}: {message}"));
        Err(told.collect())
    }
}

fn walk(schema: &Schema, value: &Value, problems: &mut Vec<Problem>) -> Option<Value> {
    match atom::of(schema, value) {
        Atom::Leaf => Some(leaf()),
        Atom::Map => node(false, fields(schema, value, problems)),
        Atom::List => node(false, items(schema, value, problems)),
    }
}

fn fields(schema: &Schema, value: &Value, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut steps = Map::new();
    for (name, value) in atom::fields(Some(value)) {
        let (schema, declared) = atom::child(schema, name);
        let known = problems.len();
        let below = walk(&schema, value, problems);
        let element = element::field(name);
        place(problems, known, &element);
        // An empty structure is something that is said; so is an entry of a map.
        let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        insert(&mut steps, element, below, hollow || !declared);
    }
    steps
}

fn items(schema: &Schema, value: &Value, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut steps = Map::new();
    let mut seen = HashSet::new();
    let schema_of_items = atom::items(schema);
    for (index, item) in atom::list(Some(value)).iter().enumerate() {
        let element = match element::item(schema, item) {
            Ok(element) => element,
            Err(message) => {
                problems.push((String::new(), format!("element {index}: {message}")));
                continue;
            }
        };
        if !seen.insert(element.clone()) {
            let message = format!("duplicate entries for key {}", element::shown(&element));
            problems.push((String::new(), message));
            continue;
        }
        let known = problems.len();
        let below = walk(&schema_of_items, item, problems);
        place(problems, known, &element);
        insert(&mut steps, element, below, true);
    }
    steps
}

fn insert(steps: &mut Map<String, Value>, element: String, below: Option<Value>, owned: bool) {
    let node = match below {
        Some(Value::Object(below)) if !below.is_empty() => node(owned, below),
        Some(leaf) => Some(leaf),
        None => owned.then(leaf),
    };
    if let Some(node) = node {
        steps.insert(element, node);
    }
}

/// Says of the problems found since `known` that they are below this step.
fn place(problems: &mut [Problem], known: usize, element: &str) {
    for (path, _) in &mut problems[known..] {
        path.insert_str(0, &element::shown(element));
    }
}
