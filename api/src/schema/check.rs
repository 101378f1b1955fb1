//! Checks an object against its schema: types, normal forms, unknown fields.
//!
//! It reads an object as Kubernetes' decoder would, and gives it back as Kubernetes would
//! encode it: quantities, times and base64 in canonical form, integral floats as integers,
//! unknown fields pruned. A `null` counts as absent: it drops a field, and in a map or a list
//! it stands for the zero value of the type (an empty string, `0`, `{}`), as in Go.
//! Of a custom resource only the metadata is read so; the rest is pruned.
//! Required fields are not its business: an absent field is the zero value, and the kind's
//! validation says what is wrong with that.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::model::{Custom, Schema, Shape};
use super::trail::{Findings, MOST_BYTES, MOST_FINDINGS, Trail};
use crate::field::Path;
use crate::quantity::Quantity;
use crate::time;

/// What checking an object found.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// The object in normal form, without unknown fields.
    pub value: Value,
    /// Where the unknown fields were: `spec.containers[0].foo`; at most 100, each object's
    /// fields by name, items of lists in their order.
    pub unknown: Vec<String>,
    /// Values of the wrong type; at most 100. The object must not be used if there are any.
    pub errors: Vec<TypeError>,
}

/// A value that its field cannot hold.
#[derive(Clone, PartialEq, Debug)]
pub struct TypeError {
    /// Where it stands.
    pub path: Path,
    /// What is wrong: `expected string, got integer (1)`.
    pub message: String,
}

impl std::fmt::Display for TypeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Checks an object against its schema.
pub fn check(schema: &Schema, value: Value) -> Checked {
    let mut checker = Checker::default();
    let value = checker.value(schema, value, &Trail::Root);
    Checked {
        value,
        unknown: checker.unknown.into_paths(),
        errors: checker.errors,
    }
}

#[derive(Default)]
struct Checker {
    unknown: Findings,
    errors: Vec<TypeError>,
    error_bytes: usize,
}

impl Checker {
    fn value(&mut self, schema: &Schema, value: Value, at: &Trail<'_>) -> Value {
        if let Some(custom) = schema.custom() {
            return self.custom(schema, custom, value, at);
        }
        match (schema.shape(), value) {
            (Shape::Any | Shape::Reference(_), value) => value,
            (shape, Value::Null) => zero(shape),
            (Shape::Object(properties), Value::Object(fields)) => {
                Value::Object(self.object(properties, fields, at))
            }
            (Shape::Map(values), Value::Object(entries)) => entries
                .into_iter()
                .map(|(key, value)| {
                    let value = self.value(values, value, &Trail::Key(at, &key));
                    (key, value)
                })
                .collect(),
            (Shape::List(items), Value::Array(list)) => list
                .into_iter()
                .enumerate()
                .map(|(index, item)| self.value(items, item, &Trail::Index(at, index)))
                .collect(),
            (Shape::String, value @ Value::String(_))
            | (Shape::IntOrString, value @ Value::String(_))
            | (Shape::Boolean, value @ Value::Bool(_))
            | (Shape::Number, value @ Value::Number(_)) => value,
            (shape, value) => match scalar(shape, &value) {
                Ok(normal) => normal,
                Err(message) => {
                    self.error(at, message);
                    value
                }
            },
        }
    }

    fn object(
        &mut self,
        properties: &std::collections::BTreeMap<String, Schema>,
        fields: Map<String, Value>,
        at: &Trail<'_>,
    ) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, value) in fields {
            let at = Trail::Field(at, &name);
            match properties.get(&name) {
                None => self.unknown.push(&at),
                Some(_) if value.is_null() => {}
                Some(property) => {
                    let value = self.value(property, value, &at);
                    kept.insert(name, value);
                }
            }
        }
        kept
    }

    /// What a custom resource's schema does not know is pruned; types are its validation's business,
    /// but for metadata, which is Kubernetes' own.
    fn custom(&mut self, schema: &Schema, custom: &Custom, value: Value, at: &Trail<'_>) -> Value {
        if let Some(own) = schema.referred() {
            return self.value(own, value, at);
        }
        match (schema.shape(), value) {
            (Shape::Object(properties), Value::Object(fields)) => {
                let mut kept = Map::new();
                for (name, value) in fields {
                    let at = Trail::Field(at, &name);
                    match properties.get(&name) {
                        Some(property) => {
                            let value = self.value(property, value, &at);
                            kept.insert(name, value);
                        }
                        None if custom.preserves => {
                            kept.insert(name, value);
                        }
                        None => self.unknown.push(&at),
                    }
                }
                Value::Object(kept)
            }
            (Shape::Map(values), Value::Object(entries)) => entries
                .into_iter()
                .map(|(key, value)| {
                    let value = self.value(values, value, &Trail::Key(at, &key));
                    (key, value)
                })
                .collect(),
            (Shape::List(items), Value::Array(list)) => list
                .into_iter()
                .enumerate()
                .map(|(index, item)| self.value(items, item, &Trail::Index(at, index)))
                .collect(),
            // Nothing is said of it, so nothing of it is kept, unless all of it is.
            (Shape::Any, Value::Object(_)) if !custom.preserves => Value::Object(Map::new()),
            (_, value) => value,
        }
    }

    fn error(&mut self, at: &Trail<'_>, message: String) {
        if self.errors.len() < MOST_FINDINGS && self.error_bytes < MOST_BYTES {
            let error = TypeError {
                path: at.path(),
                message,
            };
            self.error_bytes += error.to_string().len();
            self.errors.push(error);
        }
    }
}

