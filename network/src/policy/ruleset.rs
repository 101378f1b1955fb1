//! The nftables text for the NetworkPolicies of a node's isolated pods. Pure: the same plan, the same text.
//!
//! A table of its own. Two verdict maps lead from a pod's address to its chain, one for what it sends and
//! one for what it is sent, each in a base chain of its own: what may leave is still asked whether it may
//! enter. Answers pass; so does what the host itself sends, which no base chain here sees.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{Ipv4Addr, SocketAddrV4},
};

use runtimes::{Direction, Protocol};

use super::{
    intervals::Intervals,
    plan::{Accept, Chain, Plan, Ports, Target},
};

/// What the table's fixed part is about.
pub(crate) struct Layout<'a> {
    pub(crate) table: &'a str,
    /// The node's DNS server: every pod may ask for names, as components may.
    pub(crate) dns: Option<SocketAddrV4>,
    /// The node's gateway for pods, which asks the policies itself.
    pub(crate) functions: Option<SocketAddrV4>,
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// The whole table, in place of whatever it was.
pub(crate) fn render(layout: &Layout<'_>, plan: &Plan) -> String {
    let Layout {
        table,
        dns,
        functions,
    } = layout;
    let functions = functions.map_or_else(String::new, |gateway| {
        let (ip, port) = (gateway.ip(), gateway.port());
        format!("\t\tip daddr {ip} tcp dport {port} accept\n")
    });
    let dns = dns.map_or_else(String::new, |dns| {
        let (ip, port) = (dns.ip(), dns.port());
        format!("\t\tip daddr {ip} meta l4proto {{ tcp, udp }} th dport {port} accept\n")
    });
    // Made first so that there is one to delete.
    let mut text = format!(
        "\
table ip {table}
delete table ip {table}
table ip {table} {{
	map ingress {{
		type ipv4_addr : verdict
	}}
	map egress {{
		type ipv4_addr : verdict
	}}
	chain leave {{
		type filter hook forward priority 0; policy accept;
		ct state established,related accept
		ip saddr vmap @egress
	}}
	chain leave_to_host {{
		type filter hook input priority 0; policy accept;
		ct state established,related accept
{dns}{functions}		ip saddr vmap @egress
	}}
	chain enter {{
		type filter hook forward priority 10; policy accept;
		ct state established,related accept
		ip daddr vmap @ingress
	}}
}}
"
    );
    text.push_str(&render_change(table, &Plan::default(), plan));
    text
}

/// What turns the table of `old` into the table of `new`; empty if they are alike.
pub(crate) fn render_change(table: &str, old: &Plan, new: &Plan) -> String {
    let mut change = Change {
        table,
        text: String::new(),
    };
    // What is referred to comes before what refers to it, and goes after it.
    change.sets(&old.peers, &new.peers, PEERS, intervals);
    change.sets(&old.named, &new.named, NAMED, |targets| {
        targets.iter().map(target).collect()
    });
    for (name, chain) in &new.chains {
        let known = old.chains.get(name);
        if known != Some(chain) {
            change.chain(
                name,
                known.is_some(),
                chain.accepts.iter().map(|accept| rule(chain, accept)),
            );
        }
    }
    for direction in DIRECTIONS {
        change.pods(direction, old.pods(direction), new.pods(direction));
    }
    let gone: Vec<_> = old
        .chains
        .keys()
        .filter(|name| !new.chains.contains_key(*name))
        .collect();
    gone.iter()
        .for_each(|name| change.line(format_args!("flush chain ip {table} {name}")));
    gone.iter()
        .for_each(|name| change.line(format_args!("delete chain ip {table} {name}")));
    let peers = old
        .peers
        .keys()
        .filter(|name| !new.peers.contains_key(*name));
    let named = old
        .named
        .keys()
        .filter(|name| !new.named.contains_key(*name));
    for name in peers.chain(named) {
        change.line(format_args!("delete set ip {table} {name}"));
    }
    change.text
}

const PEERS: &str = "type ipv4_addr; flags interval;";
const NAMED: &str = "type ipv4_addr . inet_proto . inet_service;";

