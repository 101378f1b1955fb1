//! The nftables text for a node's Services. Pure: the same frontends give the same text.
//!
//! One table a node. A verdict map leads from a Service port to its chain, which holds one rule: a
//! translation to a random ready endpoint. A Service port without ready endpoints is in neither, and
//! what still goes to the Service range after translation is refused.

use std::{fmt::Write, net::Ipv4Addr, net::SocketAddrV4};

use crate::{
    Range,
    directory::{Frontend, Frontends, Transport},
};

/// What the table's fixed part is about.
pub(crate) struct Layout<'a> {
    pub(crate) table: &'a str,
    /// This node's Wasm pods.
    pub(crate) pods: Range,
    pub(crate) cluster_pods: Range,
    pub(crate) services: Range,
    /// The host's address on the link to the Wasm pods.
    pub(crate) host: Ipv4Addr,
}

/// The whole table, in place of whatever it was.
pub(crate) fn render(layout: &Layout<'_>, frontends: &Frontends) -> String {
    let table = layout.table;
    // Made first so that there is one to delete.
    let mut text = format!("table ip {table}\ndelete table ip {table}\n");
    text.push_str(&fixed_part(layout));
    for (frontend, ready) in frontends.iter().filter(|(_, ready)| !ready.is_empty()) {
        add(&mut text, table, frontend, ready, true);
    }
    text
}

/// The table without any Service. Refused by `nft` where the table is there already.
pub(crate) fn render_first(layout: &Layout<'_>) -> String {
    format!("create table ip {}\n{}", layout.table, fixed_part(layout))
}

fn fixed_part(layout: &Layout<'_>) -> String {
    let Layout {
        table,
        pods,
        cluster_pods,
        services,
        host,
    } = layout;
    // In postrouting: where client and endpoint are both in the namespace, the answer would stay in
    // there and never be translated back, so the host takes the client's place.
    format!(
        "\
table ip {table} {{
	map services {{
		type ipv4_addr . inet_proto . inet_service : verdict
	}}
	chain services {{
		ip daddr . meta l4proto . th dport vmap @services
	}}
	chain prerouting {{
		type nat hook prerouting priority -100; policy accept;
		ip daddr {services} jump services
	}}
	chain output {{
		type nat hook output priority -100; policy accept;
		ip daddr {services} jump services
	}}
	chain postrouting {{
		type nat hook postrouting priority 100; policy accept;
		ct status dnat ip saddr {pods} ip daddr {pods} snat to {host}
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
pub(crate) fn render_change(table: &str, old: &Frontends, new: &Frontends) -> String {
    let mut text = String::new();
    let served =
        |all: &Frontends, frontend: &Frontend| all.get(frontend).is_some_and(|r| !r.is_empty());
    for frontend in old
        .keys()
        .filter(|frontend| served(old, frontend) && !served(new, frontend))
    {
        remove(&mut text, table, frontend);
    }
    for (frontend, ready) in new.iter().filter(|(_, ready)| !ready.is_empty()) {
        if old.get(frontend) != Some(ready) {
            add(&mut text, table, frontend, ready, !served(old, frontend));
        }
    }
    text
}

/// UDP endpoints that left: connection tracking would keep their clients with them.
pub(crate) fn left_udp(old: &Frontends, new: &Frontends) -> Vec<(Frontend, SocketAddrV4)> {
    let mut left = Vec::new();
    for (frontend, before) in old.iter().filter(|(f, _)| f.transport == Transport::Udp) {
        let after = new
            .get(frontend)
            .map(|ready| &ready[..])
            .unwrap_or_default();
        let gone = before.iter().filter(|endpoint| !after.contains(endpoint));
        left.extend(gone.map(|endpoint| (*frontend, *endpoint)));
    }
    left
}

fn add(text: &mut String, table: &str, frontend: &Frontend, ready: &[SocketAddrV4], new: bool) {
    let chain = chain(frontend);
    let translation = translation(ready);
    let line = if new {
        format!("add chain ip {table} {chain}\n")
    } else {
        format!("flush chain ip {table} {chain}\n")
    };
    text.push_str(&line);
    text.push_str(&format!(
        "add rule ip {table} {chain} {} {translation}\n",
        protocol(frontend)
    ));
    if new {
        text.push_str(&format!(
            "add element ip {table} services {{ {} : goto {chain} }}\n",
            element(frontend)
        ));
    }
}

fn remove(text: &mut String, table: &str, frontend: &Frontend) {
    let chain = chain(frontend);
    text.push_str(&format!(
        "delete element ip {table} services {{ {} }}\n",
        element(frontend)
    ));
    text.push_str(&format!(
        "flush chain ip {table} {chain}\ndelete chain ip {table} {chain}\n"
    ));
}

fn chain(frontend: &Frontend) -> String {
    format!(
        "{}_{}_{}",
        frontend.transport,
        frontend.address.ip(),
        frontend.address.port()
    )
}

fn element(frontend: &Frontend) -> String {
    format!(
        "{} . {} . {}",
        frontend.address.ip(),
        frontend.transport,
        frontend.address.port()
    )
}

/// A translation of ports must say of which protocol.
fn protocol(frontend: &Frontend) -> String {
    format!("meta l4proto {}", frontend.transport)
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

    #[track_caller]
    fn check_change(old: &str, new: &str, expected: Expect) {
        let (old, new) = (directory(old).frontends(), directory(new).frontends());
        expected.assert_eq(&render_change("wk-1", &old, &new));
    }

    #[test]
    fn a_table_holds_a_chain_for_every_service_port_with_ready_endpoints() {
        let layout = Layout {
            table: "wk-1",
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
            	chain services {
            		ip daddr . meta l4proto . th dport vmap @services
            	}
            	chain prerouting {
            		type nat hook prerouting priority -100; policy accept;
            		ip daddr 10.43.0.0/16 jump services
            	}
            	chain output {
            		type nat hook output priority -100; policy accept;
            		ip daddr 10.43.0.0/16 jump services
            	}
            	chain postrouting {
            		type nat hook postrouting priority 100; policy accept;
            		ct status dnat ip saddr 10.64.0.0/18 ip daddr 10.64.0.0/18 snat to 10.64.0.1
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
        "#]].assert_eq(&render(&layout, &directory(TWO).frontends()));
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
            "#]],
        );
    }

    #[test]
    fn udp_endpoints_that_left_are_named() {
        let none = "slice default/dns-1 dns :5353/UDP 10.64.0.7!";
        let (old, new) = (directory(TWO), directory(&format!("{TWO}\n{none}")));
        let left = left_udp(&old.frontends(), &new.frontends());
        let lines = left.iter().map(|(f, e)| format!("{} {e}\n", f.address));
        expect![[r#"
            10.43.0.6:53 10.64.0.7:5353
        "#]]
        .assert_eq(&lines.collect::<String>());
    }
}
