//! The model of a structural schema: shapes, list types and patch strategies.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::Value;

use super::{builtin::resolve, limits::Limits};

/// A structural schema; cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema(Arc<Node>);

/// What a list is to server-side apply (`x-kubernetes-list-type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListType {
    /// One value, replaced as a whole.
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects, one for each value of the map keys.
    Map,
}

/// What strategic merge patch does with a field (`x-kubernetes-patch-strategy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatchStrategy {
    /// A list is merged item by item.
    Merge,
    /// The value is replaced as a whole.
    Replace,
    /// Fields of the live object that the patch doesn't list are removed.
    RetainKeys,
}

#[derive(Debug)]
struct Node {
    shape: Shape,
    list_type: Option<ListType>,
    list_map_keys: Vec<String>,
    patch_merge_key: Option<String>,
    patch_strategies: Vec<PatchStrategy>,
    atomic_map: bool,
    /// What only custom resources say of their fields.
    custom: Option<Box<Custom>>,
    default: Option<Value>,
    required: Vec<String>,
}

/// What the schema of a custom resource says beyond structure.
#[derive(Debug, Default)]
pub(crate) struct Custom {
    /// Whether null is a value here.
    pub(crate) nullable: bool,
    /// Whether fields that no property names stay (`x-kubernetes-preserve-unknown-fields`).
    pub(crate) preserves: bool,
    /// Whether a whole object stands here, with kind and metadata (`x-kubernetes-embedded-resource`).
    pub(crate) embedded: bool,
    /// What stands here if nothing does.
    pub(crate) default: Option<Value>,
    /// What values must hold to.
    pub(crate) limits: Limits,
    /// What values must hold to, in CEL.
    pub(crate) rules: Vec<Rule>,
}

/// One of `x-kubernetes-validations`, as it was written.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) rule: String,
    pub(crate) message: String,
    pub(crate) message_expression: String,
    pub(crate) reason: String,
    pub(crate) field_path: String,
    pub(crate) optional_old_self: Option<bool>,
}

static ANY: LazyLock<Schema> = LazyLock::new(|| Schema::read(&Value::Null));

/// What a value looks like.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A built-in definition, looked up when it is needed: types may be recursive.
    Reference(String),
    Object(BTreeMap<String, Schema>),
    Map(Schema),
    List(Schema),
    String,
    /// Base64, standard alphabet, padded.
    Bytes,
    Boolean,
    Int32,
    Int64,
    Number,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// Anything: embedded objects, JSON, field sets.
    Any,
}

impl Schema {
    /// The schema that says nothing: any value, as in fields that no schema knows.
    pub fn any() -> &'static Self {
        &ANY
    }

    /// The schema of a property. None if it has no such property, or no properties at all.
    pub fn property(&self, name: &str) -> Option<Schema> {
        match self.shape() {
            Shape::Object(properties) => properties.get(name).cloned(),
            _ => None,
        }
    }

    /// The schema of a list's items. None if it isn't a list.
    pub fn items(&self) -> Option<Schema> {
        match self.shape() {
            Shape::List(items) => Some(items.clone()),
            _ => None,
        }
    }

    /// The schema of a map's values. None if it isn't a map.
    pub fn values(&self) -> Option<Schema> {
        match self.shape() {
            Shape::Map(values) => Some(values.clone()),
            _ => None,
        }
    }

    /// What the list is to server-side apply. None if nothing is said: atomic.
    pub fn list_type(&self) -> Option<ListType> {
        self.0.list_type
    }

    /// The fields that tell the items of a list of type map apart.
    pub fn list_map_keys(&self) -> &[String] {
        &self.0.list_map_keys
    }

    /// The field that tells the items of a list apart in a strategic merge patch.
    pub fn patch_merge_key(&self) -> Option<&str> {
        self.0.patch_merge_key.as_deref()
    }

    /// How a strategic merge patch treats the field.
    pub fn patch_strategies(&self) -> &[PatchStrategy] {
        &self.0.patch_strategies
    }

    /// What an absent value stands for. Only the facts that tell items of lists apart have one.
    pub fn default(&self) -> Option<&Value> {
        self.0.default.as_ref()
    }

    /// True if server-side apply treats the object or map as one value.
    pub fn atomic_map(&self) -> bool {
        let referred = match &self.0.shape {
            Shape::Reference(name) => resolve(name),
            _ => None,
        };
        self.0.atomic_map || referred.is_some_and(|schema| schema.0.atomic_map)
    }

    /// True if a structure is never without this property.
    pub(super) fn requires(&self, name: &str) -> bool {
        match &self.0.shape {
            Shape::Reference(definition) => {
                resolve(definition).is_some_and(|schema| schema.requires(name))
            }
            _ => self.0.required.iter().any(|required| required == name),
        }
    }

    /// True if it is a built-in definition, not spelled out in place.
    pub(super) fn is_reference(&self) -> bool {
        matches!(self.0.shape, Shape::Reference(_))
    }

    /// What a custom resource's schema says beyond structure. None for built-in kinds.
    pub(crate) fn custom(&self) -> Option<&Custom> {
        self.0.custom.as_deref()
    }

    /// The built-in definition that a custom resource's schema refers to: its metadata's.
    pub(super) fn referred(&self) -> Option<&'static Schema> {
        match &self.0.shape {
            Shape::Reference(name) => resolve(name),
            _ => None,
        }
    }

    /// A schema of a custom resource; `json` says what lists and maps are to server-side apply.
    pub(super) fn of_custom(shape: Shape, json: &Value, custom: Custom) -> Self {
        Self::node(shape, json, Some(Box::new(custom)))
    }

    /// The properties by name; none if it has no such thing.
    pub(crate) fn properties(&self) -> Option<&BTreeMap<String, Schema>> {
        match self.shape() {
            Shape::Object(properties) => Some(properties),
            _ => None,
        }
    }

    /// The shape, references resolved.
    pub(crate) fn shape(&self) -> &Shape {
        match &self.0.shape {
            // The facts are closed under reference (a test says so), and none refers to a reference.
            Shape::Reference(name) => resolve(name).map_or(&Shape::Any, |schema| &schema.0.shape),
            shape => shape,
        }
    }

    /// Reads a definition of the facts; some are known by their names alone.
    pub(super) fn definition(name: &str, json: &Value) -> Self {
        match special(name) {
            Some(shape) => Self::node(shape, json, None),
            None => Self::node(shape(json), json, None),
        }
    }

    fn node(shape: Shape, json: &Value, custom: Option<Box<Custom>>) -> Self {
        let text = |key: &str| json.get(key).and_then(Value::as_str);
        let texts = |key: &str| {
            let texts = json.get(key).and_then(Value::as_array);
            let texts = texts.into_iter().flatten();
            texts.filter_map(|text| text.as_str().map(str::to_owned))
        };
        Self(Arc::new(Node {
            shape,
            list_type: text("x-kubernetes-list-type").map(|name| match name {
                "map" => ListType::Map,
                "set" => ListType::Set,
                _ => ListType::Atomic,
            }),
            list_map_keys: texts("x-kubernetes-list-map-keys").collect(),
            patch_merge_key: text("x-kubernetes-patch-merge-key").map(str::to_owned),
            patch_strategies: text("x-kubernetes-patch-strategy")
                .into_iter()
                .flat_map(|names| names.split(','))
                .filter_map(|name| match name {
                    "merge" => Some(PatchStrategy::Merge),
                    "replace" => Some(PatchStrategy::Replace),
                    "retainKeys" => Some(PatchStrategy::RetainKeys),
                    _ => None,
                })
                .collect(),
            atomic_map: text("x-kubernetes-map-type") == Some("atomic"),
            custom,
            default: json.get("default").cloned(),
            required: texts("required").collect(),
        }))
    }

    fn read(json: &Value) -> Self {
        Self::node(shape(json), json, None)
    }
}

