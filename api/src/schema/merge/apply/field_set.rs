//! Sets of paths, kept as the `fieldsV1` of `managedFields` writes them.
//!
//! A set is a tree of steps. A step without anything below it is in the set; one with steps below is
//! in it if `.` is among them. So reading and writing the wire form costs nothing.

use serde_json::{Map, Value};

use super::{
    atom,
    element::{self, SELF},
};
use crate::schema::Schema;

/// A set of paths into an object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldSet(Map<String, Value>);

/// Two trees become one, step by step. `None`: nothing is left.
type Combine = fn(Option<&Value>, Option<&Value>) -> Option<Value>;

impl FieldSet {
    /// A set that was made here: its wire form is trusted.
    pub fn stored(fields: Value) -> Self {
        match fields {
            Value::Object(steps) => Self(steps),
            _ => Self::default(),
        }
    }

    /// A set that a client wrote, in canonical form. `Err` says what is wrong with it.
    pub fn parse(fields: &Value) -> Result<Self, String> {
        fn steps(node: &Value) -> Result<Map<String, Value>, String> {
            let Value::Object(given) = node else {
                return Err(format!("a field set is made of objects, got {node}"));
            };
            given
                .iter()
                .map(|(name, below)| match name.as_str() {
                    SELF => Ok((name.clone(), leaf())),
                    name => Ok((element::canonical(name)?, Value::Object(steps(below)?))),
                })
                .collect()
        }
        let mut set = steps(fields)?;
        set.remove(SELF);
        Ok(Self(set))
    }

    /// The set of one node's children.
    pub(super) fn below(node: Option<Value>) -> Self {
        let mut set = Self::stored(node.unwrap_or_default());
        set.0.remove(SELF);
        set
    }

    /// The set of the path of these fields.
    pub fn path(fields: &[&str]) -> Self {
        let node = fields.iter().rev().fold(leaf(), |below, name| {
            Value::Object(Map::from_iter([(element::field(name), below)]))
        });
        Self::stored(node)
    }

    /// As it stands in `fieldsV1`.
    pub fn into_json(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn into_steps(self) -> Map<String, Value> {
        self.0
    }

    /// True if no path is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Paths of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, union)
    }

    /// Paths of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, difference)
    }

    /// Paths of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, intersection)
    }

    /// True if a path is in both sets.
    pub fn intersects(&self, other: &Self) -> bool {
        intersects(&self.0, &other.0)
    }

    /// True if every path of the other set is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        contains(&self.0, &other.0)
    }

    /// The paths at and below any of these fields' paths; a step of `*` is any item of a list.
    #[must_use]
    pub fn within(&self, paths: &[&[&str]]) -> Self {
        paths.iter().fold(Self::default(), |kept, path| {
            kept.union(&Self(within(&self.0, path)))
        })
    }

    /// All but the paths at and below a field of the object.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        self.0.remove(&element::field(field));
        self
    }

    /// With every structure that a path leads through: who owns a field of it has a say in whether it
    /// is there at all.
    #[must_use]
    pub(super) fn with_structures(&self, schema: &Schema) -> Self {
        Self(with_structures(schema, &self.0))
    }

    /// The node that a step leads to, and whether it is in the set.
    pub(super) fn step(&self, element: &str) -> Option<(Self, bool)> {
        let node = self.0.get(element)?;
        Some((Self::below(Some(node.clone())), owned(node)))
    }

    /// Every path as messages show it: `.spec.containers[name="web"].image`.
    pub fn paths(&self) -> Vec<String> {
        fn walk(steps: &Map<String, Value>, at: &str, paths: &mut Vec<String>) {
            for (name, node) in steps.iter().filter(|(name, _)| *name != SELF) {
                let path = format!("{at}{}", element::shown(name));
                if owned(node) {
                    paths.push(path.clone());
                }
                if let Value::Object(steps) = node {
                    walk(steps, &path, paths);
                }
            }
        }
        let mut paths = Vec::new();
        walk(&self.0, "", &mut paths);
        paths
    }

    fn combine(&self, other: &Self, combine: Combine) -> Self {
        Self(combine_steps(&self.0, &other.0, combine))
    }
}

