//! The schemas of custom kinds, as OpenAPI has them.
//!
//! A definition's own schema, with Kubernetes' metadata in its place, under the names that paths refer
//! to. What it says with `x-kubernetes-*` stays: clients merge and validate by it.

use serde_json::{Map, Value, json};

use super::schemas::reference;
use crate::{custom::kind::CustomKind, kinds::Kind};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The built-in definitions that those of custom kinds refer to.
pub(super) const ROOTS: [&str; 2] = [META, LIST_META];

/// The definitions of a kind and of its lists.
pub(super) fn definitions(kind: &CustomKind) -> Map<String, Value> {
    let names = kind.names();
    let of = |kind: &str| json!([{ "group": names.group, "version": names.version, "kind": kind }]);
    let mut own = object(kind.source());
    own["x-kubernetes-group-version-kind"] = of(names.kind);
    let list = json!({
        "description": format!("{} is a list of {}", kind.list_kind(), names.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "description": API_VERSION, "type": "string" },
            "items": {
                "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", names.plural),
                "type": "array",
                "items": reference(names.definition),
            },
            "kind": { "description": KIND, "type": "string" },
            "metadata": {
                "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
                "allOf": [reference(LIST_META)],
            },
        },
        "x-kubernetes-group-version-kind": of(&kind.list_kind()),
    });
    Map::from_iter([
        (names.definition.to_owned(), own),
        (format!("{}List", names.definition), list),
    ])
}

/// The schema of an object with a kind and metadata.
fn object(source: &Value) -> Value {
    let mut own = published(source);
    if !own.is_object() {
        own = json!({ "type": "object" });
    }
    // What is preserved whatever it is has no properties to tell of, but is still such an object.
    if !own["properties"].is_object() {
        own["properties"] = json!({});
    }
    own["properties"]["apiVersion"] = json!({ "description": API_VERSION, "type": "string" });
    own["properties"]["kind"] = json!({ "description": KIND, "type": "string" });
    own["properties"]["metadata"] = json!({
        "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        "allOf": [reference(META)],
    });
    own
}

/// A schema as OpenAPI 3.0 has it: an integer or a text is said by `oneOf`.
fn published(source: &Value) -> Value {
    match source {
        Value::Object(fields) => {
            let mut own: Map<String, Value> = fields
                .iter()
                .map(|(key, value)| {
                    let inner = match key.as_str() {
                        // Values, not schemas.
                        "default" | "enum" | "example" => value.clone(),
                        _ => published(value),
                    };
                    (key.clone(), inner)
                })
                .collect();
            let either = own.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
            let told = ["type", "anyOf", "oneOf", "allOf"]
                .iter()
                .any(|key| own.contains_key(*key));
            if either && !told {
                own.insert(
                    "oneOf".to_owned(),
                    json!([{ "type": "integer" }, { "type": "string" }]),
                );
            }
            own.into()
        }
        Value::Array(list) => list.iter().map(published).collect(),
        other => other.clone(),
    }
}
