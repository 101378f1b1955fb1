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

/// The topologies that were asked for.
#[derive(Debug, Default)]
pub(super) struct Topologies {
    by_key: HashMap<Arc<str>, Arc<Topology>>,
}

impl Topologies {
    pub(super) fn get(&mut self, key: &Arc<str>, nodes: &[Option<Arc<Labels>>]) -> Arc<Topology> {
        if let Some(known) = self.by_key.get(key) {
            return Arc::clone(known);
        }
        let topology = Arc::new(Topology::new(key, nodes));
        self.by_key.insert(Arc::clone(key), Arc::clone(&topology));
        topology
    }

    pub(super) fn are_many(&self) -> bool {
        self.by_key.len() >= KEPT
    }

    pub(super) fn known(&self, key: &str) -> Option<&Topology> {
        self.by_key.get(key).map(Arc::as_ref)
    }
}