/// A path that ends here.
pub(super) fn leaf() -> Value {
    Value::Object(Map::new())
}

/// A node, unless there is nothing to say: neither is the path in the set, nor any below it.
pub(super) fn node(owned: bool, mut below: Map<String, Value>) -> Option<Value> {
    if below.is_empty() {
        return owned.then(leaf);
    }
    if owned {
        below.insert(SELF.to_owned(), leaf());
    }
    Some(Value::Object(below))
}

fn owned(node: &Value) -> bool {
    node.as_object()
        .is_none_or(|steps| steps.is_empty() || steps.contains_key(SELF))
}

fn steps(node: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let steps = node.as_object().into_iter().flatten();
    steps.filter(|(name, _)| *name != SELF)
}

fn combine_steps(
    left: &Map<String, Value>,
    right: &Map<String, Value>,
    combine: Combine,
) -> Map<String, Value> {
    let mut combined = Map::new();
    for (name, node) in left {
        if let Some(node) = combine(Some(node), right.get(name)) {
            combined.insert(name.clone(), node);
        }
    }
    for (name, node) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
        if let Some(node) = combine(None, Some(node)) {
            combined.insert(name.clone(), node);
        }
    }
    combined
}

fn combine_nodes(left: &Value, right: &Value, owned: bool, combine: Combine) -> Option<Value> {
    let below = match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let mut below = combine_steps(left, right, combine);
            below.remove(SELF);
            below
        }
        _ => Map::new(),
    };
    node(owned, below)
}

fn union(left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    match (left, right) {
        (Some(left), Some(right)) => combine_nodes(left, right, owned(left) || owned(right), union),
        (left, right) => left.or(right).cloned(),
    }
}

fn difference(left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    match (left?, right) {
        (left, None) => Some(left.clone()),
        (left, Some(right)) => combine_nodes(left, right, owned(left) && !owned(right), difference),
    }
}

fn intersection(left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let (left, right) = (left?, right?);
    combine_nodes(left, right, owned(left) && owned(right), intersection)
}

fn intersects(left: &Map<String, Value>, right: &Map<String, Value>) -> bool {
    right.iter().filter(|(name, _)| *name != SELF).any(|(name, right)| {
        left.get(name).is_some_and(|left| {
            (owned(left) && owned(right))
                || matches!((left, right), (Value::Object(left), Value::Object(right)) if intersects(left, right))
        })
    })
}

fn contains(left: &Map<String, Value>, right: &Map<String, Value>) -> bool {
    right
        .iter()
        .filter(|(name, _)| *name != SELF)
        .all(|(name, right)| {
            left.get(name).is_some_and(|left| {
                (owned(left) || !owned(right))
                    && match (left, right) {
                        (Value::Object(left), Value::Object(right)) => contains(left, right),
                        (_, right) => steps(right).next().is_none(),
                    }
            })
        })
}

fn with_structures(schema: &Schema, steps: &Map<String, Value>) -> Map<String, Value> {
    let named = steps.iter().filter(|(name, _)| *name != SELF);
    named
        .filter_map(|(name, below)| {
            let (schema, declared) = match element::field_name(name) {
                Some(field) => atom::child(schema, field),
                None => (atom::items(schema), false),
            };
            let steps = below.as_object().cloned().unwrap_or_default();
            let steps = with_structures(&schema, &steps);
            Some((name.clone(), node(declared || owned(below), steps)?))
        })
        .collect()
}

fn within(tree: &Map<String, Value>, path: &[&str]) -> Map<String, Value> {
    let Some((name, rest)) = path.split_first() else {
        return tree.clone();
    };
    let steps = tree.iter().filter(|(step, _)| match *name {
        "*" => step.as_str() != SELF,
        name => **step == element::field(name),
    });
    steps
        .filter_map(|(step, below)| {
            let kept = within(below.as_object()?, rest);
            (rest.is_empty() || !kept.is_empty()).then(|| (step.clone(), Value::Object(kept)))
        })
        .collect()
}
