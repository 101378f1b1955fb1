//! `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` of containers, as the kubelet and container runtimes write them.
//!
//! They lie in `<pods_dir>/<uid>/etc`, are written anew when a container of the pod starts, in place, since other
//! containers have them mounted, and are mounted into containers that do not mount something else there. Components
//! have none: their names are looked up by the node. Reads the host's own files.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use runtimes::{Mount, PodRef};

use super::{
    names::{self, host_name, hostname},
    place::is_on_host,
    security::container::shown,
    worker::Context,
};

/// At most as many name servers as the resolvers in containers look at.
const MOST_SERVERS: usize = 3;
/// Where systemd keeps the servers that it asks itself.
const SYSTEMD_SERVERS: &str = "/run/systemd/resolve/resolv.conf";
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTNAME: &str = "/etc/hostname";

/// Writes the files of a pod and says where a container finds them. Those in `taken` are the container's own.
///
/// # Errors
/// As the file system says, with the path.
pub(crate) async fn mounts(
    context: &Context,
    pod: &Pod,
    pod_ref: &PodRef,
    ip: IpAddr,
    read_only_root: bool,
    taken: &[Mount],
) -> io::Result<Vec<Mount>> {
    let config = &context.config;
    let directory = config.pods_dir.join(&pod_ref.uid).join("etc");
    tokio::fs::create_dir_all(&directory).await?;
    let dns = Dns {
        servers: &config.cluster_dns,
        domain: &config.cluster_domain,
    };
    let spec = pod.spec.clone().unwrap_or_default();
    if dns.servers.is_empty() && wants_cluster(&spec) {
        let message = format!(
            "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
            shown(pod)
        );
        context.note(pod_ref, None, true, "MissingClusterDNS", message);
    }
    let own = if is_on_host(pod) {
        host_name()
    } else {
        hostname(pod, &config.cluster_domain).unwrap_or_default()
    };
    let hosts = if is_on_host(pod) {
        hosts_of_host(&read(Path::new(HOSTS)).await, pod)
    } else {
        hosts(pod, ip, &config.cluster_domain)
    };
    let host = host_resolver(&config.resolv_conf).await;
    let namespace = &pod_ref.namespace;
    let files = [
        ("hosts", HOSTS, hosts, false),
        (
            "resolv.conf",
            RESOLV_CONF,
            resolv_conf(&spec, namespace, &dns, &host),
            read_only_root,
        ),
        ("hostname", HOSTNAME, format!("{own}\n"), read_only_root),
    ];
    let mut mounts = Vec::new();
    for (name, destination, text, read_only) in files {
        let destination = Path::new(destination);
        if taken.iter().any(|mount| mount.destination == destination) {
            continue;
        }
        let path = directory.join(name);
        write(&path, &text).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        mounts.push(Mount::new(path, destination, read_only));
    }
    Ok(mounts)
}

/// Makes a file hold this text, in place.
async fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // A container may have made it of any length.
    let length = tokio::fs::metadata(path).await.map(|found| found.len());
    if length.is_ok_and(|length| length == text.len() as u64) && read(path).await == text {
        return Ok(());
    }
    tokio::fs::write(path, text).await?;
    // The process' mask may have cut the mode.
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).await
}

async fn read(path: &Path) -> String {
    tokio::fs::read_to_string(path).await.unwrap_or_default()
}

/// The host's resolver as containers can use it: one that listens on the host's loopback address is out of their
/// reach, and systemd's keeps elsewhere whom it asks.
async fn host_resolver(path: &Path) -> String {
    let text = read(path).await;
    let found = Resolver::parse(&text);
    let local = |server: &String| {
        let ip = server.parse::<IpAddr>();
        ip.is_ok_and(|ip| ip.is_loopback())
    };
    if !found.servers.is_empty() && found.servers.iter().all(local) {
        let behind = read(&PathBuf::from(SYSTEMD_SERVERS)).await;
        if !behind.is_empty() {
            return behind;
        }
    }
    text
}

/// Where the cluster's names are looked up.
struct Dns<'a> {
    servers: &'a [IpAddr],
    domain: &'a str,
}

/// What a `resolv.conf` says.
#[derive(Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Resolver {
        let mut found = Resolver::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => found.servers.extend(words.next()),
                // The last such line counts.
                Some("search" | "domain") => found.searches = words.collect(),
                Some("options") => found.options.extend(words),
                _ => {}
            }
        }
        found.searches.retain(|domain| domain != ".");
        found
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.servers {
            text += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }
}

/// Whether the pod's names are the cluster's first.
fn wants_cluster(spec: &PodSpec) -> bool {
    let on_host = spec.host_network == Some(true);
    match spec.dns_policy.as_deref() {
        Some("None" | "Default") => false,
        Some("ClusterFirstWithHostNet") => true,
        _ => !on_host,
    }
}

