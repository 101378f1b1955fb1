//! The nftables text for a node's Services. Pure: the same plan gives the same text.
//!
//! One table a node. A verdict map leads from a Service port to its chain, which holds one rule: a
//! translation to a random ready endpoint; others do so for the node's ports. A Service port without
//! ready endpoints is in neither, and what still goes to the Service range after translation is refused.

use std::{
    collections::{BTreeMap, BTreeSet, btree_set::Difference},
    fmt::Write,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use crate::{
    Range,
    directory::{Directory, Frontend, NodePort, Transport},
    pool,
};

/// What the table's fixed part is about.
pub(crate) struct Layout<'a> {
    pub(crate) table: &'a str,
    /// The host's end of the link to the Wasm pods.
    pub(crate) link: &'a str,
    /// What the host's ends of isolated pods' links begin with.
    pub(crate) pod_links: &'a str,
    /// This node's pods.
    pub(crate) pods: Range,
    pub(crate) cluster_pods: Range,
    pub(crate) services: Range,
    /// The host's address on the link to the Wasm pods.
    pub(crate) host: Ipv4Addr,
    /// The cluster's DNS address, and where this node's server listens.
    pub(crate) dns: Option<(Ipv4Addr, SocketAddrV4)>,
    /// Where this node's gateway takes what is for Services of Functions.
    pub(crate) functions: Option<SocketAddrV4>,
}

/// Where something is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Entry {
    Service(Frontend),
    /// A port of the node.
    Node(NodePort),
}

/// What the table's changing part says.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Where there are ready endpoints, and which.
    entries: BTreeMap<Entry, Arc<[SocketAddrV4]>>,
    /// The addresses of endpoints on this node: one that reaches itself by its Service would not know
    /// the answer for one, so the host takes its place.
    own: BTreeSet<Ipv4Addr>,
    /// Service ports that lead to the gateway.
    functions: BTreeSet<SocketAddrV4>,
}

impl Plan {
    /// Decides for a node from everything that is known of Services.
    pub(crate) fn new(directory: &Directory, pods: Range) -> Self {
        let frontends = directory.frontends().into_iter();
        let frontends = frontends.map(|(frontend, ready)| (Entry::Service(frontend), ready));
        let node_ports = directory.node_ports(pods).into_iter();
        let node_ports = node_ports.map(|(port, ready)| (Entry::Node(port), ready));
        let host = pool::host_address(pods);
        let all = frontends.chain(node_ports);
        let entries: BTreeMap<_, Arc<[SocketAddrV4]>> = all
            .filter(|(_, ready)| !ready.is_empty())
            .map(|(entry, ready)| (entry, as_pods_see(ready, host)))
            .collect();
        let endpoints = entries.values().flat_map(|ready| ready.iter());
        let own = endpoints.map(|endpoint| *endpoint.ip());
        Self {
            own: own.filter(|ip| pods.contains(*ip) && *ip != host).collect(),
            entries,
            functions: directory.function_ports().clone(),
        }
    }

