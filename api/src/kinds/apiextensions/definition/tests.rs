use expect_test::{Expect, expect};

use super::*;
use crate::kinds::tests::{errors, read, update_errors};

const GOOD: &str = "{metadata: {name: as.b.c}, spec: {group: b.c, scope: Cluster, names: {plural: as, kind: A}, \
    versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}}";

/// What is wrong with the good definition once this part of it is replaced.
#[track_caller]
fn check(pointer: &str, part: &str, expected: Expect) {
    let mut object = read(GOOD);
    let (owner, field) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(owner).expect("it is there")[field] = read(part);
    expected.assert_eq(&errors(&CustomResourceDefinition, &object.to_string()));
}

#[track_caller]
fn check_schema(schema: &str, expected: Expect) {
    check("/spec/versions/0/schema/openAPIV3Schema", schema, expected);
}

#[test]
fn a_good_definition_is_good() {
    assert_eq!(errors(&CustomResourceDefinition, GOOD), "");
}

#[test]
fn names_are_checked() {
    check(
        "/metadata/name",
        "x",
        expect![[r#"
        metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group
    "#]],
    );
    check(
        "/spec/scope",
        "Galaxy",
        expect![[r#"
        spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"
    "#]],
    );
    check(
        "/spec/names/listKind",
        "A",
        expect![[r#"
        spec.names.listKind: Invalid value: "A": kind and listKind may not be the same
    "#]],
    );
    check(
        "/spec/preserveUnknownFields",
        "true",
        expect![[r#"
        spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead
    "#]],
    );
}

#[test]
fn exactly_one_version_is_stored() {
    check(
        "/spec/versions/0/storage",
        "false",
        expect![[r#"
        spec.versions: Invalid value: ["v1"]: must have exactly one version marked as storage version
    "#]],
    );
    check(
        "/spec/versions",
        "[]",
        expect![[r#"
        spec.versions: Required value: must have at least one version
    "#]],
    );
}

#[test]
fn schemas_are_structural() {
    check_schema(
        "{}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.type: Required value: must not be empty at the root
    "#]],
    );
    check_schema(
        "{type: object, properties: {a: {}}}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields
    "#]],
    );
    check_schema(
        "{type: object, properties: {a: {type: array}}}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.properties[a].items: Required value: must be specified
    "#]],
    );
    check_schema(
        "{type: object, properties: {a: {type: string, default: 1, uniqueItems: true}}}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic
    "#]],
    );
    check_schema(
        "{type: object, properties: {a: {type: string, default: 1}}}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.properties[a].default: Invalid value: "integer": default in body must be of type string: "integer"
    "#]],
    );
    check_schema(
        "{type: object, anyOf: [{properties: {a: {type: string}}}]}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.anyOf[0].properties[a]: Required value: must be specified outside of the combination to be structural
    "#]],
    );
    check_schema(
        "{type: object, properties: {a: {type: array, x-kubernetes-list-type: map, items: {type: object}}}}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map
    "#]],
    );
    check_schema(
        "{type: object, properties: {metadata: {type: object, properties: {labels: {type: object}}}}}",
        expect![[r#"
        spec.versions[0].schema.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
    "#]],
    );
}

#[test]
fn what_is_served_keeps_its_names() {
    let other = GOOD.replace("scope: Cluster", "scope: Namespaced");
    let established = GOOD.replace(
        "spec: {group",
        "status: {conditions: [{type: Established, status: \"True\"}]}, spec: {group",
    );
    expect![[r#"
        spec.scope: Invalid value: "Namespaced": field is immutable
    "#]]
    .assert_eq(&update_errors(
        &CustomResourceDefinition,
        &established,
        &other,
    ));
    assert_eq!(update_errors(&CustomResourceDefinition, GOOD, &other), "");
}
