//! The table of a custom kind: its name, then the columns that its definition lists, or its age.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::path::JsonPath;
use crate::{object, time::since};

/// A column of a definition (`additionalPrinterColumns`).
pub(crate) struct PrinterColumn {
    /// As the table shows it.
    shown: Value,
    kind: String,
    path: JsonPath,
}

/// The columns of a version.
pub(crate) fn read(version: &Value) -> Vec<PrinterColumn> {
    let age = json!([{
        "name": "Age",
        "type": "date",
        "description": "CreationTimestamp is a timestamp representing the server time when this object was created.",
        "jsonPath": ".metadata.creationTimestamp",
    }]);
    let columns = version["additionalPrinterColumns"]
        .as_array()
        .filter(|columns| !columns.is_empty())
        .or(age.as_array());
    columns.into_iter().flatten().filter_map(column).collect()
}

fn column(column: &Value) -> Option<PrinterColumn> {
    let text = |field: &str| column[field].as_str().unwrap_or_default();
    let path = text("jsonPath");
    let description = match text("description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        description => description.to_owned(),
    };
    Some(PrinterColumn {
        shown: json!({
            "name": text("name"),
            "type": text("type"),
            "format": text("format"),
            "description": description,
            "priority": column["priority"].as_i64().unwrap_or_default(),
        }),
        kind: text("type").to_owned(),
        path: JsonPath::parse(path).ok()?,
    })
}

/// The heads of the columns.
pub(crate) fn definitions(columns: &[PrinterColumn]) -> Value {
    let name = json!({
        "name": "Name",
        "type": "string",
        "format": "name",
        "description": "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
        "priority": 0,
    });
    std::iter::once(name)
        .chain(columns.iter().map(|column| column.shown.clone()))
        .collect()
}

/// The cells of one object.
pub(crate) fn cells(columns: &[PrinterColumn], object: &Value, now: Timestamp) -> Vec<Value> {
    std::iter::once(object::name(object).into())
        .chain(columns.iter().map(|column| column.cell(object, now)))
        .collect()
}

impl PrinterColumn {
    /// Null where there is nothing, or nothing of the column's type.
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(value) = self.path.first(object).filter(|value| !value.is_null()) else {
            return Value::Null;
        };
        match self.kind.as_str() {
            "integer" => match (value.as_i64(), value.as_f64()) {
                (Some(whole), _) => whole.into(),
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "as Kubernetes: the fraction is cut"
                )]
                (None, Some(float)) => (float as i64).into(),
                (None, None) => Value::Null,
            },
            "number" => value
                .as_number()
                .cloned()
                .map_or(Value::Null, Value::Number),
            "boolean" => value.as_bool().map_or(Value::Null, Value::Bool),
            "date" => match value.as_str() {
                Some(text) if text.parse::<Timestamp>().is_ok() => since(value, now).into(),
                Some(_) => "<invalid>".into(),
                None => Value::Null,
            },
            _ => match value {
                Value::String(text) => text.as_str().into(),
                other => other.to_string().into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, value: Value, expected: Value) {
        let version = json!({"additionalPrinterColumns": [
            {"name": "A", "type": kind, "jsonPath": ".spec.a"},
        ]});
        let object = json!({"metadata": {"name": "x"}, "spec": {"a": value}});
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        let cells = cells(&read(&version), &object, now);
        assert_eq!(cells, [json!("x"), expected]);
    }

    #[test]
    fn cells_are_of_their_columns_types() {
        check("string", json!("a"), json!("a"));
        check("string", json!(3), json!("3"));
        check("string", json!({"b": 1}), json!("{\"b\":1}"));
        check("integer", json!(3), json!(3));
        check("integer", json!(3.7), json!(3));
        check("integer", json!("3"), Value::Null);
        check("number", json!(1.5), json!(1.5));
        check("boolean", json!(true), json!(true));
        check("date", json!("2026-01-01T00:00:00Z"), json!("60m"));
        check("date", json!("soon"), json!("<invalid>"));
        check("string", Value::Null, Value::Null);
    }

    #[test]
    fn a_kind_without_columns_shows_its_age() {
        assert_eq!(definitions(&read(&json!({})))[1]["name"], "Age");
    }
}
