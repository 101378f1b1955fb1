//! What templates compute with: Go's values, as `text/template` sees them through an `interface{}`.
//!
//! Maps and lists are references, as in Go: a clone is the same map. Strings are bytes. Numbers keep their Go kind, which
//! decides what `eq`, `printf` and `typeOf` say. Not [`Send`]: a rendering lives on one thread.

pub(crate) mod meter;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
};

use bytes::Bytes;

use crate::Failure;

thread_local! {
    static INSERTIONS: Cell<u64> = const { Cell::new(0) };
}

/// How many entries this thread has put into maps: what a function makes is counted by it.
pub(crate) fn insertions() -> u64 {
    INSERTIONS.get()
}

/// A Go value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Untyped nil: `null`, or a key that is not there.
    #[default]
    Nil,
    Bool(bool),
    Int(i64, IntKind),
    Uint(u64, UintKind),
    /// `float64`: every number of a values file.
    Float(f64),
    /// Bytes, UTF-8 or not.
    String(Bytes),
    List(List),
    Map(Map),
    /// A struct or a value with methods: `.Files`, `.Capabilities.APIVersions`, a time, a version.
    Object(Rc<dyn Object>),
}

/// The width that Go gave a signed integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntKind {
    Int,
    Int64,
    Int32,
}

/// The width that Go gave an unsigned integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UintKind {
    Uint8,
    Uint32,
    Uint64,
}

/// What a list's elements are declared as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Element {
    /// `[]interface {}`.
    Any,
    /// `[]string`.
    String,
    /// `[]int`.
    Int,
    /// `[][]interface {}`.
    List,
    /// `[]string` that is nil: `null` in JSON.
    NoString,
}

/// A slice. Its elements don't change once it is made: functions make new ones.
#[derive(Clone, Debug)]
pub struct List {
    pub items: Rc<Vec<Value>>,
    pub element: Element,
}

/// A map with string keys, shared and mutable: in bytewise order of keys.
#[derive(Clone)]
pub struct Map {
    entries: Rc<RefCell<BTreeMap<Bytes, Slot>>>,
    type_name: &'static str,
}

struct Slot {
    value: Value,
    /// Whether a template asked for it.
    read: Cell<bool>,
}

/// A value of a Go type with fields or methods.
pub trait Object {
    /// As `%T` prints it: `time.Time`, `*semver.Version`.
    fn type_name(&self) -> &'static str;
    /// As `kindOf` says: `struct`, `ptr`, `map`, `slice`, `func`.
    fn kind(&self) -> &'static str {
        "struct"
    }
    /// An exported field (or, for kind `map`, a key).
    fn field(&self, name: &str) -> Option<Value>;
    /// Calls an exported method; `None` if there is none of that name.
    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, Failure>>;
    /// As `%v` prints it.
    fn print(&self) -> String;
    /// As a plain value, for `range`.
    fn plain(&self) -> Value;
    /// As a plain value, for `toYaml` and `toJson`.
    fn document(&self) -> Value {
        self.plain()
    }
    /// Whether `if` takes it for true.
    fn truth(&self) -> bool {
        true
    }
    /// For functions that know the type behind it.
    fn as_any(&self) -> &dyn std::any::Any;
}

impl fmt::Debug for dyn Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print())
    }
}

impl Map {
    /// An empty `map[string]interface {}`.
    pub fn new() -> Map {
        Map::of_type("map[string]interface {}")
    }

    /// An empty map of another Go type, as `typeOf` will say it.
    pub fn of_type(type_name: &'static str) -> Map {
        Map {
            entries: Rc::default(),
            type_name,
        }
    }

    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// The same map as a value of another Go type: entries are shared.
    pub fn as_type(&self, type_name: &'static str) -> Map {
        Map {
            entries: self.entries.clone(),
            type_name,
        }
    }

    /// What a template asked for: counts as read.
    pub fn get(&self, key: &[u8]) -> Option<Value> {
        let entries = self.entries.borrow();
        let slot = entries.get(key)?;
        slot.read.set(true);
        Some(slot.value.clone())
    }

    /// As [`get`](Self::get), without a trace: for whoever is no template.
    pub fn peek(&self, key: &[u8]) -> Option<Value> {
        Some(self.entries.borrow().get(key)?.value.clone())
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        let entries = self.entries.borrow();
        let Some(slot) = entries.get(key) else {
            return false;
        };
        slot.read.set(true);
        true
    }

