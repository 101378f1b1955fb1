//! What is wrong with a pod's spec, in a pod or in a template.

use serde_json::Value;

use super::container;
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, present, text, truth},
    },
    name,
};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks a spec that stands at `path`.
pub(crate) fn spec(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let volumes = validate_volumes(&path.field("volumes"), spec, errors);
    validate_containers(path, spec, &volumes, errors);
    validate_policies(path, spec, errors);
    validate_times(path, spec, errors);
    check::labels(&path.field("nodeSelector"), spec, "/nodeSelector", errors);
    for (field, pointer) in [
        ("nodeName", "/nodeName"),
        ("serviceAccountName", "/serviceAccountName"),
        ("priorityClassName", "/priorityClassName"),
    ] {
        subdomain(&path.field(field), text(spec, pointer), errors);
    }
    for (field, pointer) in [("hostname", "/hostname"), ("subdomain", "/subdomain")] {
        let given = text(spec, pointer);
        if !given.is_empty() {
            check::problems(
                &path.field(field),
                given,
                name::label_problems(given),
                errors,
            );
        }
    }
    for (index, secret) in items(spec, "/imagePullSecrets").iter().enumerate() {
        if text(secret, "/name").is_empty() {
            errors.required(
                &path.field("imagePullSecrets").index(index).field("name"),
                "",
            );
        }
    }
    for (index, toleration) in items(spec, "/tolerations").iter().enumerate() {
        validate_toleration(&path.field("tolerations").index(index), toleration, errors);
    }
}

fn subdomain(path: &Path, given: &str, errors: &mut FieldErrors) {
    if !given.is_empty() {
        check::problems(path, given, name::subdomain_problems(given), errors);
    }
}

fn validate_volumes<'a>(path: &Path, spec: &'a Value, errors: &mut FieldErrors) -> Vec<&'a str> {
    let mut seen = Vec::new();
    let volumes = items(spec, "/volumes");
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index).field("name");
        let given = text(volume, "/name");
        if given.is_empty() {
            errors.required(&path, "");
        } else {
            check::problems(&path, given, name::label_problems(given), errors);
            check::unique(&path, given, &mut seen, errors);
        }
        let sources = volume
            .as_object()
            .map_or(0, |volume| volume.values().filter(|v| !v.is_null()).count());
        if sources > 2 {
            errors.forbidden(&path, "may not specify more than 1 volume type");
        }
    }
    volumes.iter().map(|volume| text(volume, "/name")).collect()
}

fn validate_containers(path: &Path, spec: &Value, volumes: &[&str], errors: &mut FieldErrors) {
    let context = container::Context {
        volumes,
        host_network: truth(spec, "/hostNetwork"),
    };
    if items(spec, "/containers").is_empty() {
        errors.required(&path.field("containers"), "");
    }
    let mut names = Vec::new();
    for (list, pointer) in [
        ("containers", "/containers"),
        ("initContainers", "/initContainers"),
    ] {
        for (index, one) in items(spec, pointer).iter().enumerate() {
            let path = path.field(list).index(index);
            container::validate(&path, one, &context, errors);
            let given = text(one, "/name");
            if !given.is_empty() {
                check::unique(&path.field("name"), given, &mut names, errors);
            }
        }
    }
    if !items(spec, "/ephemeralContainers").is_empty() {
        errors.forbidden(
            &path.field("ephemeralContainers"),
            "cannot be set on create",
        );
    }
}

fn validate_policies(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    for (field, supported) in [
        ("restartPolicy", &["Always", "OnFailure", "Never"][..]),
        (
            "dnsPolicy",
            &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        ),
        ("preemptionPolicy", &["PreemptLowerPriority", "Never"]),
    ] {
        let value = spec.get(field).unwrap_or(&Value::Null);
        check::one_of(&path.field(field), value, supported, errors);
    }
    if text(spec, "/dnsPolicy") == "None" && items(spec, "/dnsConfig/nameservers").is_empty() {
        errors.required(
            &path.field("dnsConfig").field("nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
}

fn validate_times(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    check::not_negative(
        &path.field("terminationGracePeriodSeconds"),
        part(spec, "/terminationGracePeriodSeconds"),
        errors,
    );
    let deadline = part(spec, "/activeDeadlineSeconds");
    if present(spec, "/activeDeadlineSeconds")
        && !deadline
            .as_i64()
            .is_some_and(|seconds| (1..=i64::from(i32::MAX)).contains(&seconds))
    {
        errors.invalid(
            &path.field("activeDeadlineSeconds"),
            deadline.clone(),
            "must be between 1 and 2147483647, inclusive",
        );
    }
}

pub(crate) fn validate_toleration(path: &Path, toleration: &Value, errors: &mut FieldErrors) {
    let (key, operator) = (text(toleration, "/key"), text(toleration, "/operator"));
    if !key.is_empty() {
        check::problems(
            &path.field("key"),
            key,
            name::qualified_problems(key),
            errors,
        );
    } else if operator != "Exists" {
        errors.invalid(
            &path.field("operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        );
    }
    match operator {
        "" | "Equal" => {
            let value = text(toleration, "/value");
            check::problems(
                &path.field("value"),
                value,
                name::label_value_problems(value),
                errors,
            );
        }
        "Exists" => {
            if !text(toleration, "/value").is_empty() {
                errors.invalid(
                    &path.field("operator"),
                    operator,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
        }
        other => errors.not_supported(&path.field("operator"), other, &["Equal", "Exists"]),
    }
    if !text(toleration, "/effect").is_empty() {
        check::one_of(
            &path.field("effect"),
            part(toleration, "/effect"),
            EFFECTS,
            errors,
        );
    }
    if present(toleration, "/tolerationSeconds") && text(toleration, "/effect") != "NoExecute" {
        errors.push(
            &path.field("effect"),
            Cause::Invalid,
            part(toleration, "/effect").clone(),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::errors};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(&Pod, &format!("{{spec: {{{spec}}}}}")));
    }

    #[test]
    fn a_pod_has_containers() {
        check(
            "",
            expect![[r#"
            spec.containers: Required value
        "#]],
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "restartPolicy: x, activeDeadlineSeconds: 0, nodeName: A_, tolerations: [{key: a, operator: \
             Exists, value: b}], volumes: [{name: v}, {name: v}], containers: [{name: a, image: i}, \
             {name: a}]",
            expect![[r#"
                spec.volumes[1].name: Duplicate value: "v"
                spec.containers[1].image: Required value
                spec.containers[1].name: Duplicate value: "a"
                spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never"
                spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
                spec.nodeName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.tolerations[0].operator: Invalid value: "Exists": value must be empty when `operator` is 'Exists'
            "#]],
        );
    }
}