/// The normal form of a scalar, or what is wrong with it.
fn scalar(shape: &Shape, value: &Value) -> Result<Value, String> {
    match (shape, value) {
        (Shape::Int32, Value::Number(number)) => integer(number, i32::MIN.into(), i32::MAX.into()),
        (Shape::Int64, Value::Number(number)) => integer(number, i64::MIN, i64::MAX),
        (Shape::IntOrString, Value::Number(number)) => {
            integer(number, i32::MIN.into(), i32::MAX.into())
        }
        (Shape::Quantity, Value::String(text)) => quantity(text),
        (Shape::Quantity, Value::Number(number)) => quantity(&number.to_string()),
        (Shape::Bytes, Value::String(text)) => bytes(text),
        (Shape::Time, Value::String(text)) => timestamp(text, time::seconds),
        (Shape::MicroTime, Value::String(text)) => timestamp(text, time::micros),
        (shape, value) => Err(format!("expected {}, got {}", name(shape), describe(value))),
    }
}

fn integer(number: &Number, least: i64, most: i64) -> Result<Value, String> {
    let exact = number
        .as_i64()
        .or_else(|| crate::encoding::integral(number.as_f64()?));
    match exact {
        Some(exact) if (least..=most).contains(&exact) => Ok(exact.into()),
        None if number.as_f64().is_some_and(|float| float.fract() != 0.0) => {
            Err(format!("expected integer, got number ({number})"))
        }
        _ => Err(format!("must be from {least} to {most}, got {number}")),
    }
}

fn quantity(text: &str) -> Result<Value, String> {
    match text.trim().parse::<Quantity>() {
        Ok(quantity) => Ok(quantity.to_string().into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The value is never shown: it is most likely a secret.
fn bytes(text: &str) -> Result<Value, String> {
    let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&compact) {
        Ok(bytes) => Ok(STANDARD.encode(bytes).into()),
        Err(error) => Err(format!(
            "expected base64, got a string that is not: {error}"
        )),
    }
}

fn timestamp(text: &str, write: fn(jiff::Timestamp) -> String) -> Result<Value, String> {
    let parsed = rfc3339(text).then(|| text.parse::<jiff::Timestamp>());
    match parsed {
        Some(Ok(time)) => Ok(write(time).into()),
        _ => Err(format!(
            "expected a time like 2006-01-02T15:04:05Z, got {}",
            describe(&Value::from(text))
        )),
    }
}

/// The form alone: a general parser of times also reads others.
fn rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let like = |bytes: &[u8], pattern: &[u8]| {
        bytes.len() == pattern.len()
            && bytes
                .iter()
                .zip(pattern)
                .all(|(byte, expected)| match expected {
                    b'0' => byte.is_ascii_digit(),
                    expected => byte == expected,
                })
    };
    let Some((seconds, mut rest)) = bytes.split_at_checked(19) else {
        return false;
    };
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 || digits > 9 {
            return false;
        }
        rest = &fraction[digits..];
    }
    like(seconds, b"0000-00-00T00:00:00")
        && (rest == b"Z" || like(rest, b"+00:00") || like(rest, b"-00:00"))
}

/// What Go leaves where it decodes a null.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => "".into(),
        Shape::Boolean => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Quantity => "0".into(),
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Time | Shape::MicroTime | Shape::Any | Shape::Reference(_) => Value::Null,
    }
}

fn name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Object(_) => "object",
        Shape::Map(_) => "map",
        Shape::List(_) => "array",
        Shape::String => "string",
        Shape::Bytes => "string (base64)",
        Shape::Boolean => "boolean",
        Shape::Int32 | Shape::Int64 => "integer",
        Shape::Number => "number",
        Shape::Quantity => "quantity",
        Shape::IntOrString => "integer or string",
        Shape::Time | Shape::MicroTime => "string (date-time)",
        Shape::Any | Shape::Reference(_) => "any value",
    }
}

/// What stands there, cut to a length that fits a message.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("boolean ({value})"),
        Value::Number(number) if number.is_f64() => format!("number ({number})"),
        Value::Number(number) => format!("integer ({number})"),
        Value::String(text) if text.chars().count() > 64 => {
            let start: String = text.chars().take(64).collect();
            format!("string ({:?}…)", start)
        }
        Value::String(text) => format!("string ({text:?})"),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

#[cfg(test)]
mod tests;
