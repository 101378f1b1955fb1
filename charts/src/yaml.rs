//! YAML as Helm reads and writes it.
//!
//! Reads as `sigs.k8s.io/yaml` does: a document becomes JSON on its way, so every number is a `float64` and every key a
//! string; plain scalars mean what YAML 1.1 says (`yes`, `0644`, `1_000`). Writes what go-yaml writes, byte for byte. The
//! events of a text come from a parser crate; what they mean, and all writing, is here. Recursion and aliases are bounded.
//!
//! - [`document`]: nodes of a text, with their lines, and their value.
//! - [`scalar`]: what a plain scalar means.
//! - [`emitter`]: lays out values; [`style`] decides how a scalar is quoted; [`order`] sorts keys.

pub mod document;
mod emitter;
mod order;
mod scalar;
mod style;

use crate::{Map, Value, json};

pub use document::Document;

/// Deeper nesting than this is refused: no chart has it, and everything that walks values recurses.
pub const MAX_DEPTH: usize = 500;

/// Why a text has no value, in Helm's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// It is no YAML, or YAML that has no JSON.
    #[error("error converting YAML to JSON: {}{message}", line.map(|line| format!("yaml: line {line}: ")).unwrap_or_default())]
    Syntax {
        /// Where, from 1.
        line: Option<usize>,
        message: String,
    },
    /// It is something else than was asked for.
    #[error(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type {wanted}"
    )]
    Type {
        found: &'static str,
        wanted: &'static str,
    },
}

/// The value of the first document of a text; nil if there is none.
pub fn parse(text: &[u8]) -> Result<Value, Error> {
    Document::parse(text)?.value()
}

/// As [`parse`], where only a map will do; nothing counts as an empty one.
pub fn parse_map(text: &[u8]) -> Result<Map, Error> {
    match parse(text)? {
        Value::Map(map) => Ok(map),
        Value::Nil => Ok(Map::new()),
        other => Err(Error::Type {
            found: json::kind(&other),
            wanted: "map[string]interface {}",
        }),
    }
}

/// As [`parse`], where only a list will do; nothing counts as an empty one.
pub fn parse_list(text: &[u8]) -> Result<Vec<Value>, Error> {
    match parse(text)? {
        Value::List(list) => Ok(list.items.to_vec()),
        Value::Nil => Ok(Vec::new()),
        other => Err(Error::Type {
            found: json::kind(&other),
            wanted: "[]interface {}",
        }),
    }
}

/// The documents of a text, as Kubernetes' reader cuts them: at lines of `---`. Each with the line it starts on, from 1.
pub fn split(text: &[u8]) -> Vec<(usize, &[u8])> {
    let mut documents = Vec::new();
    let (mut from, mut from_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let rest = line.strip_prefix(b"---").map(<[u8]>::trim_ascii);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"#")) {
            if at > from {
                documents.push((from_line, &text[from..at]));
            }
            (from, from_line) = (at + line.len(), index + 2);
        }
        at += line.len();
    }
    if at > from {
        documents.push((from_line, &text[from..at]));
    }
    documents
}

/// As `toYaml`: empty for what has no JSON.
pub fn emit(value: &Value) -> String {
    try_emit(value).unwrap_or_default()
}

/// As `mustToYaml`: without the last line's end.
pub fn try_emit(value: &Value) -> Result<String, json::Error> {
    let value = emitter::through_json(value, 0)?;
    let mut text = emitter::write(&value, emitter::Dialect::V2);
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// As `toYamlPretty`: lists are indented, lines are not folded, big numbers have exponents.
pub fn emit_pretty(value: &Value) -> String {
    let mut text = emitter::write(value, emitter::Dialect::V3);
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests;
