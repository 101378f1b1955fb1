//! Bytes to values: JSON, YAML and Kubernetes' protobuf.
//!
//! JSON and YAML give the same values for the same text: the last of duplicate keys wins and the
//! duplicates are told, floats without a fraction become integers (Kubernetes writes `1e3` back as
//! `1000`), other numbers that no 64-bit integer holds become floats. YAML is read as kubectl
//! reads it. Never trusts its input: depth, aliases and node counts are bounded; the length is
//! the caller's to bound.

mod protobuf;
mod value;
mod yaml;

use serde::de::DeserializeSeed;
use serde_json::Value;

pub use protobuf::protobuf;
pub use yaml::{to_yaml, yaml, yaml_documents};

use value::{Found, Node};

/// How deep a value may nest: far beyond any real object, and safe on the stack of a task.
pub const MAX_DEPTH: usize = 120;

/// A decoded request body.
#[derive(Clone, PartialEq, Debug)]
pub struct Body {
    pub value: Value,
    /// Paths of keys that stood there more than once: `spec.replicas`; at most 100.
    pub duplicates: Vec<String>,
}

/// Why bytes are not a value.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the body is not valid UTF-8")]
    NotUtf8,
    /// It is not JSON, or not YAML, or more than one document.
    #[error("{message}")]
    Syntax { message: String },
    #[error("exceeded the maximum nesting depth of {MAX_DEPTH}")]
    TooDeep,
    /// A message of a protobuf body cannot be read.
    #[error("{message}{}{field}: {detail}", if field.is_empty() { "" } else { "." })]
    Field {
        /// `core.v1.Pod`.
        message: &'static str,
        /// As JSON has it; empty if it is the message itself.
        field: &'static str,
        detail: String,
    },
    /// A protobuf body is of a kind that no request may hold.
    #[error("no kind {kind:?} of version {version:?} is read from protobuf")]
    UnknownKind { version: String, kind: String },
}

/// Decodes a JSON body.
pub fn json(bytes: &[u8]) -> Result<Body, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)?;
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Node::root(&mut found)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    found.body(value.map_err(|error| error.to_string()))
}

/// How deep a value nests: 0 for a scalar.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The integer that a float stands for, if it has no fraction and fits.
pub(crate) fn integral(float: f64) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0; // 2^63, the first that doesn't fit
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked and there is no fraction"
    )]
    let exact = |float: f64| float as i64;
    (float.fract() == 0.0 && (-END..END).contains(&float)).then(|| exact(float))
}

#[cfg(test)]
mod tests;
