//! What a pod is called, and how its containers look names up. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use runtimes::Resolver;

/// The longest hostname that a kernel takes.
const MAX_HOSTNAME: usize = 64;

/// The pod's hostname: its FQDN where it asks for that; `domain` is the cluster's.
///
/// # Errors
/// An FQDN that is too long for a hostname, in kubelet's words.
pub(crate) fn hostname(pod: &Pod, domain: &str) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    let asked = |field: fn(&PodSpec) -> &Option<String>| {
        spec.and_then(|spec| field(spec).clone())
            .filter(|name| !name.is_empty())
    };
    if let Some(name) = asked(|spec| &spec.hostname_override) {
        return Ok(name);
    }
    let wants_fqdn = spec.is_some_and(|spec| spec.set_hostname_as_fqdn == Some(true));
    match fqdn(pod, domain).filter(|_| wants_fqdn) {
        Some(fqdn) if fqdn.len() > MAX_HOSTNAME => Err(format!(
            "Failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_HOSTNAME} characters is the max, {} characters requested)",
            fqdn.len()
        )),
        Some(fqdn) => Ok(fqdn),
        None => Ok(short(pod)),
    }
}

fn short(pod: &Pod) -> String {
    let asked = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    asked
        .filter(|name| !name.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default()
}

/// The host's own name, which containers on its network have.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The names that lead to the pod itself, in the order of `/etc/hosts`.
pub(crate) fn own(pod: &Pod, domain: &str) -> Vec<String> {
    let spec = pod.spec.as_ref();
    let given = spec.and_then(|spec| spec.hostname_override.clone());
    match given.filter(|name| !name.is_empty()) {
        Some(name) => vec![name],
        None => fqdn(pod, domain).into_iter().chain([short(pod)]).collect(),
    }
}

/// `<hostname>.<subdomain>.<namespace>.svc.<domain>`; `None` without a subdomain.
fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.clone();
    let subdomain = subdomain.filter(|subdomain| !subdomain.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!(
        "{}.{subdomain}.{namespace}.svc.{domain}",
        short(pod)
    ))
}

/// How the pod's containers look names up: what `/etc/hosts` and `/etc/resolv.conf` say elsewhere.
pub(crate) fn resolver(pod: &Pod, ip: IpAddr, domain: &str) -> Resolver {
    let own = own(pod, domain).into_iter();
    let mut hosts: Vec<(String, IpAddr)> = own.map(|name| (name, ip)).collect();
    let Some(spec) = &pod.spec else {
        return Resolver {
            hosts,
            ..Resolver::default()
        };
    };
    for alias in spec.host_aliases.iter().flatten() {
        // Validated by the API.
        let Ok(ip) = alias.ip.parse() else { continue };
        let names = alias.hostnames.iter().flatten();
        hosts.extend(names.map(|name| (name.clone(), ip)));
    }
    let dns = spec.dns_config.as_ref();
    Resolver {
        hosts,
        searches: dns.and_then(|dns| dns.searches.clone()).unwrap_or_default(),
        skips_cluster: spec.dns_policy.as_deref() == Some("Default"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(spec: Value, want: Expect) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = json!({"metadata": {"name": "web-0", "namespace": "default"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let domain = "cluster.local";
        let resolver = resolver(&pod, IpAddr::from([10, 64, 0, 4]), domain);
        let mut got = match hostname(&pod, domain) {
            Ok(name) => format!("{name}\n"),
            Err(error) => format!("error: {error}\n"),
        };
        for (name, ip) in resolver.hosts {
            got += &format!("{name} is {ip}\n");
        }
        if !resolver.searches.is_empty() {
            got += &format!("searches {}\n", resolver.searches.join(" "));
        }
        if resolver.skips_cluster {
            got += "not in the cluster\n";
        }
        want.assert_eq(&got);
    }

    #[test]
    fn a_pod_is_called_by_its_name_or_its_hostname() {
        check(
            json!({}),
            expect![[r#"
            web-0
            web-0 is 10.64.0.4
        "#]],
        );
        check(
            json!({"hostname": "a", "setHostnameAsFQDN": true}),
            expect![[r#"
            a
            a is 10.64.0.4
        "#]],
        );
        check(
            json!({"hostnameOverride": "b.example"}),
            expect![[r#"
            b.example
            b.example is 10.64.0.4
        "#]],
        );
    }

    #[test]
    fn with_a_subdomain_it_has_a_full_name() {
        check(
            json!({"subdomain": "web", "setHostnameAsFQDN": true}),
            expect![[r#"
            web-0.web.default.svc.cluster.local
            web-0.web.default.svc.cluster.local is 10.64.0.4
            web-0 is 10.64.0.4
        "#]],
        );
        let long = "x".repeat(40);
        check(
            json!({"subdomain": long, "setHostnameAsFQDN": true}),
            expect![[r#"
            error: Failed to construct FQDN from pod hostname and cluster domain, FQDN web-0.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.default.svc.cluster.local is too long (64 characters is the max, 72 characters requested)
            web-0.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.default.svc.cluster.local is 10.64.0.4
            web-0 is 10.64.0.4
        "#]],
        );
    }

    #[test]
    fn aliases_and_search_domains_are_its_own() {
        check(
            json!({
                "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["db", "cache"]}],
                "dnsPolicy": "Default",
                "dnsConfig": {"searches": ["example.org"]},
            }),
            expect![[r#"
                web-0
                web-0 is 10.64.0.4
                db is 1.2.3.4
                cache is 1.2.3.4
                searches example.org
                not in the cluster
            "#]],
        );
    }
}
