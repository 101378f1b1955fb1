//! The nodes, what is placed on them, and what else decisions read, kept up to date change by change.
//!
//! Pure. A pod is placed when the API says so, and *assumed* from a decision until the API confirms it
//! or its binding fails, so that the next decision already counts it.
//!
//! Nodes have dense indexes that stay until one is removed; decisions go through them in [`Snapshot::order`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use crate::budgets::Budgets;
use crate::census::{Census, Slot};
use crate::images::Images;
use crate::node::Node;
use crate::owners::Owners;
use crate::placed::Placed;
use crate::plugins::volumes;
use crate::pod::{HostPort, Labels, Load, Pod};
use crate::resources::Total;
use crate::storage::{ClaimKey, Fate, Storage};
use crate::zones::Zones;

/// Nodes, their pods, and the sums over them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Candidate>,
    indexes: HashMap<Arc<str>, usize>,
    order: OnceLock<Vec<usize>>,
    zones: Zones,
    pods: HashMap<Arc<str>, Placement>,
    /// How many of them are assumed.
    assumed: usize,
    /// Pods on nodes that are not known.
    strays: HashMap<Arc<str>, Vec<Arc<Placed>>>,
    /// How many of these pods use each claim.
    users: HashMap<ClaimKey, usize>,
    /// Pods for which room is made, by uid, and by their node.
    nominated: HashMap<Arc<str>, Arc<str>>,
    nominated_on: HashMap<Arc<str>, Vec<Arc<Placed>>>,
    /// The labels of namespaces.
    namespaces: HashMap<String, Labels>,
    pub(crate) storage: Storage,
    /// The pods by what they are.
    pub(crate) census: Census,
    /// Where images are.
    pub(crate) images: Images,
    /// What selects pods.
    pub(crate) owners: Owners,
    /// How many pods may go.
    pub(crate) budgets: Budgets,
}

/// A node and what is taken of it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Where it is among the snapshot's nodes.
    pub(crate) index: usize,
    /// Where it is in the census.
    pub(crate) slot: Slot,
    /// The number of its zone.
    zone: usize,
    pub(crate) node: Arc<Node>,
    pub(crate) usage: Usage,
    /// In no order.
    pub(crate) pods: Vec<Arc<Placed>>,
}

/// Sums over the pods on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) requested: Total,
    pub(crate) scored: Total,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) pods: usize,
}

/// Where a pod is. The node may be unknown: its object comes later, or is gone.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) node: Arc<str>,
    pub(crate) pod: Arc<Placed>,
    confirmed: bool,
}

/// What [`Snapshot::put_node`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    Added,
    /// It was this before.
    Changed(Arc<Node>),
    /// Nothing of interest changed.
    Same,
}

impl Snapshot {
    /// Adds or replaces a node.
    pub fn put_node(&mut self, node: Node) -> NodeChange {
        if let Some(index) = self.indexes.get(&node.name) {
            let known = &mut self.nodes[*index];
            if *known.node == node {
                return NodeChange::Same;
            }
            if !Zones::are_one(&known.node, &node) {
                self.zones.leave(&known.node);
                known.zone = self.zones.enter(&node);
                self.order = OnceLock::new();
            }
            self.census.relabel_node(known.slot, &node.labels);
            self.images.change(known.slot, &known.node, &node);
            let old = std::mem::replace(&mut known.node, Arc::new(node));
            return NodeChange::Changed(old);
        }
        self.order = OnceLock::new();
        let (name, index) = (Arc::clone(&node.name), self.nodes.len());
        let slot = self.census.add_node(Arc::clone(&node.labels));
        self.images.add(slot, &node);
        let zone = self.zones.enter(&node);
        self.nodes.push(Candidate {
            index,
            slot,
            zone,
            node: Arc::new(node),
            usage: Usage::default(),
            pods: Vec::new(),
        });
        for pod in self.strays.remove(&name).unwrap_or_default() {
            self.enter(index, pod);
        }
        self.indexes.insert(name, index);
        NodeChange::Added
    }

