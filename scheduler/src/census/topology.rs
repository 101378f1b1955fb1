//! How a label divides the nodes into domains: those with the same value are one.
//!
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::Slot;
use crate::pod::Labels;

const NONE: u32 = u32::MAX;
/// Topologies that are kept at most.
const KEPT: usize = 256;

/// The domains of one label.
#[derive(Debug)]
pub(crate) struct Topology {
    by_slot: Vec<u32>,
    /// How many nodes each domain has; none is empty.
    sizes: Vec<u32>,
    /// How many nodes do not have the label.
    without: usize,
}

impl Topology {
    fn new(key: &str, nodes: &[Option<Arc<Labels>>]) -> Self {
        let mut ids: HashMap<&str, u32> = HashMap::new();
        let mut topology = Self {
            by_slot: Vec::with_capacity(nodes.len()),
            sizes: Vec::new(),
            without: 0,
        };
        for labels in nodes {
            let value = labels.as_ref().and_then(|labels| labels.get(key));
            let domain = value.map_or(NONE, |value| {
                let next = u32::try_from(topology.sizes.len()).unwrap_or(NONE);
                *ids.entry(value).or_insert(next)
            });
            topology.by_slot.push(domain);
            match (domain, labels) {
                (NONE, Some(_)) => topology.without += 1,
                (NONE, None) => {}
                (domain, _) if domain as usize == topology.sizes.len() => topology.sizes.push(1),
                (domain, _) => topology.sizes[domain as usize] += 1,
            }
        }
        topology
    }

    /// The domain of a node; `None` if it does not have the label.
    pub(crate) fn of(&self, slot: Slot) -> Option<usize> {
        let domain = self.by_slot.get(slot.index()).copied().unwrap_or(NONE);
        (domain != NONE).then_some(domain as usize)
    }

    /// How many domains there are; they are numbered from zero.
    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether every node has the label.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.without == 0
    }
}

/// The topologies that were asked for of late.
#[derive(Debug, Default)]
pub(super) struct Topologies {
    /// And when each was asked for last.
    by_key: HashMap<Arc<str>, (Arc<Topology>, u64)>,
    clock: u64,
}

impl Topologies {
    /// How a label divides the nodes, and the label that is forgotten for it, if there are enough.
    pub(super) fn get(
        &mut self,
        key: &Arc<str>,
        nodes: &[Option<Arc<Labels>>],
    ) -> (Arc<Topology>, Option<Arc<str>>) {
        self.clock += 1;
        if let Some((known, used)) = self.by_key.get_mut(key) {
            *used = self.clock;
            return (Arc::clone(known), None);
        }
        let oldest = self.by_key.iter().min_by_key(|(_, (_, used))| *used);
        let oldest = oldest.filter(|_| self.by_key.len() >= KEPT);
        let gone = oldest.map(|(key, _)| Arc::clone(key));
        if let Some(gone) = &gone {
            self.by_key.remove(gone);
        }
        let topology = Arc::new(Topology::new(key, nodes));
        let known = (Arc::clone(&topology), self.clock);
        self.by_key.insert(Arc::clone(key), known);
        (topology, gone)
    }

    pub(super) fn known(&self, key: &str) -> Option<&Topology> {
        self.by_key.get(key).map(|(topology, _)| &**topology)
    }
}
