//! The structural facts as OpenAPI 3.0 schemas.
//!
//! The facts name definitions bare and know two things as alternatives of JSON types; here they get
//! the forms that Kubernetes publishes. Nothing else of a definition is touched.

use serde_json::{Map, Value, json};

use crate::schema;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// The definitions named and all that they refer to.
pub(super) fn reachable(roots: &[String]) -> Map<String, Value> {
    let mut found = Map::new();
    let mut waiting = roots.to_vec();
    while let Some(name) = waiting.pop() {
        if found.contains_key(&name) {
            continue;
        }
        if let Some(facts) = facts(&name) {
            found.insert(name.clone(), definition(&name, &facts, &mut waiting));
        }
    }
    found
}

fn facts(name: &str) -> Option<Value> {
    let text = schema::definition(name)?;
    Some(serde_json::from_str(text).expect("the facts are JSON: a test reads all of them"))
}

fn definition(name: &str, facts: &Value, references: &mut Vec<String>) -> Value {
    match name {
        QUANTITY => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        INT_OR_STRING => json!({
            "format": "int-or-string",
            "oneOf": [{ "type": "integer" }, { "type": "string" }],
        }),
        _ => {
            let mut schema = convert(facts, references);
            // The facts list the apiVersions that options may carry; Kubernetes publishes a string.
            if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                for field in ["apiVersion", "kind"] {
                    if let Some(own) = properties.get_mut(field).and_then(Value::as_object_mut) {
                        own.remove("enum");
                    }
                }
            }
            schema
        }
    }
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
                let target = json!({ "$ref": format!("#/components/schemas/{name}") });
                schema.insert("allOf".to_owned(), json!([target]));
                if is_object(name) {
                    schema.insert("default".to_owned(), json!({}));
                }
            }
            ("properties", Value::Object(fields)) => {
                let fields: Map<_, _> = fields
                    .iter()
                    .map(|(name, facts)| (name.clone(), convert(facts, references)))
                    .collect();
                schema.insert(key.clone(), fields.into());
            }
            ("items" | "additionalProperties", value) => {
                schema.insert(key.clone(), convert(value, references));
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
        for (name, _) in schema::definitions() {
            let facts = facts(name).expect("it is listed");
            let (mut before, mut after) = (Vec::new(), Vec::new());
            extensions("", &facts, &mut before);
            extensions("", &definition(name, &facts, &mut Vec::new()), &mut after);
            assert_eq!(before, after, "{name}");
        }
    }
}
