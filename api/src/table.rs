//! Objects as a `meta.k8s.io/v1` Table: what `kubectl get` prints.
//!
//! Pure. Used for lists, for single objects and for each event of a watch.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kinds::Kind;

/// How much of its object a row carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IncludeObject {
    None,
    /// As `PartialObjectMetadata`.
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter `includeObject`; `None` if it is no such word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A table without rows; `list_meta` is the list's `metadata`.
pub fn empty(kind: &dyn Kind, list_meta: Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": if list_meta.is_null() { Value::Object(Map::new()) } else { list_meta },
        "columnDefinitions": kind.column_definitions(),
        "rows": [],
    })
}

/// An object's row.
pub fn row(kind: &dyn Kind, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    row_of(kind.cells(object, now), object, include)
}

/// A row of these cells.
pub(crate) fn row_of(cells: Vec<Value>, object: &Value, include: IncludeObject) -> Value {
    let mut row = json!({ "cells": cells });
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object.get("metadata"),
            });
        }
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::Registry;

    #[test]
    fn a_row_carries_as_much_of_its_object_as_asked() {
        let registry = Registry::builtin();
        let kind = registry
            .find("", "v1", "configmaps")
            .expect("it is built in");
        let object = json!({ "metadata": { "name": "a" }, "data": { "k": "v" } });
        let table = |include| {
            let mut table = empty(kind.as_ref(), json!({ "resourceVersion": "7" }));
            let row = row(kind.as_ref(), &object, include, Timestamp::UNIX_EPOCH);
            table["rows"] = json!([row]);
            table
        };
        expect![[r#"{"apiVersion":"meta.k8s.io/v1","columnDefinitions":[{"description":"Name of the object, unique among its kind in its namespace","format":"name","name":"Name","priority":0,"type":"string"},{"description":"How many entries it has","format":"","name":"Data","priority":0,"type":"integer"},{"description":"Time since the object was created","format":"","name":"Age","priority":0,"type":"string"}],"kind":"Table","metadata":{"resourceVersion":"7"},"rows":[{"cells":["a",1,"<unknown>"]}]}"#]]
        .assert_eq(&table(IncludeObject::None).to_string());
        expect![[r#"{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{"name":"a"}}"#]]
        .assert_eq(&table(IncludeObject::Metadata)["rows"][0]["object"].to_string());
        assert_eq!(table(IncludeObject::Object)["rows"][0]["object"], object);
    }
}
