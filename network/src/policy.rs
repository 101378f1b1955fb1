//! NetworkPolicies: whether a pod may take part in some traffic.
//!
//! - [`rule`]: one policy, made of its object. [`selector`]: label selectors.
//! - [`follow`]: the watches that fill this.
//! - [`plan`]: what they mean for isolated pods, whose traffic only the kernel sees; [`ruleset`]: that as
//!   nftables text, pure; [`enforce`]: applying it.
//!
//! Fed with policies, pods and namespaces; a verdict is a pure function of them. A pod that no policy
//! selects for a direction takes part in all of it; one that is selected takes part in what any of those
//! policies allows, and always in traffic with itself. Knows nothing of nodes: who asks adds that.

pub(crate) mod enforce;
pub(crate) mod follow;
mod intervals;
mod plan;
mod rule;
mod ruleset;
mod selector;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use k8s_openapi::api::{core::v1 as core, networking::v1::NetworkPolicy};
use runtimes::{Direction, PodRef, Protocol, Traffic};

use self::{plan::Plan, rule::Policy};
use crate::directory::{Name, name_of};

pub(crate) type Labels = BTreeMap<String, String>;

/// The annotation of a pod that stands for one of another uid, which runs from a file of the node.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The namespace that gateways are of, for policies.
pub(crate) const GATEWAY_NAMESPACE: &str = "kube-system";
/// The label that gateways have, for policies.
pub(crate) const GATEWAY_LABEL: (&str, &str) = ("app.kubernetes.io/name", "wk-gateway");

/// One object that came, changed or went; or all of a kind, after a list.
pub(crate) enum Update {
    Policies(Vec<NetworkPolicy>),
    Policy(NetworkPolicy),
    PolicyGone(NetworkPolicy),
    Pods(Vec<core::Pod>),
    Pod(core::Pod),
    PodGone(core::Pod),
    Namespaces(Vec<core::Namespace>),
    Namespace(core::Namespace),
    NamespaceGone(core::Namespace),
}

/// A pod, as far as policies are concerned.
#[derive(Debug)]
struct Pod {
    uid: String,
    mirror: bool,
    labels: Labels,
    ports: Vec<(String, Protocol, u16)>,
    ip: Option<IpAddr>,
}

/// Everything that decides about traffic.
#[derive(Default)]
pub(crate) struct Policies {
    /// By namespace.
    policies: HashMap<String, BTreeMap<String, Policy>>,
    pods: HashMap<Name, Pod>,
    namespaces: HashMap<String, Labels>,
    /// Whose address it is, as the objects say.
    by_ip: HashMap<IpAddr, Name>,
    /// The addresses of this node's own pods, known before their objects tell them; by uid.
    own: HashMap<String, IpAddr>,
    own_by_ip: HashMap<IpAddr, Name>,
    /// Pods of this node that no object tells of, by uid: what runs functions.
    declared: HashMap<String, (Name, Pod)>,
    declared_by_ip: HashMap<IpAddr, String>,
    /// The addresses of this node's isolated pods; by uid.
    isolated: HashMap<String, Ipv4Addr>,
    policies_listed: bool,
    pods_listed: bool,
    namespaces_listed: bool,
}

impl Policies {
    pub(crate) fn apply(&mut self, update: Update) {
        match update {
            Update::Policies(all) => {
                self.policies.clear();
                all.iter().for_each(|object| self.put_policy(object));
                self.policies_listed = true;
            }
            Update::Policy(object) => self.put_policy(&object),
            Update::PolicyGone(object) => {
                let Name { namespace, name } = name_of(&object.metadata);
                if let Some(policies) = self.policies.get_mut(&namespace) {
                    policies.remove(&name);
                    if policies.is_empty() {
                        self.policies.remove(&namespace);
                    }
                }
            }
            Update::Pods(all) => {
                self.pods.clear();
                self.by_ip.clear();
                all.into_iter().for_each(|object| self.put_pod(object));
                self.pods_listed = true;
            }
            Update::Pod(object) => self.put_pod(object),
            Update::PodGone(object) => self.remove_pod(&name_of(&object.metadata)),
            Update::Namespaces(all) => {
                self.namespaces.clear();
                all.into_iter()
                    .for_each(|object| self.put_namespace(object));
                self.namespaces_listed = true;
            }
            Update::Namespace(object) => self.put_namespace(object),
            Update::NamespaceGone(object) => {
                self.namespaces
                    .remove(&object.metadata.name.unwrap_or_default());
            }
        }
    }

    /// Whether there is any policy: only then are pods and namespaces of interest.
    pub(crate) fn any(&self) -> bool {
        !self.policies.is_empty()
    }

