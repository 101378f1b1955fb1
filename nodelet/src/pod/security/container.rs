//! What a container's processes are given and held to: a pod's securityContext and a container's, merged as the
//! kubelet merges them. Pure.
//!
//! What would be asked for and not applied (AppArmor, user namespaces, devices of claims) is refused: the container is
//! not made. `docs/security.md` has the table, field by field.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use runtimes::{Seccomp, Security};

use super::sysctl;

/// The security of one container of the pod. `seccomp_dir` holds the node's own profiles.
///
/// # Errors
/// What cannot be given, or held to, in the kubelet's words where it has some.
pub(crate) fn security(
    pod: &Pod,
    container: &Container,
    seccomp_dir: &Path,
) -> Result<Security, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    refuse(&spec, &of_pod, container, &own)?;
    let user = id(own.run_as_user.or(of_pod.run_as_user), "runAsUser")?;
    let non_root = own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    if non_root && user == Some(0) {
        return Err(format!(
            "container's runAsUser breaks non-root policy (pod: \"{}\", container: {})",
            shown(pod),
            container.name
        ));
    }
    let privileged = own.privileged == Some(true);
    let profile = own.seccomp_profile.or(of_pod.seccomp_profile.clone());
    let capabilities = own.capabilities.unwrap_or_default();
    let sysctls = of_pod.sysctls.iter().flatten();
    Ok(Security {
        user,
        group: id(own.run_as_group.or(of_pod.run_as_group), "runAsGroup")?,
        groups: groups(&of_pod)?,
        only_these_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        non_root,
        privileged,
        added_capabilities: names(capabilities.add),
        dropped_capabilities: names(capabilities.drop),
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        // What may do everything is not kept from making a call.
        seccomp: match profile {
            Some(profile) if !privileged => seccomp(&profile, seccomp_dir)?,
            _ => Seccomp::Unconfined,
        },
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
        sysctls: sysctls
            .map(|sysctl| (sysctl::dotted(&sysctl.name), sysctl.value.clone()))
            .collect(),
    })
}

/// `<name>_<namespace>(<uid>)`, as the kubelet names a pod in messages.
pub(crate) fn shown(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (name, namespace) = (text(&metadata.name), text(&metadata.namespace));
    format!("{name}_{namespace}({})", text(&metadata.uid))
}

fn refuse(
    spec: &PodSpec,
    of_pod: &PodSecurityContext,
    container: &Container,
    own: &SecurityContext,
) -> Result<(), String> {
    if spec.host_users == Some(false) {
        return Err(
            "hostUsers: false is not supported: containers of this node have no user namespaces"
                .to_owned(),
        );
    }
    if own.proc_mount.as_deref() == Some("Unmasked") && own.privileged != Some(true) {
        return Err(
            "securityContext.procMount: hostUsers must be false to use `Unmasked`, and containers of this node have no user namespaces"
                .to_owned(),
        );
    }
    let apparmor = own.app_armor_profile.as_ref();
    let apparmor = apparmor.or(of_pod.app_armor_profile.as_ref());
    if apparmor.is_some_and(|profile| profile.type_ != "Unconfined") {
        return Err(
            "Cannot enforce AppArmor: this node applies no AppArmor profiles; leave securityContext.appArmorProfile out"
                .to_owned(),
        );
    }
    let claims = spec.resource_claims.as_ref();
    if claims.is_some_and(|claims| !claims.is_empty()) {
        return Err(
            "resourceClaims is not supported: devices are not allocated on this node".to_owned(),
        );
    }
    let resources = container.resources.as_ref();
    let claims = resources.and_then(|resources| resources.claims.as_ref());
    if claims.is_some_and(|claims| !claims.is_empty()) {
        return Err(
            "resources.claims is not supported: devices are not allocated on this node".to_owned(),
        );
    }
    Ok(())
}

fn groups(of_pod: &PodSecurityContext) -> Result<Vec<u32>, String> {
    let mut groups = Vec::new();
    let fs_group = id(of_pod.fs_group, "fsGroup")?;
    for group in of_pod.supplemental_groups.iter().flatten() {
        groups.extend(id(Some(*group), "supplementalGroups")?);
    }
    groups.extend(fs_group);
    Ok(groups)
}

/// A user or group; the API lets no other numbers pass, but a static pod's manifest may have them.
fn id(number: Option<i64>, field: &str) -> Result<Option<u32>, String> {
    let Some(number) = number else {
        return Ok(None);
    };
    match i32::try_from(number)
        .ok()
        .and_then(|number| u32::try_from(number).ok())
    {
        Some(id) => Ok(Some(id)),
        None => Err(format!(
            "securityContext.{field}: Invalid value: {number}: must be between 0 and 2147483647, inclusive"
        )),
    }
}

/// Names of capabilities without `CAP_`, as the contract has them.
fn names(list: Option<Vec<String>>) -> Vec<String> {
    let names = list.into_iter().flatten().map(|name| {
        let name = name.to_uppercase();
        name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
    });
    names.collect()
}

