//! Where a pod says that its components may connect to: the annotation `wasm.wk.dev/allow-egress`. Pure.
//!
//! A list, with commas, of names (`api.example.org`), names below a domain (`*.example.org`), addresses
//! and ranges (`10.0.0.0/8`), each with a port if only that one is meant, and `cluster` for everything
//! of the cluster. Without the annotation nothing is restricted here; an empty one allows nothing. A
//! name is allowed by what it resolves to: those addresses are remembered as long as the container lives.

use std::{
    collections::{HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
};

/// The annotation's key.
pub(crate) const ANNOTATION: &str = "wasm.wk.dev/allow-egress";

/// How many addresses of names are remembered; of more, the oldest are forgotten.
const MAX_LEARNED: usize = 4096;

/// What a pod's components may connect to.
pub(crate) struct Egress {
    entries: Vec<Entry>,
    learned: Mutex<Learned>,
}

#[derive(PartialEq, Eq, Debug)]
struct Entry {
    host: Host,
    /// `None`: all.
    port: Option<u16>,
}

#[derive(PartialEq, Eq, Debug)]
enum Host {
    Name(String),
    /// With its leading dot.
    Below(String),
    Range {
        base: IpAddr,
        prefix: u8,
    },
    Cluster,
}

/// Addresses that allowed names led to, with their ports.
#[derive(Default)]
struct Learned {
    known: HashSet<(IpAddr, Option<u16>)>,
    order: VecDeque<(IpAddr, Option<u16>)>,
}

impl Egress {
    /// Reads the annotation's value.
    ///
    /// # Errors
    /// Names the entry that cannot be read, and what it can be.
    pub(crate) fn parse(text: &str) -> Result<Egress, String> {
        let entries = text.split(',').map(str::trim);
        let entries = entries.filter(|entry| !entry.is_empty());
        let entries: Result<_, _> = entries.map(Entry::parse).collect();
        Ok(Egress {
            entries: entries?,
            learned: Mutex::default(),
        })
    }

    /// Whether a name may be looked up at all: looking up tells others about it.
    pub(crate) fn may_look_up(&self, name: &str, of_cluster: bool) -> bool {
        self.entries.iter().any(|entry| match &entry.host {
            Host::Cluster => of_cluster,
            // Its addresses may be in the range; those that are not are left out of the answer.
            Host::Range { .. } => true,
            host => host.is_name(name),
        })
    }

    /// Remembers what a name led to; the addresses that may be connected to.
    pub(crate) fn learn(
        &self,
        name: &str,
        addresses: Vec<IpAddr>,
        of_cluster: impl Fn(IpAddr) -> bool,
    ) -> Vec<IpAddr> {
        for entry in self.entries.iter().filter(|entry| entry.host.is_name(name)) {
            for address in &addresses {
                self.remember(*address, entry.port);
            }
        }
        let any_port = |address: &IpAddr| {
            self.entries
                .iter()
                .any(|entry| entry.host.has(*address, of_cluster(*address)))
                || self.learned(|known| known.iter().any(|(known, _)| known == address))
        };
        addresses.into_iter().filter(any_port).collect()
    }

    /// Remembers where the connection to an allowed address of a Service goes.
    pub(crate) fn learn_endpoint(&self, endpoint: SocketAddr) {
        self.remember(endpoint.ip(), Some(endpoint.port()));
    }

    /// Whether a connection may be made.
    pub(crate) fn permits(&self, to: SocketAddr, of_cluster: bool) -> bool {
        let (ip, port) = (to.ip(), to.port());
        let entry = |entry: &Entry| {
            entry.port.is_none_or(|only| only == port) && entry.host.has(ip, of_cluster)
        };
        self.entries.iter().any(entry)
            || self
                .learned(|known| known.contains(&(ip, None)) || known.contains(&(ip, Some(port))))
    }

    fn learned(&self, ask: impl FnOnce(&HashSet<(IpAddr, Option<u16>)>) -> bool) -> bool {
        ask(&self
            .learned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .known)
    }

    fn remember(&self, ip: IpAddr, port: Option<u16>) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if !learned.known.insert((ip, port)) {
            return;
        }
        learned.order.push_back((ip, port));
        if learned.order.len() > MAX_LEARNED
            && let Some(oldest) = learned.order.pop_front()
        {
            learned.known.remove(&oldest);
        }
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Entry, String> {
        let wrong = || {
            format!(
                "annotation {ANNOTATION}: {text:?} is neither a name, *.domain, an address, a range nor \
                 `cluster`, each with :port or without"
            )
        };
        // An IPv6 address has colons of its own, and brackets where it has a port.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0));
        let port = match port {
            Some(None) => return Err(wrong()),
            port => port.flatten(),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Host::parse(host)
            .map(|host| Entry { host, port })
            .ok_or_else(wrong)
    }
}

impl Host {
    fn parse(text: &str) -> Option<Host> {
        if text == "cluster" {
            return Some(Host::Cluster);
        }
        if let Ok(base) = text.parse::<IpAddr>() {
            return Some(Host::Range {
                base,
                prefix: width(base),
            });
        }
        if let Some((base, prefix)) = text.split_once('/') {
            let (base, prefix): (IpAddr, u8) = (base.parse().ok()?, prefix.parse().ok()?);
            return (prefix <= width(base)).then_some(Host::Range { base, prefix });
        }
        let (domain, below) = match text.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (text, false),
        };
        let domain = normal(domain);
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !domain.split('.').all(is_label) {
            return None;
        }
        Some(if below {
            Host::Below(format!(".{domain}"))
        } else {
            Host::Name(domain)
        })
    }

    fn is_name(&self, name: &str) -> bool {
        let name = normal(name);
        match self {
            Host::Name(own) => *own == name,
            Host::Below(domain) => name.ends_with(domain.as_str()),
            Host::Range { .. } | Host::Cluster => false,
        }
    }

    fn has(&self, ip: IpAddr, of_cluster: bool) -> bool {
        match self {
            Host::Cluster => of_cluster,
            Host::Range { base, prefix } => {
                let differing = match (base, ip) {
                    (IpAddr::V4(base), IpAddr::V4(ip)) => {
                        (u32::from(*base) ^ u32::from(ip)).leading_zeros()
                    }
                    (IpAddr::V6(base), IpAddr::V6(ip)) => {
                        (u128::from(*base) ^ u128::from(ip)).leading_zeros()
                    }
                    _ => return false,
                };
                differing >= u32::from(*prefix)
            }
            Host::Name(_) | Host::Below(_) => false,
        }
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// A name as names are compared: in lower case, without its final dot.
fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Of the cluster are 10.43.0.0/16 and 10.64.0.0/16. `name=ip` resolves a name first.
    #[track_caller]
    fn check(text: &str, questions: &[&str], want: Expect) {
        let egress = match Egress::parse(text) {
            Ok(egress) => egress,
            Err(error) => return want.assert_eq(&format!("{error}\n")),
        };
        let of_cluster = |ip: IpAddr| {
            ip.to_string().starts_with("10.43.") || ip.to_string().starts_with("10.64.")
        };
        let mut got = String::new();
        for question in questions {
            let answer = match question.split_once('=') {
                Some((name, ip)) => {
                    let ip: IpAddr = ip.parse().unwrap();
                    if egress.may_look_up(name, of_cluster(ip)) {
                        format!("{:?}", egress.learn(name, vec![ip], of_cluster))
                    } else {
                        "may not be looked up".to_owned()
                    }
                }
                None => {
                    let to: SocketAddr = question.parse().unwrap();
                    egress.permits(to, of_cluster(to.ip())).to_string()
                }
            };
            got += &format!("{question} -> {answer}\n");
        }
        want.assert_eq(&got);
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        check(
            "",
            &["1.2.3.4:80", "10.64.0.4:80", "example.org=1.2.3.4"],
            expect![[r#"
            1.2.3.4:80 -> false
            10.64.0.4:80 -> false
            example.org=1.2.3.4 -> may not be looked up
        "#]],
        );
    }

    #[test]
    fn a_name_is_allowed_by_what_it_resolves_to() {
        check(
            "api.example.org:443, *.example.com",
            &[
                "1.2.3.4:443",
                "API.example.org.=1.2.3.4",
                "1.2.3.4:443",
                "1.2.3.4:80",
                "a.b.example.com=1.2.3.5",
                "1.2.3.5:80",
                "example.com=1.2.3.6",
                "1.2.3.6:80",
                "evilexample.com=1.2.3.7",
            ],
            expect![[r#"
                1.2.3.4:443 -> false
                API.example.org.=1.2.3.4 -> [1.2.3.4]
                1.2.3.4:443 -> true
                1.2.3.4:80 -> false
                a.b.example.com=1.2.3.5 -> [1.2.3.5]
                1.2.3.5:80 -> true
                example.com=1.2.3.6 -> may not be looked up
                1.2.3.6:80 -> false
                evilexample.com=1.2.3.7 -> may not be looked up
            "#]],
        );
    }

    #[test]
    fn ranges_and_addresses_have_ports_too() {
        check(
            "192.168.0.0/16:5432,8.8.8.8,[2001:db8::1]:443",
            &[
                "192.168.3.4:5432",
                "192.168.3.4:5433",
                "192.169.0.1:5432",
                "8.8.8.8:53",
                "[2001:db8::1]:443",
                "[2001:db8::1]:80",
                "db.example.org=192.168.1.1",
                "x.org=9.9.9.9",
            ],
            expect![[r#"
                192.168.3.4:5432 -> true
                192.168.3.4:5433 -> false
                192.169.0.1:5432 -> false
                8.8.8.8:53 -> true
                [2001:db8::1]:443 -> true
                [2001:db8::1]:80 -> false
                db.example.org=192.168.1.1 -> [192.168.1.1]
                x.org=9.9.9.9 -> []
            "#]],
        );
    }

    #[test]
    fn the_cluster_is_one_word() {
        check(
            "cluster",
            &[
                "web=10.43.0.9",
                "10.43.0.9:80",
                "10.64.0.4:1",
                "1.2.3.4:80",
                "example.org=1.2.3.4",
            ],
            expect![[r#"
                web=10.43.0.9 -> [10.43.0.9]
                10.43.0.9:80 -> true
                10.64.0.4:1 -> true
                1.2.3.4:80 -> false
                example.org=1.2.3.4 -> may not be looked up
            "#]],
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        check(
            "example.org:http",
            &[],
            expect![[r#"
            annotation wasm.wk.dev/allow-egress: "example.org:http" is neither a name, *.domain, an address, a range nor `cluster`, each with :port or without
        "#]],
        );
        check(
            "10.0.0.0/33",
            &[],
            expect![[r#"
            annotation wasm.wk.dev/allow-egress: "10.0.0.0/33" is neither a name, *.domain, an address, a range nor `cluster`, each with :port or without
        "#]],
        );
        check(
            "https://x.org",
            &[],
            expect![[r#"
            annotation wasm.wk.dev/allow-egress: "https://x.org" is neither a name, *.domain, an address, a range nor `cluster`, each with :port or without
        "#]],
        );
    }
}
