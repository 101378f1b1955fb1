//! `eq`, `lt` and the like: Go compares what is of one basic kind, and refuses the rest.

use crate::{Failure, Value, format::sprint};

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

fn incompatible() -> Failure {
    Failure::new("incompatible types for comparison")
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
        (Value::Nil, Value::Map(_) | Value::List(_))
        | (Value::Map(_) | Value::List(_), Value::Nil) => Ok(false),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        _ if basic(a) != basic(b) => Err(incompatible()),
        (Value::Object(a), Value::Object(b)) => Ok(std::rc::Rc::ptr_eq(a, b)),
        _ => {
            let text = |value| String::from_utf8_lossy(&sprint(value)).into_owned();
            let (a_text, b_text) = (text(a), text(b));
            let (a, b) = (a.type_name(), b.type_name());
            Err(Failure::new(format!(
                "non-comparable types {a_text}: {a}, {b}: {b_text}"
            )))
        }
    }
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
            _ => Err(incompatible()),
        },
    }
}

/// Whether the first is less, or equal.
pub(super) fn less_or_equal(a: &Value, b: &Value) -> Result<bool, Failure> {
    Ok(less(a, b)? || equals(a, b)?)
}