    /// Forgets pods and namespaces, which are not followed any more.
    pub(crate) fn forget_peers(&mut self) {
        self.pods = HashMap::new();
        self.by_ip = HashMap::new();
        self.namespaces = HashMap::new();
        self.pods_listed = false;
        self.namespaces_listed = false;
    }

    /// Whether a pod can be started: everything that would isolate it is known.
    pub(crate) fn knows(&self, pod: &PodRef) -> bool {
        let known = || {
            let object = self.pods.get(&Name::of(pod));
            object.is_some_and(|object| object.uid == pod.uid || object.mirror)
        };
        let known = || self.declared.contains_key(&pod.uid) || known();
        self.policies_listed && (!self.any() || (self.in_force() && known()))
    }

    /// Policies are in force once what they select is known.
    fn in_force(&self) -> bool {
        self.pods_listed && self.namespaces_listed
    }

    /// Learns of a pod of this node that has no object.
    pub(crate) fn declare(&mut self, pod: &PodRef, labels: Labels) {
        let declared = Pod {
            uid: pod.uid.clone(),
            mirror: false,
            labels,
            ports: Vec::new(),
            ip: None,
        };
        let declared = (Name::of(pod), declared);
        self.declared.insert(pod.uid.clone(), declared);
    }

    /// Gives one of this node's own pods its address; whether it is one that no object will tell of.
    pub(crate) fn add_own(&mut self, pod: &PodRef, ip: IpAddr) -> bool {
        self.own.insert(pod.uid.clone(), ip);
        let declared = self.declared.contains_key(&pod.uid);
        if declared {
            self.declared_by_ip.insert(ip, pod.uid.clone());
        } else {
            self.own_by_ip.insert(ip, Name::of(pod));
        }
        declared
    }

    /// Says that the kernel is to decide about one of this node's pods.
    pub(crate) fn add_isolated(&mut self, uid: &str, ip: Ipv4Addr) {
        self.isolated.insert(uid.to_owned(), ip);
    }

    /// What that means for all of them; `None` while it is not known whom policies select.
    fn plan(&self) -> Option<Plan> {
        Plan::new(self, &self.isolated.values().copied().collect())
    }

    pub(crate) fn remove_own(&mut self, uid: &str) {
        self.isolated.remove(uid);
        self.declared.remove(uid);
        if let Some(ip) = self.own.remove(uid) {
            self.declared_by_ip.remove(&ip);
            self.own_by_ip.remove(&ip);
        }
    }

    /// Decides. Pure: the same objects and the same traffic, the same verdict.
    pub(crate) fn allows(&self, pod: &PodRef, traffic: Traffic) -> bool {
        let Some(policies) = self.policies.get(&pod.namespace) else {
            return true;
        };
        if !self.in_force() {
            // Pods that are started now wait for this; those that run are not yet isolated.
            return true;
        }
        let name = Name::of(pod);
        let own_ip = self.own.get(&pod.uid).copied();
        let declared = self.declared.get(&pod.uid).map(|(_, pod)| pod);
        let Some(subject) = declared.or_else(|| self.pods.get(&name)) else {
            // Its object is gone, and with it what it may do.
            return own_ip == Some(traffic.peer);
        };
        if own_ip.or(subject.ip) == Some(traffic.peer) {
            return true;
        }
        let mut selecting = policies
            .values()
            .filter(|policy| policy.isolates(traffic.direction, &subject.labels))
            .peekable();
        if selecting.peek().is_none() {
            return true;
        }
        let peer = self.peer(traffic.peer);
        let target = match traffic.direction {
            Direction::Ingress => Some(subject),
            Direction::Egress => peer.as_ref().map(|(_, pod)| *pod),
        };
        let target_ports = target.map_or(&[][..], |pod| &pod.ports);
        let seen = rule::Seen {
            ip: traffic.peer,
            peer: peer.map(|(name, pod)| rule::PeerPod {
                namespace: &name.namespace,
                namespace_labels: self.namespaces.get(&name.namespace),
                labels: &pod.labels,
            }),
            port: traffic.port,
            protocol: traffic.protocol,
            target_ports,
        };
        selecting.any(|policy| policy.allows(traffic.direction, &pod.namespace, &seen))
    }

    /// Whether a client may reach by TCP what has these labels and is no pod; where the client is a pod, its own
    /// policies are asked too.
    pub(crate) fn admits(
        &self,
        namespace: &str,
        labels: &Labels,
        client: IpAddr,
        port: u16,
    ) -> bool {
        if !self.in_force() {
            return true;
        }
        let peer = self.peer(client);
        let enters = rule::Seen {
            ip: client,
            peer: peer.map(|(name, pod)| self.peer_pod(&name.namespace, &pod.labels)),
            port,
            protocol: Protocol::Tcp,
            target_ports: &[],
        };
        if !self.lets(Direction::Ingress, namespace, labels, &enters) {
            return false;
        }
        let Some((name, pod)) = peer else {
            return true;
        };
        let leaves = rule::Seen {
            // It has no address that a block of addresses could mean.
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            peer: Some(self.peer_pod(namespace, labels)),
            port,
            protocol: Protocol::Tcp,
            target_ports: &[],
        };
        self.lets(Direction::Egress, &name.namespace, &pod.labels, &leaves)
    }

