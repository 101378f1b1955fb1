//! One NetworkPolicy, read once and asked often. Pure.
//!
//! What cannot be read (an address range that is none, a protocol that pods here do not speak) allows
//! nothing: a policy never opens more than it says.

use std::net::IpAddr;

use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use runtimes::{Direction, Protocol};

use super::{Labels, intervals::Intervals, selector::Selector};

/// A policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pods: Selector,
    /// `None` where the policy says nothing of that direction.
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
}

/// Allows traffic with any of its peers at any of its ports; none of either is all of them.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) peers: Vec<Peer>,
    pub(super) ports: Vec<Port>,
}

#[derive(Debug)]
pub(super) enum Peer {
    Block {
        range: Option<Cidr>,
        except: Vec<Option<Cidr>>,
    },
    Pods {
        /// `None`: the policy's own namespace.
        namespaces: Option<Selector>,
        /// `None`: all.
        pods: Option<Selector>,
    },
}

#[derive(Debug)]
pub(super) struct Port {
    /// `None`: a protocol that is not spoken here.
    pub(super) protocol: Option<Protocol>,
    pub(super) number: Number,
}

#[derive(Debug)]
pub(super) enum Number {
    Any,
    Range(u16, u16),
    Named(String),
    Never,
}

/// Traffic, with what is known of the other end.
pub(crate) struct Seen<'a> {
    pub(crate) ip: IpAddr,
    /// `None` if it is no pod's address.
    pub(crate) peer: Option<PeerPod<'a>>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// The named ports of the pod that it goes to.
    pub(crate) target_ports: &'a [(String, Protocol, u16)],
}

/// The pod at the other end.
pub(crate) struct PeerPod<'a> {
    pub(crate) namespace: &'a str,
    /// `None` if the namespace is not known.
    pub(crate) namespace_labels: Option<&'a Labels>,
    pub(crate) labels: &'a Labels,
}

impl Policy {
    pub(crate) fn read(object: &NetworkPolicy) -> Policy {
        let spec = object.spec.clone().unwrap_or_default();
        let (ingress, egress) = (
            spec.ingress.unwrap_or_default(),
            spec.egress.unwrap_or_default(),
        );
        let has = |kind: &str| match &spec.policy_types {
            Some(types) if !types.is_empty() => types.iter().any(|each| each == kind),
            // Unsaid, a policy is about ingress, and about egress if it has rules for it.
            _ => kind == "Ingress" || !egress.is_empty(),
        };
        let rule = |peers: &Option<Vec<_>>, ports: &Option<Vec<_>>| Rule {
            peers: peers.iter().flatten().map(Peer::read).collect(),
            ports: ports.iter().flatten().map(Port::read).collect(),
        };
        let incoming = || {
            ingress
                .iter()
                .map(|each| rule(&each.from, &each.ports))
                .collect()
        };
        let outgoing = || {
            egress
                .iter()
                .map(|each| rule(&each.to, &each.ports))
                .collect()
        };
        Policy {
            pods: Selector::read(&spec.pod_selector.unwrap_or_default()),
            ingress: has("Ingress").then(incoming),
            egress: has("Egress").then(outgoing),
        }
    }

    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// Whether a pod with these labels takes part only in what policies allow.
    pub(crate) fn isolates(&self, direction: Direction, labels: &Labels) -> bool {
        self.rules(direction).is_some() && self.pods.matches(labels)
    }

    /// Whether it lets a pod that it selects take part; `namespace` is its own.
    pub(crate) fn allows(&self, direction: Direction, namespace: &str, seen: &Seen<'_>) -> bool {
        self.rules(direction).into_iter().flatten().any(|rule| {
            (rule.ports.is_empty() || rule.ports.iter().any(|port| port.matches(seen)))
                && (rule.peers.is_empty()
                    || rule.peers.iter().any(|peer| peer.matches(namespace, seen)))
        })
    }
}

