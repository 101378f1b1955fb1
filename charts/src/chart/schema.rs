//! `values.schema.json`: whether values are what a chart expects. References are answered from the schema alone, never
//! from the network or a disk. What is wrong is said in Helm's words, sorted by place.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;

use super::dependencies::Node;

/// What values must be in the schemas of a chart and its subcharts; the message lists chart by chart what is wrong.
pub fn validate(root: &Node<'_>, values: &Value) -> Result<(), String> {
    let mut wrong = String::new();
    collect(root, values, &mut wrong);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "values don't meet the specifications of the schema(s) in the following chart(s):\n{wrong}"
        )),
    }
}

fn collect(node: &Node<'_>, values: &Value, wrong: &mut String) {
    let name = &node.metadata.name;
    if let Some(schema) = &node.chart.schema
        && let Err(error) = check(schema, values)
    {
        wrong.push_str(&format!("{name}:\n{error}"));
    }
    for subchart in &node.subcharts {
        let name = &subchart.metadata.name;
        match values.get(name) {
            None | Some(Value::Null) => {}
            Some(values @ Value::Object(_)) => collect(subchart, values, wrong),
            Some(_) => wrong.push_str(&format!(
                "{name}:\ninvalid type for values: expected object (map)\n"
            )),
        }
    }
}

/// Checks values against one schema; the message has a line for each thing that is wrong.
pub fn check(schema: &[u8], values: &Value) -> Result<(), String> {
    let schema: Value = serde_json::from_slice(schema)
        .map_err(|error| format!("values.schema.json is no JSON: {error}\n"))?;
    let validator = jsonschema::options().build(&schema).map_err(|error| {
        let path = error.instance_path();
        let message = error.to_string();
        // The library's advice is for who builds with it.
        let elsewhere = message.split_once(" is not present in a registry");
        match elsewhere.and_then(|(before, _)| before.strip_prefix("Resource ")) {
            Some(reference) => format!(
                "values.schema.json: $ref to {reference}: schemas are read neither from the network nor from files; put it under \"$defs\"\n"
            ),
            None => format!("values.schema.json: at '{path}': {message}\n"),
        }
    })?;
    let mut places: Vec<(String, Vec<String>)> = Vec::new();
    for error in validator.iter_errors(values) {
        let path = error.instance_path().to_string();
        let lines = lines(&error);
        match places.iter_mut().find(|(place, _)| *place == path) {
            Some((_, known)) => known.push(lines),
            None => places.push((path, vec![lines])),
        }
    }
    places.sort();
    let text: String = places
        .iter()
        .map(|(path, messages)| place(path, messages, ""))
        .collect();
    match text.is_empty() {
        true => Ok(()),
        // The line that parts it from the next chart.
        false => Err(format!("{text}\n")),
    }
}

/// What is wrong in one place: one message, or several under it.
fn place(path: &str, messages: &[String], indent: &str) -> String {
    let at = format!("{indent}- at '{path}': ");
    match messages {
        [message] => format!("{at}{}\n", indented(message, indent)),
        messages => {
            let mut text = format!("{at}validation failed\n");
            for message in messages {
                let message = indented(message, &format!("{indent}  "));
                text.push_str(&format!("{indent}  - at '{path}': {message}\n"));
            }
            text
        }
    }
}

fn indented(message: &str, indent: &str) -> String {
    message.replace('\n', &format!("\n{indent}"))
}

/// One error's message, and those within it on lines of their own.
fn lines(error: &ValidationError<'_>) -> String {
    let mut text = message(error);
    let within: Vec<&ValidationError<'static>> = match error.kind() {
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            context.iter().flatten().collect()
        }
        Kind::PropertyNames { error } => vec![&**error],
        _ => Vec::new(),
    };
    for inner in within {
        let path = match error.kind() {
            Kind::PropertyNames { .. } => error.instance_path(),
            _ => inner.instance_path(),
        };
        let lines = lines(inner).replace('\n', "\n  ");
        text.push_str(&format!("\n  - at '{path}': {lines}"));
    }
    text
}

