//! Security contexts of pods and containers: what is wrong with them.

use serde_json::Value;

use crate::{
    field::{FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, text, truth},
    },
};

/// Checks the context of a whole pod.
pub(super) fn validate_pod(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let context = part(spec, "/securityContext");
    let path = path.field("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        validate_id(
            &path.field(field),
            context.get(field).unwrap_or(&Value::Null),
            errors,
        );
    }
    for (index, group) in items(context, "/supplementalGroups").iter().enumerate() {
        validate_id(
            &path.field("supplementalGroups").index(index),
            group,
            errors,
        );
    }
    for (field, supported) in [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"][..]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ] {
        let given = context.get(field).unwrap_or(&Value::Null);
        check::one_of(&path.field(field), given, supported, errors);
    }
    if truth(spec, "/shareProcessNamespace") && truth(spec, "/hostPID") {
        errors.invalid(
            &path.field("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    let mut seen = check::Seen::new();
    for (index, setting) in items(context, "/sysctls").iter().enumerate() {
        let path = path.field("sysctls").index(index).field("name");
        match text(setting, "/name") {
            "" => errors.required(&path, ""),
            given => {
                if !is_sysctl(given) {
                    errors.invalid(
                        &path,
                        given,
                        "must have at most 253 characters and match regex \
                         ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                    );
                }
                check::unique(&path, given, &mut seen, errors);
            }
        }
    }
    validate_profiles(&path, context, errors);
}

/// Checks the context of one container.
pub(super) fn validate_container(path: &Path, container: &Value, errors: &mut FieldErrors) {
    let context = part(container, "/securityContext");
    let path = path.field("securityContext");
    for field in ["runAsUser", "runAsGroup"] {
        validate_id(
            &path.field(field),
            context.get(field).unwrap_or(&Value::Null),
            errors,
        );
    }
    check::one_of(
        &path.field("procMount"),
        part(context, "/procMount"),
        &["Default", "Unmasked"],
        errors,
    );
    if part(context, "/allowPrivilegeEscalation") == &Value::Bool(false) {
        if truth(context, "/privileged") {
            errors.invalid(
                &path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = items(context, "/capabilities/add");
        if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            errors.invalid(
                &path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    validate_profiles(&path, context, errors);
}

/// The profiles that restrict system calls and files.
fn validate_profiles(path: &Path, context: &Value, errors: &mut FieldErrors) {
    for (field, kind) in [
        ("seccompProfile", "seccomp"),
        ("appArmorProfile", "AppArmor"),
    ] {
        let profile = context.get(field).unwrap_or(&Value::Null);
        if profile.is_null() {
            continue;
        }
        let path = path.field(field);
        let local = text(profile, "/localhostProfile");
        let local_path = path.field("localhostProfile");
        match text(profile, "/type") {
            "Localhost" => {
                if local.is_empty() {
                    let detail = format!("must be set when {kind} type is Localhost");
                    errors.required(&local_path, detail);
                }
                super::volume::validate_file(&local_path, local, false, errors);
            }
            "RuntimeDefault" | "Unconfined" => {
                if !local.is_empty() {
                    let detail = format!("can only be set when {kind} type is Localhost");
                    errors.invalid(&local_path, local, detail);
                }
            }
            "" => errors.required(&path.field("type"), "type is required when profile is set"),
            other => errors.not_supported(
                &path.field("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            ),
        }
    }
}

/// The number of a user or a group.
fn validate_id(path: &Path, id: &Value, errors: &mut FieldErrors) {
    if id
        .as_i64()
        .is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id))
    {
        errors.invalid(
            path,
            id.clone(),
            "must be between 0 and 2147483647, inclusive",
        );
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_segment = |segment: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        segment
            .bytes()
            .all(|b| allowed(b) || b == b'-' || b == b'_')
            && segment.bytes().next().is_some_and(allowed)
            && segment.bytes().last().is_some_and(allowed)
    };
    name.len() <= 253 && name.split(['.', '/']).all(is_segment)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::kinds::{pod::Pod, tests::errors};

    #[test]
    fn a_context_does_not_contradict_itself() {
        expect![[r#"
            spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true,"runAsUser":-1,"seccompProfile":{"localhostProfile":"a","type":"Unconfined"}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
            spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: "a": can only be set when seccomp type is Localhost
            spec.securityContext.fsGroupChangePolicy: Unsupported value: "x": supported values: "Always", "OnRootMismatch"
            spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
            spec.securityContext.sysctls[0].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
            spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost
        "#]]
        .assert_eq(&errors(
            &Pod,
            "{spec: {hostPID: true, shareProcessNamespace: true, securityContext: {fsGroupChangePolicy: x, \
             sysctls: [{name: A}], appArmorProfile: {type: Localhost}}, containers: [{name: a, image: i, \
             securityContext: {runAsUser: -1, privileged: true, allowPrivilegeEscalation: false, \
             seccompProfile: {type: Unconfined, localhostProfile: a}}}]}}",
        ));
    }
}
