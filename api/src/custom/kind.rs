//! One version of a custom kind, as the verbs see it.
//!
//! Pure. What differs from a built-in kind comes from the definition: schema, subresources, columns,
//! selectable fields.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::Value;

use super::{cel, columns, columns::PrinterColumn, path::JsonPath};
use crate::{
    field::{FieldErrors, Path},
    kinds::{Column, Kind, Names, ScalePaths, Subresource, VERBS, value::put, write},
    object,
    schema::{self, Schema},
};

/// A version of a custom kind.
pub struct CustomKind {
    pub(super) names: Names,
    pub(super) list_kind: String,
    pub(super) schema: Schema,
    pub(super) subresources: Vec<Subresource>,
    pub(super) scale: ScalePaths,
    pub(super) columns: Vec<PrinterColumn>,
    /// Fields to select by: the name in a selector, and the path to it.
    pub(super) selectable: Vec<(&'static str, JsonPath)>,
    pub(super) selectable_names: Vec<&'static str>,
    /// What users of this version are told.
    pub(super) deprecation: Option<String>,
    /// Whether the definition is being deleted: nothing new may be made.
    pub(super) terminating: bool,
    /// Compiled when the first object is checked.
    pub(super) rules: OnceLock<cel::Rules>,
    /// `openAPIV3Schema` as the definition has it, for OpenAPI.
    pub(super) source: Value,
}

impl CustomKind {
    /// What users of this version are told, if it is deprecated.
    pub(crate) fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    /// Whether the definition is being deleted.
    pub(crate) fn terminating(&self) -> bool {
        self.terminating
    }

    /// The rules in CEL.
    pub(crate) fn rules(&self) -> &cel::Rules {
        self.rules.get_or_init(|| cel::Rules::compile(&self.schema))
    }

    /// Rules are only held against an object that the schema has nothing against.
    fn tell_of_rules(&self, errors: &mut FieldErrors) {
        if !errors.is_empty() && !self.rules().is_empty() {
            errors.invalid(
                &Path::default(),
                Value::Null,
                "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            );
        }
    }

    /// `openAPIV3Schema` as the definition has it.
    pub(crate) fn source(&self) -> &Value {
        &self.source
    }

    fn has_status(&self) -> bool {
        self.subresources.contains(&Subresource::Status)
    }

    /// What counts as wanted: all but metadata, and but the status where it is written apart.
    fn wanted<'a>(&self, object: &'a Value) -> Vec<(&'a String, &'a Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| *name != "metadata" && !(self.has_status() && *name == "status"))
            .collect()
    }
}

impl Kind for CustomKind {
    fn names(&self) -> &Names {
        &self.names
    }

    fn custom(&self) -> Option<&CustomKind> {
        Some(self)
    }

    fn schema(&self) -> Schema {
        self.schema.clone()
    }

    fn list_kind(&self) -> String {
        self.list_kind.clone()
    }

    fn verbs(&self) -> &[&'static str] {
        VERBS
    }

    fn subresources(&self) -> &[Subresource] {
        &self.subresources
    }

    fn scale_paths(&self) -> &ScalePaths {
        &self.scale
    }

    fn default(&self, object: &mut Value) {
        schema::default(&self.schema, object);
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.has_status() {
            put(object, "status", Value::Null);
        }
        write::start_generation(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if self.has_status() {
            write::keep_status(object, old);
        }
        let changed = self.wanted(object) != self.wanted(old);
        let generation = object::generation(old).max(1) + i64::from(changed);
        object::set(object, "generation", generation);
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        self.default(object);
        let status = object.get("status").cloned().unwrap_or_default();
        let metadata = object::metadata(object).cloned().unwrap_or_default();
        *object = old.clone();
        put(object, "status", status);
        for field in ["resourceVersion", "managedFields"] {
            match metadata.get(field) {
                Some(value) => object::set(object, field, value.clone()),
                None => object::unset(object, field),
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        schema::validate(&self.schema, object, None, errors);
        self.tell_of_rules(errors);
    }

    fn validate_change(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        schema::validate(&self.schema, object, Some(old), errors);
        self.tell_of_rules(errors);
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let text = |path: &JsonPath| match path.first(object) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        self.selectable
            .iter()
            .map(|(name, path)| (*name, text(path)))
            .collect()
    }

    fn field_names(&self) -> &[&'static str] {
        &self.selectable_names
    }

    fn columns(&self) -> &[Column] {
        &[]
    }

    fn column_definitions(&self) -> Value {
        columns::definitions(&self.columns)
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(&self.columns, object, now)
    }
}
