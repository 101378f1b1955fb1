//! YAML, JSON and TOML, written and read.
//!
//! `from…` answer what does not read with a map whose `Error` says why (lists: one item that does), as Helm does.

use bytes::Bytes;

use super::{
    arguments::{bounded, text},
    fixed, toml,
};
use crate::{
    Environment, Failure, Function, Map,
    Param::{Any, String as Text},
    Value, json, yaml,
};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("toYaml", &[Any], |_, args| {
        Ok(Value::string(yaml::emit(&args[0])))
    }),
    fixed("toYamlPretty", &[Any], |_, args| {
        Ok(Value::string(yaml::emit_pretty(&args[0])))
    }),
    fixed("mustToYaml", &[Any], |_, args| {
        let written = yaml::try_emit(&args[0])
            .map_err(|error| Failure::new(format!("error marshaling into JSON: {error}")))?;
        Ok(Value::string(written))
    }),
    fixed("fromYaml", &[Text], |environment, args| {
        readable(environment, args)?;
        Ok(Value::Map(
            yaml::parse_map(text(args, 0)).unwrap_or_else(error_map),
        ))
    }),
    fixed("fromYamlArray", &[Text], |environment, args| {
        readable(environment, args)?;
        Ok(Value::list(
            yaml::parse_list(text(args, 0)).unwrap_or_else(error_list),
        ))
    }),
    fixed("toJson", &[Any], |_, args| {
        Ok(Value::string(json::emit(&args[0]).unwrap_or_default()))
    }),
    fixed("mustToJson", &[Any], |_, args| {
        written(json::emit(&args[0]))
    }),
    fixed("toPrettyJson", &[Any], |_, args| {
        Ok(Value::string(
            json::emit_pretty(&args[0]).unwrap_or_default(),
        ))
    }),
    fixed("mustToPrettyJson", &[Any], |_, args| {
        written(json::emit_pretty(&args[0]))
    }),
    fixed("toRawJson", &[Any], |_, args| {
        written(json::emit_raw(&args[0]))
    }),
    fixed("mustToRawJson", &[Any], |_, args| {
        written(json::emit_raw(&args[0]))
    }),
    fixed("fromJson", &[Text], |environment, args| {
        readable(environment, args)?;
        Ok(Value::Map(match json::parse(text(args, 0)) {
            Ok(Value::Map(map)) => map,
            Ok(Value::Nil) => Map::new(),
            Ok(other) => error_map(mismatch(&other, "map[string]interface {}")),
            Err(error) if is_number(text(args, 0), &error) => {
                error_map(mismatch(&Value::Float(0.0), "map[string]interface {}"))
            }
            Err(error) => error_map(error),
        }))
    }),
    fixed("fromJsonArray", &[Text], |environment, args| {
        readable(environment, args)?;
        Ok(match json::parse(text(args, 0)) {
            Ok(list @ Value::List(_)) => list,
            Ok(Value::Nil) => Value::list(Vec::new()),
            Ok(other) => Value::list(error_list(mismatch(&other, "[]interface {}"))),
            Err(error) if is_number(text(args, 0), &error) => {
                let error = mismatch(&Value::Float(0.0), "[]interface {}");
                Value::list(error_list(error))
            }
            Err(error) => Value::list(error_list(error)),
        })
    }),
    fixed("mustFromJson", &[Text], |environment, args| {
        readable(environment, args)?;
        json::parse(text(args, 0)).map_err(|error| Failure::new(error.to_string()))
    }),
    fixed("toToml", &[Any], |_, args| {
        present(&args[0])?;
        Ok(Value::string(
            toml::emit(&args[0]).unwrap_or_else(|why| why),
        ))
    }),
    fixed("mustToToml", &[Any], |_, args| {
        present(&args[0])?;
        Ok(Value::string(toml::emit(&args[0]).map_err(Failure::new)?))
    }),
    fixed("fromToml", &[Text], |environment, args| {
        readable(environment, args)?;
        Ok(Value::Map(
            toml::parse(text(args, 0)).unwrap_or_else(error_map),
        ))
    }),
];

fn written(result: Result<String, json::Error>) -> Result<Value, Failure> {
    Ok(Value::string(
        result.map_err(|error| Failure::new(error.to_string()))?,
    ))
}

/// What is read takes many times its text's size in values.
fn readable(environment: &Environment, args: &[Value]) -> Result<(), Failure> {
    bounded(environment, "reading", text(args, 0).len() as u128 * 4)
}

fn present(value: &Value) -> Result<(), Failure> {
    match value {
        Value::Nil => Err(Failure::new(
            "reflect: call of reflect.Value.Type on zero Value",
        )),
        _ => Ok(()),
    }
}

/// Whether a text is a number that is too large: to Go it is first of all none of what was asked for.
fn is_number(text: &[u8], error: &json::Error) -> bool {
    let first = text.trim_ascii_start().first();
    first.is_some_and(|first| *first == b'-' || first.is_ascii_digit())
        && error.to_string().ends_with("of type float64")
}

fn mismatch(found: &Value, wanted: &str) -> String {
    format!(
        "json: cannot unmarshal {} into Go value of type {wanted}",
        json::kind(found)
    )
}

fn error_map(error: impl std::fmt::Display) -> Map {
    let map = Map::new();
    map.insert(
        Bytes::from_static(b"Error"),
        Value::string(error.to_string()),
    );
    map
}

fn error_list(error: impl std::fmt::Display) -> Vec<Value> {
    vec![Value::string(error.to_string())]
}
