//! Structs of Go that templates see: fields in order, and how they print.

use std::any::Any;

use crate::{Failure, Map, Object, Value};

/// A struct with fields and no methods.
pub(super) struct Struct {
    pub(super) type_name: &'static str,
    pub(super) kind: &'static str,
    /// Name in Go, name in JSON, value.
    pub(super) fields: Vec<(&'static str, &'static str, Value)>,
    /// As `%v` has it; otherwise the fields' values in braces.
    pub(super) printed: Option<String>,
    /// Methods without arguments.
    pub(super) methods: Vec<(&'static str, Value)>,
}

impl Object for Struct {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn field(&self, name: &str) -> Option<Value> {
        let found = self.fields.iter().find(|(field, ..)| *field == name);
        found.map(|(.., value)| value.clone())
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, Failure>> {
        let (_, value) = self.methods.iter().find(|(method, _)| *method == name)?;
        Some(match args.len() {
            0 => Ok(value.clone()),
            given => Err(wrong_number(name, 0, given)),
        })
    }

    fn print(&self) -> String {
        if let Some(printed) = &self.printed {
            return printed.clone();
        }
        let values = self
            .fields
            .iter()
            .map(|(.., value)| crate::json::text(&crate::format::sprint(value)).into_owned());
        let values: Vec<String> = values.collect();
        let reference = if self.kind == "ptr" { "&" } else { "" };
        format!("{reference}{{{}}}", values.join(" "))
    }

    fn plain(&self) -> Value {
        let map = Map::new();
        for (_, name, value) in &self.fields {
            if !name.is_empty() {
                map.insert(*name, value.clone());
            }
        }
        Value::Map(map)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// As Go's templates complain.
pub(super) fn wrong_number(method: &str, wanted: usize, given: usize) -> Failure {
    Failure::new(format!(
        "wrong number of args for {method}: want {wanted} got {given}"
    ))
}
