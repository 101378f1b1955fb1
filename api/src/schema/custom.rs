//! A custom resource's `openAPIV3Schema` as a [`Schema`].
//!
//! The schema has been validated: it is structural. What it should not hold is passed over.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    limits::Limits,
    model::{Custom, Rule, Schema, Shape},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schema of the objects of a custom kind. `None` of `openAPIV3Schema` never happens to a served
/// version; nothing is known of such objects.
pub(crate) fn custom(schema: &Value) -> Schema {
    object(schema, true)
}

fn read(json: &Value) -> Schema {
    if json["x-kubernetes-embedded-resource"] == true {
        return object(json, false);
    }
    let shape = shape(json);
    Schema::of_custom(shape, json, said(json))
}

/// An object with a kind and metadata of its own: the root, or an embedded one.
fn object(json: &Value, root: bool) -> Schema {
    let mut properties = properties(json);
    let text = || Schema::of_custom(Shape::String, &Value::Null, Custom::default());
    for field in ["apiVersion", "kind"] {
        properties.entry(field.to_owned()).or_insert_with(text);
    }
    // What the schema says of metadata are limits on the names alone; those stay beside it.
    properties.insert(
        "metadata".to_owned(),
        metadata(&json["properties"]["metadata"]),
    );
    let custom = Custom {
        embedded: true,
        nullable: !root && json["nullable"] == true,
        ..said(json)
    };
    Schema::of_custom(Shape::Object(properties), json, custom)
}

/// Metadata is Kubernetes' own everywhere.
fn metadata(json: &Value) -> Schema {
    let names = properties(json)
        .into_iter()
        .filter(|(name, _)| ["name", "generateName"].contains(&name.as_str()))
        .filter_map(|(name, schema)| Some((name, schema.custom()?.limits.clone())));
    let custom = Custom {
        limits: Limits::of_properties(names.collect()),
        ..Custom::default()
    };
    Schema::of_custom(Shape::Reference(META.to_owned()), &Value::Null, custom)
}

fn said(json: &Value) -> Custom {
    let rules = json["x-kubernetes-validations"].as_array();
    Custom {
        nullable: json["nullable"] == true,
        preserves: json["x-kubernetes-preserve-unknown-fields"] == true,
        embedded: false,
        default: json
            .get("default")
            .filter(|value| !value.is_null())
            .cloned(),
        limits: Limits::read(json),
        rules: rules
            .into_iter()
            .flatten()
            .filter_map(|rule| serde_json::from_value::<Rule>(rule.clone()).ok())
            .collect(),
    }
}

fn shape(json: &Value) -> Shape {
    if json["x-kubernetes-int-or-string"] == true {
        return Shape::IntOrString;
    }
    match json["type"].as_str() {
        Some("object") => match &json["additionalProperties"] {
            values @ Value::Object(_) => Shape::Map(read(values)),
            // Anything goes.
            Value::Bool(true) => Shape::Map(read(&Value::Null)),
            _ => Shape::Object(properties(json)),
        },
        Some("array") => Shape::List(read(&json["items"])),
        Some("string") => Shape::String,
        Some("boolean") => Shape::Boolean,
        Some("integer") => Shape::Int64,
        Some("number") => Shape::Number,
        // Preserved as it is, whatever it is; properties may be named all the same.
        _ if json["properties"].is_object() => Shape::Object(properties(json)),
        _ => Shape::Any,
    }
}

fn properties(json: &Value) -> BTreeMap<String, Schema> {
    json["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, property)| (name.clone(), read(property)))
        .collect()
}
