use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::builtin;

/// The object in normal form, then what was found.
fn told(checked: &Checked) -> String {
    let mut text = checked.value.to_string();
    for path in &checked.unknown {
        text.push_str(&format!("\nunknown {path}"));
    }
    for error in &checked.errors {
        text.push_str(&format!("\nerror {error}"));
    }
    text
}

/// Checks `json` as the definition whose name ends in `.api.<name>`.
#[track_caller]
fn check_as(name: &str, json: &str, expected: &Expect) {
    let schema = builtin(&format!("io.k8s.api.{name}")).expect("a known definition");
    let value = serde_json::from_str(json).expect("valid JSON");
    expected.assert_eq(&told(&check(&schema, value)));
}

#[test]
fn unknown_fields_are_pruned_and_told_by_path() {
    check_as(
        "core.v1.Pod",
        r#"{"spec":{"containers":[{"name":"a","foo":1},{"bar":{},"name":"b"}],"x":null},"extra":1}"#,
        &expect![[r#"
            {"spec":{"containers":[{"name":"a"},{"name":"b"}]}}
            unknown extra
            unknown spec.containers[0].foo
            unknown spec.containers[1].bar
            unknown spec.x"#]],
    );
}

#[test]
fn a_wrong_type_names_the_path_and_both_types() {
    check_as(
        "apps.v1.Deployment",
        r#"{"metadata":{"labels":{"a":1}},"spec":{"replicas":"3","paused":"yes","selector":[],
            "template":{"spec":{"containers":{"name":"a"},"hostNetwork":1.5}}}}"#,
        &expect![[r#"
            {"metadata":{"labels":{"a":1}},"spec":{"paused":"yes","replicas":"3","selector":[],"template":{"spec":{"containers":{"name":"a"},"hostNetwork":1.5}}}}
            error metadata.labels[a]: expected string, got integer (1)
            error spec.paused: expected boolean, got string ("yes")
            error spec.replicas: expected integer, got string ("3")
            error spec.selector: expected object, got array
            error spec.template.spec.containers: expected array, got object
            error spec.template.spec.hostNetwork: expected boolean, got number (1.5)"#]],
    );
}

#[test]
fn an_object_that_is_no_object_is_an_error_of_the_whole() {
    check_as(
        "core.v1.Pod",
        "[]",
        &expect![[r"
        []
        error <nil>: expected object, got array"]],
    );
}

#[test]
fn integers_may_come_as_floats_but_not_with_a_fraction_or_out_of_range() {
    check_as(
        "core.v1.ReplicationControllerSpec",
        r#"{"replicas":3.0}"#,
        &expect![[r#"{"replicas":3}"#]],
    );
    check_as(
        "core.v1.ReplicationControllerSpec",
        r#"{"replicas":1e3}"#,
        &expect![[r#"{"replicas":1000}"#]],
    );
    check_as(
        "core.v1.ReplicationControllerSpec",
        r#"{"replicas":1.5}"#,
        &expect![[r#"
        {"replicas":1.5}
        error replicas: expected integer, got number (1.5)"#]],
    );
    check_as(
        "core.v1.ReplicationControllerSpec",
        r#"{"replicas":2147483648}"#,
        &expect![[r#"
        {"replicas":2147483648}
        error replicas: must be from -2147483648 to 2147483647, got 2147483648"#]],
    );
    check_as(
        "core.v1.PodSpec",
        r#"{"terminationGracePeriodSeconds":18446744073709551615}"#,
        &expect![[r#"
        {"terminationGracePeriodSeconds":18446744073709551615}
        error terminationGracePeriodSeconds: must be from -9223372036854775808 to 9223372036854775807, got 18446744073709551615"#]],
    );
}

#[test]
fn quantities_take_their_canonical_form() {
    check_as(
        "core.v1.ResourceRequirements",
        r#"{"limits":{"cpu":0.5,"memory":"1024Mi","pods":2,"x":null},"requests":{"cpu":"lots","memory":true}}"#,
        &expect![[r#"
            {"limits":{"cpu":"500m","memory":"1Gi","pods":"2","x":"0"},"requests":{"cpu":"lots","memory":true}}
            error requests[cpu]: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            error requests[memory]: expected quantity, got boolean (true)"#]],
    );
}

#[test]
fn a_port_is_a_number_or_a_name() {
    check_as(
        "core.v1.ServiceSpec",
        r#"{"ports":[{"targetPort":80.0},{"targetPort":"http"},{"targetPort":true}]}"#,
        &expect![[r#"
            {"ports":[{"targetPort":80},{"targetPort":"http"},{"targetPort":true}]}
            error ports[2].targetPort: expected integer or string, got boolean (true)"#]],
    );
}

#[test]
fn times_are_rfc_3339_and_come_out_in_utc() {
    check_as(
        "core.v1.Pod",
        r#"{"metadata":{"creationTimestamp":null,"deletionTimestamp":"2024-01-02T03:04:05.678+02:00"}}"#,
        &expect![[r#"{"metadata":{"deletionTimestamp":"2024-01-02T01:04:05Z"}}"#]],
    );
    check_as(
        "coordination.v1.LeaseSpec",
        r#"{"renewTime":"2024-01-02T03:04:05.1Z","acquireTime":"2024-01-02 03:04:05Z"}"#,
        &expect![[r#"
            {"acquireTime":"2024-01-02 03:04:05Z","renewTime":"2024-01-02T03:04:05.100000Z"}
            error acquireTime: expected a time like 2006-01-02T15:04:05Z, got string ("2024-01-02 03:04:05Z")"#]],
    );
    for broken in [
        "",
        "2024-13-01T00:00:00Z",
        "2024-01-02T03:04:05",
        "2024-01-02T03:04:05.Z",
        "2024-01-02T24:04:05Z",
        "é",
    ] {
        assert!(timestamp(broken, time::seconds).is_err(), "{broken}");
    }
}

#[test]
fn secrets_are_base64_and_never_told() {
    check_as(
        "core.v1.Secret",
        r#"{"data":{"a":"aGVs\nbG8=","b":"not base64!","c":null}}"#,
        &expect![[r#"
            {"data":{"a":"aGVsbG8=","b":"not base64!","c":""}}
            error data[b]: expected base64, got a string that is not: Invalid symbol 32, offset 3."#]],
    );
}

#[test]
fn null_is_absent_or_the_zero_value() {
    check_as(
        "core.v1.Pod",
        r#"{"metadata":{"labels":{"a":null},"finalizers":[null]},"spec":{"containers":[null],"volumes":null}}"#,
        &expect![[
            r#"{"metadata":{"finalizers":[""],"labels":{"a":""}},"spec":{"containers":[{}]}}"#
        ]],
    );
}

#[test]
fn embedded_objects_are_left_alone() {
    check_as(
        "apps.v1.ControllerRevision",
        r#"{"data":{"anything":[null,1.5]},"metadata":{"managedFields":[{"fieldsV1":{"f:x":{}}}]}}"#,
        &expect![[
            r#"{"data":{"anything":[null,1.5]},"metadata":{"managedFields":[{"fieldsV1":{"f:x":{}}}]}}"#
        ]],
    );
}

#[test]
fn findings_are_bounded() {
    let fields: Map<String, Value> = (0..1000).map(|n| (format!("f{n}"), json!(n))).collect();
    let labels: Map<String, Value> = (0..1000).map(|n| (format!("l{n}"), json!(n))).collect();
    let pod = json!({"metadata": {"labels": labels}, "spec": fields});
    let checked = check(&builtin("io.k8s.api.core.v1.Pod").unwrap(), pod);
    assert_eq!((checked.unknown.len(), checked.errors.len()), (100, 100));
}

#[test]
fn errors_are_no_larger_than_they_are_useful() {
    let values: Vec<Value> = (0..100).map(Value::from).collect();
    let mut extra = Map::new();
    extra.insert("x".repeat(100_000), values.into());
    let review = json!({"extra": extra});
    let schema = builtin("io.k8s.api.authentication.v1.UserInfo").unwrap();
    assert_eq!(check(&schema, review).errors.len(), 1);
}

proptest! {
    #[test]
    fn what_was_checked_passes_unchanged(pod in crate::schema::arbitrary::pod()) {
        let schema = builtin("io.k8s.api.core.v1.Pod").unwrap();
        let first = check(&schema, pod.clone());
        prop_assert_eq!(told(&first), pod.to_string());
    }

    #[test]
    fn nothing_makes_the_check_panic(value in crate::schema::arbitrary::value()) {
        let schema = builtin("io.k8s.api.core.v1.Pod").unwrap();
        check(&schema, json!({"spec": value.clone(), "metadata": value.clone(), "status": value}));
    }
}