    /// How many Service ports and node ports lead somewhere.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Endpoints as pods reach them: what the host has on its loopback addresses is at the host's address
/// on the link (the API of a host without a network is).
fn as_pods_see(ready: Arc<[SocketAddrV4]>, host: Ipv4Addr) -> Arc<[SocketAddrV4]> {
    if !ready.iter().any(|endpoint| endpoint.ip().is_loopback()) {
        return ready;
    }
    ready
        .iter()
        .map(|endpoint| as_pod_sees(*endpoint, host))
        .collect()
}

/// The same of one endpoint.
pub(crate) fn as_pod_sees(endpoint: SocketAddrV4, host: Ipv4Addr) -> SocketAddrV4 {
    match endpoint.ip().is_loopback() {
        true => SocketAddrV4::new(host, endpoint.port()),
        false => endpoint,
    }
}

/// The whole table, in place of whatever it was.
pub(crate) fn render(layout: &Layout<'_>, plan: &Plan) -> String {
    let table = layout.table;
    // Made first so that there is one to delete.
    let mut text = format!("table ip {table}\ndelete table ip {table}\n");
    text.push_str(&fixed_part(layout));
    text.push_str(&render_change(table, &Plan::default(), plan));
    text
}

/// The table without any Service. Refused by `nft` where the table is there already.
pub(crate) fn render_first(layout: &Layout<'_>) -> String {
    format!("create table ip {}\n{}", layout.table, fixed_part(layout))
}

fn fixed_part(layout: &Layout<'_>) -> String {
    let Layout {
        table,
        link,
        pod_links,
        pods,
        cluster_pods,
        services,
        host,
        dns,
        functions,
    } = layout;
    let dns = dns.map_or_else(String::new, |(address, server)| {
        let lead = |protocol: &str| {
            format!("\t\tip daddr {address} {protocol} dport 53 dnat to {server}\n")
        };
        lead("udp") + &lead("tcp")
    });
    let functions = functions.map_or_else(String::new, |gateway| {
        format!("\t\tip daddr . tcp dport @functions dnat to {gateway}\n")
    });
    // In postrouting: where client and endpoint are both in the namespace of Wasm pods, the answer would
    // stay in there and never be translated back, so the host takes the client's place; so it does for a
    // pod that is its own client, and for clients from outside whose endpoint is on another node.
    format!(
        "\
table ip {table} {{
	map services {{
		type ipv4_addr . inet_proto . inet_service : verdict
	}}
	map host_ports {{
		type ipv4_addr . inet_proto . inet_service : verdict
	}}
	map node_ports {{
		type inet_proto . inet_service : verdict
	}}
	set functions {{
		type ipv4_addr . inet_service
	}}
	set own_endpoints {{
		type ipv4_addr . ipv4_addr
	}}
	chain services {{
{dns}{functions}		ip daddr . meta l4proto . th dport vmap @services
	}}
	chain translate {{
		ip daddr {services} goto services
		ip daddr != 127.0.0.0/8 fib daddr type local ip daddr . meta l4proto . th dport vmap @host_ports
		ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @node_ports
	}}
	chain spoofed {{
		type filter hook prerouting priority -300; policy accept;
		iifname \"{pod_links}*\" fib saddr . iif oif missing drop
	}}
	chain prerouting {{
		type nat hook prerouting priority -100; policy accept;
		jump translate
	}}
	chain output {{
		type nat hook output priority -100; policy accept;
		jump translate
	}}
	chain postrouting {{
		type nat hook postrouting priority 100; policy accept;
		ct status dnat iifname \"{link}\" oifname \"{link}\" snat to {host}
		ct status dnat ip saddr . ip daddr @own_endpoints snat to {host}
		ct status dnat ip saddr != {cluster_pods} ip daddr != {pods} ip daddr {cluster_pods} masquerade
		oifname != \"lo\" ip saddr {pods} ip daddr != {cluster_pods} masquerade
	}}
	chain refuse {{
		ip daddr {services} meta l4proto tcp reject with tcp reset
		ip daddr {services} reject
	}}
	chain forward {{
		type filter hook forward priority 0; policy accept;
		jump refuse
	}}
	chain filter_output {{
		type filter hook output priority 0; policy accept;
		jump refuse
	}}
}}
"
    )
}

