//! Deep equality, as Go's `reflect.DeepEqual`: types count, `nan` differs from itself.

use crate::{Value, value::meter};

/// Nested deeper than this, values count as different: only a map that holds itself is.
const DEPTH: usize = 1000;

/// What two values cost to compare, in steps.
const COST: u64 = 2;

pub(super) fn deep_equal(one: &Value, other: &Value) -> bool {
    equal(one, other, DEPTH)
}

fn equal(one: &Value, other: &Value, depth: usize) -> bool {
    if depth == 0 || !meter::charge(COST) {
        return false;
    }
    if !matches!(one, Value::List(_) | Value::Map(_) | Value::Object(_)) {
        return same(one, other, depth);
    }
    stacker::maybe_grow(64 << 10, 1 << 20, || same(one, other, depth))
}

fn same(one: &Value, other: &Value, depth: usize) -> bool {
    match (one, other) {
        (Value::Nil, Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a, kind), Value::Int(b, other)) => kind == other && a == b,
        (Value::Uint(a, kind), Value::Uint(b, other)) => kind == other && a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.element == b.element
                && a.items.len() == b.items.len()
                && (std::rc::Rc::ptr_eq(&a.items, &b.items) && a.items.is_empty()
                    || a.items
                        .iter()
                        .zip(b.items.iter())
                        .all(|(a, b)| equal(a, b, depth - 1)))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.type_name() == b.type_name()
                && (a.same(b)
                    || a.len() == b.len() && {
                        let (a, b) = (a.entries(), b.entries());
                        let same =
                            |((key, value), (other_key, other)): (&(_, Value), &(_, Value))| {
                                let (key, other_key): (&bytes::Bytes, &bytes::Bytes) =
                                    (key, other_key);
                                key == other_key && equal(value, other, depth - 1)
                            };
                        a.iter().zip(b.iter()).all(same)
                    })
        }
        (Value::Object(a), Value::Object(b)) => {
            std::rc::Rc::ptr_eq(a, b)
                || a.type_name() == b.type_name()
                    && a.print() == b.print()
                    && equal(&a.plain(), &b.plain(), depth - 1)
        }
        _ => false,
    }
}