fn seccomp(profile: &SeccompProfile, directory: &Path) -> Result<Seccomp, String> {
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Localhost" => {
            let path = profile.localhost_profile.as_deref().unwrap_or_default();
            Ok(Seccomp::Localhost(localhost(path, directory)?))
        }
        _ => Ok(Seccomp::Unconfined),
    }
}

/// A profile's file: below the directory and nowhere else.
fn localhost(path: &str, directory: &Path) -> Result<PathBuf, String> {
    let mut parts = Path::new(path).components();
    let below = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if path.is_empty() || !below {
        return Err(format!(
            "securityContext.seccompProfile.localhostProfile: Invalid value: {path:?}: must be a path below {}, without '..'",
            directory.display()
        ));
    }
    Ok(directory.join(path))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// What the fields come to; what is as in a container that asks for nothing is left out.
    #[track_caller]
    fn check(spec: Value, context: Value, want: Expect) {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "securityContext": context}]);
        let metadata = json!({"name": "web", "namespace": "ns", "uid": "u1"});
        let pod = json!({"metadata": metadata, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let got = match security(&pod, container, Path::new("/data/seccomp")) {
            Err(message) => message,
            Ok(security) => {
                let plain = format!("{:#?}", Security::default());
                let plain: Vec<_> = plain.lines().collect();
                let all = format!("{security:#?}");
                let changed = all.lines().filter(|line| !plain.contains(line));
                let changed: Vec<_> = changed.map(str::trim).collect();
                changed.join(" ")
            }
        };
        want.assert_eq(&got);
    }

    #[test]
    fn a_containers_own_fields_come_before_the_pods() {
        let pod = json!({"securityContext": {
            "runAsUser": 1000, "runAsGroup": 2000, "runAsNonRoot": true, "fsGroup": 3000,
            "supplementalGroups": [4000], "supplementalGroupsPolicy": "Strict",
            "seccompProfile": {"type": "RuntimeDefault"},
            "sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "0"}],
        }});
        check(
            pod.clone(),
            json!({}),
            expect![[
                r#"user: Some( 1000, ), group: Some( 2000, ), groups: [ 4000, 3000, ], only_these_groups: true, non_root: true, seccomp: RuntimeDefault, sysctls: [ ( "net.ipv4.tcp_syncookies", "0", ), ],"#
            ]],
        );
        let own = json!({"runAsUser": 0, "runAsNonRoot": false, "seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}});
        check(
            pod,
            own,
            expect![[
                r#"user: Some( 0, ), group: Some( 2000, ), groups: [ 4000, 3000, ], only_these_groups: true, seccomp: Localhost( "/data/seccomp/a/b.json", ), sysctls: [ ( "net.ipv4.tcp_syncookies", "0", ), ],"#
            ]],
        );
    }

    #[test]
    fn rights_are_given_and_taken_as_asked() {
        let own = json!({
            "privileged": true, "capabilities": {"add": ["CAP_SYS_ADMIN", "net_raw"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": true, "procMount": "Unmasked", "seccompProfile": {"type": "RuntimeDefault"},
        });
        check(
            json!({}),
            own,
            expect![[
                r#"privileged: true, added_capabilities: [ "SYS_ADMIN", "NET_RAW", ], dropped_capabilities: [ "ALL", ], read_only_root: true, unmasked_proc: true,"#
            ]],
        );
        check(
            json!({}),
            json!({"allowPrivilegeEscalation": false}),
            expect!["no_new_privileges: true,"],
        );
    }

    #[test]
    fn what_would_not_be_so_is_refused() {
        check(
            json!({}),
            json!({"runAsUser": 0, "runAsNonRoot": true}),
            expect![[
                r#"container's runAsUser breaks non-root policy (pod: "web_ns(u1)", container: c)"#
            ]],
        );
        for path in ["", "/etc/x", "../x", "a/../../x"] {
            let profile = json!({"type": "Localhost", "localhostProfile": path});
            let pod = json!({"securityContext": {"seccompProfile": profile}});
            let want = format!(
                "securityContext.seccompProfile.localhostProfile: Invalid value: {path:?}: must be a path below /data/seccomp, without '..'"
            );
            let pod: Pod = serde_json::from_value(
                json!({"spec": {"containers": [], "securityContext": pod["securityContext"]}}),
            )
            .expect("a pod");
            let got = security(&pod, &Container::default(), Path::new("/data/seccomp"));
            assert_eq!(got, Err(want));
        }
        check(
            json!({"hostUsers": false}),
            json!({}),
            expect![
                "hostUsers: false is not supported: containers of this node have no user namespaces"
            ],
        );
        check(
            json!({}),
            json!({"appArmorProfile": {"type": "RuntimeDefault"}}),
            expect![
                "Cannot enforce AppArmor: this node applies no AppArmor profiles; leave securityContext.appArmorProfile out"
            ],
        );
        check(
            json!({"securityContext": {"fsGroup": -1}}),
            json!({}),
            expect![
                "securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive"
            ],
        );
    }
}
