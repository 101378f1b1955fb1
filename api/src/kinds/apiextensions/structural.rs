//! What the schemas of a CustomResourceDefinition may say: they are structural, within bounds, and
//! their defaults hold to them.
//!
//! Pure. Structure (types, properties, items) is said once, outside `allOf`, `anyOf`, `oneOf` and
//! `not`; those may only limit values. Depth is bounded by how deep a request may nest.

use std::{collections::HashSet, sync::LazyLock};

use serde_json::{Map, Value};

use crate::{
    custom::cel,
    field::{FieldErrors, Path},
    kinds::value::items,
    schema::{self, Schema, check, custom},
};

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
/// Schemas within schemas of one version.
const MOST_SCHEMAS: usize = 20_000;
/// Complaints of one schema.
const MOST_ERRORS: usize = 100;

/// What Kubernetes knows of a schema's own fields.
static PROPS: LazyLock<Schema> = LazyLock::new(|| {
    schema::builtin("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("the facts have the definition: a test validates a schema")
});

/// What may not be said within a combination.
const OUTSIDE_ONLY: &[&str] = &[
    "description",
    "type",
    "default",
    "title",
    "nullable",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Property,
    Items,
    Values,
}

/// Says what is wrong with the schema of a version.
pub(super) fn validate(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    if schema["type"].as_str().is_some_and(|own| own != "object") {
        let detail = "must be object at the root";
        errors.invalid(&path.field("type"), schema["type"].clone(), detail);
    }
    if schema["nullable"] == true {
        errors.forbidden(
            &path.field("nullable"),
            "nullable cannot be true at the root",
        );
    }
    let mut found = FieldErrors::default();
    let mut walk = Walk {
        errors: &mut found,
        schemas: 0,
    };
    walk.structure(schema, path, Place::Root);
    let sound = found.is_empty();
    found.0.truncate(MOST_ERRORS);
    errors.0.append(&mut found.0);
    // Only a structural schema means what it says.
    if sound {
        defaults(schema, path, errors);
        cel::admit(schema, path, errors);
    }
}

struct Walk<'a> {
    errors: &'a mut FieldErrors,
    schemas: usize,
}

