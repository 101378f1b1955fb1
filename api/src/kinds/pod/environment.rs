//! The environment of a container: what is wrong with its variables and where they come from.

use serde_json::Value;

use super::volume;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, present, text},
    },
    name,
};

const SOURCES: &[&str] = &[
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

/// Fields of the pod that a variable may be.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of the pod that a file may hold.
pub(super) const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks the variables of a container that stands at `path`.
pub(super) fn validate(path: &Path, container: &Value, errors: &mut FieldErrors) {
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
        if present(variable, "/valueFrom") {
            validate_source(&path.field("valueFrom"), variable, errors);
        }
    }
    for (index, source) in items(container, "/envFrom").iter().enumerate() {
        validate_from(&path.field("envFrom").index(index), source, errors);
    }
}

fn validate_source(path: &Path, variable: &Value, errors: &mut FieldErrors) {
    let source = part(variable, "/valueFrom");
    let given: Vec<_> = SOURCES
        .iter()
        .filter(|name| source.get(**name).is_some_and(|value| !value.is_null()))
        .collect();
    let problem = if given.is_empty() {
        Some(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )
    } else if !text(variable, "/value").is_empty() {
        Some("may not be specified when `value` is not empty")
    } else if given.len() > 1 {
        Some("may not have more than one field specified at a time")
    } else {
        None
    };
    if let Some(problem) = problem {
        errors.invalid(path, "", problem);
    }
    for reference in ["configMapKeyRef", "secretKeyRef"] {
        let Some(key) = source.get(reference).filter(|value| !value.is_null()) else {
            continue;
        };
        let path = path.field(reference);
        if text(key, "/name").is_empty() {
            errors.required(&path.field("name"), "");
        }
        match text(key, "/key") {
            "" => errors.required(&path.field("key"), ""),
            key => check::problems(
                &path.field("key"),
                key,
                name::file_key_problems(key),
                errors,
            ),
        }
    }
    if present(source, "/fileKeyRef") {
        validate_file_key(
            &path.field("fileKeyRef"),
            part(source, "/fileKeyRef"),
            errors,
        );
    }
    if present(source, "/fieldRef") {
        let reference = part(source, "/fieldRef");
        validate_field(&path.field("fieldRef"), reference, FIELDS, errors);
    }
    if present(source, "/resourceFieldRef") {
        let reference = part(source, "/resourceFieldRef");
        let path = path.field("resourceFieldRef");
        validate_resource(&path, reference, false, errors);
    }
}

/// A variable of a file in one of the pod's volumes.
fn validate_file_key(path: &Path, reference: &Value, errors: &mut FieldErrors) {
    if text(reference, "/volumeName").is_empty() {
        errors.required(&path.field("volumeName"), "");
    }
    match text(reference, "/path") {
        "" => errors.required(&path.field("path"), ""),
        given => volume::validate_file(&path.field("path"), given, true, errors),
    }
    match text(reference, "/key") {
        "" => errors.required(&path.field("key"), ""),
        key => check::problems(
            &path.field("key"),
            key,
            name::variable_problems(key),
            errors,
        ),
    }
}

/// A reference to a field of the pod, one of `known` or an entry of its labels or annotations.
pub(super) fn validate_field(
    path: &Path,
    reference: &Value,
    known: &[&str],
    errors: &mut FieldErrors,
) {
    if text(reference, "/apiVersion").is_empty() {
        errors.required(&path.field("apiVersion"), "");
    }
    let path = path.field("fieldPath");
    let given = text(reference, "/fieldPath");
    if given.is_empty() {
        errors.required(&path, "");
        return;
    }
    let entry = given
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"));
    match entry {
        Some((map @ ("metadata.labels" | "metadata.annotations"), key)) => {
            let key = if map == "metadata.annotations" {
                key.to_lowercase()
            } else {
                key.to_owned()
            };
            check::problems(&path, &key, name::qualified_problems(&key), errors);
        }
        Some((map, _)) => {
            let detail = format!("{map:?} does not support subscript");
            errors.invalid(&path, given, detail);
        }
        None if !known.contains(&given) => errors.not_supported(&path, given, known),
        None => {}
    }
}