/// A pod's `/etc/resolv.conf`; `host` is the host's.
fn resolv_conf(spec: &PodSpec, namespace: &str, dns: &Dns<'_>, host: &str) -> String {
    let mut found = if spec.dns_policy.as_deref() == Some("None") {
        Resolver::default()
    } else {
        Resolver::parse(host)
    };
    if wants_cluster(spec) && !dns.servers.is_empty() {
        let domain = dns.domain;
        let own = [
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_owned(),
        ];
        let servers = dns.servers.iter().map(IpAddr::to_string);
        found = Resolver {
            servers: servers.collect(),
            searches: own.into_iter().chain(found.searches).collect(),
            options: vec!["ndots:5".to_owned()],
        };
    }
    if let Some(own) = &spec.dns_config {
        found
            .servers
            .extend(own.nameservers.iter().flatten().cloned());
        found
            .searches
            .extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let named = |other: &String| other.split(':').next() == Some(name);
            found.options.retain(|other| !named(other));
            found.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    dedup(&mut found.servers);
    dedup(&mut found.searches);
    found.servers.truncate(MOST_SERVERS);
    found.text()
}

/// Leaves the first of those that are alike.
fn dedup(list: &mut Vec<String>) {
    let mut seen = Vec::new();
    for item in list.drain(..) {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    *list = seen;
}

/// A pod's `/etc/hosts`.
fn hosts(pod: &Pod, ip: IpAddr, domain: &str) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n"
        .to_owned();
    let own = names::own(pod, domain);
    text += &format!("{ip}\t{}\n", own.join("\t"));
    text + &aliases(pod)
}

/// The same of a pod that is on the host's network: the host's, and what it adds.
fn hosts_of_host(host: &str, pod: &Pod) -> String {
    format!(
        "# Kubernetes-managed hosts file (host network).\n{host}{}",
        aliases(pod)
    )
}

fn aliases(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let list = spec.and_then(|spec| spec.host_aliases.as_deref());
    let list = list.unwrap_or_default();
    if list.is_empty() {
        return String::new();
    }
    let lines = list.iter().map(|alias| {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        format!("{}\t{}\n", alias.ip, names.join("\t"))
    });
    format!(
        "\n# Entries added by HostAliases.\n{}",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let metadata = json!({"name": "web-0", "namespace": "default"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
    }

    #[track_caller]
    fn check(spec: Value, want: &Expect) {
        let host =
            "# by hand\ndomain lan\nsearch example.org lan\nnameserver 192.0.2.53\noptions edns0\n";
        let dns = Dns {
            servers: &["10.43.0.10".parse().expect("an address")],
            domain: "cluster.local",
        };
        let spec = pod(spec).spec.expect("a spec");
        want.assert_eq(&resolv_conf(&spec, "default", &dns, host));
    }

    #[test]
    fn names_of_the_cluster_come_first_unless_the_policy_says_otherwise() {
        let cluster = expect![[r#"
            search default.svc.cluster.local svc.cluster.local cluster.local example.org lan
            nameserver 10.43.0.10
            options ndots:5
        "#]];
        check(json!({}), &cluster);
        check(json!({"dnsPolicy": "ClusterFirst"}), &cluster);
        check(
            json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
            &cluster,
        );
        let host = expect![[r#"
            search example.org lan
            nameserver 192.0.2.53
            options edns0
        "#]];
        check(json!({"dnsPolicy": "Default"}), &host);
        check(
            json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
            &host,
        );
    }

    #[test]
    fn what_the_pod_says_itself_is_added_or_is_all() {
        let own = json!({
            "nameservers": ["1.1.1.1", "8.8.8.8", "9.9.9.9"], "searches": ["mine.example", "lan"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        });
        check(
            json!({"dnsConfig": own}),
            &expect![[r#"
                search default.svc.cluster.local svc.cluster.local cluster.local example.org lan mine.example
                nameserver 10.43.0.10
                nameserver 1.1.1.1
                nameserver 8.8.8.8
                options ndots:2 edns0
            "#]],
        );
        check(
            json!({"dnsPolicy": "None", "dnsConfig": own}),
            &expect![[r#"
                search mine.example lan
                nameserver 1.1.1.1
                nameserver 8.8.8.8
                nameserver 9.9.9.9
                options ndots:2 edns0
            "#]],
        );
    }

    #[test]
    fn hosts_are_the_pods_own_names_and_its_aliases() {
        let aliases = json!([{"ip": "1.2.3.4", "hostnames": ["db", "cache"]}]);
        let named = pod(json!({"subdomain": "web", "hostAliases": aliases}));
        let ip = IpAddr::from([10, 64, 0, 4]);
        expect![[r#"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.64.0.4	web-0.web.default.svc.cluster.local	web-0

            # Entries added by HostAliases.
            1.2.3.4	db	cache
        "#]]
        .assert_eq(&hosts(&named, ip, "cluster.local"));
        let plain = hosts(&pod(json!({"hostname": "a"})), ip, "cluster.local");
        assert!(plain.ends_with("ip6-allrouters\n10.64.0.4\ta\n"), "{plain}");
        expect![[r#"
            # Kubernetes-managed hosts file (host network).
            127.0.0.1 localhost n1

            # Entries added by HostAliases.
            1.2.3.4	db	cache
        "#]]
        .assert_eq(&hosts_of_host("127.0.0.1 localhost n1\n", &named));
    }
}