    /// Whether a gateway may reach a pod at a port: as a pod of [`GATEWAY_NAMESPACE`] with [`GATEWAY_LABEL`], as Ingress
    /// controllers usually are. Blocks of addresses mean it only where they mean everybody. What is no pod is reached.
    pub(crate) fn admits_gateway(&self, address: IpAddr, port: u16) -> bool {
        if !self.in_force() {
            return true;
        }
        let Some((name, pod)) = self.peer(address) else {
            return true;
        };
        let (label, value) = GATEWAY_LABEL;
        let labels = Labels::from([(label.to_owned(), value.to_owned())]);
        let enters = rule::Seen {
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            peer: Some(self.peer_pod(GATEWAY_NAMESPACE, &labels)),
            port,
            protocol: Protocol::Tcp,
            target_ports: &pod.ports,
        };
        self.lets(Direction::Ingress, &name.namespace, &pod.labels, &enters)
    }

    fn peer_pod<'a>(&'a self, namespace: &'a str, labels: &'a Labels) -> rule::PeerPod<'a> {
        rule::PeerPod {
            namespace,
            namespace_labels: self.namespaces.get(namespace),
            labels,
        }
    }

    /// Whether the policies that isolate these labels, if any, allow it.
    fn lets(
        &self,
        direction: Direction,
        namespace: &str,
        labels: &Labels,
        seen: &rule::Seen<'_>,
    ) -> bool {
        let policies = self.policies.get(namespace).into_iter();
        let policies = policies.flat_map(BTreeMap::values);
        let mut selecting = policies
            .filter(|policy| policy.isolates(direction, labels))
            .peekable();
        selecting.peek().is_none()
            || selecting.any(|policy| policy.allows(direction, namespace, seen))
    }

    fn peer(&self, ip: IpAddr) -> Option<(&Name, &Pod)> {
        if let Some(uid) = self.declared_by_ip.get(&ip) {
            return self.declared.get(uid).map(|(name, pod)| (name, pod));
        }
        let own = self.own_by_ip.get(&ip);
        let name = own.or_else(|| self.by_ip.get(&ip))?;
        Some((name, self.pods.get(name)?))
    }

    fn put_policy(&mut self, object: &NetworkPolicy) {
        let Name { namespace, name } = name_of(&object.metadata);
        let policies = self.policies.entry(namespace).or_default();
        policies.insert(name, Policy::read(object));
    }

    fn put_pod(&mut self, object: core::Pod) {
        let name = name_of(&object.metadata);
        self.remove_pod(&name);
        let pod = Pod::read(object);
        if let Some(ip) = pod.ip {
            self.by_ip.insert(ip, name.clone());
        }
        self.pods.insert(name, pod);
    }

    fn remove_pod(&mut self, name: &Name) {
        let ip = self.pods.remove(name).and_then(|pod| pod.ip);
        if let Some(ip) = ip
            && self.by_ip.get(&ip) == Some(name)
        {
            self.by_ip.remove(&ip);
        }
    }

    fn put_namespace(&mut self, object: core::Namespace) {
        let labels = object.metadata.labels.unwrap_or_default();
        self.namespaces
            .insert(object.metadata.name.unwrap_or_default(), labels);
    }
}

impl Pod {
    fn read(object: core::Pod) -> Self {
        let status = object.status.unwrap_or_default();
        let spec = object.spec.unwrap_or_default();
        // One that has ended keeps an address in its status that others may have by now; one in its
        // node's own network has its node's.
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ip = status
            .pod_ip
            .filter(|_| !ended && spec.host_network != Some(true));
        let sidecars = spec.init_containers.into_iter().flatten();
        let containers = spec.containers.into_iter().chain(sidecars);
        let ports = containers.flat_map(|container| container.ports.into_iter().flatten());
        let ports = ports.filter_map(|port| {
            let protocol = rule::protocol(port.protocol.as_deref())?;
            Some((
                port.name?,
                protocol,
                u16::try_from(port.container_port).ok()?,
            ))
        });
        let annotations = object.metadata.annotations.unwrap_or_default();
        Pod {
            uid: object.metadata.uid.unwrap_or_default(),
            mirror: annotations.contains_key(MIRROR),
            labels: object.metadata.labels.unwrap_or_default(),
            ports: ports.collect(),
            ip: ip.and_then(|ip| ip.parse().ok()),
        }
    }
}

impl Name {
    fn of(pod: &PodRef) -> Name {
        Name {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
