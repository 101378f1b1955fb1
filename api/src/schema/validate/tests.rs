use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::{self, arbitrary, check, custom};

/// What is wrong with `spec` under a schema, once it is pruned and its defaults are in.
#[track_caller]
fn told(spec: Value, value: Value, old: Option<Value>, expected: Expect) {
    let schema = custom(&json!({"type": "object", "properties": {"spec": spec}}));
    let ready = |value: Value| {
        let mut object = check(&schema, json!({ "spec": value })).value;
        schema::default(&schema, &mut object);
        object
    };
    let (object, old) = (ready(value), old.map(ready));
    let mut errors = FieldErrors::default();
    validate(&schema, &object, old.as_ref(), &mut errors);
    let lines: String = errors.0.iter().map(|error| format!("{error}\n")).collect();
    let shown = if lines.is_empty() {
        object["spec"].to_string()
    } else {
        lines
    };
    expected.assert_eq(&shown);
}

#[test]
fn numbers_hold_to_their_ranges() {
    let spec = json!({"type": "number", "minimum": 1, "exclusiveMinimum": true, "maximum": 1_000_000, "multipleOf": 0.5});
    told(
        spec.clone(),
        json!(1),
        None,
        expect![[r#"
        spec: Invalid value: 1: spec in body should be greater than 1
    "#]],
    );
    told(
        spec.clone(),
        json!(2_000_000),
        None,
        expect![[r#"
        spec: Invalid value: 2000000: spec in body should be less than or equal to 1e+06
    "#]],
    );
    told(
        spec.clone(),
        json!(1.3),
        None,
        expect![[r#"
        spec: Invalid value: 1.3: spec in body should be a multiple of 0.5
    "#]],
    );
    told(spec, json!(1.5), None, expect!["1.5"]);
}

#[test]
fn combinations_are_told_as_a_whole() {
    let spec = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    told(
        spec.clone(),
        json!({"a": 1, "b": 1}),
        None,
        expect![[r#"
        <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives
    "#]],
    );
    told(
        spec,
        json!({}),
        None,
        expect![[r#"
        <nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid
        spec.a: Required value
    "#]],
    );
    let spec = json!({"type": "string", "not": {"enum": ["x"]}, "anyOf": [{"maxLength": 1}, {"pattern": "^y"}]});
    told(
        spec.clone(),
        json!("x"),
        None,
        expect![[r#"
        <nil>: Invalid value: "": "spec" must not validate the schema (not)
    "#]],
    );
    told(
        spec,
        json!("zz"),
        None,
        expect![[r#"
        <nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)
        spec: Too long: may not be more than 1 bytes
    "#]],
    );
}

#[test]
fn what_an_update_leaves_as_it_was_is_not_complained_about() {
    let spec = json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
    }});
    told(
        spec,
        json!({"a": "long", "b": "new one"}),
        Some(json!({"a": "long"})),
        expect![[r#"
            spec.b: Too long: may not be more than 1 bytes
        "#]],
    );
}

#[test]
fn defaults_go_where_nothing_stands() {
    let spec = json!({"type": "object", "default": {}, "properties": {
        "a": {"type": "integer", "default": 1},
        "b": {"type": "object", "properties": {"c": {"type": "string", "default": "x"}}},
        "n": {"type": "string", "nullable": true, "default": "y"},
        "l": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "boolean", "default": true}}}},
    }});
    told(
        spec.clone(),
        json!(null),
        None,
        expect![[r#"{"a":1,"n":"y"}"#]],
    );
    told(
        spec,
        json!({"a": null, "b": {}, "n": null, "l": [{}], "z": 1}),
        None,
        expect![[r#"{"a":1,"b":{"c":"x"},"l":[{"d":true}],"n":null}"#]],
    );
}

#[test]
fn an_embedded_object_says_what_it_is() {
    let spec = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    told(
        spec.clone(),
        json!({"metadata": {"name": "a", "bogus": 1}, "data": {"b": 1}}),
        None,
        expect![[r#"
        spec.apiVersion: Required value: must not be empty
        spec.kind: Required value: must not be empty
    "#]],
    );
    told(
        spec,
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "bogus": 1}, "data": {"b": 1}}),
        None,
        expect![[r#"{"apiVersion":"v1","data":{"b":1},"kind":"A","metadata":{"name":"a"}}"#]],
    );
}

/// Schemas of a few levels, some of them nonsense.
fn schemas() -> impl Strategy<Value = Value> {
    let kinds = [
        "object", "array", "string", "integer", "number", "boolean", "other",
    ];
    let leaf = prop::sample::select(kinds.to_vec()).prop_map(|kind| json!({ "type": kind }));
    leaf.prop_recursive(4, 24, 3, |inner| {
        let parts = (inner.clone(), inner.clone(), any::<u8>(), arbitrary::value());
        parts.prop_map(|(one, other, bits, value)| {
            let flag = |bit: u8| bits & (1 << bit) != 0;
            let mut schema = json!({"properties": {"a": one, "b": other.clone()}, "type": "object"});
            if flag(0) {
                schema = json!({"type": "array", "items": other.clone(), "x-kubernetes-list-type": "set"});
            }
            if flag(1) {
                schema["additionalProperties"] = other.clone();
            }
            if flag(2) {
                schema["default"] = value;
            }
            if flag(3) {
                schema["nullable"] = true.into();
            }
            if flag(4) {
                schema["x-kubernetes-preserve-unknown-fields"] = true.into();
            }
            if flag(5) {
                schema["anyOf"] = json!([other, {"required": ["a"]}]);
            }
            if flag(6) {
                schema["x-kubernetes-embedded-resource"] = true.into();
            }
            schema
        })
    })
}

proptest! {
    #[test]
    fn no_schema_and_no_value_is_a_surprise(schema in schemas(), value in arbitrary::value(), old in arbitrary::value()) {
        let schema = custom(&schema);
        let mut object = check(&schema, value).value;
        schema::default(&schema, &mut object);
        validate(&schema, &object, Some(&old), &mut FieldErrors::default());
        // What nobody changed is never complained about.
        let mut errors = FieldErrors::default();
        validate(&schema, &object, Some(&object), &mut errors);
        prop_assert!(errors.is_empty());
    }
}
