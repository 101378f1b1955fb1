//! The server's `Table` as rows of text. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::duration;

/// What to show beyond the server's columns.
#[derive(Clone, Default, Debug)]
pub(crate) struct View {
    /// Columns that only `-o wide` shows.
    pub(crate) wide: bool,
    /// A first column with the namespace.
    pub(crate) namespace: bool,
    /// A last column with the labels.
    pub(crate) labels: bool,
    /// What comes before each name: `pod/`.
    pub(crate) prefix: String,
}

/// The answer of a server that knows no Tables as one: names and ages.
pub(crate) fn of_objects(answer: Value, now: Timestamp) -> Value {
    if answer["kind"] == "Table" {
        return answer;
    }
    let objects = match answer["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![answer.clone()],
    };
    let row = |object: Value| {
        let created = object["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default();
        let age = duration::age(created, now);
        json!({"cells": [object["metadata"]["name"], age], "object": object})
    };
    json!({
        "kind": "Table",
        "metadata": answer["metadata"],
        "columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Age"}],
        "rows": objects.into_iter().map(row).collect::<Vec<_>>(),
    })
}

/// The line of column names.
pub(crate) fn header(columns: &[Value], view: &View) -> Vec<String> {
    let mut names = Vec::new();
    if view.namespace {
        names.push("NAMESPACE".to_owned());
    }
    for column in columns.iter().filter(|column| shown(column, view)) {
        names.push(column["name"].as_str().unwrap_or_default().to_uppercase());
    }
    if view.labels {
        names.push("LABELS".to_owned());
    }
    names
}

/// The line of one object.
pub(crate) fn row(columns: &[Value], row: &Value, view: &View) -> Vec<String> {
    let metadata = &row["object"]["metadata"];
    let mut cells = Vec::new();
    if view.namespace {
        cells.push(
            metadata["namespace"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        );
    }
    for (index, column) in columns
        .iter()
        .enumerate()
        .filter(|(_, column)| shown(column, view))
    {
        let text = cell(&row["cells"][index]);
        let named = column["format"] == "name";
        cells.push(if named {
            format!("{}{text}", view.prefix)
        } else {
            text
        });
    }
    if view.labels {
        cells.push(labels(&metadata["labels"]));
    }
    cells
}

fn shown(column: &Value, view: &View) -> bool {
    view.wide || column["priority"].as_i64().unwrap_or_default() == 0
}

/// A cell in one line.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match text.split_once('\n') {
            Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
            None => text.clone(),
        },
        other => other.to_string(),
    }
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}
