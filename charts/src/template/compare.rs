//! `eq`, `lt` and the like: Go compares what is of one basic kind, and refuses the rest.

use crate::{Failure, Value, format::sprintf};

#[derive(PartialEq)]
enum Basic {
    Bool,
    Int,
    Uint,
    Float,
    String,
    Other,
}

fn basic(value: &Value) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Int(..) => Basic::Int,
        Value::Uint(..) => Basic::Uint,
        Value::Float(_) => Basic::Float,
        Value::String(_) => Basic::String,
        Value::Nil | Value::List(_) | Value::Map(_) | Value::Object(_) => Basic::Other,
    }
}

fn incompatible(a: &Value, b: &Value) -> Failure {
    let (a, b) = (a.type_name(), b.type_name());
    Failure::new(format!("incompatible types for comparison: {a} and {b}"))
}

fn invalid() -> Failure {
    Failure::new("invalid type for comparison")
}

/// Whether the first equals any of the others.
pub(super) fn equals_any(first: &Value, others: &[Value]) -> Result<bool, Failure> {
    if others.is_empty() {
        return Err(Failure::new("missing argument for comparison"));
    }
    for other in others {
        if equals(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equals(a: &Value, b: &Value) -> Result<bool, Failure> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a, _), Value::Int(b, _)) => Ok(a == b),
        (Value::Uint(a, _), Value::Uint(b, _)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::String(a), Value::String(b)) => Ok(a == b),
        (Value::Int(a, _), Value::Uint(b, _)) => Ok(u64::try_from(*a) == Ok(*b)),
        (Value::Uint(a, _), Value::Int(b, _)) => Ok(u64::try_from(*b) == Ok(*a)),
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        _ if basic(a) != basic(b) => Err(incompatible(a, b)),
        (Value::Object(a), Value::Object(b)) => Ok(std::rc::Rc::ptr_eq(a, b)),
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) => {
            let (text, of) = (printed(b, b"%s"), b.type_name());
            Err(Failure::new(format!("non-comparable type {text}: {of}")))
        }
        _ => {
            let (first, second) = (printed(a, b"%s"), printed(b, b"%v"));
            let (a, b) = (a.type_name(), b.type_name());
            let message = format!("non-comparable types {first}: {a}, {b}: {second}");
            Err(Failure::new(message))
        }
    }
}

fn printed(value: &Value, format: &[u8]) -> String {
    let text = sprintf(format, std::slice::from_ref(value));
    String::from_utf8_lossy(&text).into_owned()
}

/// Whether the first is less.
pub(super) fn less(a: &Value, b: &Value) -> Result<bool, Failure> {
    match (a, b) {
        (Value::Int(a, _), Value::Int(b, _)) => Ok(a < b),
        (Value::Uint(a, _), Value::Uint(b, _)) => Ok(a < b),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::String(a), Value::String(b)) => Ok(a < b),
        (Value::Int(a, _), Value::Uint(b, _)) => {
            Ok(u64::try_from(*a).is_ok_and(|a| a < *b) || *a < 0)
        }
        (Value::Uint(a, _), Value::Int(b, _)) => Ok(u64::try_from(*b).is_ok_and(|b| *a < b)),
        _ => match (basic(a), basic(b)) {
            (Basic::Other, _) | (_, Basic::Other) | (Basic::Bool, Basic::Bool) => Err(invalid()),
            _ => Err(incompatible(a, b)),
        },
    }
}

/// Whether the first is less, or equal.
pub(super) fn less_or_equal(a: &Value, b: &Value) -> Result<bool, Failure> {
    Ok(less(a, b)? || equals(a, b)?)
}