/// A transaction in the making.
struct Change<'a> {
    table: &'a str,
    text: String,
}

impl Change<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("writing to a String cannot fail");
    }

    /// Adds what is new and fills what changed anew.
    fn sets<T: PartialEq>(
        &mut self,
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
        declaration: &str,
        elements: impl Fn(&T) -> Vec<String>,
    ) {
        let table = self.table;
        for (name, set) in new {
            match old.get(name) {
                Some(before) if before == set => continue,
                Some(_) => self.line(format_args!("flush set ip {table} {name}")),
                None => self.line(format_args!(
                    "add set ip {table} {name} {{ {declaration} }}"
                )),
            }
            let elements = elements(set).join(", ");
            self.line(format_args!(
                "add element ip {table} {name} {{ {elements} }}"
            ));
        }
    }

    fn chain(&mut self, name: &str, known: bool, rules: impl Iterator<Item = String>) {
        let (table, verb) = (self.table, if known { "flush" } else { "add" });
        self.line(format_args!("{verb} chain ip {table} {name}"));
        for rule in rules {
            self.line(format_args!("add rule ip {table} {name} {rule}"));
        }
    }

    /// The chains of pods, and the elements that lead there.
    fn pods(
        &mut self,
        direction: Direction,
        old: &BTreeMap<Ipv4Addr, Vec<String>>,
        new: &BTreeMap<Ipv4Addr, Vec<String>>,
    ) {
        let table = self.table;
        let (map, prefix, peer) = match direction {
            Direction::Ingress => ("ingress", "in", "saddr"),
            Direction::Egress => ("egress", "out", "daddr"),
        };
        for (ip, chains) in new {
            let known = old.get(ip);
            if known == Some(chains) {
                continue;
            }
            let name = format!("{prefix}_{ip}");
            let own = format!("ip {peer} {ip} accept");
            let jumps = chains.iter().map(|chain| format!("jump {chain}"));
            let refuse = "reject with icmp type admin-prohibited".to_owned();
            let rules = [own].into_iter().chain(jumps).chain([refuse]);
            self.chain(&name, known.is_some(), rules);
            if known.is_none() {
                self.line(format_args!(
                    "add element ip {table} {map} {{ {ip} : goto {name} }}"
                ));
            }
        }
        for ip in old.keys().filter(|ip| !new.contains_key(ip)) {
            self.line(format_args!("delete element ip {table} {map} {{ {ip} }}"));
            self.line(format_args!("flush chain ip {table} {prefix}_{ip}"));
            self.line(format_args!("delete chain ip {table} {prefix}_{ip}"));
        }
    }
}

fn rule(chain: &Chain, accept: &Accept) -> String {
    let mut text = String::new();
    if let Some(set) = &accept.peers {
        let field = match chain.direction {
            Direction::Ingress => "saddr",
            Direction::Egress => "daddr",
        };
        text += &format!("ip {field} @{set} ");
    }
    match &accept.ports {
        Ports::Any => {}
        Ports::Numbers(protocol, numbers) => {
            let protocol = name(*protocol == Protocol::Udp);
            let all: Vec<String> = numbers.iter().map(ports).collect();
            text += &match all.join(", ").as_str() {
                "0-65535" => format!("meta l4proto {protocol} "),
                some => format!("{protocol} dport {{ {some} }} "),
            };
        }
        Ports::Named(set) => text += &format!("ip daddr . meta l4proto . th dport @{set} "),
    }
    text + "accept"
}

fn ports((first, last): (u32, u32)) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

fn intervals(addresses: &Intervals) -> Vec<String> {
    let show = |(first, last): (u32, u32)| match first == last {
        true => Ipv4Addr::from(first).to_string(),
        false => format!("{}-{}", Ipv4Addr::from(first), Ipv4Addr::from(last)),
    };
    addresses.iter().map(show).collect()
}

fn target((ip, udp, port): &Target) -> String {
    format!("{ip} . {} . {port}", name(*udp))
}

fn name(udp: bool) -> &'static str {
    if udp { "udp" } else { "tcp" }
}
