//! Dictionaries: shared maps, which `set`, `unset` and the merges change in place.

use bytes::Bytes;

use super::{
    arguments::{map, text},
    fixed, merge, types, variadic,
};
use crate::{
    Environment, Failure, Function, Map,
    Param::{Any, Map as Dict, String as Text},
    Value, format,
};

pub(super) const FUNCTIONS: &[Function] = &[
    variadic("dict", &[], Any, dict),
    fixed("get", &[Dict, Text], |_, args| {
        let found = map(args, 0).and_then(|map| map.get(text(args, 1)));
        Ok(found.unwrap_or_else(|| Value::string("")))
    }),
    fixed("set", &[Dict, Text, Any], |_, args| {
        let Some(map) = map(args, 0) else {
            return Err(Failure::new("assignment to entry in nil map"));
        };
        map.insert(key(args, 1), args[2].clone());
        Ok(args[0].clone())
    }),
    fixed("unset", &[Dict, Text], |_, args| {
        if let Some(map) = map(args, 0) {
            map.remove(text(args, 1));
        }
        Ok(same(args))
    }),
    fixed("hasKey", &[Dict, Text], |_, args| {
        Ok(Value::Bool(
            map(args, 0).is_some_and(|map| map.contains(text(args, 1))),
        ))
    }),
    variadic("pluck", &[Text], Dict, |_, args| {
        let maps = (1..args.len()).filter_map(|index| map(args, index));
        Ok(Value::list(
            maps.filter_map(|map| map.get(text(args, 0))).collect(),
        ))
    }),
    variadic("keys", &[], Dict, |_, args| {
        let maps = (0..args.len()).filter_map(|index| map(args, index));
        let keys = maps
            .flat_map(Map::entries)
            .map(|(key, _)| Value::String(key));
        Ok(Value::strings(keys.collect()))
    }),
    fixed("values", &[Dict], |_, args| {
        let entries = map(args, 0).map(Map::entries).unwrap_or_default();
        Ok(Value::list(
            entries.into_iter().map(|(_, value)| value).collect(),
        ))
    }),
    variadic("pick", &[Dict], Text, |_, args| {
        let picked = Map::new();
        for index in 1..args.len() {
            if let Some(value) = map(args, 0).and_then(|map| map.get(text(args, index))) {
                picked.insert(key(args, index), value);
            }
        }
        Ok(Value::Map(picked))
    }),
    variadic("omit", &[Dict], Text, |_, args| {
        let kept = Map::new();
        for (key, value) in map(args, 0).map(Map::entries).unwrap_or_default() {
            if !(1..args.len()).any(|index| text(args, index) == key) {
                kept.insert(key, value);
            }
        }
        Ok(Value::Map(kept))
    }),
    variadic("dig", &[], Any, dig),
    variadic("merge", &[Dict], Dict, |environment, args| {
        merged(environment, args, merge::Existing::Wins)
    }),
    variadic("mustMerge", &[Dict], Dict, |environment, args| {
        merged(environment, args, merge::Existing::Wins)
    }),
    variadic("mergeOverwrite", &[Dict], Dict, |environment, args| {
        merged(environment, args, merge::Existing::Loses)
    }),
    variadic("mustMergeOverwrite", &[Dict], Dict, |environment, args| {
        merged(environment, args, merge::Existing::Loses)
    }),
];

fn key(args: &[Value], index: usize) -> Bytes {
    match args.get(index) {
        Some(Value::String(text)) => text.clone(),
        _ => Bytes::new(),
    }
}

/// The map itself; a nil one stays empty.
fn same(args: &[Value]) -> Value {
    match map(args, 0) {
        Some(map) => Value::Map(map.clone()),
        None => Value::Map(Map::new()),
    }
}

fn dict(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let dict = Map::new();
    for pair in args.chunks(2) {
        let value = pair.get(1).cloned().unwrap_or_else(|| Value::string(""));
        dict.insert(format::strval(&pair[0]), value);
    }
    Ok(Value::Map(dict))
}

/// Follows keys through maps; the last argument but one where a key is missing.
fn dig(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let [keys @ .., default, start] = args else {
        return Err(Failure::new("dig needs at least three arguments"));
    };
    if keys.is_empty() {
        return Err(Failure::new("dig needs at least three arguments"));
    }
    let mut step = start.clone();
    // The map's type is looked at first, then all keys', and only then the map is entered.
    as_dict(&step)?;
    for key in keys {
        let Value::String(_) = key else {
            return Err(conversion(key, "string"));
        };
    }
    for index in 0..keys.len() {
        match as_dict(&step)?.get(text(keys, index)) {
            Some(value) => step = value,
            None => return Ok(default.clone()),
        }
    }
    Ok(step)
}

fn as_dict(value: &Value) -> Result<&Map, Failure> {
    const TYPE: &str = "map[string]interface {}";
    match value {
        Value::Map(map) if map.type_name() == TYPE => Ok(map),
        other => Err(conversion(other, TYPE)),
    }
}

fn conversion(value: &Value, wanted: &str) -> Failure {
    let found = match value {
        Value::Nil => "nil",
        other => types::type_name(other),
    };
    Failure::new(format!(
        "interface conversion: interface {{}} is {found}, not {wanted}"
    ))
}

fn merged(
    environment: &Environment,
    args: &[Value],
    existing: merge::Existing,
) -> Result<Value, Failure> {
    let into = match map(args, 0) {
        Some(map) => map.clone(),
        None => Map::new(),
    };
    for index in 1..args.len() {
        if let Some(from) = map(args, index) {
            merge::merge(&into, from, existing, environment.limits.depth)?;
        }
    }
    Ok(Value::Map(into))
}