    /// Changes the map for everyone who holds it.
    pub fn insert(&self, key: impl Into<Bytes>, value: Value) {
        INSERTIONS.set(INSERTIONS.get() + 1);
        let slot = Slot {
            value,
            read: Cell::new(false),
        };
        self.entries.borrow_mut().insert(key.into(), slot);
    }

    pub fn remove(&self, key: &[u8]) -> Option<Value> {
        Some(self.entries.borrow_mut().remove(key)?.value)
    }

    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries as they are now, in bytewise order of keys; all count as read.
    pub fn entries(&self) -> Vec<(Bytes, Value)> {
        let entries = self.entries.borrow();
        let entry = |(key, slot): (&Bytes, &Slot)| {
            slot.read.set(true);
            (key.clone(), slot.value.clone())
        };
        entries.iter().map(entry).collect()
    }

    /// The entries, each with whether a template asked for it; leaves no trace.
    pub fn reads(&self) -> Vec<(Bytes, Value, bool)> {
        let entries = self.entries.borrow();
        entries
            .iter()
            .map(|(key, slot)| (key.clone(), slot.value.clone(), slot.read.get()))
            .collect()
    }

    /// Whether both are the same map, not only equal.
    pub fn same(&self, other: &Map) -> bool {
        Rc::ptr_eq(&self.entries, &other.entries)
    }
}

/// Ends values without recursion, however deep they nest.
fn bury(mut left: Vec<Value>) {
    while let Some(value) = left.pop() {
        match value {
            Value::List(mut list) => {
                if let Some(items) = Rc::get_mut(&mut list.items) {
                    left.append(items);
                }
            }
            Value::Map(mut map) => {
                if let Some(entries) = Rc::get_mut(&mut map.entries) {
                    let entries = std::mem::take(entries.get_mut());
                    left.extend(entries.into_values().map(|slot| slot.value));
                }
            }
            _ => {}
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if let Some(items) = Rc::get_mut(&mut self.items)
            && items.iter().any(Value::nests)
        {
            bury(std::mem::take(items));
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let Some(entries) = Rc::get_mut(&mut self.entries) else {
            return;
        };
        let entries = entries.get_mut();
        if entries.values().any(|slot| slot.value.nests()) {
            let entries = std::mem::take(entries);
            bury(entries.into_values().map(|slot| slot.value).collect());
        }
    }
}

impl List {
    /// As `%T` prints it.
    pub fn type_name(&self) -> &'static str {
        match self.element {
            Element::Any => "[]interface {}",
            Element::String | Element::NoString => "[]string",
            Element::Int => "[]int",
            Element::List => "[][]interface {}",
        }
    }
}

impl Default for Map {
    fn default() -> Map {
        Map::new()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.borrow();
        f.debug_map()
            .entries(entries.iter().map(|(key, slot)| (key, &slot.value)))
            .finish()
    }
}

impl Value {
    /// Whether there may be values within it.
    fn nests(&self) -> bool {
        matches!(self, Value::List(_) | Value::Map(_))
    }

    pub fn string(text: impl Into<Bytes>) -> Value {
        Value::String(text.into())
    }

    /// Go's `int`.
    pub fn int(number: i64) -> Value {
        Value::Int(number, IntKind::Int)
    }

    /// Go's `int64`, which Sprig's arithmetic answers.
    pub fn int64(number: i64) -> Value {
        Value::Int(number, IntKind::Int64)
    }

    /// As `%T` prints it; `<nil>` for nil.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_, IntKind::Int) => "int",
            Value::Int(_, IntKind::Int64) => "int64",
            Value::Int(_, IntKind::Int32) => "int32",
            Value::Uint(_, UintKind::Uint8) => "uint8",
            Value::Uint(_, UintKind::Uint32) => "uint32",
            Value::Uint(_, UintKind::Uint64) => "uint64",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::List(list) => list.type_name(),
            Value::Map(map) => map.type_name(),
            Value::Object(object) => object.type_name(),
        }
    }

    /// `[]interface {}`.
    pub fn list(items: Vec<Value>) -> Value {
        Value::List(List {
            items: Rc::new(items),
            element: Element::Any,
        })
    }

    /// `[]string`.
    pub fn strings(items: Vec<Value>) -> Value {
        Value::List(List {
            items: Rc::new(items),
            element: Element::String,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_deeply_ends_without_recursion() {
        let mut value = Value::Nil;
        for _ in 0..500_000 {
            let map = Map::new();
            map.insert("x", Value::list(vec![value]));
            value = Value::Map(map);
        }
        drop(value);
    }
}
