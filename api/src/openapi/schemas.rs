//! The structural facts as OpenAPI 3.0 schemas.
//!
//! The facts name definitions bare and know two things as alternatives of JSON types; here they get
//! the forms that Kubernetes publishes, with descriptions, values and defaults. Nothing of a
//! definition is left out.

use serde_json::{Map, Value, json};

use super::{descriptions::Descriptions, values};
use crate::schema;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// The definitions named and all that they refer to.
pub(super) fn reachable(roots: &[String], descriptions: &Descriptions) -> Map<String, Value> {
    let mut found = Map::new();
    let mut waiting = roots.to_vec();
    while let Some(name) = waiting.pop() {
        if found.contains_key(&name) {
            continue;
        }
        if let Some(facts) = facts(&name) {
            let definition = definition(&name, &facts, descriptions, &mut waiting);
            found.insert(name, definition);
        }
    }
    found
}

/// A reference to a definition of the same document.
pub(super) fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{definition}") })
}

fn facts(name: &str) -> Option<Value> {
    let text = schema::definition(name)?;
    Some(serde_json::from_str(text).expect("the facts are JSON: a test reads all of them"))
}

fn definition(
    name: &str,
    facts: &Value,
    descriptions: &Descriptions,
    references: &mut Vec<String>,
) -> Value {
    let mut schema = match name {
        QUANTITY => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        INT_OR_STRING => json!({
            "format": "int-or-string",
            "oneOf": [{ "type": "integer" }, { "type": "string" }],
        }),
        _ => convert(facts, references),
    };
    if let Some(description) = descriptions.definition(name) {
        schema["description"] = description.into();
    }
    let required = schema.get("required").cloned().unwrap_or_default();
    let required = |field: &str| {
        let mut names = required.as_array().into_iter().flatten();
        names.any(|name| name == field)
    };
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (field, schema) in properties.into_iter().flatten() {
        // The facts list the apiVersions that options may carry; Kubernetes publishes a string.
        if matches!(field.as_str(), "apiVersion" | "kind")
            && let Some(own) = schema.as_object_mut()
        {
            own.remove("enum");
        }
        if let Some(description) = descriptions.field(name, field) {
            schema["description"] = description.into();
        }
        if let Some(values) = values::allowed(name, field) {
            schema["enum"] = json!(values);
        }
        let kind = schema["type"].as_str().unwrap_or_default();
        if let Some(default) = values::default(name, field, kind, required(field)) {
            schema["default"] = default;
        }
        // The parts that every object has are written even when they are empty.
        if matches!(field.as_str(), "metadata" | "spec" | "status") && schema["allOf"].is_array() {
            schema["default"] = json!({});
        }
    }
    schema
}

/// One schema: references in place, extensions as they are.
fn convert(facts: &Value, references: &mut Vec<String>) -> Value {
    let Some(facts) = facts.as_object() else {
        return facts.clone();
    };
    let mut schema = Map::new();
    for (key, value) in facts {
        match (key.as_str(), value) {
            ("$ref", Value::String(name)) => {
                references.push(name.clone());
                // Wrapped, because a schema with `$ref` may say nothing else.
                schema.insert("allOf".to_owned(), json!([reference(name)]));
            }
            ("properties", Value::Object(fields)) => {
                let fields: Map<_, _> = fields
                    .iter()
                    .map(|(name, facts)| (name.clone(), convert(facts, references)))
                    .collect();
                schema.insert(key.clone(), fields.into());
            }
            ("items" | "additionalProperties", value) => {
                schema.insert(key.clone(), member(value, references));
            }
            ("oneOf" | "anyOf" | "allOf", Value::Array(list)) => {
                let list: Vec<_> = list
                    .iter()
                    .map(|facts| convert(facts, references))
                    .collect();
                schema.insert(key.clone(), list.into());
            }
            _ => {
                schema.insert(key.clone(), value.clone());
            }
        }
    }
    schema.into()
}

/// The schema of a list's items or a map's values, which are never left out: zero if nothing else.
fn member(facts: &Value, references: &mut Vec<String>) -> Value {
    let mut schema = convert(facts, references);
    let kind = schema["type"].as_str().unwrap_or_default();
    let default = match facts["$ref"].as_str() {
        Some(name) => is_object(name).then(|| json!({})),
        None => values::zero(kind),
    };
    if let (Some(default), Some(schema)) = (default, schema.as_object_mut()) {
        schema.insert("default".to_owned(), default);
    }
    schema
}

/// True if the definition is an object with fields.
fn is_object(name: &str) -> bool {
    schema::definition(name).is_some_and(|facts| facts.contains("\"properties\":{"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every extension of a value, with its place.
    fn extensions(at: &str, value: &Value, found: &mut Vec<String>) {
        if let Value::Object(map) = value {
            for (key, value) in map {
                if key.starts_with("x-kubernetes-") && !at.ends_with("properties") {
                    found.push(format!("{at} {key} {value}"));
                } else {
                    extensions(&format!("{at}.{key}"), value, found);
                }
            }
        }
    }

    #[test]
    fn no_extension_is_lost() {
        let descriptions = Descriptions::read();
        for (name, _) in schema::definitions() {
            let facts = facts(name).expect("it is listed");
            let (mut before, mut after) = (Vec::new(), Vec::new());
            extensions("", &facts, &mut before);
            let definition = definition(name, &facts, &descriptions, &mut Vec::new());
            extensions("", &definition, &mut after);
            assert_eq!(before, after, "{name}");
        }
    }
}
