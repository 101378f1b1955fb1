//! What a component cannot be given, or held to, of what its pod's spec asks. Pure.
//!
//! A component shares this process: it has no user, no system calls, no devices and no file system but
//! its volumes. So most of a securityContext is true of it whatever it says; what asks for more than a
//! component can have, or for a confinement that would not be applied, is refused before the container
//! is made. `docs/security.md` has the table, field by field.

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod, PodSpec, SecurityContext};

/// Capabilities that a component has as far as they mean anything to it.
const GRANTED: [&str; 1] = ["NET_BIND_SERVICE"];

/// Sysctls that are so already.
const HARMLESS_SYSCTLS: [&str; 1] = ["net.ipv4.ip_unprivileged_port_start"];

/// Why a component cannot run as this container of the pod; `own_uid` is this process' user.
pub(crate) fn refusal(pod: &Pod, container: &Container, own_uid: u32) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let context = container.security_context.clone().unwrap_or_default();
    of_pod(spec)
        .or_else(|| of_context(spec, &context))
        .or_else(|| of_user(spec, container, &context, own_uid))
        .or_else(|| {
            let claims = container
                .resources
                .as_ref()
                .and_then(|resources| resources.claims.as_ref());
            claims.is_some_and(|claims| !claims.is_empty()).then(|| {
                "resources.claims is not supported: a WebAssembly component has no devices"
                    .to_owned()
            })
        })
}

fn of_pod(spec: &PodSpec) -> Option<String> {
    let refused = |text: &str| Some(text.to_owned());
    if spec.host_network == Some(true) {
        return refused(
            "hostNetwork is not supported: a WebAssembly component has its pod's own address",
        );
    }
    if spec.host_pid == Some(true) {
        return refused("hostPID is not supported: a WebAssembly component is no process");
    }
    if spec.host_ipc == Some(true) {
        return refused(
            "hostIPC is not supported: a WebAssembly component has no interprocess communication",
        );
    }
    if let Some(os) = &spec.os
        && os.name != "linux"
    {
        return refused("Failed to admit pod as the OS field doesn't match node OS");
    }
    if spec
        .resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
    {
        return refused("resourceClaims is not supported: a WebAssembly component has no devices");
    }
    let dns = spec.dns_config.as_ref();
    let servers = dns.and_then(|dns| dns.nameservers.as_ref());
    if servers.is_some_and(|servers| !servers.is_empty()) {
        return refused(
            "dnsConfig.nameservers is not supported: names of a WebAssembly component are looked up by its node",
        );
    }
    let sysctls = spec
        .security_context
        .iter()
        .flat_map(|context| context.sysctls.iter().flatten());
    let mut forbidden = sysctls.filter(|sysctl| !HARMLESS_SYSCTLS.contains(&sysctl.name.as_str()));
    forbidden.next().map(|sysctl| {
        format!(
            "forbidden sysctl: {:?}: WebAssembly components share their node's network namespace",
            sysctl.name
        )
    })
}

fn of_context(spec: &PodSpec, context: &SecurityContext) -> Option<String> {
    if context.privileged == Some(true) {
        return Some(
            "securityContext.privileged is not supported: a WebAssembly component cannot be given the host"
                .to_owned(),
        );
    }
    let Capabilities { add, .. } = context.capabilities.clone().unwrap_or_default();
    let mut added = add.into_iter().flatten();
    let ungranted = added.find(|name| {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        !GRANTED.contains(&name)
    });
    if let Some(name) = ungranted {
        return Some(format!(
            "securityContext.capabilities.add: {name:?} cannot be given to a WebAssembly component, which makes no system calls"
        ));
    }
    if context
        .proc_mount
        .as_deref()
        .is_some_and(|mount| mount != "Default")
    {
        return Some(
            "securityContext.procMount is not supported: a WebAssembly component has no /proc"
                .to_owned(),
        );
    }
    let of_pod = spec.security_context.as_ref();
    let seccomp = context.seccomp_profile.as_ref();
    let seccomp = seccomp.or_else(|| of_pod?.seccomp_profile.as_ref());
    let apparmor = context.app_armor_profile.as_ref();
    let apparmor = apparmor.or_else(|| of_pod?.app_armor_profile.as_ref());
    for (field, kind) in [
        ("seccompProfile", seccomp.map(|profile| &profile.type_)),
        ("appArmorProfile", apparmor.map(|profile| &profile.type_)),
    ] {
        if kind.is_some_and(|kind| kind == "Localhost") {
            return Some(format!(
                "securityContext.{field}: a profile of the node cannot be applied to a WebAssembly component, which shares its node's process"
            ));
        }
    }
    None
}

