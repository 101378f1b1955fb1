//! Columns and cells that several kinds share.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column,
    value::{entries, items, part, plain, text},
};
use crate::{object, time::since};

/// Columns as a table shows them.
pub(crate) fn definitions(columns: &[Column]) -> Value {
    columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.r#type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect()
}

/// The object's name, first in almost every table.
pub(crate) const NAME: Column = Column {
    name: "Name",
    r#type: "string",
    format: "name",
    description: "Name of the object, unique among its kind in its namespace",
    priority: 0,
};

/// Time since the object was created.
pub(crate) const AGE: Column = shown("Age", "Time since the object was created");

/// When the object was created: the second of the two columns that kinds without columns of their
/// own have in Kubernetes.
pub(crate) const CREATED: Column = Column {
    r#type: "date",
    ..shown("Created At", "When the object was created")
};

/// A column that is always shown.
pub(crate) const fn shown(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        r#type: "string",
        format: "",
        description,
        priority: 0,
    }
}

/// A column of whole numbers.
pub(crate) const fn count(name: &'static str, description: &'static str) -> Column {
    Column {
        r#type: "integer",
        ..shown(name, description)
    }
}

/// A column of yes and no.
pub(crate) const fn truth(name: &'static str, description: &'static str) -> Column {
    Column {
        r#type: "boolean",
        ..shown(name, description)
    }
}

/// A column that only `-o wide` shows.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        priority: 1,
        ..shown(name, description)
    }
}

/// The cell of [`NAME`].
pub(crate) fn name(object: &Value) -> Value {
    object::name(object).into()
}

/// The cell of [`AGE`].
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since(part(object, "/metadata/creationTimestamp"), now).into()
}

/// The cell of [`CREATED`].
pub(crate) fn created(object: &Value) -> Value {
    text(object, "/metadata/creationTimestamp").into()
}

/// The text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>" } else { text }.into()
}

/// Names of a pod template's containers and their images.
pub(crate) fn containers(owner: &Value) -> [Value; 2] {
    let list = items(owner, "/spec/template/spec/containers");
    ["/name", "/image"].map(|pointer| {
        let texts: Vec<_> = list
            .iter()
            .map(|container| text(container, pointer))
            .collect();
        texts.join(",").into()
    })
}

/// A label selector as `-l` would take it: `app=web,tier in (a,b)`.
pub(crate) fn selector(selector: &Value) -> Value {
    let mut parts: Vec<_> = entries(selector, "/matchLabels")
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    parts.extend(items(selector, "/matchExpressions").iter().map(|rule| {
        let key = text(rule, "/key");
        let values: Vec<_> = items(rule, "/values").iter().map(plain).collect();
        match text(rule, "/operator") {
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            _ => format!("{key} in ({})", values.join(",")),
        }
    }));
    or_none(&parts.join(","))
}
