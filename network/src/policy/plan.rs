//! What the NetworkPolicies mean for a node's isolated pods, as sets of addresses and lists of rules: what
//! the kernel can decide by. Pure: made of [`Policies`] alone, and of the same verdicts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use runtimes::{Direction, Protocol};
use sha2::{Digest, Sha256};

use super::{
    Labels, Pod, Policies,
    intervals::Intervals,
    rule::{Number, PeerPod, Policy, Rule, Seen},
};
use crate::directory::Name;

/// The longest name of a chain or set that a policy's own name is a part of.
const MAX_NAME: usize = 180;

/// Everything that decides about isolated pods' traffic.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Plan {
    /// By name: addresses.
    pub(crate) peers: BTreeMap<String, Intervals>,
    /// By name: where a port of some name is.
    pub(crate) named: BTreeMap<String, BTreeSet<Target>>,
    /// By name: what one policy allows in one direction.
    pub(crate) chains: BTreeMap<String, Chain>,
    /// Pods that take part only in what these chains allow, and in traffic with themselves.
    pub(crate) ingress: BTreeMap<Ipv4Addr, Vec<String>>,
    pub(crate) egress: BTreeMap<Ipv4Addr, Vec<String>>,
}

/// A port of a pod: address, protocol, number.
pub(crate) type Target = (Ipv4Addr, bool, u16);

/// What a policy allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chain {
    pub(crate) direction: Direction,
    pub(crate) accepts: Vec<Accept>,
}

/// Traffic that is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Accept {
    /// The set that the other end is in; `None` is anybody.
    pub(crate) peers: Option<String>,
    pub(crate) ports: Ports,
}

/// Where it goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ports {
    Any,
    Numbers(Protocol, Intervals),
    /// What is in that set.
    Named(String),
}

impl Plan {
    /// Decides for isolated pods, by their addresses; `None` while it is not known whom policies select.
    pub(crate) fn new(policies: &Policies, isolated: &BTreeSet<Ipv4Addr>) -> Option<Self> {
        if !policies.policies_listed || (policies.any() && !policies.in_force()) {
            return None;
        }
        let mut plan = Self::default();
        if policies.any() && !isolated.is_empty() {
            let planner = Planner::new(policies, isolated);
            for ip in isolated {
                planner.plan_pod(*ip, &mut plan);
            }
        }
        Some(plan)
    }

    pub(crate) fn pods(&self, direction: Direction) -> &BTreeMap<Ipv4Addr, Vec<String>> {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    fn pods_mut(&mut self, direction: Direction) -> &mut BTreeMap<Ipv4Addr, Vec<String>> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }
}

/// What is known, by address.
struct Planner<'a> {
    policies: &'a Policies,
    /// Whose an address is, with its object.
    pods: HashMap<Ipv4Addr, (&'a Name, &'a Pod)>,
    isolated: &'a BTreeSet<Ipv4Addr>,
}

impl<'a> Planner<'a> {
    fn new(policies: &'a Policies, isolated: &'a BTreeSet<Ipv4Addr>) -> Self {
        let addresses = policies.by_ip.keys().chain(policies.own_by_ip.keys());
        let addresses = addresses.chain(policies.declared_by_ip.keys());
        let pods = addresses.filter_map(|ip| match ip {
            IpAddr::V4(v4) => Some((*v4, policies.peer(*ip)?)),
            IpAddr::V6(_) => None,
        });
        Self {
            pods: pods.collect(),
            policies,
            isolated,
        }
    }

    fn plan_pod(&self, ip: Ipv4Addr, plan: &mut Plan) {
        let address = IpAddr::V4(ip);
        let own = self.policies.own_by_ip.get(&address);
        let Some(name) = own.or_else(|| self.policies.by_ip.get(&address)) else {
            // Whose it is will be said soon: until then it may do nothing.
            plan.ingress.insert(ip, Vec::new());
            plan.egress.insert(ip, Vec::new());
            return;
        };
        let Some(policies) = self.policies.policies.get(&name.namespace) else {
            return;
        };
        for direction in [Direction::Ingress, Direction::Egress] {
            let chains = match self.policies.pods.get(name) {
                // Its object is gone, and with it what it may do.
                None => Some(Vec::new()),
                Some(pod) => self.chains(policies, &name.namespace, direction, &pod.labels, plan),
            };
            if let Some(chains) = chains {
                plan.pods_mut(direction).insert(ip, chains);
            }
        }
    }

    /// The chains of the policies that select a pod; `None` if none does.
    fn chains(
        &self,
        policies: &BTreeMap<String, Policy>,
        namespace: &str,
        direction: Direction,
        labels: &Labels,
        plan: &mut Plan,
    ) -> Option<Vec<String>> {
        let selecting = policies.iter();
        let selecting = selecting.filter(|(_, policy)| policy.isolates(direction, labels));
        let chains: Vec<_> = selecting
            .map(|(name, policy)| {
                let chain = chain_name(direction, namespace, name);
                if !plan.chains.contains_key(&chain) {
                    self.plan_chain(&chain, namespace, direction, policy, plan);
                }
                chain
            })
            .collect();
        (!chains.is_empty()).then_some(chains)
    }

