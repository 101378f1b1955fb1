//! YAML as kubectl reads it: YAML 1.1 booleans and octals, merge keys, any number of documents.

use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::value::{Found, Node};
use super::{Body, DecodeError, MAX_DEPTH};

/// Reading YAML takes up to 32 KiB of stack a level without optimisation, more than a task has.
const LEAST_STACK: usize = 6 * 1024 * 1024;
const STACK: usize = 8 * 1024 * 1024;

/// Decodes a YAML body: one document. An empty one is `null`.
///
/// What looks like JSON is read as JSON if it is: clients send JSON as `apply-patch+yaml`, and
/// JSON's surrogate pairs are no YAML.
pub fn yaml(bytes: &[u8]) -> Result<Body, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)?;
    if text.trim_start().starts_with('{')
        && let Ok(body) = super::json(bytes)
    {
        return Ok(body);
    }
    let mut found = Found::default();
    let value = stacker::maybe_grow(LEAST_STACK, STACK, || {
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
            Node::root(&mut found).deserialize(yaml)
        })
    });
    found.body(value.map_err(|error| message(&error)))
}

/// Decodes every document of a text, in order; empty ones are skipped. One that is broken
/// doesn't keep the others from being read.
pub fn yaml_documents(text: &str) -> Vec<Result<Value, DecodeError>> {
    split(text)
        .into_iter()
        .map(|document| yaml(document.as_bytes()).map(|body| body.value))
        .filter(|document| !matches!(document, Ok(Value::Null)))
        .collect()
}

/// Splits at lines that begin with the document marker; its line stays with what follows.
fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut position) = (0, 0);
    for line in text.split_inclusive('\n') {
        let marker = line.strip_prefix("---");
        if marker.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push(&text[start..position]);
            start = position;
        }
        position += line.len();
    }
    documents.push(&text[start..]);
    documents
}

/// Writes a value as YAML that reads back as the same, under YAML 1.1 too.
pub fn to_yaml(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(value)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH + 8, // ours speaks first
            max_events: 1_000_000,
            max_nodes: 500_000,
            max_merge_keys: 1_000,
            max_aliases: 10_000,
        },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        merge_keys: MergeKeyPolicy::Merge,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 32,
        },
        legacy_octal_numbers: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// The parser's words, without its advice to programmers.
fn message(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "expected one YAML document, found more".to_owned()
        }
        error => error.to_string(),
    }
}
