//! What is wrong with one container.

use std::collections::HashSet;

use serde_json::Value;

use super::{environment, handler, resources, security, volume};
use crate::{
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{items, number, part, plain, text},
    },
    name,
};

/// What a container may refer to.
pub(super) struct Context<'a> {
    /// Names of the pod's volumes.
    pub(super) volumes: HashSet<&'a str>,
    /// Names of what the pod claims.
    pub(super) claims: HashSet<&'a str>,
    pub(super) host_network: bool,
    /// How long the pod may take to stop, in seconds.
    pub(super) grace: i64,
}

impl<'a> Context<'a> {
    /// Of a pod's spec, with the names of its volumes.
    pub(super) fn of(spec: &'a Value, volumes: HashSet<&'a str>) -> Self {
        let claims = items(spec, "/resourceClaims").iter();
        Self {
            volumes,
            claims: claims.map(|claim| text(claim, "/name")).collect(),
            host_network: part(spec, "/hostNetwork") == &Value::Bool(true),
            grace: number(spec, "/terminationGracePeriodSeconds").unwrap_or(0),
        }
    }
}

/// Checks a container that stands at `path`.
pub(super) fn validate(
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
    environment::validate(path, container, errors);
    validate_mounts(path, container, context, errors);
    handler::validate(path, container, context.grace, errors);
    security::validate_container(path, container, errors);
    check::one_of(
        &path.field("restartPolicy"),
        part(container, "/restartPolicy"),
        &["Always", "Never", "OnFailure"],
        errors,
    );
    resources::validate(
        &path.field("resources"),
        part(container, "/resources"),
        &context.claims,
        errors,
    );
    validate_resizes(&path.field("resizePolicy"), container, errors);
}

fn validate_ports(path: &Path, container: &Value, context: &Context<'_>, errors: &mut FieldErrors) {
    let mut names = check::Seen::new();
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

fn validate_mounts(
    path: &Path,
    container: &Value,
    context: &Context<'_>,
    errors: &mut FieldErrors,
) {
    let known = |path: &Path, volume: &str, errors: &mut FieldErrors| {
        if volume.is_empty() {
            errors.required(path, "");
        } else if !context.volumes.contains(volume) {
            errors.push(path, Cause::NotFound, volume.into(), "");
        }
    };
    let mut seen = HashSet::new();
    for (index, mount) in items(container, "/volumeMounts").iter().enumerate() {
        let path = path.field("volumeMounts").index(index);
        known(&path.field("name"), text(mount, "/name"), errors);
        let target = text(mount, "/mountPath");
        if target.is_empty() {
            errors.required(&path.field("mountPath"), "");
        } else if !seen.insert(target) {
            errors.invalid(&path.field("mountPath"), target, "must be unique");
        }
        for field in ["subPath", "subPathExpr"] {
            let below = mount[field].as_str().unwrap_or_default();
            volume::validate_file(&path.field(field), below, false, errors);
        }
        if !text(mount, "/subPath").is_empty() && !text(mount, "/subPathExpr").is_empty() {
            errors.invalid(
                &path.field("subPathExpr"),
                text(mount, "/subPathExpr"),
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        check::one_of(
            &path.field("mountPropagation"),
            part(mount, "/mountPropagation"),
            &["Bidirectional", "HostToContainer", "None"],
            errors,
        );
        check::one_of(
            &path.field("recursiveReadOnly"),
            part(mount, "/recursiveReadOnly"),
            &["Disabled", "Enabled", "IfPossible"],
            errors,
        );
    }
    for (index, device) in items(container, "/volumeDevices").iter().enumerate() {
        let path = path.field("volumeDevices").index(index);
        known(&path.field("name"), text(device, "/name"), errors);
        let path = path.field("devicePath");
        match text(device, "/devicePath") {
            "" => errors.required(&path, ""),
            target if seen.insert(target) => {}
            target => errors.invalid(&path, target, "must be unique"),
        }
    }
}

fn validate_resizes(path: &Path, container: &Value, errors: &mut FieldErrors) {
    let mut seen = check::Seen::new();
    for (index, policy) in items(container, "/resizePolicy").iter().enumerate() {
        let path = path.index(index);
        let resource = text(policy, "/resourceName");
        check::unique(&path, resource, &mut seen, errors);
        for (field, given, supported) in [
            ("resourceName", resource, &["cpu", "memory"][..]),
            (
                "restartPolicy",
                text(policy, "/restartPolicy"),
                &["NotRequired", "RestartContainer"],
            ),
        ] {
            if given.is_empty() {
                errors.required(&path.field(field), "");
            } else if !supported.contains(&given) {
                errors.not_supported(&path.field(field), given, supported);
            }
        }
    }
}

/// A container that ends before the others start is not watched while it runs.
pub(super) fn validate_init(path: &Path, container: &Value, errors: &mut FieldErrors) {
    if text(container, "/restartPolicy") == "Always" {
        return;
    }
    for field in [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        if container.get(field).is_some_and(|own| !own.is_null()) {
            errors.forbidden(
                &path.field(field),
                "may not be set for init containers without restartPolicy=Always",
            );
        }
    }
}

/// Two containers cannot listen on one port of their node.
pub(super) fn validate_host_ports(
    path: &Path,
    containers: &[Value],
    seen: &mut check::Seen,
    errors: &mut FieldErrors,
) {
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in items(container, "/ports").iter().enumerate() {
            let number = number(port, "/hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let own = format!(
                "{}/{}/{number}",
                plain(part(port, "/protocol")),
                text(port, "/hostIP")
            );
            let path = path.index(index).field("ports").index(port_index);
            check::unique(&path.field("hostPort"), &own, seen, errors);
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
    fn a_mount_names_a_volume() {
        check(
            "name: a, image: i, volumeMounts: [{name: v, mountPath: /a, subPath: ../b}], volumeDevices: \
             [{name: v, devicePath: /a}]",
            expect![[r#"
                spec.containers[0].volumeMounts[0].name: Not found: "v"
                spec.containers[0].volumeMounts[0].subPath: Invalid value: "../b": must not contain '..'
                spec.containers[0].volumeDevices[0].name: Not found: "v"
                spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/a": must be unique
            "#]],
        );
    }

    #[test]
    fn a_resize_policy_is_of_cpu_or_memory() {
        check(
            "name: a, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, \
             {resourceName: cpu, restartPolicy: x}, {resourceName: disk}]",
            expect![[r#"
                spec.containers[0].resizePolicy[1]: Duplicate value: "cpu"
                spec.containers[0].resizePolicy[1].restartPolicy: Unsupported value: "x": supported values: "NotRequired", "RestartContainer"
                spec.containers[0].resizePolicy[2].resourceName: Unsupported value: "disk": supported values: "cpu", "memory"
                spec.containers[0].resizePolicy[2].restartPolicy: Required value
            "#]],
        );
    }
}
