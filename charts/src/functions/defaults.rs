//! What counts as empty, and what stands in for it.

use super::{fixed, variadic};
use crate::{
    Environment, Failure, Function,
    Param::{Any, Bool},
    Value,
};

pub(super) const FUNCTIONS: &[Function] = &[
    variadic("default", &[Any], Any, |_, args| {
        let given = args.get(1).filter(|value| !is_empty(value));
        Ok(given.unwrap_or(&args[0]).clone())
    }),
    fixed("empty", &[Any], |_, args| {
        Ok(Value::Bool(is_empty(&args[0])))
    }),
    variadic("coalesce", &[], Any, |_, args| {
        Ok(args
            .iter()
            .find(|value| !is_empty(value))
            .cloned()
            .unwrap_or_default())
    }),
    variadic("all", &[], Any, |_, args| {
        Ok(Value::Bool(!args.iter().any(is_empty)))
    }),
    variadic("any", &[], Any, |_, args| {
        Ok(Value::Bool(args.iter().any(|value| !is_empty(value))))
    }),
    fixed("ternary", &[Any, Any, Bool], |_, args| {
        Ok(args[usize::from(!matches!(args[2], Value::Bool(true)))].clone())
    }),
    fixed("deepCopy", &[Any], deep_copy),
    fixed("mustDeepCopy", &[Any], deep_copy),
];

/// Nil, false, zero, or with nothing in it; a struct never.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Nil => true,
        Value::Bool(flag) => !flag,
        Value::Int(number, _) => *number == 0,
        Value::Uint(number, _) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::List(list) => list.items.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Object(object) => object.kind() != "struct" && !object.truth(),
    }
}

fn deep_copy(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    if matches!(args[0], Value::Nil) {
        let message = "reflect: call of reflect.Value.Type on zero Value";
        return Err(Failure::new(message));
    }
    let mut budget = environment.limits.output / size_of::<Value>();
    copy(&args[0], environment.limits.depth, &mut budget)
}

/// The value with maps of its own; strings and what never changes are shared.
fn copy(value: &Value, depth: usize, budget: &mut usize) -> Result<Value, Failure> {
    let refused = || Failure::new("deepCopy: the value is nested too deeply or too large");
    let depth = depth.checked_sub(1).ok_or_else(refused)?;
    *budget = budget.checked_sub(1).ok_or_else(refused)?;
    Ok(match value {
        Value::Map(map) => {
            let copied = crate::Map::of_type(map.type_name());
            for (key, value) in map.entries() {
                copied.insert(key, copy(&value, depth, budget)?);
            }
            Value::Map(copied)
        }
        Value::List(list) => {
            let items = list.items.iter().map(|item| copy(item, depth, budget));
            Value::List(crate::List {
                items: std::rc::Rc::new(items.collect::<Result<_, _>>()?),
                element: list.element,
            })
        }
        other => other.clone(),
    })
}
