//! Any object: its fields by level, names in words. Pure.

use serde_json::Value;

use super::{Subject, metadata, text};

/// Describes a kind that has no description of its own.
pub(super) fn describe(subject: &Subject<'_>, into: &mut String) -> bool {
    let object = subject.object;
    metadata(object, into);
    into.push_str(&format!(
        "API Version:\t{}\nKind:\t{}\n",
        text(&object["apiVersion"]),
        text(&object["kind"])
    ));
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let mut rest = value.clone();
                if let Some(rest) = rest.as_object_mut() {
                    rest.retain(|key, _| {
                        ![
                            "name",
                            "namespace",
                            "labels",
                            "annotations",
                            "managedFields",
                        ]
                        .contains(&key.as_str())
                    });
                }
                field(key, &rest, 0, into);
            }
            _ => field(key, value, 0, into),
        }
    }
    true
}

fn field(key: &str, value: &Value, level: usize, into: &mut String) {
    let indent = "  ".repeat(level);
    let name = words(key);
    match value {
        Value::Object(fields) => {
            into.push_str(&format!("{indent}{name}:\n"));
            for (key, value) in fields {
                field(key, value, level + 1, into);
            }
        }
        Value::Array(items) => {
            into.push_str(&format!("{indent}{name}:\n"));
            for item in items {
                match item {
                    Value::Object(fields) => {
                        for (key, value) in fields {
                            field(key, value, level + 1, into);
                        }
                    }
                    other => into.push_str(&format!("{indent}  {}\n", text(other))),
                }
            }
        }
        other => into.push_str(&format!(
            "{indent}{name}:\t{}\n",
            text(other).replace('\n', "\n\t")
        )),
    }
}

/// `resourceVersion` as `Resource Version`; a name with dots or slashes is a key and stays.
fn words(key: &str) -> String {
    if key.contains(['.', '/', '-']) {
        return key.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut before = 'A';
    for c in key.chars() {
        match words.last_mut() {
            Some(word) if !(c.is_uppercase() && before.is_lowercase()) => word.push(c),
            _ => words.push(c.to_uppercase().collect()),
        }
        before = c;
    }
    for word in &mut words {
        if ["Api", "Id", "Ip", "Uid", "Url"].contains(&word.as_str()) {
            word.make_ascii_uppercase();
        }
    }
    words.join(" ")
}