/// The shapes that the facts do not spell out.
fn special(name: &str) -> Option<Shape> {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Some(Shape::Quantity),
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Some(Shape::IntOrString),
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Some(Shape::Time),
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Some(Shape::MicroTime),
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"
        | "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
        | "io.k8s.apimachinery.pkg.runtime.RawExtension" => Some(Shape::Any),
        _ => None,
    }
}

fn shape(json: &Value) -> Shape {
    let text = |key: &str| json.get(key).and_then(Value::as_str);
    if let Some(name) = text("$ref") {
        return Shape::Reference(name.to_owned());
    }
    match (text("type"), text("format")) {
        (Some("object"), _) => match json.get("additionalProperties") {
            Some(values) => Shape::Map(Schema::read(values)),
            None => Shape::Object(properties(json)),
        },
        (Some("array"), _) => Shape::List(Schema::read(json.get("items").unwrap_or(&Value::Null))),
        (Some("string"), Some("byte")) => Shape::Bytes,
        (Some("string"), Some("date-time")) => Shape::Time,
        (Some("string"), _) => Shape::String,
        (Some("boolean"), _) => Shape::Boolean,
        (Some("integer"), Some("int32")) => Shape::Int32,
        (Some("integer"), _) => Shape::Int64,
        (Some("number"), _) => Shape::Number,
        _ => Shape::Any,
    }
}

fn properties(json: &Value) -> BTreeMap<String, Schema> {
    json.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, property)| (name.clone(), Schema::read(property)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;

    #[test]
    fn a_field_knows_its_lists_and_patch_strategies() {
        let pod = builtin("io.k8s.api.core.v1.Pod")
            .unwrap()
            .property("spec")
            .unwrap();
        let ports = pod
            .property("containers")
            .unwrap()
            .items()
            .unwrap()
            .property("ports")
            .unwrap();
        assert_eq!(ports.list_type(), Some(ListType::Map));
        assert_eq!(ports.list_map_keys(), ["containerPort", "protocol"]);
        assert_eq!(ports.patch_merge_key(), Some("containerPort"));
        assert_eq!(ports.patch_strategies(), [PatchStrategy::Merge]);
        let volumes = pod.property("volumes").unwrap();
        assert_eq!(
            volumes.patch_strategies(),
            [PatchStrategy::Merge, PatchStrategy::RetainKeys]
        );
    }

    #[test]
    fn recursive_definitions_are_walked_step_by_step() {
        let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let mut schema = builtin(name).unwrap();
        for _ in 0..10 {
            schema = schema.property("properties").unwrap().values().unwrap();
        }
        assert!(schema.property("maxLength").is_some());
    }

    #[test]
    fn a_selector_is_one_value_to_server_side_apply() {
        let spec = builtin("io.k8s.api.apps.v1.DeploymentSpec").unwrap();
        assert!(spec.property("selector").unwrap().atomic_map());
        assert!(!spec.property("template").unwrap().atomic_map());
    }
}
