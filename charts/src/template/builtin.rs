//! The functions that are Go's own, and those of Helm that execute templates.
//!
//! [`call`] has those that only compute; `and`, `or`, `include`, `tpl`, `call` and the like are the executor's.

use bytes::Bytes;

use crate::{
    Element, Environment, Failure, List, Param, Value,
    format::{decode, sprint_all, sprintf, sprintln},
    functions,
    value::UintKind,
};

use super::{ast::CallTarget, compare, escape};

/// A function of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Builtin {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Call,
    Html,
    Index,
    Js,
    Len,
    Print,
    Printf,
    Println,
    Slice,
    Urlquery,
    Include,
    Tpl,
    Required,
    Fail,
    Lookup,
}

/// The function of a name: the engine's, then Sprig's and Helm's, which replace Go's `slice`.
pub(super) fn resolve(name: &str) -> Option<CallTarget> {
    let builtin = match name {
        "and" => Builtin::And,
        "or" => Builtin::Or,
        "not" => Builtin::Not,
        "eq" => Builtin::Eq,
        "ne" => Builtin::Ne,
        "lt" => Builtin::Lt,
        "le" => Builtin::Le,
        "gt" => Builtin::Gt,
        "ge" => Builtin::Ge,
        "call" => Builtin::Call,
        "html" => Builtin::Html,
        "index" => Builtin::Index,
        "js" => Builtin::Js,
        "len" => Builtin::Len,
        "print" => Builtin::Print,
        "printf" => Builtin::Printf,
        "println" => Builtin::Println,
        "urlquery" => Builtin::Urlquery,
        "include" => Builtin::Include,
        "tpl" => Builtin::Tpl,
        "required" => Builtin::Required,
        "fail" => Builtin::Fail,
        "lookup" => Builtin::Lookup,
        _ => {
            let function = functions::find(name).map(CallTarget::Function);
            return function.or((name == "slice").then_some(CallTarget::Builtin(Builtin::Slice)));
        }
    };
    Some(CallTarget::Builtin(builtin))
}

impl Builtin {
    /// Its parameters, and the type of any number of further ones.
    pub(super) fn signature(self) -> (&'static [Param], Option<Param>) {
        use Param::{Any, String};
        match self {
            Builtin::And | Builtin::Or | Builtin::Eq | Builtin::Call => (&[Any], Some(Any)),
            Builtin::Index | Builtin::Slice => (&[Any], Some(Any)),
            Builtin::Not | Builtin::Len => (&[Any], None),
            Builtin::Ne | Builtin::Lt | Builtin::Le | Builtin::Gt | Builtin::Ge => {
                (&[Any, Any], None)
            }
            Builtin::Html | Builtin::Js | Builtin::Urlquery => (&[], Some(Any)),
            Builtin::Print | Builtin::Println => (&[], Some(Any)),
            Builtin::Printf => (&[String], Some(Any)),
            Builtin::Include | Builtin::Tpl | Builtin::Required => (&[String, Any], None),
            Builtin::Fail => (&[String], None),
            Builtin::Lookup => (&[String, String, String, String], None),
        }
    }
}

/// Calls one that only computes.
pub(super) fn call(
    builtin: Builtin,
    args: &[Value],
    environment: &Environment,
) -> Result<Value, Failure> {
    let text = |text: Bytes| Ok(Value::String(text));
    let comparison = |result: Result<bool, Failure>| result.map(Value::Bool);
    match builtin {
        Builtin::Not => Ok(Value::Bool(!truth(&args[0]))),
        Builtin::Eq => comparison(compare::equals_any(&args[0], &args[1..])),
        Builtin::Ne => comparison(compare::equals_any(&args[0], &args[1..]).map(|equal| !equal)),
        Builtin::Lt => comparison(compare::less(&args[0], &args[1])),
        Builtin::Le => comparison(compare::less_or_equal(&args[0], &args[1])),
        Builtin::Gt => comparison(compare::less_or_equal(&args[0], &args[1]).map(|le| !le)),
        Builtin::Ge => comparison(compare::less(&args[0], &args[1]).map(|less| !less)),
        Builtin::Index => index(&args[0], &args[1..]),
        Builtin::Slice => slice(&args[0], &args[1..]),
        Builtin::Len => length(&args[0]),
        Builtin::Print => text(sprint_all(args)),
        Builtin::Println => text(sprintln(args)),
        Builtin::Printf => {
            let Value::String(format) = &args[0] else {
                return Err(Failure::new("the format is no string"));
            };
            bounded_format(format, environment)?;
            text(sprintf(format, &args[1..]))
        }
        Builtin::Html => text(escape::html(&escape::text(args))),
        Builtin::Js => text(escape::js(&escape::text(args))),
        Builtin::Urlquery => text(escape::urlquery(&escape::text(args))),
        Builtin::Lookup => lookup(args, environment),
        Builtin::And
        | Builtin::Or
        | Builtin::Call
        | Builtin::Include
        | Builtin::Tpl
        | Builtin::Required
        | Builtin::Fail => Err(Failure::new("needs the executor")),
    }
}

/// A format of many widths of a million is a way to fill memory: refused before it is written.
fn bounded_format(format: &[u8], environment: &Environment) -> Result<(), Failure> {
    let mut widths = 0_usize;
    let mut number = 0_usize;
    for byte in format {
        match byte {
            b'0'..=b'9' => number = (number * 10 + usize::from(byte - b'0')).min(1_000_000),
            b'*' => number = 1_000_000,
            _ => widths += std::mem::take(&mut number),
        }
    }
    match widths > environment.limits.output {
        true => Err(Failure::new("the text would be larger than the limit")),
        false => Ok(()),
    }
}