/// A reference to an amount that a container asks for.
pub(super) fn validate_resource(
    path: &Path,
    reference: &Value,
    in_file: bool,
    errors: &mut FieldErrors,
) {
    if in_file && text(reference, "/containerName").is_empty() {
        errors.required(&path.field("containerName"), "");
    }
    let given = text(reference, "/resource");
    let path = path.field("resource");
    let huge = ["limits.hugepages-", "requests.hugepages-"]
        .iter()
        .any(|prefix| given.starts_with(prefix));
    if given.is_empty() {
        errors.required(&path, "");
    } else if !RESOURCES.contains(&given) && !huge {
        errors.not_supported(&path, given, RESOURCES);
    }
}

fn validate_from(path: &Path, source: &Value, errors: &mut FieldErrors) {
    let prefix = text(source, "/prefix");
    if !prefix.is_empty() {
        check::problems(
            &path.field("prefix"),
            prefix,
            name::variable_problems(prefix),
            errors,
        );
    }
    let mut given = 0;
    for reference in ["configMapRef", "secretRef"] {
        let Some(named) = source.get(reference).filter(|value| !value.is_null()) else {
            continue;
        };
        given += 1;
        if text(named, "/name").is_empty() {
            errors.required(&path.field(reference).field("name"), "");
        }
    }
    match given {
        0 => errors.invalid(
            path,
            "",
            "must specify one of: `configMapRef` or `secretRef`",
        ),
        1 => {}
        _ => errors.invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        ),
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
            &format!("{{spec: {{containers: [{{name: a, image: i, {container}}}]}}}}"),
        ));
    }

    #[test]
    fn a_variable_has_one_source() {
        check(
            "env: [{value: x}, {name: b, valueFrom: {}}, {name: c, value: x, valueFrom: \
             {configMapKeyRef: {name: m}}}], envFrom: [{}, {prefix: 1=, secretRef: {}}]",
            expect![[r#"
                spec.containers[0].env[0].name: Required value
                spec.containers[0].env[1].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
                spec.containers[0].env[2].valueFrom: Invalid value: "": may not be specified when `value` is not empty
                spec.containers[0].env[2].valueFrom.configMapKeyRef.key: Required value
                spec.containers[0].envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
                spec.containers[0].envFrom[1].prefix: Invalid value: "1=": a valid environment variable name must consist only of printable ASCII characters other than '='
                spec.containers[0].envFrom[1].secretRef.name: Required value
            "#]],
        );
    }

    #[test]
    fn a_file_of_a_volume_is_named_wholly_and_stays_in_it() {
        check(
            "env: [{name: a, valueFrom: {fileKeyRef: {}}}, {name: b, valueFrom: {fileKeyRef: {volumeName: v, path: \
             ../x, key: \"A=\"}}}, {name: c, valueFrom: {fileKeyRef: {volumeName: v, path: x/y, key: A}}}]",
            expect![[r#"
                spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Required value
                spec.containers[0].env[0].valueFrom.fileKeyRef.path: Required value
                spec.containers[0].env[0].valueFrom.fileKeyRef.key: Required value
                spec.containers[0].env[1].valueFrom.fileKeyRef.path: Invalid value: "../x": must not contain '..'
                spec.containers[0].env[1].valueFrom.fileKeyRef.key: Invalid value: "A=": a valid environment variable name must consist only of printable ASCII characters other than '='
            "#]],
        );
    }

    #[test]
    fn a_reference_is_to_something_that_a_pod_has() {
        check(
            "env: [{name: b, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}, {name: c, \
             valueFrom: {fieldRef: {fieldPath: spec.hostname}}}, {name: d, valueFrom: {resourceFieldRef: \
             {resource: limits.gpu}}}]",
            expect![[r#"
                spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.hostname": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
                spec.containers[0].env[2].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
            "#]],
        );
    }
}
