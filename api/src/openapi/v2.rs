//! OpenAPI 2.0 ("swagger"): every document of v3 together, in the older form.
//!
//! Pure. Client generators and kubectl's fallbacks read it. v2 has no `oneOf`, so quantities and
//! ints-or-strings are strings of a format, as Kubernetes publishes them; a reference stands bare beside
//! its description.

pub(super) mod protobuf;

use serde_json::{Map, Value, json};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// One document of the paths and definitions of all.
pub(super) fn build(documents: impl Iterator<Item = Value>) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for mut document in documents {
        for (path, item) in taken(&mut document["paths"]) {
            paths.insert(path, path_item(item));
        }
        for (name, definition) in taken(&mut document["components"]["schemas"]) {
            if !definitions.contains_key(&name) {
                let definition = top_schema(&name, definition);
                definitions.insert(name, definition);
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": crate::discovery::GIT_VERSION },
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {
                "type": "apiKey",
                "description": "Bearer Token authentication",
                "in": "header",
                "name": "authorization",
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

fn taken(value: &mut Value) -> Map<String, Value> {
    match value.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn path_item(mut item: Value) -> Value {
    let mut converted = Map::new();
    for (key, value) in taken(&mut item) {
        let value = match key.as_str() {
            "parameters" => parameters(value),
            _ => operation(value),
        };
        converted.insert(key, value);
    }
    converted.into()
}

fn operation(mut operation: Value) -> Value {
    let mut converted = taken(&mut operation);
    let mut all = match parameters(converted.remove("parameters").unwrap_or_default()) {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    if let Some(mut body) = converted.remove("requestBody") {
        let content = taken(&mut body["content"]);
        let types: Vec<_> = content.keys().cloned().collect();
        let content = content.into_iter().next().unwrap_or_default().1;
        let mut parameter = json!({
            "in": "body",
            "name": "body",
            "schema": schema(content["schema"].clone()),
        });
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        all.insert(0, parameter);
        converted.insert("consumes".to_owned(), json!(types));
    }
    let mut produces = Vec::new();
    let mut responses = Map::new();
    for (status, mut response) in taken(converted.get_mut("responses").unwrap_or(&mut Value::Null))
    {
        let content = taken(&mut response["content"]);
        for media_type in content.keys() {
            if !produces.contains(media_type) {
                produces.push(media_type.clone());
            }
        }
        let mut answer = json!({ "description": response["description"] });
        if let Some((_, content)) = content.into_iter().next() {
            answer["schema"] = schema(content["schema"].clone());
        }
        responses.insert(status, answer);
    }
    converted.insert("produces".to_owned(), json!(produces));
    converted.insert("responses".to_owned(), responses.into());
    converted.insert("schemes".to_owned(), json!(["https"]));
    if !all.is_empty() {
        converted.insert("parameters".to_owned(), all.into());
    }
    converted.into()
}

/// Parameters, their schemas' words among their own.
fn parameters(list: Value) -> Value {
    let Value::Array(list) = list else {
        return Value::Null;
    };
    let flat = list.into_iter().map(|mut parameter| {
        let mut parameter = taken(&mut parameter);
        let schema = taken(parameter.get_mut("schema").unwrap_or(&mut Value::Null));
        parameter.remove("schema");
        parameter.extend(schema);
        Value::from(parameter)
    });
    flat.collect()
}

fn top_schema(name: &str, definition: Value) -> Value {
    let mut definition = schema(definition);
    if name == QUANTITY {
        definition["type"] = "string".into();
    }
    definition
}

fn schema(value: Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let mut converted = Map::new();
    for (key, value) in map {
        match (key.as_str(), value) {
            ("$ref", Value::String(target)) => {
                let target = target.replace("#/components/schemas/", "#/definitions/");
                converted.insert(key, target.into());
            }
            // v3 wraps a reference in order to say more about it.
            ("allOf", Value::Array(mut list)) if list.len() == 1 => {
                converted.extend(taken(&mut schema(list.remove(0))));
            }
            ("oneOf" | "anyOf", _) => {
                let known = converted.contains_key("type");
                if !known && converted.get("format") == Some(&json!("int-or-string")) {
                    converted.insert("type".to_owned(), json!("string"));
                }
            }
            // v2 of Kubernetes says neither.
            ("default" | "enum" | "nullable", _) => {}
            ("properties", Value::Object(fields)) => {
                let fields: Map<_, _> = fields
                    .into_iter()
                    .map(|(name, field)| (name, schema(field)))
                    .collect();
                converted.insert(key, fields.into());
            }
            ("items" | "additionalProperties", value) => {
                converted.insert(key, schema(value));
            }
            (_, value) => {
                converted.insert(key, value);
            }
        }
    }
    converted.into()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::{
        kinds::Registry,
        openapi::{descriptions::Descriptions, document},
    };

    fn whole() -> Value {
        let descriptions = Descriptions::read();
        let registry = Registry::builtin();
        let served = registry.group_versions();
        build(
            served
                .iter()
                .map(|served| document::build(served, &descriptions)),
        )
    }

    #[track_caller]
    fn check(value: &Value, expected: Expect) {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.remove("description");
        }
        expected.assert_eq(&value.to_string());
    }

    #[test]
    fn definitions_are_as_kubernetes_publishes_them() {
        let whole = whole();
        let definitions = &whole["definitions"];
        check(&definitions[QUANTITY], expect![[r#"{"type":"string"}"#]]);
        check(
            &definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"],
            expect![[r#"{"format":"int-or-string","type":"string"}"#]],
        );
        let pod = &definitions["io.k8s.api.core.v1.Pod"];
        check(
            &pod["properties"]["spec"],
            expect![[r##"{"$ref":"#/definitions/io.k8s.api.core.v1.PodSpec"}"##]],
        );
        assert!(pod["x-kubernetes-group-version-kind"].is_array());
    }

    #[test]
    fn a_body_is_a_parameter() {
        let whole = whole();
        let create = &whole["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"];
        check(
            &create["parameters"][0],
            expect![[
                r##"{"in":"body","name":"body","required":true,"schema":{"$ref":"#/definitions/io.k8s.api.core.v1.Pod"}}"##
            ]],
        );
        check(&create["consumes"], expect![[r#"["*/*"]"#]]);
        check(&create["parameters"][1]["type"], expect![[r#""string""#]]);
        assert!(!whole.to_string().contains("#/components/"));
    }
}
