//! What is wrong with one container.

use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{entries, items, part, plain, present, text},
    },
    name,
    quantity::Quantity,
};

/// What a container may refer to.
pub(crate) struct Context<'a> {
    /// Names of the pod's volumes.
    pub(crate) volumes: &'a [&'a str],
    pub(crate) host_network: bool,
}

/// Checks a container that stands at `path`.
pub(crate) fn validate(
    path: &Path,
    container: &Value,
    context: &Context<'_>,
    errors: &mut FieldErrors,
) {
    let given = text(container, "/name");
    if given.is_empty() {
        errors.required(&path.field("name"), "");
    } else {
        check::problems(
            &path.field("name"),
            given,
            name::label_problems(given),
            errors,
        );
    }
    let image = text(container, "/image");
    if image.is_empty() {
        errors.required(&path.field("image"), "");
    } else if image.trim() != image {
        errors.invalid(
            &path.field("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
    for (field, supported) in [
        ("imagePullPolicy", &["Always", "IfNotPresent", "Never"][..]),
        (
            "terminationMessagePolicy",
            &["FallbackToLogsOnError", "File"],
        ),
    ] {
        let value = container.get(field).unwrap_or(&Value::Null);
        check::one_of(&path.field(field), value, supported, errors);
    }
    validate_ports(&path.field("ports"), container, context, errors);
    validate_env(path, container, errors);
    validate_mounts(&path.field("volumeMounts"), container, context, errors);
    validate_resources(&path.field("resources"), container, errors);
}

fn validate_ports(path: &Path, container: &Value, context: &Context<'_>, errors: &mut FieldErrors) {
    let mut names = Vec::new();
    for (index, port) in items(container, "/ports").iter().enumerate() {
        let path = path.index(index);
        let given = text(port, "/name");
        if !given.is_empty() {
            check::problems(
                &path.field("name"),
                given,
                name::port_problems(given),
                errors,
            );
            check::unique(&path.field("name"), given, &mut names, errors);
        }
        let own = part(port, "/containerPort");
        if own.as_i64().unwrap_or(0) == 0 {
            errors.required(&path.field("containerPort"), "");
        } else {
            check::port(&path.field("containerPort"), own, errors);
        }
        let host = part(port, "/hostPort");
        if host.as_i64().unwrap_or(0) != 0 {
            check::port(&path.field("hostPort"), host, errors);
            if context.host_network && host != own {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                errors.invalid(&path.field("containerPort"), own.clone(), detail);
            }
        }
        check::one_of(
            &path.field("protocol"),
            part(port, "/protocol"),
            &["SCTP", "TCP", "UDP"],
            errors,
        );
    }
}

fn validate_env(path: &Path, container: &Value, errors: &mut FieldErrors) {
    const SOURCES: &[&str] = &[
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    for (index, variable) in items(container, "/env").iter().enumerate() {
        let path = path.field("env").index(index);
        let given = text(variable, "/name");
        if given.is_empty() {
            errors.required(&path.field("name"), "");
        } else {
            check::problems(
                &path.field("name"),
                given,
                name::variable_problems(given),
                errors,
            );
        }
        if !present(variable, "/valueFrom") {
            continue;
        }
        let path = path.field("valueFrom");
        let source = part(variable, "/valueFrom");
        let given: Vec<_> = SOURCES
            .iter()
            .filter(|name| source.get(**name).is_some_and(|value| !value.is_null()))
            .collect();
        let problem = if given.is_empty() {
            Some(
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            )
        } else if !text(variable, "/value").is_empty() {
            Some("may not be specified when `value` is not empty")
        } else if given.len() > 1 {
            Some("may not have more than one field specified at a time")
        } else {
            None
        };
        if let Some(problem) = problem {
            errors.invalid(&path, "", problem);
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            let Some(key) = source.get(reference).filter(|value| !value.is_null()) else {
                continue;
            };
            let path = path.field(reference);
            for (field, pointer) in [("name", "/name"), ("key", "/key")] {
                if text(key, pointer).is_empty() {
                    errors.required(&path.field(field), "");
                }
            }
        }
        if present(source, "/fieldRef") && text(source, "/fieldRef/fieldPath").is_empty() {
            errors.required(&path.field("fieldRef").field("fieldPath"), "");
        }
    }
    for (index, source) in items(container, "/envFrom").iter().enumerate() {
        let path = path.field("envFrom").index(index);
        match (
            present(source, "/configMapRef"),
            present(source, "/secretRef"),
        ) {
            (false, false) => {
                errors.invalid(
                    &path,
                    "",
                    "must specify one of: `configMapRef` or `secretRef`",
                );
            }
            (true, true) => errors.invalid(
                &path,
                "",
                "may not have more than one field specified at a time",
            ),
            _ => {}
        }
    }
}

fn validate_mounts(
    path: &Path,
    container: &Value,
    context: &Context<'_>,
    errors: &mut FieldErrors,
) {
    let mut seen = Vec::new();
    for (index, mount) in items(container, "/volumeMounts").iter().enumerate() {
        let path = path.index(index);
        let volume = text(mount, "/name");
        if volume.is_empty() {
            errors.required(&path.field("name"), "");
        } else if !context.volumes.contains(&volume) {
            let cause = crate::field::Cause::NotFound;
            errors.push(&path.field("name"), cause, volume.into(), "");
        }
        let target = text(mount, "/mountPath");
        if target.is_empty() {
            errors.required(&path.field("mountPath"), "");
        } else if seen.contains(&target) {
            errors.invalid(&path.field("mountPath"), target, "must be unique");
        }
        seen.push(target);
    }
}

fn validate_resources(path: &Path, container: &Value, errors: &mut FieldErrors) {
    let parse = |value: &Value| plain(value).parse::<Quantity>().ok();
    for list in ["limits", "requests"] {
        for (resource, value) in entries(container, &format!("/resources/{list}")) {
            check::quantity(&path.field(list).key(resource), value, errors);
        }
    }
    let limits = part(container, "/resources/limits");
    for (resource, value) in entries(container, "/resources/requests") {
        let Some(limit) = limits.get(resource) else {
            continue;
        };
        if let (Some(request), Some(most)) = (parse(value), parse(limit))
            && request > most
        {
            errors.invalid(
                &path.field("requests"),
                plain(value),
                format!(
                    "must be less than or equal to {resource} limit of {}",
                    plain(limit)
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::kinds::{pod::Pod, tests::errors};

    #[track_caller]
    fn check(container: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &Pod,
            &format!("{{spec: {{containers: [{{{container}}}]}}}}"),
        ));
    }

    #[test]
    fn it_has_a_name_and_an_image() {
        check(
            "",
            expect![[r#"
            spec.containers[0].name: Required value
            spec.containers[0].image: Required value
        "#]],
        );
    }

    #[test]
    fn ports_are_ports() {
        check(
            "name: a, image: i, ports: [{containerPort: 70000, name: x}, {name: x, protocol: Z}]",
            expect![[r#"
                spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
                spec.containers[0].ports[1].name: Duplicate value: "x"
                spec.containers[0].ports[1].containerPort: Required value
                spec.containers[0].ports[1].protocol: Unsupported value: "Z": supported values: "SCTP", "TCP", "UDP"
            "#]],
        );
    }

    #[test]
    fn a_variable_has_one_source() {
        check(
            "name: a, image: i, env: [{value: x}, {name: b, valueFrom: {}}, {name: c, value: x, \
             valueFrom: {configMapKeyRef: {name: m}}}], envFrom: [{}]",
            expect![[r#"
                spec.containers[0].env[0].name: Required value
                spec.containers[0].env[1].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`
                spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
                spec.containers[0].env[2].valueFrom.configMapKeyRef.key: Required value
                spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
            "#]],
        );
    }

    #[test]
    fn a_request_is_within_its_limit() {
        check(
            "name: a, image: i, resources: {requests: {cpu: 2, memory: 1Mi}, limits: {cpu: 500m, \
             memory: 1Gi}}",
            expect![[r#"
                spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 500m
            "#]],
        );
    }

    #[test]
    fn a_mount_names_a_volume() {
        check(
            "name: a, image: i, volumeMounts: [{name: v, mountPath: /a}]",
            expect![[r#"
                spec.containers[0].volumeMounts[0].name: Not found: "v"
            "#]],
        );
    }
}