/// Whether `if` takes it for true.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Nil => false,
        Value::Bool(truth) => *truth,
        Value::Int(number, _) => *number != 0,
        Value::Uint(number, _) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::String(text) => !text.is_empty(),
        Value::List(list) => !list.items.is_empty(),
        Value::Map(map) => !map.is_empty(),
        Value::Object(object) => object.truth(),
    }
}

/// What a map answers for a key it hasn't, by the type of its values: nil, or `""` and the like.
pub(super) fn zero(map_type: &str) -> Value {
    match map_type.rsplit_once(']').map(|(_, element)| element) {
        Some("string") => Value::string(""),
        Some("bool") => Value::Bool(false),
        Some("int") => Value::int(0),
        Some("float64") => Value::Float(0.0),
        _ => Value::Nil,
    }
}

/// An object that is a map or a list to templates, as that.
pub(super) fn container(value: &Value) -> Value {
    match value {
        Value::Object(object) if matches!(object.kind(), "map" | "slice") => object.plain(),
        value => value.clone(),
    }
}

fn index(item: &Value, indexes: &[Value]) -> Result<Value, Failure> {
    if matches!(item, Value::Nil) {
        return Err(Failure::new("index of untyped nil"));
    }
    let mut item = container(item);
    for index in indexes {
        item = match &item {
            Value::Nil => return Err(Failure::new("index of nil pointer")),
            Value::List(list) => {
                let at = position(index, list.items.len())?;
                let past = || Failure::new("reflect: slice index out of range");
                list.items.get(at).ok_or_else(past)?.clone()
            }
            Value::String(text) => {
                let at = position(index, text.len())?;
                let past = || Failure::new("reflect: string index out of range");
                let byte = text.get(at).ok_or_else(past)?;
                Value::Uint(u64::from(*byte), UintKind::Uint8)
            }
            Value::Map(map) => match index {
                Value::String(key) => map.get(key).unwrap_or_else(|| zero(map.type_name())),
                Value::Nil => return Err(Failure::new("value is nil; should be of type string")),
                index => {
                    let message = format!("value has type {}; should be string", index.type_name());
                    return Err(Failure::new(message));
                }
            },
            item => {
                let message = format!("can't index item of type {}", item.type_name());
                return Err(Failure::new(message));
            }
        };
        item = container(&item);
    }
    Ok(item)
}

/// An index of something so long; Go's check lets the length itself pass.
fn position(index: &Value, length: usize) -> Result<usize, Failure> {
    let number = match index {
        Value::Int(number, _) => *number,
        Value::Uint(number, _) => *number as i64,
        Value::Nil => return Err(Failure::new("cannot index slice/array with nil")),
        index => {
            let message = format!("cannot index slice/array with type {}", index.type_name());
            return Err(Failure::new(message));
        }
    };
    let position = usize::try_from(number).ok().filter(|at| *at <= length);
    position.ok_or_else(|| Failure::new(format!("index out of range: {number}")))
}

fn slice(item: &Value, indexes: &[Value]) -> Result<Value, Failure> {
    let length = match item {
        Value::Nil => return Err(Failure::new("slice of untyped nil")),
        Value::String(_) if indexes.len() == 3 => {
            return Err(Failure::new("cannot 3-index slice a string"));
        }
        Value::String(text) => text.len(),
        Value::List(list) => list.items.len(),
        item => {
            let message = format!("can't slice item of type {}", item.type_name());
            return Err(Failure::new(message));
        }
    };
    if indexes.len() > 3 {
        let message = format!("too many slice indexes: {}", indexes.len());
        return Err(Failure::new(message));
    }
    let mut bounds = [0, length, length];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = position(index, length)?;
    }
    for pair in bounds.windows(2) {
        if pair[0] > pair[1] {
            let message = format!("invalid slice index: {} > {}", pair[0], pair[1]);
            return Err(Failure::new(message));
        }
    }
    Ok(match item {
        Value::String(text) => Value::String(text.slice(bounds[0]..bounds[1])),
        Value::List(list) => Value::List(List {
            items: list.items[bounds[0]..bounds[1]].to_vec().into(),
            element: list.element,
        }),
        _ => Value::Nil,
    })
}

fn length(item: &Value) -> Result<Value, Failure> {
    let length = match container(item) {
        Value::Nil => {
            let message = "reflect: call of reflect.Value.Type on zero Value";
            return Err(Failure::new(message));
        }
        Value::String(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.len(),
        item => {
            let message = format!("len of type {}", item.type_name());
            return Err(Failure::new(message));
        }
    };
    Ok(Value::int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn lookup(args: &[Value], environment: &Environment) -> Result<Value, Failure> {
    let Some(lookup) = &environment.lookup else {
        return Ok(Value::Map(crate::Map::new()));
    };
    let text = |value: &Value| match value {
        Value::String(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    lookup.lookup(
        &text(&args[0]),
        &text(&args[1]),
        &text(&args[2]),
        &text(&args[3]),
    )
}

/// The first so many characters of a text, for messages.
pub(super) fn shortened(text: &[u8], characters: usize) -> String {
    let mut at = 0;
    for _ in 0..characters {
        at += decode(&text[at..]).1;
    }
    let cut = String::from_utf8_lossy(&text[..at]).into_owned();
    if at < text.len() { cut + "…" } else { cut }
}

/// What the elements of a list are declared as: boxed in an interface or not.
pub(super) fn is_boxed(element: Element) -> bool {
    element == Element::Any
}
