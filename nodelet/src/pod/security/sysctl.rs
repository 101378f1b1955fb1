//! Which kernel parameters a pod may set: those that touch nobody but the pod. The kubelet's list and words. Pure.

use k8s_openapi::api::core::v1::PodSpec;

/// Which namespace of the pod keeps a parameter off others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Namespace {
    Ipc,
    Net,
}

/// Parameters that every pod may set.
const SAFE: [(&str, Namespace); 12] = [
    ("kernel.shm_rmid_forced", Namespace::Ipc),
    ("net.ipv4.ip_local_port_range", Namespace::Net),
    ("net.ipv4.ip_local_reserved_ports", Namespace::Net),
    ("net.ipv4.ip_unprivileged_port_start", Namespace::Net),
    ("net.ipv4.ping_group_range", Namespace::Net),
    ("net.ipv4.tcp_fin_timeout", Namespace::Net),
    ("net.ipv4.tcp_keepalive_intvl", Namespace::Net),
    ("net.ipv4.tcp_keepalive_probes", Namespace::Net),
    ("net.ipv4.tcp_keepalive_time", Namespace::Net),
    ("net.ipv4.tcp_rmem", Namespace::Net),
    ("net.ipv4.tcp_syncookies", Namespace::Net),
    ("net.ipv4.tcp_wmem", Namespace::Net),
];

/// Why a pod may not have the parameters that it asks for; `allowed` are names, or beginnings of names with a `*`,
/// that the node's owner lets pods set beyond the safe ones.
pub(crate) fn refusal(spec: &PodSpec, allowed: &[String]) -> Option<String> {
    let context = spec.security_context.as_ref()?;
    let asked = context.sysctls.iter().flatten();
    let mut refused = asked.filter_map(|sysctl| {
        let why = why_not(spec, &dotted(&sysctl.name), allowed)?;
        Some(format!("forbidden sysctl: {:?} {why}", sysctl.name))
    });
    refused.next()
}

fn why_not(spec: &PodSpec, name: &str, allowed: &[String]) -> Option<&'static str> {
    let safe = SAFE.iter().find(|(safe, _)| *safe == name);
    let namespace = match safe {
        Some((_, namespace)) => Some(*namespace),
        None if allowed.iter().any(|pattern| covers(pattern, name)) => namespace_of(name),
        None => return Some("not allowlisted"),
    };
    match namespace {
        Some(Namespace::Ipc) if spec.host_ipc == Some(true) => {
            Some("not allowed with host ipc enabled")
        }
        Some(Namespace::Net) if spec.host_network == Some(true) => {
            Some("not allowed with host net enabled")
        }
        Some(_) => None,
        // It would be the whole host's.
        None => Some("not allowlisted"),
    }
}

fn namespace_of(name: &str) -> Option<Namespace> {
    let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    if name.starts_with("net.") {
        Some(Namespace::Net)
    } else if ipc.iter().any(|start| name.starts_with(start)) {
        Some(Namespace::Ipc)
    } else {
        None
    }
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// A name with dots between its parts: `net/ipv4/x` is `net.ipv4.x`, and a dot in a part is a slash.
pub(crate) fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => {
            let swapped = name.chars().map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            });
            swapped.collect()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(mut spec: Value, name: &str, want: Option<&str>) {
        spec["containers"] = json!([]);
        spec["securityContext"] = json!({"sysctls": [{"name": name, "value": "1"}]});
        let spec = serde_json::from_value(spec).expect("a spec");
        let allowed = ["net.core.somaxconn", "kernel.msg*", "vm.*"].map(str::to_owned);
        assert_eq!(refusal(&spec, &allowed).as_deref(), want);
    }

    #[test]
    fn safe_ones_and_those_that_the_owner_allows_are_set() {
        check(json!({}), "net.ipv4.tcp_syncookies", None);
        check(json!({}), "net/ipv4/tcp_syncookies", None);
        check(json!({}), "kernel.shm_rmid_forced", None);
        check(json!({}), "net.core.somaxconn", None);
        check(json!({}), "kernel.msgmax", None);
    }

    #[test]
    fn others_and_the_hosts_own_are_not() {
        let forbidden = "forbidden sysctl: \"kernel.panic\" not allowlisted";
        check(json!({}), "kernel.panic", Some(forbidden));
        let host = "forbidden sysctl: \"vm.swappiness\" not allowlisted";
        check(json!({}), "vm.swappiness", Some(host));
        check(
            json!({"hostNetwork": true}),
            "net.core.somaxconn",
            Some("forbidden sysctl: \"net.core.somaxconn\" not allowed with host net enabled"),
        );
        check(
            json!({"hostIPC": true}),
            "kernel.shm_rmid_forced",
            Some("forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled"),
        );
    }
}