/// What turns the table of `old` into the table of `new`; empty if they are alike.
pub(crate) fn render_change(table: &str, old: &Plan, new: &Plan) -> String {
    let mut text = String::new();
    for entry in old.entries.keys() {
        if !new.entries.contains_key(entry) {
            remove(&mut text, table, entry);
        }
    }
    for (entry, ready) in &new.entries {
        match old.entries.get(entry) {
            Some(before) if before == ready => {}
            before => add(&mut text, table, entry, ready, before.is_none()),
        }
    }
    let mut elements = |verb: &str, set: &str, changed: Vec<String>| {
        if !changed.is_empty() {
            let changed = changed.join(", ");
            text.push_str(&format!(
                "{verb} element ip {table} {set} {{ {changed} }}\n"
            ));
        }
    };
    let pairs =
        |changed: Difference<'_, Ipv4Addr>| changed.map(|ip| format!("{ip} . {ip}")).collect();
    elements(
        "delete",
        "own_endpoints",
        pairs(old.own.difference(&new.own)),
    );
    elements("add", "own_endpoints", pairs(new.own.difference(&old.own)));
    let ports = |changed: Difference<'_, SocketAddrV4>| {
        changed
            .map(|port| format!("{} . {}", port.ip(), port.port()))
            .collect()
    };
    let (was, is) = (&old.functions, &new.functions);
    elements("delete", "functions", ports(was.difference(is)));
    elements("add", "functions", ports(is.difference(was)));
    text
}

/// UDP endpoints that left: connection tracking would keep their clients with them.
pub(crate) fn left_udp(old: &Plan, new: &Plan) -> Vec<(Entry, SocketAddrV4)> {
    let mut left = Vec::new();
    for (entry, before) in &old.entries {
        if entry.transport() != Transport::Udp {
            continue;
        }
        let after = new.entries.get(entry);
        let after = after.map(|ready| &ready[..]).unwrap_or_default();
        let gone = before.iter().filter(|endpoint| !after.contains(endpoint));
        left.extend(gone.map(|endpoint| (*entry, *endpoint)));
    }
    left
}

fn add(text: &mut String, table: &str, entry: &Entry, ready: &[SocketAddrV4], new: bool) {
    let chain = entry.chain();
    let verb = if new { "add" } else { "flush" };
    text.push_str(&format!("{verb} chain ip {table} {chain}\n"));
    // A translation of ports must say of which protocol.
    text.push_str(&format!(
        "add rule ip {table} {chain} meta l4proto {} {}\n",
        entry.transport(),
        translation(ready)
    ));
    if new {
        text.push_str(&format!(
            "add element ip {table} {} {{ {} : goto {chain} }}\n",
            entry.map(),
            entry.element()
        ));
    }
}

fn remove(text: &mut String, table: &str, entry: &Entry) {
    let chain = entry.chain();
    text.push_str(&format!(
        "delete element ip {table} {} {{ {} }}\n",
        entry.map(),
        entry.element()
    ));
    text.push_str(&format!(
        "flush chain ip {table} {chain}\ndelete chain ip {table} {chain}\n"
    ));
}

impl Entry {
    fn transport(&self) -> Transport {
        match self {
            Self::Service(frontend) => frontend.transport,
            Self::Node((_, transport, _)) => *transport,
        }
    }

    /// The verdict map that leads there.
    fn map(&self) -> &'static str {
        match self {
            Self::Service(_) => "services",
            Self::Node((address, ..)) if address.is_unspecified() => "node_ports",
            Self::Node(_) => "host_ports",
        }
    }

    fn chain(&self) -> String {
        match self {
            Self::Service(Frontend { address, transport }) => {
                format!("{transport}_{}_{}", address.ip(), address.port())
            }
            Self::Node((address, transport, port)) if address.is_unspecified() => {
                format!("{transport}_node_{port}")
            }
            Self::Node((address, transport, port)) => {
                format!("{transport}_host_{address}_{port}")
            }
        }
    }

    fn element(&self) -> String {
        match self {
            Self::Service(Frontend { address, transport }) => {
                format!("{} . {transport} . {}", address.ip(), address.port())
            }
            Self::Node((address, transport, port)) if address.is_unspecified() => {
                format!("{transport} . {port}")
            }
            Self::Node((address, transport, port)) => format!("{address} . {transport} . {port}"),
        }
    }
}