/// A component has no user, but files of the host are opened with this process' rights: so it may be of
/// another user only if it sees none.
fn of_user(
    spec: &PodSpec,
    container: &Container,
    context: &SecurityContext,
    own_uid: u32,
) -> Option<String> {
    let of_pod = spec.security_context.as_ref();
    let user = context.run_as_user.or_else(|| of_pod?.run_as_user);
    let non_root = context.run_as_non_root.or_else(|| of_pod?.run_as_non_root) == Some(true);
    if non_root && user == Some(0) {
        return Some(format!(
            "container's runAsUser breaks non-root policy (container: {})",
            container.name
        ));
    }
    let other = user.map_or(non_root && own_uid == 0, |user| user != i64::from(own_uid));
    let host_volumes = spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| volume.host_path.is_some());
    let mut mounted = host_volumes.filter(|volume| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| mount.name == volume.name)
    });
    let volume = mounted.next().filter(|_| other)?;
    Some(format!(
        "volume {:?} is a hostPath, which a WebAssembly component opens with the rights of its node: it cannot be held to runAsUser or runAsNonRoot",
        volume.name
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The refusal starts with `want`; an empty one is none.
    #[track_caller]
    fn check(pod: Value, container: Value, want: &str) {
        let (mut spec, mut container) = (pod, container);
        container["name"] = json!("main");
        spec["containers"] = json!([container]);
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let got = refusal(&pod, container, 0).unwrap_or_default();
        assert!(
            got.starts_with(want) && got.is_empty() == want.is_empty(),
            "{got}"
        );
    }

    fn context(context: Value) -> Value {
        json!({"securityContext": context})
    }

    #[test]
    fn what_a_component_is_anyway_is_let_pass() {
        let restricted = context(json!({
            "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            "seccompProfile": {"type": "RuntimeDefault"}, "procMount": "Default", "privileged": false,
        }));
        let pod = json!({
            "hostUsers": false, "shareProcessNamespace": true, "os": {"name": "linux"},
            "securityContext": {"fsGroup": 1, "supplementalGroups": [2], "seLinuxOptions": {"level": "s0"},
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
        });
        check(pod, restricted, "");
    }

    #[test]
    fn what_asks_for_more_is_refused() {
        check(
            json!({}),
            context(json!({"privileged": true})),
            "securityContext.privileged",
        );
        let added = json!({"capabilities": {"add": ["CAP_SYS_ADMIN"]}});
        check(
            json!({}),
            context(added),
            "securityContext.capabilities.add: \"CAP_SYS_ADMIN\"",
        );
        check(
            json!({}),
            context(json!({"procMount": "Unmasked"})),
            "securityContext.procMount",
        );
        check(json!({"hostNetwork": true}), json!({}), "hostNetwork");
        check(json!({"hostPID": true}), json!({}), "hostPID");
        check(json!({"hostIPC": true}), json!({}), "hostIPC");
        check(
            json!({"os": {"name": "windows"}}),
            json!({}),
            "Failed to admit pod as the OS",
        );
        let claims = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}]});
        check(claims, json!({}), "resourceClaims");
        check(
            json!({}),
            json!({"resources": {"claims": [{"name": "gpu"}]}}),
            "resources.claims",
        );
    }

    #[test]
    fn what_would_not_be_applied_is_refused() {
        let profile = json!({"type": "Localhost", "localhostProfile": "strict.json"});
        check(
            json!({}),
            context(json!({"seccompProfile": profile})),
            "securityContext.seccompProfile",
        );
        check(
            context(json!({"appArmorProfile": profile})),
            json!({}),
            "securityContext.appArmorProfile",
        );
        let sysctl = json!({"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]});
        check(
            context(sysctl),
            json!({}),
            "forbidden sysctl: \"kernel.shm_rmid_forced\"",
        );
        let servers = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}});
        check(servers, json!({}), "dnsConfig.nameservers");
    }

    #[test]
    fn the_hosts_files_are_not_opened_in_anothers_name() {
        let pod = json!({"volumes": [{"name": "host", "hostPath": {"path": "/srv"}}]});
        let mounts = json!([{"name": "host", "mountPath": "/srv"}]);
        let user = |user: Value| json!({"securityContext": user, "volumeMounts": mounts});
        check(
            pod.clone(),
            user(json!({"runAsUser": 1000})),
            "volume \"host\" is a hostPath",
        );
        check(
            pod.clone(),
            user(json!({"runAsNonRoot": true})),
            "volume \"host\" is a hostPath",
        );
        check(pod.clone(), user(json!({"runAsUser": 0})), "");
        check(pod, context(json!({"runAsUser": 1000})), "");
        let contradiction = json!({"runAsUser": 0, "runAsNonRoot": true});
        check(
            json!({}),
            context(contradiction),
            "container's runAsUser breaks non-root policy",
        );
    }
}
