//! JSON as CEL values, as the schema of a custom resource has them.
//!
//! Pure. A rule sees the fields that the schema names, under names that CEL can spell; of an object's
//! metadata its name and `generateName`.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use kube_cel::cel::{
    Context, Program, Value as Cel,
    objects::{Key, Map},
};
use serde_json::Value;

use crate::schema::{Schema, Shape};

/// Words of CEL that no field can be called by.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const SIGNS: &[(char, &str)] = &[
    ('_', "__underscores__"),
    ('.', "__dot__"),
    ('-', "__dash__"),
    ('/', "__slash__"),
];

/// A field's name as CEL spells it.
fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return name.to_owned();
    }
    let mut escaped = String::with_capacity(name.len() * 2);
    let mut rest = name;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            escaped.push_str("__underscores__");
            rest = after;
            continue;
        }
        match SIGNS
            .iter()
            .find(|(sign, _)| *sign == letter && letter != '_')
        {
            Some((_, word)) => escaped.push_str(word),
            None => escaped.push(letter),
        }
        rest = &rest[letter.len_utf8()..];
    }
    escaped
}

/// The field that CEL's spelling stands for.
pub(super) fn unescape(name: &str) -> String {
    if let Some(word) = name
        .strip_prefix("__")
        .and_then(|rest| rest.strip_suffix("__"))
        .filter(|word| RESERVED.contains(word))
    {
        return word.to_owned();
    }
    let mut plain = name.to_owned();
    for (sign, word) in SIGNS {
        let sign = if *sign == '_' {
            "__".to_owned()
        } else {
            sign.to_string()
        };
        // The sign for underscores comes last, lest it makes others.
        if *word != "__underscores__" {
            plain = plain.replace(word, &sign);
        }
    }
    plain.replace("__underscores__", "__")
}

/// A value as rules see it.
pub(super) fn convert(schema: &Schema, value: &Value) -> Cel {
    match (schema.shape(), value) {
        (_, Value::Null) => Cel::Null,
        (Shape::Object(properties), Value::Object(fields)) => {
            let is_metadata = schema
                .custom()
                .is_none_or(|custom| !custom.limits.properties.is_empty())
                || properties.contains_key("ownerReferences");
            let named = fields.iter().filter(|(name, _)| {
                !is_metadata || ["name", "generateName"].contains(&name.as_str())
            });
            map(named.filter_map(|(name, value)| {
                Some((escape(name), convert(properties.get(name)?, value)))
            }))
        }
        (Shape::Map(values), Value::Object(entries)) => map(entries
            .iter()
            .map(|(key, value)| (key.clone(), convert(values, value)))),
        (Shape::List(items), Value::Array(list)) => Cel::List(Arc::new(
            list.iter().map(|item| convert(items, item)).collect(),
        )),
        (Shape::Number, Value::Number(number)) => Cel::Float(number.as_f64().unwrap_or_default()),
        (Shape::Int64, Value::Number(number)) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => plain(value),
        },
        (Shape::String, Value::String(text)) => {
            let format = schema
                .custom()
                .and_then(|custom| custom.limits.format())
                .unwrap_or_default();
            formatted(format, text)
        }
        (_, value) => plain(value),
    }
}

fn formatted(format: &str, text: &str) -> Cel {
    let made = match format {
        "date-time" => apply("timestamp", text.to_owned()),
        "date" => apply("timestamp", format!("{text}T00:00:00Z")),
        "duration" => apply("duration", text.to_owned()),
        "byte" => STANDARD
            .decode(text)
            .ok()
            .map(|bytes| Cel::Bytes(Arc::new(bytes))),
        _ => None,
    };
    made.unwrap_or_else(|| Cel::String(Arc::new(text.to_owned())))
}

/// Has CEL's own function read a text: its values of time are of a library that is not ours to name.
fn apply(function: &str, text: String) -> Option<Cel> {
    let program = Program::compile(&format!("{function}(text)")).ok()?;
    let mut context = Context::default();
    context.add_variable_from_value("text", Cel::String(Arc::new(text)));
    program.execute(&context).ok()
}

/// JSON where no schema says more: whole numbers are integers.
pub(crate) fn plain(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, Some(whole)) => Cel::UInt(whole),
            (None, None) => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(list) => Cel::List(Arc::new(list.iter().map(plain).collect())),
        Value::Object(fields) => map(fields
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))),
    }
}

fn map(entries: impl Iterator<Item = (String, Cel)>) -> Cel {
    let map: HashMap<Key, Cel> = entries
        .map(|(name, value)| (Key::String(Arc::new(name)), value))
        .collect();
    Cel::Map(Map { map: Arc::new(map) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_spelled_so_that_cel_can_read_them() {
        for (name, spelled) in [
            ("plain", "plain"),
            ("namespace", "__namespace__"),
            ("a.b-c/d", "a__dot__b__dash__c__slash__d"),
            ("a_b", "a_b"),
            ("a__b", "a__underscores__b"),
        ] {
            assert_eq!(escape(name), spelled);
            assert_eq!(unescape(spelled), name);
        }
    }

    proptest! {
        #[test]
        fn a_name_that_is_spelled_is_read_back(name in "[a-z.\\-/]{1,12}") {
            prop_assert_eq!(unescape(&escape(&name)), name);
        }
    }
}
