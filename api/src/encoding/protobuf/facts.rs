//! The numbers, names and types of fields, from `facts/protobuf-fields.txt`.
//!
//! A line without indentation begins a message; those that a request may hold as its object also
//! have an apiVersion (`*` is any) and a kind. An indented line is a field: number, JSON name, type.
//! `kept` is a scalar whose zero is a value, `inline` a message whose fields JSON writes among its
//! owner's. The file is read at first use; `facts/protobuf-fields.py` makes it.

use std::{collections::HashMap, sync::LazyLock};

static TEXT: &str = include_str!("../../../facts/protobuf-fields.txt");

static FACTS: LazyLock<Facts> = LazyLock::new(|| Facts::read(TEXT));

/// A message: its fields by number.
pub(super) struct Message {
    /// `core.v1.Pod`.
    pub(super) name: &'static str,
    pub(super) fields: Vec<Field>,
}

pub(super) struct Field {
    pub(super) number: u32,
    /// As JSON has it; `inline` if it has none.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// JSON leaves a scalar that is zero away.
    One(Item),
    /// JSON writes a scalar that is zero.
    Kept(Item),
    List(Item),
    /// Its keys are strings.
    Map(Item),
    Inline(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// A message that holds JSON.
    Json,
    /// A message that holds a list of strings, which is all of it in JSON.
    Strings,
    /// A message that holds a schema or a list of them, which is all of it in JSON.
    SchemaOrArray,
    /// The same of a schema or a boolean.
    SchemaOrBool,
    /// The same of a schema or a list of strings.
    SchemaOrStrings,
    Message(&'static str),
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

impl Shape {
    fn read(text: &'static str) -> Self {
        match text.split_once(' ') {
            Some(("kept", item)) => Self::Kept(Item::read(item)),
            Some(("list", item)) => Self::List(Item::read(item)),
            Some(("map", item)) => Self::Map(Item::read(item)),
            _ => Self::One(Item::read(text)),
        }
    }
}

impl Item {
    fn read(text: &'static str) -> Self {
        match text {
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "bool" => Self::Bool,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "double" => Self::Double,
            "quantity" => Self::Quantity,
            "int-or-string" => Self::IntOrString,
            "time" => Self::Time,
            "micro-time" => Self::MicroTime,
            "json" => Self::Json,
            "strings" => Self::Strings,
            "schema-or-array" => Self::SchemaOrArray,
            "schema-or-bool" => Self::SchemaOrBool,
            "schema-or-strings" => Self::SchemaOrStrings,
            message => Self::Message(message),
        }
    }
}

struct Facts {
    messages: HashMap<&'static str, Message>,
    /// apiVersion, kind and message of what a request may hold.
    roots: Vec<(&'static str, &'static str, &'static str)>,
}

impl Facts {
    fn read(text: &'static str) -> Self {
        let mut messages: HashMap<&str, Message> = HashMap::new();
        let mut roots = Vec::new();
        let mut current = None;
        for line in text.lines() {
            let mut words = line.trim_start().splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (first, second, third) = (word(), word(), word());
            if !line.starts_with(' ') {
                let message = Message {
                    name: first,
                    fields: Vec::new(),
                };
                if !third.is_empty() {
                    roots.push((second, third, first));
                }
                current = Some(messages.entry(first).or_insert(message));
            } else if let Some(message) = current.as_mut() {
                message.fields.push(Field {
                    number: first
                        .parse()
                        .expect("a field of the facts begins with its number"),
                    name: second,
                    shape: match second {
                        "inline" => Shape::Inline(third),
                        _ => Shape::read(third),
                    },
                });
            }
        }
        Self { messages, roots }
    }
}

/// The message of a name that stands in the facts.
pub(super) fn message(name: &str) -> &'static Message {
    let found = FACTS.messages.get(name);
    found.expect("the facts are closed: a test says so")
}

/// The message of an object; None if no request may hold such an object.
pub(super) fn object(version: &str, kind: &str) -> Option<&'static Message> {
    let root = FACTS
        .roots
        .iter()
        .find(|root| ["*", version].contains(&root.0) && root.1 == kind)?;
    Some(message(root.2))
}

#[cfg(test)]
pub(super) fn messages() -> impl Iterator<Item = &'static Message> {
    FACTS.messages.values()
}

#[cfg(test)]
pub(super) fn find(name: &str) -> Option<&'static Message> {
    FACTS.messages.get(name)
}
