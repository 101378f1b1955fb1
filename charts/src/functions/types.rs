//! What Go calls the kind and the type of a value.

use super::{arguments::text, equality::deep_equal, fixed};
use crate::{
    Function,
    Param::{Any, String as Text},
    Value,
    value::{IntKind, UintKind},
};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("kindOf", &[Any], |_, args| {
        Ok(Value::string(kind(&args[0])))
    }),
    fixed("kindIs", &[Text, Any], |_, args| {
        Ok(Value::Bool(text(args, 0) == kind(&args[1]).as_bytes()))
    }),
    fixed("typeOf", &[Any], |_, args| {
        Ok(Value::string(type_name(&args[0])))
    }),
    fixed("typeIs", &[Text, Any], |_, args| {
        Ok(Value::Bool(text(args, 0) == type_name(&args[1]).as_bytes()))
    }),
    fixed("typeIsLike", &[Text, Any], |_, args| {
        let name = type_name(&args[1]).as_bytes();
        let wanted = text(args, 0);
        Ok(Value::Bool(
            wanted == name || name.strip_prefix(b"*") == Some(wanted),
        ))
    }),
    fixed("deepEqual", &[Any, Any], |_, args| {
        Ok(Value::Bool(deep_equal(&args[0], &args[1])))
    }),
];

/// As `reflect.Kind` prints it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_, IntKind::Int) => "int",
        Value::Int(_, IntKind::Int64) => "int64",
        Value::Int(_, IntKind::Int32) => "int32",
        Value::Uint(_, UintKind::Uint8) => "uint8",
        Value::Uint(_, UintKind::Uint32) => "uint32",
        Value::Uint(_, UintKind::Uint64) => "uint64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Object(object) => object.kind(),
    }
}

/// As `%T` prints it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::List(list) => list.type_name(),
        Value::Map(map) => map.type_name(),
        Value::Object(object) => object.type_name(),
        plain => kind(plain),
    }
}