impl Walk<'_> {
    /// A schema that says what stands somewhere.
    fn structure(&mut self, schema: &Value, path: &Path, place: Place) {
        if !self.enters(schema, path) {
            return;
        }
        let flag = |key: &str| schema[key] == true;
        let open = flag("x-kubernetes-preserve-unknown-fields");
        let either = flag("x-kubernetes-int-or-string");
        let own = schema["type"].as_str().unwrap_or_default();
        let path_type = path.field("type");
        match own {
            "" if either || (open && place != Place::Root) => {}
            "" => self.errors.required(
                &path_type,
                match place {
                    Place::Root => "must not be empty at the root",
                    Place::Property => "must not be empty for specified object fields",
                    Place::Items => "must not be empty for specified array items",
                    Place::Values => "must not be empty for specified object fields",
                },
            ),
            own if either => self.errors.invalid(
                &path_type,
                own,
                "must be empty if x-kubernetes-int-or-string is true",
            ),
            own if !TYPES.contains(&own) => {
                self.errors.not_supported(&path_type, own, TYPES);
            }
            _ => {}
        }
        if flag("x-kubernetes-embedded-resource") {
            if own != "object" {
                let detail = "must be object if x-kubernetes-embedded-resource is true";
                self.errors.invalid(&path_type, own, detail);
            }
            if !open && !schema["properties"].is_object() {
                let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
                self.errors.required(&path.field("properties"), detail);
            }
        }
        self.extensions(schema, own, path);
        self.limits(schema, path);
        if own == "array" && !schema["items"].is_object() {
            let detail = if schema["items"].is_array() {
                "items must be a schema object and not an array"
            } else {
                "must be specified"
            };
            self.errors.required(&path.field("items"), detail);
        }
        let resource = place == Place::Root || flag("x-kubernetes-embedded-resource");
        for (name, property) in fields(schema, "properties") {
            let path = path.field("properties").key(name);
            if resource && name == "metadata" {
                self.metadata(property, &path);
            }
            if resource
                && ["apiVersion", "kind"].contains(&name.as_str())
                && property["type"] != "string"
            {
                self.errors.invalid(
                    &path.field("type"),
                    property["type"].clone(),
                    "must be string",
                );
                continue;
            }
            self.structure(property, &path, Place::Property);
        }
        if schema["items"].is_object() {
            self.structure(&schema["items"], &path.field("items"), Place::Items);
        }
        match &schema["additionalProperties"] {
            Value::Bool(false) => self.errors.forbidden(
                &path.field("additionalProperties"),
                "additionalProperties cannot be set to false",
            ),
            values @ Value::Object(_) => {
                self.structure(values, &path.field("additionalProperties"), Place::Values);
            }
            _ => {}
        }
        let mixed = !schema["additionalProperties"].is_null() && schema["properties"].is_object();
        if mixed {
            self.errors.forbidden(
                &path.field("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
        self.combinations(schema, schema, path);
    }

    /// A schema of metadata limits names and nothing else.
    fn metadata(&mut self, schema: &Value, path: &Path) {
        let mut rest = schema.clone();
        if let Some(rest) = rest.as_object_mut() {
            for known in ["type", "properties", "description"] {
                rest.remove(known);
            }
        }
        let names = fields(schema, "properties")
            .all(|(name, _)| ["name", "generateName"].contains(&name.as_str()));
        if !rest.as_object().is_some_and(Map::is_empty) || !names {
            self.errors.forbidden(
                path,
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            );
        }
        if schema["type"].as_str().is_some_and(|own| own != "object") {
            let path = path.field("type");
            self.errors
                .invalid(&path, schema["type"].clone(), "must be object");
        }
    }

    /// A schema that limits what `structure` describes.
    fn limiting(&mut self, schema: &Value, structure: &Value, path: &Path) {
        if !self.enters(schema, path) {
            return;
        }
        // The one way in which types may be told apart: what `x-kubernetes-int-or-string` stands for.
        let either = structure["x-kubernetes-int-or-string"] == true;
        for key in OUTSIDE_ONLY {
            let told_apart = either && *key == "type";
            if !told_apart && !schema[*key].is_null() {
                let path = path.field(key);
                self.errors
                    .forbidden(&path, "must be empty to be structural");
            }
        }
        if !schema["additionalProperties"].is_null() {
            let path = path.field("additionalProperties");
            self.errors
                .forbidden(&path, "must be undefined to be structural");
        }
        self.limits(schema, path);
        for (name, property) in fields(schema, "properties") {
            let path = path.field("properties").key(name);
            let open = structure["additionalProperties"].is_object();
            let inner = match structure["properties"].get(name) {
                Some(inner) => inner,
                None if open => &structure["additionalProperties"],
                None => {
                    let detail = "must be specified outside of the combination to be structural";
                    self.errors.required(&path, detail);
                    continue;
                }
            };
            self.limiting(property, inner, &path);
        }
        if schema["items"].is_object() {
            let path = path.field("items");
            if structure["items"].is_object() {
                self.limiting(&schema["items"], &structure["items"], &path);
            } else {
                let detail = "must be specified outside of the combination to be structural";
                self.errors.required(&path, detail);
            }
        }
        self.combinations(schema, structure, path);
    }

    fn combinations(&mut self, schema: &Value, structure: &Value, path: &Path) {
        for key in ["allOf", "anyOf", "oneOf"] {
            for (index, inner) in items(schema, &format!("/{key}")).iter().enumerate() {
                self.limiting(inner, structure, &path.field(key).index(index));
            }
        }
        if schema["not"].is_object() {
            self.limiting(&schema["not"], structure, &path.field("not"));
        }
    }

    /// Counts a schema, and checks the types of its own fields.
    fn enters(&mut self, schema: &Value, path: &Path) -> bool {
        self.schemas += 1;
        if self.schemas > MOST_SCHEMAS || self.errors.0.len() > MOST_ERRORS {
            if self.schemas == MOST_SCHEMAS + 1 {
                let detail = format!("must have at most {MOST_SCHEMAS} schemas in all");
                self.errors.forbidden(path, detail);
            }
            return false;
        }
        // Kubernetes' decoder looks into schemas wherever they stand; ours knows those in lists and maps.
        let mut own = schema.clone();
        if let Some(own) = own.as_object_mut() {
            for inner in INNER {
                own.remove(*inner);
            }
        }
        let checked = check(&PROPS, own);
        for error in &checked.errors {
            let at = if error.path == Path::default() {
                path.clone()
            } else {
                path.field(&error.path.to_string())
            };
            self.errors.invalid(&at, Value::Null, error.message.clone());
        }
        checked.errors.is_empty()
    }

    /// What no schema may say, and limits that mean nothing.
    fn limits(&mut self, schema: &Value, path: &Path) {
        for (key, detail) in [
            ("$ref", "$ref is not supported"),
            ("$schema", "$schema is not supported"),
            ("id", "id is not supported"),
            ("definitions", "definitions is not supported"),
            ("dependencies", "dependencies is not supported"),
            ("patternProperties", "patternProperties is not supported"),
            ("additionalItems", "additionalItems is not supported"),
        ] {
            let empty = match &schema[key] {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                _ => false,
            };
            if !empty {
                self.errors.forbidden(&path.field(key), detail);
            }
        }
        if schema["uniqueItems"] == true {
            self.errors.forbidden(
                &path.field("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
        if let Some(text) = schema["pattern"].as_str()
            && let Err(problem) = schema::pattern(text)
        {
            let detail = format!("must be a valid regular expression, but isn't: {problem}");
            self.errors.invalid(&path.field("pattern"), text, detail);
        }
        if schema["multipleOf"]
            .as_f64()
            .is_some_and(|factor| factor <= 0.0)
        {
            let path = path.field("multipleOf");
            self.errors.invalid(
                &path,
                schema["multipleOf"].clone(),
                "must be greater than 0",
            );
        }
        for key in [
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
        ] {
            if schema[key].as_i64().is_some_and(|count| count < 0) {
                let detail = "must be greater than or equal to 0";
                self.errors
                    .invalid(&path.field(key), schema[key].clone(), detail);
            }
        }
    }

    /// What lists and maps are to server-side apply.
    fn extensions(&mut self, schema: &Value, own: &str, path: &Path) {
        if schema["x-kubernetes-preserve-unknown-fields"] == false {
            self.errors.invalid(
                &path.field("x-kubernetes-preserve-unknown-fields"),
                false,
                "must be true or undefined",
            );
        }
        if let Some(kind) = schema["x-kubernetes-map-type"].as_str() {
            let path = path.field("x-kubernetes-map-type");
            if own != "object" {
                self.errors.invalid(
                    &path,
                    kind,
                    "must be object if x-kubernetes-map-type is specified",
                );
            }
            if !["atomic", "granular"].contains(&kind) {
                self.errors
                    .not_supported(&path, kind, &["atomic", "granular"]);
            }
        }
        let kind = schema["x-kubernetes-list-type"].as_str();
        let keys = items(schema, "/x-kubernetes-list-map-keys");
        let path_keys = path.field("x-kubernetes-list-map-keys");
        let path_kind = path.field("x-kubernetes-list-type");
        if let Some(kind) = kind {
            if own != "array" {
                let detail = "must be array if x-kubernetes-list-type is specified";
                self.errors.invalid(&path.field("type"), own, detail);
            }
            if !["atomic", "map", "set"].contains(&kind) {
                self.errors
                    .not_supported(&path_kind, kind, &["atomic", "map", "set"]);
            }
        }
        let inner = &schema["items"];
        match kind {
            Some("map") => {
                if keys.is_empty() {
                    let detail = "must not be empty if x-kubernetes-list-type is map";
                    self.errors.required(&path_keys, detail);
                }
                if inner["type"] != "object" {
                    let detail = "must be object if parent array's x-kubernetes-list-type is map";
                    self.errors.invalid(
                        &path.field("items").field("type"),
                        inner["type"].clone(),
                        detail,
                    );
                }
                self.map_keys(inner, keys, path, &path_keys);
            }
            Some("set") => {
                let scalar = ["string", "integer", "number", "boolean"];
                let atomic = inner["x-kubernetes-map-type"] == "atomic"
                    || (inner["type"] == "array" && inner["x-kubernetes-list-type"] == "atomic");
                let known = inner["type"]
                    .as_str()
                    .is_some_and(|own| scalar.contains(&own))
                    || inner["x-kubernetes-int-or-string"] == true;
                if inner["nullable"] == true {
                    let detail = "cannot be nullable when x-kubernetes-list-type is set";
                    self.errors
                        .forbidden(&path.field("items").field("nullable"), detail);
                }
                if !known && !atomic {
                    let detail =
                        "must be scalar or atomic as item of array with x-kubernetes-list-type=set";
                    self.errors.invalid(
                        &path.field("items").field("type"),
                        inner["type"].clone(),
                        detail,
                    );
                }
            }
            _ if !keys.is_empty() => {
                let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
                self.errors
                    .invalid(&path_kind, kind.unwrap_or_default(), detail);
            }
            _ => {}
        }
    }

    /// The fields that tell items apart are there in every item, and scalar.
    fn map_keys(&mut self, inner: &Value, keys: &[Value], path: &Path, path_keys: &Path) {
        let mut seen = crate::kinds::check::Seen::new();
        let required: HashSet<&str> = items(inner, "/required")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        for (index, key) in keys.iter().enumerate() {
            let key = key.as_str().unwrap_or_default();
            let property = &inner["properties"][key];
            if property.is_null() {
                let detail = "entries must all be names of item properties";
                self.errors.invalid(&path_keys.index(index), key, detail);
                continue;
            }
            if ["object", "array"]
                .iter()
                .any(|own| property["type"] == *own)
            {
                let detail = "entries must all be names of item properties of scalar type";
                self.errors.invalid(&path_keys.index(index), key, detail);
            }
            if !required.contains(key) && property["default"].is_null() {
                let path = path
                    .field("items")
                    .field("properties")
                    .key(key)
                    .field("default");
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.required(&path, detail);
            }
            crate::kinds::check::unique(&path_keys.index(index), key, &mut seen, self.errors);
        }
    }
}

/// Where schemas, and values of any form, stand within a schema.
const INNER: &[&str] = &[
    "properties",
    "items",
    "additionalProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "definitions",
    "patternProperties",
    "dependencies",
    "default",
    "enum",
    "example",
];

fn fields<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema[key].as_object().into_iter().flatten()
}

/// Defaults hold to their schemas.
fn defaults(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    if let Some(default) = schema.get("default").filter(|value| !value.is_null()) {
        let path = path.field("default");
        let own = custom(&serde_json::json!({
            "type": "object",
            "properties": {"default": schema},
        }));
        let holder = serde_json::json!({ "default": default });
        let pruned = check(&own, holder.clone());
        if !pruned.unknown.is_empty() {
            let detail = "must not have unknown fields";
            errors.invalid(&path, default.clone(), detail);
        }
        let mut filled = holder;
        schema::default(&own, &mut filled);
        let mut found = FieldErrors::default();
        schema::validate(&own, &filled, None, &mut found);
        for mut error in found.0 {
            let below = error.path.to_string();
            let below = below.strip_prefix("default").unwrap_or_default();
            error.path = Path::root(&format!("{path}{below}"));
            errors.0.push(error);
        }
    }
    for (name, property) in fields(schema, "properties") {
        defaults(property, &path.field("properties").key(name), errors);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            defaults(&schema[key], &path.field(key), errors);
        }
    }
}