impl Peer {
    fn read(peer: &NetworkPolicyPeer) -> Peer {
        if let Some(IPBlock { cidr, except }) = &peer.ip_block {
            return Peer::Block {
                range: Cidr::parse(cidr),
                except: except
                    .iter()
                    .flatten()
                    .map(|text| Cidr::parse(text))
                    .collect(),
            };
        }
        Peer::Pods {
            namespaces: peer.namespace_selector.as_ref().map(Selector::read),
            pods: peer.pod_selector.as_ref().map(Selector::read),
        }
    }

    /// The addresses of IPv4 that a block has, exceptions taken out; `None` if the peers are pods.
    pub(super) fn block(&self) -> Option<Intervals> {
        let Peer::Block { range, except } = self else {
            return None;
        };
        let mut addresses = Intervals::default();
        if let Some((first, last)) = range.and_then(Cidr::interval) {
            addresses.add(first, last);
        }
        for excepted in except {
            match excepted {
                // One that cannot be read excepts everything.
                None => addresses = Intervals::default(),
                Some(range) => {
                    if let Some((first, last)) = range.interval() {
                        addresses.remove(first, last);
                    }
                }
            }
        }
        Some(addresses)
    }

    pub(super) fn matches(&self, own_namespace: &str, seen: &Seen<'_>) -> bool {
        match self {
            Peer::Block { range, except } => {
                // An exception that cannot be read excepts everything.
                let excepted =
                    |range: &Option<Cidr>| range.is_none_or(|range| range.contains(seen.ip));
                range.is_some_and(|range| range.contains(seen.ip)) && !except.iter().any(excepted)
            }
            Peer::Pods { namespaces, pods } => seen.peer.as_ref().is_some_and(|peer| {
                let namespace = match namespaces {
                    None => peer.namespace == own_namespace,
                    Some(selector) => peer
                        .namespace_labels
                        .is_some_and(|labels| selector.matches(labels)),
                };
                namespace
                    && pods
                        .as_ref()
                        .is_none_or(|selector| selector.matches(peer.labels))
            }),
        }
    }
}

impl Port {
    fn read(port: &NetworkPolicyPort) -> Port {
        let small = |number: i32| u16::try_from(number).ok();
        let number = match (&port.port, port.end_port) {
            (None, _) => Number::Any,
            (Some(IntOrString::String(name)), _) => Number::Named(name.clone()),
            (Some(IntOrString::Int(first)), end) => {
                match (small(*first), end.map_or(small(*first), small)) {
                    (Some(first), Some(last)) => Number::Range(first, last),
                    _ => Number::Never,
                }
            }
        };
        Port {
            protocol: protocol(port.protocol.as_deref()),
            number,
        }
    }

    fn matches(&self, seen: &Seen<'_>) -> bool {
        self.protocol == Some(seen.protocol)
            && match &self.number {
                Number::Any => true,
                Number::Range(first, last) => (*first..=*last).contains(&seen.port),
                Number::Named(name) => seen.target_ports.iter().any(|(other, protocol, number)| {
                    other == name && *protocol == seen.protocol && *number == seen.port
                }),
                Number::Never => false,
            }
    }
}

/// A transport protocol by its name; unsaid, it is TCP. `None` for one that is not spoken here.
pub(super) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some(_) => None,
    }
}

/// An address range of either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cidr {
    bits: u128,
    mask: u128,
    v4: bool,
}

impl Cidr {
    fn parse(text: &str) -> Option<Cidr> {
        let (ip, prefix) = text.split_once('/')?;
        let (ip, prefix): (IpAddr, u32) = (ip.parse().ok()?, prefix.parse().ok()?);
        let width = if ip.is_ipv4() { 32 } else { 128 };
        if prefix > width {
            return None;
        }
        let mask = ones(width) & !ones(width - prefix);
        Some(Cidr {
            bits: bits(ip) & mask,
            mask,
            v4: ip.is_ipv4(),
        })
    }

    /// The first and the last address of a range of IPv4.
    fn interval(self) -> Option<(u32, u32)> {
        let first = u32::try_from(self.bits).ok().filter(|_| self.v4)?;
        Some((first, first | !u32::try_from(self.mask).ok()?))
    }

    fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.v4 && bits(ip) & self.mask == self.bits
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// A number of `count` ones.
fn ones(count: u32) -> u128 {
    u128::MAX.checked_shr(128 - count).unwrap_or(0)
}
