//! The difference of two objects, as sets of paths.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    atom::{self, Atom},
    element,
    field_set::{FieldSet, leaf, node},
};
use crate::schema::Schema;

/// What a write did to an object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    /// Fields that are new or have another value.
    pub changed: FieldSet,
    /// Fields that are gone.
    pub removed: FieldSet,
}

impl Difference {
    /// True if the objects are the same.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Nodes of the two sets of a [`Difference`].
type Nodes = (Option<Value>, Option<Value>);

/// Compares two objects. Only where they differ is anything built.
pub fn compare(schema: &Schema, old: &Value, new: &Value) -> Difference {
    let (changed, removed) = walk(schema, Some(old), Some(new));
    Difference {
        changed: FieldSet::below(changed),
        removed: FieldSet::below(removed),
    }
}

fn walk(schema: &Schema, old: Option<&Value>, new: Option<&Value>) -> Nodes {
    if old == new {
        return (None, None);
    }
    let of = |value: Option<&Value>| value.map(|value| atom::of(schema, value));
    match (of(old), of(new)) {
        (Some(was), Some(is)) if was != is => {
            // One is owned as a whole, the other by its parts.
            let (_, removed) = walk(schema, old, None);
            let (changed, _) = walk(schema, None, new);
            (own(changed), disown(removed))
        }
        (Some(Atom::Map), _) | (None, Some(Atom::Map)) if !hollow(old, new) => {
            let (changed, removed) = fields(schema, old, new);
            (node(old.is_none(), changed), node(new.is_none(), removed))
        }
        (Some(Atom::List), _) | (None, Some(Atom::List)) if !hollow(old, new) => {
            let (changed, removed) = items(schema, old, new);
            (node(old.is_none(), changed), node(new.is_none(), removed))
        }
        _ if new.is_none() => (None, Some(leaf())),
        _ => (Some(leaf()), None),
    }
}

/// Without parts on both sides there is only the whole: that it is there, or empty, or null.
fn hollow(old: Option<&Value>, new: Option<&Value>) -> bool {
    atom::is_hollow(old) && atom::is_hollow(new)
}

fn own(found: Option<Value>) -> Option<Value> {
    node(true, FieldSet::below(found).into_steps())
}

fn disown(found: Option<Value>) -> Option<Value> {
    node(false, FieldSet::below(found).into_steps())
}

fn fields(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
) -> (Map<String, Value>, Map<String, Value>) {
    let mut steps = (Map::new(), Map::new());
    let in_new = |name: &str| new.and_then(|new| new.get(name));
    let in_old = |name: &str| old.and_then(|old| old.get(name));
    let gone = atom::fields(old).filter(|(name, _)| in_new(name).is_none());
    let pairs = atom::fields(new)
        .map(|(name, value)| (name, in_old(name), Some(value)))
        .chain(gone.map(|(name, value)| (name, Some(value), None)));
    for (name, old, new) in pairs {
        if old == new {
            continue;
        }
        let (schema, _) = atom::child(schema, name);
        insert(&mut steps, element::field(name), walk(&schema, old, new));
    }
    steps
}

fn items(
    schema: &Schema,
    old: Option<&Value>,
    new: Option<&Value>,
) -> (Map<String, Value>, Map<String, Value>) {
    let (old, new) = (by_element(schema, old), by_element(schema, new));
    let schema = atom::items(schema);
    let mut steps = (Map::new(), Map::new());
    let elements: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for element in elements {
        let (old, new) = (old.get(element), new.get(element));
        let found = match (old.map(Vec::as_slice), new.map(Vec::as_slice)) {
            (old, new) if old == new => continue,
            (Some([old]), Some([new])) => walk(&schema, Some(old), Some(new)),
            (None, Some([new])) => walk(&schema, None, Some(new)),
            (Some([old]), None) => walk(&schema, Some(old), None),
            // Items that cannot be told apart are one.
            (_, None) => (None, Some(leaf())),
            _ => (Some(leaf()), None),
        };
        insert(&mut steps, element.clone(), found);
    }
    steps
}

/// The items of a list by their steps; those that nothing tells apart belong to no step.
fn by_element<'a>(schema: &Schema, list: Option<&'a Value>) -> BTreeMap<String, Vec<&'a Value>> {
    let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in atom::list(list) {
        if let Ok(element) = element::item(schema, item) {
            found.entry(element).or_default().push(item);
        }
    }
    found
}

fn insert(steps: &mut (Map<String, Value>, Map<String, Value>), element: String, found: Nodes) {
    let (changed, removed) = found;
    if let Some(removed) = removed {
        steps.1.insert(element.clone(), removed);
    }
    if let Some(changed) = changed {
        steps.0.insert(element, changed);
    }
}