    /// Removes a node; its pods stay counted should it come back. What it was.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let (name, index) = self.indexes.remove_entry(name)?;
        self.order = OnceLock::new();
        for pod in self.nodes[index].pods.clone() {
            self.leave(index, &pod);
            self.strays.entry(Arc::clone(&name)).or_default().push(pod);
        }
        let gone = self.nodes.swap_remove(index);
        self.images.remove(gone.slot, &gone.node);
        self.zones.leave(&gone.node);
        self.census.remove_node(gone.slot);
        if let Some(moved) = self.nodes.get_mut(index) {
            moved.index = index;
            self.indexes.insert(Arc::clone(&moved.node.name), index);
        }
        Some(gone.node)
    }

    /// Keeps only the nodes of which this is true.
    pub(crate) fn retain_nodes(&mut self, keep: impl Fn(&str) -> bool) {
        let names = self.indexes.keys();
        let gone: Vec<_> = names.filter(|name| !keep(name)).cloned().collect();
        for name in gone {
            self.remove_node(&name);
        }
    }

    /// Adds or replaces a namespace; false if its labels did not change.
    pub fn put_namespace(&mut self, name: &str, labels: Labels) -> bool {
        if self.namespaces.get(name) == Some(&labels) {
            return false;
        }
        self.namespaces.insert(name.to_owned(), labels);
        true
    }

    /// Removes a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    pub(crate) fn retain_namespaces(&mut self, keep: impl Fn(&str) -> bool) {
        self.namespaces.retain(|name, _| keep(name));
    }

    /// The labels of a namespace; none if it is not known.
    pub(crate) fn namespace_labels(&self, name: &str) -> &Labels {
        static NONE: Labels = BTreeMap::new();
        self.namespaces.get(name).unwrap_or(&NONE)
    }

    /// The namespaces and their labels.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&str, &Labels)> {
        let namespaces = self.namespaces.iter();
        namespaces.map(|(name, labels)| (name.as_str(), labels))
    }

    /// Counts a pod on the node the API says it is on.
    pub fn place(&mut self, pod: &Pod, node: &Arc<str>) {
        self.put(pod, node, true);
    }

    /// Counts a pod on a node that was chosen for it.
    pub fn assume(&mut self, pod: &Pod, node: &Arc<str>) {
        self.put(pod, node, false);
    }

    /// Takes back [`assume`](Self::assume). `None` if there was nothing to take back.
    pub(crate) fn forget(&mut self, uid: &str) -> Option<Placement> {
        if self.is_assumed(uid) {
            self.take(uid)
        } else {
            None
        }
    }

    /// True from [`assume`](Self::assume) until the pod is placed, forgotten or removed.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|pod| !pod.confirmed)
    }

    /// Removes a pod.
    pub fn remove_pod(&mut self, uid: &str) {
        self.take(uid);
    }

    /// Removes a pod, if it had taken room.
    pub(crate) fn remove(&mut self, uid: &str) -> Option<Arc<Placed>> {
        self.take(uid).map(|placement| placement.pod)
    }

    /// Removes a pod, and where it was.
    pub(crate) fn take(&mut self, uid: &str) -> Option<Placement> {
        let placement = self.pods.remove(uid)?;
        self.assumed -= usize::from(!placement.confirmed);
        let Placement { node, pod, .. } = &placement;
        for claim in &pod.load.claims {
            if let Some(users) = self.users.get_mut(claim) {
                *users -= 1;
                if *users == 0 {
                    self.users.remove(claim);
                }
            }
        }
        if let Some(index) = self.indexes.get(node) {
            self.leave(*index, pod);
        } else if let Some(strays) = self.strays.get_mut(node) {
            strays.retain(|stray| !Arc::ptr_eq(stray, pod));
            if strays.is_empty() {
                self.strays.remove(node);
            }
        }
        Some(placement)
    }

    /// Notes where room is made for a pod. Where it was, if that was elsewhere.
    pub(crate) fn nominate(&mut self, pod: &Pod, node: &Arc<str>) -> Option<Placement> {
        if self.nominated.get(&pod.uid) == Some(node) {
            return None;
        }
        let before = self.denominate(&pod.uid);
        self.nominated
            .insert(Arc::clone(&pod.uid), Arc::clone(node));
        let pods = self.nominated_on.entry(Arc::clone(node)).or_default();
        pods.push(Arc::new(Placed::from(pod)));
        before
    }

    /// Notes that no room is made for a pod. Where it was.
    pub(crate) fn denominate(&mut self, uid: &str) -> Option<Placement> {
        let node = self.nominated.remove(uid)?;
        let pods = self.nominated_on.get_mut(&node)?;
        let own = pods.iter().position(|pod| *pod.uid == *uid)?;
        let pod = pods.swap_remove(own);
        if pods.is_empty() {
            self.nominated_on.remove(&node);
        }
        Some(Placement {
            node,
            pod,
            confirmed: false,
        })
    }

    /// The name of the node where room is made for a pod.
    pub(crate) fn nomination(&self, uid: &str) -> Option<&Arc<str>> {
        self.nominated.get(uid)
    }

    /// The node where room is made for a pod.
    pub(crate) fn nominated_node(&self, pod: &Pod) -> Option<&Candidate> {
        self.candidate(self.nomination(&pod.uid)?)
    }

    /// The pods for which room is made on a node.
    pub(crate) fn nominated_on(&self, node: &str) -> &[Arc<Placed>] {
        if self.nominated_on.is_empty() {
            return &[];
        }
        let pods = self.nominated_on.get(node);
        pods.map(Vec::as_slice).unwrap_or_default()
    }

    /// A pod that is placed or assumed.
    pub(crate) fn placed(&self, uid: &str) -> Option<&Arc<Placed>> {
        self.pods.get(uid).map(|placement| &placement.pod)
    }

    /// How many pods are placed, and how many of them are only assumed to be.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.pods.len(), self.assumed)
    }

    /// The pods that are placed or assumed, by uid.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.keys()
    }

    /// Every node, by its index.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.nodes
    }

    /// Indexes of the nodes in the order of decisions: one of each zone after the other.
    pub(crate) fn order(&self) -> &[usize] {
        self.order.get_or_init(|| {
            let zones = self.nodes.iter().map(|candidate| candidate.zone);
            self.zones.in_turn(zones)
        })
    }

    pub(crate) fn candidate(&self, name: &str) -> Option<&Candidate> {
        self.indexes.get(name).map(|index| &self.nodes[*index])
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.candidate(name).map(|candidate| &*candidate.node)
    }

    /// How many other pods that are placed or assumed use a claim.
    pub(crate) fn users(&self, claim: &str, pod: &str) -> usize {
        let own = self.pods.get(pod);
        let uses = own.is_some_and(|own| own.pod.load.claims.iter().any(|used| **used == *claim));
        self.users.get(claim).copied().unwrap_or_default() - usize::from(uses)
    }

    /// What the claims of a pod that have no volume yet get on a node.
    pub(crate) fn fates(&self, pod: &Pod, node: &str) -> Vec<(ClaimKey, Fate)> {
        let node = self.node(node);
        let fates = node.and_then(|node| volumes::prepare(self, pod).ok()?.fates(node));
        let fates = fates.into_iter().flatten();
        fates
            .map(|(claim, fate)| (Arc::clone(&claim.key), fate))
            .collect()
    }

    fn put(&mut self, pod: &Pod, node: &Arc<str>, confirmed: bool) {
        let placed = Placed::from(pod);
        if let Some(known) = self.pods.get_mut(&pod.uid)
            && known.node == *node
            && *known.pod == placed
        {
            self.assumed -= usize::from(confirmed && !known.confirmed);
            known.confirmed |= confirmed;
            return;
        }
        self.remove(&pod.uid);
        let placed = Arc::new(placed);
        for claim in &pod.load.claims {
            *self.users.entry(Arc::clone(claim)).or_default() += 1;
        }
        let placement = Placement {
            node: Arc::clone(node),
            pod: Arc::clone(&placed),
            confirmed,
        };
        self.pods.insert(Arc::clone(&pod.uid), placement);
        self.assumed += usize::from(!confirmed);
        match self.indexes.get(node) {
            Some(index) => self.enter(*index, placed),
            None => {
                let strays = self.strays.entry(Arc::clone(node)).or_default();
                strays.push(placed);
            }
        }
    }

    /// The one place where a pod comes to a known node.
    fn enter(&mut self, index: usize, pod: Arc<Placed>) {
        self.census.place(self.nodes[index].slot, &pod);
        self.nodes[index].add(pod);
    }

    /// The one place where a pod leaves a known node.
    fn leave(&mut self, index: usize, pod: &Arc<Placed>) {
        self.census.remove(self.nodes[index].slot, pod);
        self.nodes[index].remove(pod);
    }
}

impl Candidate {
    pub(crate) fn add(&mut self, pod: Arc<Placed>) {
        self.usage.add(&pod.load);
        self.pods.push(pod);
    }

    pub(crate) fn remove(&mut self, pod: &Arc<Placed>) {
        let found = self.pods.iter().position(|other| Arc::ptr_eq(other, pod));
        if let Some(found) = found {
            self.pods.swap_remove(found);
            self.usage.subtract(&pod.load);
        }
    }
}

impl Usage {
    fn add(&mut self, load: &Load) {
        self.requested.add(&load.requested);
        self.scored.add(&load.scored);
        self.ports.extend_from_slice(&load.ports);
        self.pods += 1;
    }

    fn subtract(&mut self, load: &Load) {
        self.requested.subtract(&load.requested);
        self.scored.subtract(&load.scored);
        for port in &load.ports {
            if let Some(index) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(index);
            }
        }
        self.pods -= 1;
    }
}
