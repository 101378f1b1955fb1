//! Arguments as Rust values, and the bounds on what functions build.
//!
//! The executor has checked number and types before a call; what does not fit all the same reads as the zero value.

use bytes::Bytes;

use crate::{Environment, Failure, Map, Value, value::meter};

const NIL_POINTER: &str = "runtime error: invalid memory address or nil pointer dereference";

/// The string at that place.
pub(super) fn text(args: &[Value], index: usize) -> &[u8] {
    match args.get(index) {
        Some(Value::String(text)) => text,
        _ => b"",
    }
}

/// The string at that place, as text for people: bytes that are not UTF-8 are replaced.
pub(super) fn lossy(args: &[Value], index: usize) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text(args, index))
}

/// The `int` at that place.
pub(super) fn int(args: &[Value], index: usize) -> i64 {
    match args.get(index) {
        Some(Value::Int(number, _)) => *number,
        _ => 0,
    }
}

/// The `float64` at that place; an integer constant is one too.
pub(super) fn float(args: &[Value], index: usize) -> f64 {
    match args.get(index) {
        Some(Value::Float(number)) => *number,
        Some(Value::Int(number, _)) => *number as f64,
        _ => 0.0,
    }
}

/// The map at that place; `None`: a nil map.
pub(super) fn map(args: &[Value], index: usize) -> Option<&Map> {
    match args.get(index) {
        Some(Value::Map(map)) => Some(map),
        _ => None,
    }
}

/// The items of the `[]interface{}` at that place; `None`: a nil slice.
pub(super) fn items(args: &[Value], index: usize) -> Option<&[Value]> {
    match args.get(index) {
        Some(Value::List(list)) => Some(&list.items),
        _ => None,
    }
}

/// Go's panic at the type of nothing.
pub(super) fn nil_pointer() -> Failure {
    Failure::new(NIL_POINTER)
}

/// Refuses to build that many bytes if it is more than a rendering may.
pub(super) fn bounded(environment: &Environment, name: &str, bytes: u128) -> Result<(), Failure> {
    let limit = environment.limits.output;
    if bytes <= limit as u128 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{name} would build {bytes} bytes: more than the {limit} that a chart may"
    )))
}

/// Counts what a function that is slow by design costs, in steps.
pub(super) fn costly(name: &str, steps: u64) -> Result<(), Failure> {
    match meter::charge(steps) {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{name}: the templates take too long: more steps than the limit"
        ))),
    }
}

/// A list may have as many items as fit a rendering's output.
pub(super) fn bounded_items(
    environment: &Environment,
    name: &str,
    count: u128,
) -> Result<(), Failure> {
    let limit = environment.limits.output / size_of::<Value>();
    if count <= limit as u128 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{name} would build a list of {count} items: more than the {limit} that a chart may"
    )))
}

/// `[]string`.
pub(super) fn strings<T: Into<Bytes>>(texts: impl IntoIterator<Item = T>) -> Value {
    Value::strings(texts.into_iter().map(Value::string).collect())
}

/// `[]int`.
pub(super) fn ints(numbers: Vec<i64>) -> Value {
    Value::List(crate::List {
        items: std::rc::Rc::new(numbers.into_iter().map(Value::int).collect()),
        element: crate::Element::Int,
    })
}