fn translation(ready: &[SocketAddrV4]) -> String {
    if let [only] = ready {
        return format!("dnat to {only}");
    }
    let mut map = String::new();
    for (index, endpoint) in ready.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(
            map,
            "{comma}{index} : {} . {}",
            endpoint.ip(),
            endpoint.port()
        )
        .expect("writing to a String cannot fail");
    }
    format!(
        "dnat ip to numgen random mod {} map {{ {map} }}",
        ready.len()
    )
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::directory::fixture::directory;

    const TWO: &str = "
        service default/web 10.43.0.5 :80/TCP
        slice default/web-1 web :8080/TCP 10.64.0.5 10.64.0.6
        service default/dns 10.43.0.6 :53/UDP
        slice default/dns-1 dns :5353/UDP 10.64.0.7
        service default/empty 10.43.0.7 :80/TCP
    ";

    fn plan(text: &str) -> Plan {
        Plan::new(&directory(text), "10.64.0.0/18".parse().unwrap())
    }

    #[track_caller]
    fn check_change(old: &str, new: &str, expected: Expect) {
        let (old, new) = (plan(old), plan(new));
        expected.assert_eq(&render_change("wk-1", &old, &new));
    }

    #[test]
    fn a_table_holds_a_chain_for_every_service_port_with_ready_endpoints() {
        let layout = Layout {
            table: "wk-1",
            link: "wk1",
            pod_links: "wkp1",
            dns: Some((
                Ipv4Addr::new(10, 43, 0, 10),
                SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, 1), 53),
            )),
            functions: Some("10.64.0.1:4000".parse().unwrap()),
            pods: "10.64.0.0/18".parse().unwrap(),
            cluster_pods: "10.64.0.0/10".parse().unwrap(),
            services: "10.43.0.0/16".parse().unwrap(),
            host: Ipv4Addr::new(10, 64, 0, 1),
        };
        expect![[r#"
            table ip wk-1
            delete table ip wk-1
            table ip wk-1 {
            	map services {
            		type ipv4_addr . inet_proto . inet_service : verdict
            	}
            	map host_ports {
            		type ipv4_addr . inet_proto . inet_service : verdict
            	}
            	map node_ports {
            		type inet_proto . inet_service : verdict
            	}
            	set functions {
            		type ipv4_addr . inet_service
            	}
            	set own_endpoints {
            		type ipv4_addr . ipv4_addr
            	}
            	chain services {
            		ip daddr 10.43.0.10 udp dport 53 dnat to 10.64.0.1:53
            		ip daddr 10.43.0.10 tcp dport 53 dnat to 10.64.0.1:53
            		ip daddr . tcp dport @functions dnat to 10.64.0.1:4000
            		ip daddr . meta l4proto . th dport vmap @services
            	}
            	chain translate {
            		ip daddr 10.43.0.0/16 goto services
            		ip daddr != 127.0.0.0/8 fib daddr type local ip daddr . meta l4proto . th dport vmap @host_ports
            		ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @node_ports
            	}
            	chain spoofed {
            		type filter hook prerouting priority -300; policy accept;
            		iifname "wkp1*" fib saddr . iif oif missing drop
            	}
            	chain prerouting {
            		type nat hook prerouting priority -100; policy accept;
            		jump translate
            	}
            	chain output {
            		type nat hook output priority -100; policy accept;
            		jump translate
            	}
            	chain postrouting {
            		type nat hook postrouting priority 100; policy accept;
            		ct status dnat iifname "wk1" oifname "wk1" snat to 10.64.0.1
            		ct status dnat ip saddr . ip daddr @own_endpoints snat to 10.64.0.1
            		ct status dnat ip saddr != 10.64.0.0/10 ip daddr != 10.64.0.0/18 ip daddr 10.64.0.0/10 masquerade
            		oifname != "lo" ip saddr 10.64.0.0/18 ip daddr != 10.64.0.0/10 masquerade
            	}
            	chain refuse {
            		ip daddr 10.43.0.0/16 meta l4proto tcp reject with tcp reset
            		ip daddr 10.43.0.0/16 reject
            	}
            	chain forward {
            		type filter hook forward priority 0; policy accept;
            		jump refuse
            	}
            	chain filter_output {
            		type filter hook output priority 0; policy accept;
            		jump refuse
            	}
            }
            add chain ip wk-1 tcp_10.43.0.5_80
            add rule ip wk-1 tcp_10.43.0.5_80 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.64.0.5 . 8080, 1 : 10.64.0.6 . 8080 }
            add element ip wk-1 services { 10.43.0.5 . tcp . 80 : goto tcp_10.43.0.5_80 }
            add chain ip wk-1 udp_10.43.0.6_53
            add rule ip wk-1 udp_10.43.0.6_53 meta l4proto udp dnat to 10.64.0.7:5353
            add element ip wk-1 services { 10.43.0.6 . udp . 53 : goto udp_10.43.0.6_53 }
            add element ip wk-1 own_endpoints { 10.64.0.5 . 10.64.0.5, 10.64.0.6 . 10.64.0.6, 10.64.0.7 . 10.64.0.7 }
        "#]].assert_eq(&render(&layout, &plan(TWO)));
    }

    #[test]
    fn nothing_changed_is_no_text() {
        check_change(TWO, TWO, expect![""]);
    }

    #[test]
    fn a_new_endpoint_rewrites_one_rule() {
        let more = "slice default/dns-2 dns :5353/UDP 10.64.0.8";
        check_change(
            TWO,
            &format!("{TWO}\n{more}"),
            expect![[r#"
                flush chain ip wk-1 udp_10.43.0.6_53
                add rule ip wk-1 udp_10.43.0.6_53 meta l4proto udp dnat ip to numgen random mod 2 map { 0 : 10.64.0.7 . 5353, 1 : 10.64.0.8 . 5353 }
                add element ip wk-1 own_endpoints { 10.64.0.8 . 10.64.0.8 }
            "#]],
        );
    }

    #[test]
    fn the_first_endpoint_makes_the_chain() {
        let first = "slice default/empty-1 empty :8080/TCP 10.64.0.9";
        check_change(
            TWO,
            &format!("{TWO}\n{first}"),
            expect![[r#"
                add chain ip wk-1 tcp_10.43.0.7_80
                add rule ip wk-1 tcp_10.43.0.7_80 meta l4proto tcp dnat to 10.64.0.9:8080
                add element ip wk-1 services { 10.43.0.7 . tcp . 80 : goto tcp_10.43.0.7_80 }
                add element ip wk-1 own_endpoints { 10.64.0.9 . 10.64.0.9 }
            "#]],
        );
    }

    #[test]
    fn the_last_endpoint_takes_the_chain_with_it() {
        let none = "slice default/dns-1 dns :5353/UDP 10.64.0.7!";
        check_change(
            TWO,
            &format!("{TWO}\n{none}"),
            expect![[r#"
                delete element ip wk-1 services { 10.43.0.6 . udp . 53 }
                flush chain ip wk-1 udp_10.43.0.6_53
                delete chain ip wk-1 udp_10.43.0.6_53
                delete element ip wk-1 own_endpoints { 10.64.0.7 . 10.64.0.7 }
            "#]],
        );
    }

    #[test]
    fn a_removed_service_takes_its_chain_with_it() {
        check_change(
            TWO,
            &format!("{TWO}\n-service default/web 10.43.0.5"),
            expect![[r#"
                delete element ip wk-1 services { 10.43.0.5 . tcp . 80 }
                flush chain ip wk-1 tcp_10.43.0.5_80
                delete chain ip wk-1 tcp_10.43.0.5_80
                delete element ip wk-1 own_endpoints { 10.64.0.5 . 10.64.0.5, 10.64.0.6 . 10.64.0.6 }
            "#]],
        );
    }

    #[test]
    fn udp_endpoints_that_left_are_named() {
        let none = "slice default/dns-1 dns :5353/UDP 10.64.0.7!";
        let left = left_udp(&plan(TWO), &plan(&format!("{TWO}\n{none}")));
        let lines = left
            .iter()
            .map(|(entry, e)| format!("{} {e}\n", entry.element()));
        expect![[r#"
            10.43.0.6 . udp . 53 10.64.0.7:5353
        "#]]
        .assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn what_is_on_the_hosts_loopback_is_at_its_address_on_the_link() {
        let api = "
            service default/kubernetes 10.43.0.1 https:443/TCP
            slice default/kubernetes kubernetes https:6443/TCP 127.0.0.1
        ";
        check_change(
            "",
            api,
            expect![[r#"
                add chain ip wk-1 tcp_10.43.0.1_443
                add rule ip wk-1 tcp_10.43.0.1_443 meta l4proto tcp dnat to 10.64.0.1:6443
                add element ip wk-1 services { 10.43.0.1 . tcp . 443 : goto tcp_10.43.0.1_443 }
            "#]],
        );
    }

    #[test]
    fn a_node_port_leads_where_its_service_does_or_to_the_nodes_own_pods() {
        let ports = "
            service default/web 10.43.0.5 :80/TCP:30080
            slice default/web-1 web :8080/TCP 10.64.0.5 10.65.0.6
            service default/near 10.43.0.6 :80/TCP:30081 local
            slice default/near-1 near :8080/TCP 10.64.0.7 10.65.0.8
            service default/far 10.43.0.7 :80/TCP:30082 local
            slice default/far-1 far :8080/TCP 10.65.0.9
        ";
        check_change(
            "",
            ports,
            expect![[r#"
            add chain ip wk-1 tcp_10.43.0.5_80
            add rule ip wk-1 tcp_10.43.0.5_80 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.64.0.5 . 8080, 1 : 10.65.0.6 . 8080 }
            add element ip wk-1 services { 10.43.0.5 . tcp . 80 : goto tcp_10.43.0.5_80 }
            add chain ip wk-1 tcp_10.43.0.6_80
            add rule ip wk-1 tcp_10.43.0.6_80 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.64.0.7 . 8080, 1 : 10.65.0.8 . 8080 }
            add element ip wk-1 services { 10.43.0.6 . tcp . 80 : goto tcp_10.43.0.6_80 }
            add chain ip wk-1 tcp_10.43.0.7_80
            add rule ip wk-1 tcp_10.43.0.7_80 meta l4proto tcp dnat to 10.65.0.9:8080
            add element ip wk-1 services { 10.43.0.7 . tcp . 80 : goto tcp_10.43.0.7_80 }
            add chain ip wk-1 tcp_node_30080
            add rule ip wk-1 tcp_node_30080 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.64.0.5 . 8080, 1 : 10.65.0.6 . 8080 }
            add element ip wk-1 node_ports { tcp . 30080 : goto tcp_node_30080 }
            add chain ip wk-1 tcp_node_30081
            add rule ip wk-1 tcp_node_30081 meta l4proto tcp dnat to 10.64.0.7:8080
            add element ip wk-1 node_ports { tcp . 30081 : goto tcp_node_30081 }
            add element ip wk-1 own_endpoints { 10.64.0.5 . 10.64.0.5, 10.64.0.7 . 10.64.0.7 }
        "#]],
        );
        let none = "slice default/web-1 web :8080/TCP 10.64.0.5!";
        check_change(
            ports,
            &format!("{ports}\n{none}"),
            expect![[r#"
            delete element ip wk-1 services { 10.43.0.5 . tcp . 80 }
            flush chain ip wk-1 tcp_10.43.0.5_80
            delete chain ip wk-1 tcp_10.43.0.5_80
            delete element ip wk-1 node_ports { tcp . 30080 }
            flush chain ip wk-1 tcp_node_30080
            delete chain ip wk-1 tcp_node_30080
            delete element ip wk-1 own_endpoints { 10.64.0.5 . 10.64.0.5 }
        "#]],
        );
    }
}