    fn plan_chain(
        &self,
        chain: &str,
        namespace: &str,
        direction: Direction,
        policy: &Policy,
        plan: &mut Plan,
    ) {
        let mut accepts = Vec::new();
        let rules = policy.rules(direction).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let set = format!("{chain}_{index}");
            let peers = self.peers(rule, namespace);
            if peers.as_ref().is_some_and(Intervals::is_empty) {
                continue;
            }
            let ports = self.ports(rule, direction, policy, namespace, &set, plan);
            if ports.is_empty() {
                continue;
            }
            let name = match peers {
                Some(addresses) => {
                    plan.peers.insert(set.clone(), addresses);
                    Some(set)
                }
                None => None,
            };
            accepts.extend(ports.into_iter().map(|ports| Accept {
                peers: name.clone(),
                ports,
            }));
        }
        let chain = chain.to_owned();
        plan.chains.insert(chain, Chain { direction, accepts });
    }

    /// Who may be at the other end; `None` is anybody.
    fn peers(&self, rule: &Rule, namespace: &str) -> Option<Intervals> {
        if rule.peers.is_empty() {
            return None;
        }
        let mut addresses = Intervals::default();
        for peer in &rule.peers {
            if let Some(block) = peer.block() {
                addresses.union(&block);
                continue;
            }
            for (ip, (name, pod)) in &self.pods {
                let seen = Seen {
                    ip: (*ip).into(),
                    peer: Some(PeerPod {
                        namespace: &name.namespace,
                        namespace_labels: self.policies.namespaces.get(&name.namespace),
                        labels: &pod.labels,
                    }),
                    port: 0,
                    protocol: Protocol::Tcp,
                    target_ports: &[],
                };
                if peer.matches(namespace, &seen) {
                    addresses.add((*ip).into(), (*ip).into());
                }
            }
        }
        let all = addresses.iter().next() == Some((0, u32::MAX));
        (!all).then_some(addresses)
    }

    fn ports(
        &self,
        rule: &Rule,
        direction: Direction,
        policy: &Policy,
        namespace: &str,
        set: &str,
        plan: &mut Plan,
    ) -> Vec<Ports> {
        if rule.ports.is_empty() {
            return vec![Ports::Any];
        }
        let mut numbers: [Intervals; 2] = Default::default();
        let mut named = BTreeSet::new();
        for port in &rule.ports {
            let Some(protocol) = port.protocol else {
                continue;
            };
            let udp = protocol == Protocol::Udp;
            match &port.number {
                Number::Any => numbers[usize::from(udp)].add(0, u16::MAX.into()),
                Number::Range(first, last) => {
                    numbers[usize::from(udp)].add((*first).into(), (*last).into());
                }
                Number::Named(name) => {
                    let targets = self.targets(direction, policy, namespace);
                    let at = targets.flat_map(|(ip, pod)| {
                        let ports = pod.ports.iter();
                        let same = ports.filter(|each| each.0 == *name && each.1 == protocol);
                        same.map(move |(_, _, number)| (ip, udp, *number))
                    });
                    named.extend(at);
                }
                Number::Never => {}
            }
        }
        let [tcp, udp] = numbers;
        let numbers = [(Protocol::Tcp, tcp), (Protocol::Udp, udp)].into_iter();
        let mut ports: Vec<_> = numbers
            .filter(|(_, numbers)| !numbers.is_empty())
            .map(|(protocol, numbers)| Ports::Numbers(protocol, numbers))
            .collect();
        if !named.is_empty() {
            let set = format!("{set}_ports");
            ports.push(Ports::Named(set.clone()));
            plan.named.insert(set, named);
        }
        ports
    }

    /// The pods whose ports a name means: those that the traffic goes to.
    fn targets(
        &self,
        direction: Direction,
        policy: &Policy,
        namespace: &str,
    ) -> impl Iterator<Item = (Ipv4Addr, &'a Pod)> {
        let wanted = move |ip: &Ipv4Addr, name: &Name, pod: &Pod| match direction {
            Direction::Egress => true,
            Direction::Ingress => {
                self.isolated.contains(ip)
                    && name.namespace == namespace
                    && policy.isolates(direction, &pod.labels)
            }
        };
        let pods = self.pods.iter();
        pods.filter(move |(ip, (name, pod))| wanted(ip, name, pod))
            .map(|(ip, (_, pod))| (*ip, *pod))
    }
}

/// The chain of a policy: names of Kubernetes are names here, but for very long ones.
fn chain_name(direction: Direction, namespace: &str, name: &str) -> String {
    let prefix = match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    };
    let text = format!("{prefix}_{namespace}/{name}");
    if text.len() <= MAX_NAME {
        return text;
    }
    let digest = Sha256::digest(text.as_bytes());
    let short: String = text.chars().take(MAX_NAME - 33).collect();
    let hash: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{short}_{hash}")
}

#[cfg(test)]
impl Plan {
    /// What the kernel decides with these rules.
    pub(crate) fn allows(&self, own: Ipv4Addr, traffic: runtimes::Traffic) -> bool {
        let runtimes::Traffic {
            direction,
            peer: IpAddr::V4(peer),
            port,
            protocol,
        } = traffic
        else {
            return false;
        };
        let Some(chains) = self.pods(direction).get(&own) else {
            return true;
        };
        let target = match direction {
            Direction::Ingress => own,
            Direction::Egress => peer,
        };
        let mut accepts = chains.iter().flat_map(|chain| &self.chains[chain].accepts);
        let passes = |accept: &Accept| {
            let peers = accept.peers.as_ref();
            peers.is_none_or(|set| self.peers[set].contains(peer.into()))
                && match &accept.ports {
                    Ports::Any => true,
                    Ports::Numbers(of, numbers) => *of == protocol && numbers.contains(port.into()),
                    Ports::Named(set) => {
                        self.named[set].contains(&(target, protocol == Protocol::Udp, port))
                    }
                }
        };
        own == peer || accepts.any(passes)
    }
}
