//! The nodes, what is placed on them, and the storage that pods ask for, kept up to date change by change.
//!
//! Pure. A pod is placed when the API says so, and *assumed* from a decision until the API confirms it
//! or its binding fails, so that the next decision already counts it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::node::Node;
use crate::plugins::volumes;
use crate::pod::{HostPort, Load, Pod};
use crate::resources::Resources;
use crate::storage::{ClaimKey, Fate, Storage};

/// Nodes, their pods, and the sums over them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<Arc<str>, Candidate>,
    pods: HashMap<Arc<str>, Placement>,
    /// How many of these pods use each claim.
    users: HashMap<ClaimKey, usize>,
    pub(crate) storage: Storage,
}

/// A node and what is taken of it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) node: Node,
    pub(crate) usage: Usage,
}

/// Sums over the pods on a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) requested: Resources,
    pub(crate) scored: Resources,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) pods: usize,
}

/// Where a pod is. The node may be unknown: its object comes later, or is gone.
#[derive(Clone, Debug)]
struct Placement {
    node: Arc<str>,
    load: Arc<Load>,
    confirmed: bool,
}

impl Snapshot {
    /// Adds or replaces a node. False if nothing of interest changed.
    pub fn put_node(&mut self, node: Node) -> bool {
        if let Some(known) = self.nodes.get_mut(&node.name) {
            let changed = known.node != node;
            known.node = node;
            return changed;
        }
        let mut usage = Usage::default();
        for placement in self.pods.values().filter(|pod| pod.node == node.name) {
            usage.add(&placement.load);
        }
        self.nodes
            .insert(Arc::clone(&node.name), Candidate { node, usage });
        true
    }

    /// Removes a node; its pods stay counted should it come back.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Keeps only the nodes of which this is true.
    pub(crate) fn retain_nodes(&mut self, keep: impl Fn(&str) -> bool) {
        self.nodes.retain(|name, _| keep(name));
    }

    /// Counts a pod on the node the API says it is on.
    pub fn place(&mut self, pod: &Pod, node: &Arc<str>) {
        self.put(pod, node, true);
    }

    /// Counts a pod on a node that was chosen for it.
    pub fn assume(&mut self, pod: &Pod, node: &Arc<str>) {
        self.put(pod, node, false);
    }

    /// Takes back [`assume`](Self::assume). False if there was nothing to take back.
    pub fn forget(&mut self, uid: &str) -> bool {
        self.is_assumed(uid) && self.remove(uid)
    }

    /// True from [`assume`](Self::assume) until the pod is placed, forgotten or removed.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|pod| !pod.confirmed)
    }

    /// Removes a pod. True if it had taken room.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some(placement) = self.pods.remove(uid) else {
            return false;
        };
        for claim in &placement.load.claims {
            if let Some(users) = self.users.get_mut(claim) {
                *users -= 1;
                if *users == 0 {
                    self.users.remove(claim);
                }
            }
        }
        if let Some(candidate) = self.nodes.get_mut(&placement.node) {
            candidate.usage.subtract(&placement.load);
        }
        true
    }

    /// The pods that are placed or assumed, by uid.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.keys()
    }

    pub(crate) fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.nodes.values()
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(|candidate| &candidate.node)
    }

    pub(crate) fn has_node(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// How many other pods that are placed or assumed use a claim.
    pub(crate) fn users(&self, claim: &str, pod: &str) -> usize {
        let own = self.pods.get(pod);
        let uses = own.is_some_and(|own| own.load.claims.iter().any(|used| **used == *claim));
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
        if let Some(known) = self.pods.get_mut(&pod.uid)
            && known.node == *node
            && known.load == pod.load
        {
            known.confirmed |= confirmed;
            return;
        }
        self.remove(&pod.uid);
        if let Some(candidate) = self.nodes.get_mut(node) {
            candidate.usage.add(&pod.load);
        }
        for claim in &pod.load.claims {
            *self.users.entry(Arc::clone(claim)).or_default() += 1;
        }
        let placement = Placement {
            node: Arc::clone(node),
            load: Arc::clone(&pod.load),
            confirmed,
        };
        self.pods.insert(Arc::clone(&pod.uid), placement);
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
