//! Lists: of any element type, as Go's reflection takes them.

use bytes::Bytes;

use super::{
    arguments::{bounded_items, int, nil_pointer},
    cast::to_int,
    defaults::is_empty,
    equality::deep_equal,
    fixed, types, variadic,
};
use crate::{
    Element, Environment, Failure, Function, List,
    Param::{Any, Int},
    Value,
    value::meter,
};

pub(super) const FUNCTIONS: &[Function] = &[
    variadic("list", &[], Any, list),
    variadic("tuple", &[], Any, list),
    fixed("append", &[Any, Any], push),
    fixed("push", &[Any, Any], push),
    fixed("mustAppend", &[Any, Any], push),
    fixed("mustPush", &[Any, Any], push),
    fixed("prepend", &[Any, Any], prepend),
    fixed("mustPrepend", &[Any, Any], prepend),
    fixed("first", &[Any], first),
    fixed("mustFirst", &[Any], first),
    fixed("last", &[Any], last),
    fixed("mustLast", &[Any], last),
    fixed("rest", &[Any], rest),
    fixed("mustRest", &[Any], rest),
    fixed("initial", &[Any], initial),
    fixed("mustInitial", &[Any], initial),
    fixed("reverse", &[Any], reverse),
    fixed("mustReverse", &[Any], reverse),
    fixed("uniq", &[Any], unique),
    fixed("mustUniq", &[Any], unique),
    fixed("compact", &[Any], compact),
    fixed("mustCompact", &[Any], compact),
    variadic("without", &[Any], Any, without),
    variadic("mustWithout", &[Any], Any, without),
    fixed("has", &[Any, Any], has),
    fixed("mustHas", &[Any, Any], has),
    variadic("slice", &[Any], Any, slice),
    variadic("mustSlice", &[Any], Any, slice),
    variadic("concat", &[], Any, concat),
    fixed("chunk", &[Int, Any], chunk),
    fixed("mustChunk", &[Int, Any], chunk),
];

fn list(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    Ok(Value::list(args.to_vec()))
}

/// The list, or why there is none: `Cannot VERB on type KIND`.
fn listed<'a>(value: &'a Value, verb: &str) -> Result<&'a List, Failure> {
    match value {
        Value::List(list) => Ok(list),
        Value::Nil => Err(nil_pointer()),
        other => {
            let kind = types::kind(other);
            Err(Failure::new(format!("Cannot {verb} on type {kind}")))
        }
    }
}

fn push(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let list = listed(&args[0], "push")?;
    bounded_items(environment, "append", list.items.len() as u128 + 1)?;
    let mut items = list.items.to_vec();
    items.push(args[1].clone());
    Ok(Value::list(items))
}

fn prepend(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let list = listed(&args[0], "prepend")?;
    bounded_items(environment, "prepend", list.items.len() as u128 + 1)?;
    let mut items = Vec::with_capacity(list.items.len() + 1);
    items.push(args[1].clone());
    items.extend(list.items.iter().cloned());
    Ok(Value::list(items))
}

fn first(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    Ok(listed(&args[0], "find first")?
        .items
        .first()
        .cloned()
        .unwrap_or_default())
}

fn last(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    Ok(listed(&args[0], "find last")?
        .items
        .last()
        .cloned()
        .unwrap_or_default())
}

fn rest(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let items = &listed(&args[0], "find rest")?.items;
    Ok(Value::list(items.iter().skip(1).cloned().collect()))
}

fn initial(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let items = &listed(&args[0], "find initial")?.items;
    Ok(Value::list(items[..items.len().saturating_sub(1)].to_vec()))
}

fn reverse(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let items = &listed(&args[0], "find reverse")?.items;
    Ok(Value::list(items.iter().rev().cloned().collect()))
}

/// The first of each that are deeply equal.
fn unique(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let list = listed(&args[0], "find uniq")?;
    let mut seen_texts = std::collections::HashSet::<&Bytes>::new();
    let mut kept: Vec<Value> = Vec::new();
    for item in list.items.iter() {
        // Strings are told apart by hash: long lists are lists of strings.
        let fresh = match item {
            Value::String(text) => seen_texts.insert(text),
            other => !kept.iter().any(|seen| deep_equal(other, seen)),
        };
        if fresh {
            kept.push(item.clone());
        }
        // Refused, nothing equals anything: there is no end to it.
        if !meter::charge(0) {
            break;
        }
    }
    Ok(Value::list(kept))
}

fn compact(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let items = listed(&args[0], "compact")?.items.iter();
    Ok(Value::list(
        items.filter(|item| !is_empty(item)).cloned().collect(),
    ))
}

fn without(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let items = listed(&args[0], "find without")?.items.iter();
    let unwanted = |item: &&Value| args[1..].iter().any(|other| deep_equal(item, other));
    Ok(Value::list(
        items.filter(|item| !unwanted(item)).cloned().collect(),
    ))
}

fn has(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    if matches!(args[1], Value::Nil) {
        return Ok(Value::Bool(false));
    }
    let list = listed(&args[1], "find has")?;
    Ok(Value::Bool(
        list.items.iter().any(|item| deep_equal(&args[0], item)),
    ))
}

/// Sprig's, which in Helm stands before that of `text/template`: lists only, and a nil for the empty one.
fn slice(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let list = match &args[0] {
        Value::List(list) => list,
        Value::Nil => return Err(nil_pointer()),
        other => {
            let kind = types::kind(other);
            let message = format!("list should be type of slice or array but {kind}");
            return Err(Failure::new(message));
        }
    };
    let length = list.items.len();
    if length == 0 {
        return Ok(Value::Nil);
    }
    let start = args.get(1).map_or(0, to_int);
    let end = args.get(2).map_or(length as i64, to_int);
    let bounds = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let Some(part) = bounds.and_then(|(start, end)| list.items.get(start..end)) else {
        return Err(Failure::new(
            "reflect.Value.Slice: slice index out of bounds",
        ));
    };
    Ok(Value::List(List {
        items: std::rc::Rc::new(part.to_vec()),
        element: list.element,
    }))
}

fn concat(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let mut all = Vec::new();
    for arg in args {
        let list = match arg {
            Value::List(list) => list,
            Value::Nil => return Err(nil_pointer()),
            other => {
                let kind = types::kind(other);
                return Err(Failure::new(format!("Cannot concat type {kind} as list")));
            }
        };
        bounded_items(
            environment,
            "concat",
            (all.len() + list.items.len()) as u128,
        )?;
        all.extend(list.items.iter().cloned());
    }
    Ok(Value::list(all))
}

fn chunk(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let list = match &args[1] {
        Value::List(list) => list,
        Value::Nil => return Err(nil_pointer()),
        other => {
            let kind = types::kind(other);
            return Err(Failure::new(format!("Cannot chunk type {kind}")));
        }
    };
    let size = int(args, 0);
    let items = &list.items[..];
    // Of a negative size, Sprig's arithmetic makes something of short lists.
    let chunks: Vec<&[Value]> = match usize::try_from(size) {
        Ok(size) if size > 0 => items.chunks(size).collect(),
        Err(_) if items.len() == 1 && size < -1 => vec![items],
        Err(_) if items.len() > 1 && items.len() as u64 - 1 <= size.unsigned_abs() => Vec::new(),
        _ => return Err(Failure::new("runtime error: makeslice: len out of range")),
    };
    let chunks = chunks
        .into_iter()
        .map(|chunk| Value::list(chunk.to_vec()))
        .collect::<Vec<_>>();
    Ok(Value::List(List {
        items: chunks.into(),
        element: Element::List,
    }))
}