fn message(error: &ValidationError<'_>) -> String {
    let instance = error.instance();
    let length = match instance.as_ref() {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    let got = |keyword: &str, got: &dyn std::fmt::Display, want: &dyn std::fmt::Display| {
        format!("{keyword}: got {got}, want {want}")
    };
    match error.kind() {
        Kind::Required { property } => {
            format!(
                "missing property '{}'",
                property.as_str().unwrap_or_default()
            )
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let names: Vec<String> = unexpected.iter().map(|name| format!("'{name}'")).collect();
            format!("additional properties {} not allowed", names.join(", "))
        }
        Kind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(kind) => kind.to_string(),
                TypeKind::Multiple(kinds) => {
                    let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
                    kinds.join(" or ")
                }
            };
            format!("got {}, want {wanted}", kind_of(instance))
        }
        Kind::Minimum { limit } => got("minimum", instance, limit),
        Kind::Maximum { limit } => got("maximum", instance, limit),
        Kind::ExclusiveMinimum { limit } => got("exclusiveMinimum", instance, limit),
        Kind::ExclusiveMaximum { limit } => got("exclusiveMaximum", instance, limit),
        Kind::MultipleOf { multiple_of, .. } => got("multipleOf", instance, multiple_of),
        Kind::MinLength { limit } => got("minLength", &length, limit),
        Kind::MaxLength { limit } => got("maxLength", &length, limit),
        Kind::MinItems { limit } => got("minItems", &length, limit),
        Kind::MaxItems { limit } => got("maxItems", &length, limit),
        Kind::MinProperties { limit } => got("minProperties", &length, limit),
        Kind::MaxProperties { limit } => got("maxProperties", &length, limit),
        Kind::Pattern { pattern } => {
            format!("'{}' does not match pattern '{pattern}'", plain(instance))
        }
        Kind::Format { format } => format!("'{}' is not valid {format}", plain(instance)),
        Kind::Constant { expected_value } => format!("value must be {}", shown(expected_value)),
        Kind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            let options: Vec<String> = options.iter().map(shown).collect();
            match options.as_slice() {
                [option] => format!("value must be {option}"),
                options => format!("value must be one of {}", options.join(", ")),
            }
        }
        Kind::AnyOf { .. } => "'anyOf' failed".to_owned(),
        Kind::OneOfNotValid { .. } => "'oneOf' failed, none matched".to_owned(),
        Kind::OneOfMultipleValid { .. } => "'oneOf' failed, more than one matched".to_owned(),
        Kind::Not { .. } => "'not' failed".to_owned(),
        Kind::FalseSchema => "false schema".to_owned(),
        Kind::UniqueItems => "items are not unique".to_owned(),
        Kind::Contains => "no items match contains schema".to_owned(),
        Kind::PropertyNames { error } => {
            format!("invalid propertyName '{}'", plain(error.instance()))
        }
        _ => error.to_string(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{text}'"),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::check;

    #[test]
    fn what_is_wrong_is_said_in_helms_words() {
        let schema = json!({
            "type": "object",
            "required": ["a", "b"],
            "additionalProperties": false,
            "properties": {
                "a": {"type": "integer", "minimum": 3},
                "s": {"type": "string", "pattern": "^x", "minLength": 4},
                "e": {"enum": ["x", 1, null]},
                "n": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "r": {"$ref": "#/definitions/q"},
            },
            "definitions": {"q": {"type": "integer"}},
        });
        let values = json!({"a": 1, "s": "ab", "e": "y", "n": true, "r": "x", "z": 1});
        let error = check(schema.to_string().as_bytes(), &values).unwrap_err();
        expect![[r#"
            - at '': validation failed
              - at '': missing property 'b'
              - at '': additional properties 'z' not allowed
            - at '/a': minimum: got 1, want 3
            - at '/e': value must be one of 'x', 1, <nil>
            - at '/n': 'anyOf' failed
              - at '/n': got boolean, want string
              - at '/n': got boolean, want integer
            - at '/r': got string, want integer
            - at '/s': validation failed
              - at '/s': minLength: got 2, want 4
              - at '/s': 'ab' does not match pattern '^x'

        "#]]
        .assert_eq(&error);
    }

    #[test]
    fn references_lead_nowhere_but_into_the_schema() {
        for reference in ["https://example.com/schema.json", "file:///etc/passwd"] {
            let schema = json!({"properties": {"a": {"$ref": reference}}}).to_string();
            let error = check(schema.as_bytes(), &json!({"a": 1})).unwrap_err();
            assert!(error.starts_with("values.schema.json: "), "{error}");
        }
    }
}
