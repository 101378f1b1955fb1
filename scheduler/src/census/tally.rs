//! How many pods of a sort are on each node and in each domain.
//!
//! Pure. Counts are shared with the decision that asked for them, and changed in place once it is over.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Counts, Slot,
    kin::{Kin, Kins},
    topology::{Topologies, Topology},
};
use crate::pairs::Pairs;
use crate::selector::Selector;

/// Counts that are kept at most, over all tallies: four bytes each.
const KEPT: usize = 8 << 20;

/// A sort of pods: those that are in every scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Matcher {
    pub(crate) scopes: Vec<Scope>,
    /// Whether pods that are being deleted count.
    pub(crate) deleting: bool,
}

/// Pods of some namespaces that are selected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) namespaces: Namespaces,
    pub(crate) selector: Selector,
}

/// Namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Namespaces {
    All,
    /// In order.
    These(Vec<Arc<str>>),
}

impl Matcher {
    fn takes(&self, kin: &Kin) -> bool {
        (self.deleting || !kin.deleting) && self.scopes.iter().all(|scope| scope.takes(kin))
    }

    /// A label that all of these pods have.
    fn needs(&self) -> Option<(&str, &str)> {
        self.scopes.iter().find_map(|scope| scope.selector.needs())
    }
}

impl Scope {
    fn takes(&self, kin: &Kin) -> bool {
        let namespace = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::These(names) => names.binary_search(&kin.namespace).is_ok(),
        };
        namespace && self.selector.selects(&kin.labels)
    }
}

/// What is counted of one sort.
#[derive(Debug)]
pub(super) struct Tally {
    /// By slot.
    pub(super) by_node: Counts,
    by_domain: Vec<(Arc<str>, Counts)>,
    /// When it was asked for last.
    used: u64,
}

impl Tally {
    fn new(sort: &Matcher, kins: &Kins, nodes: usize) -> Self {
        let mut by_node = vec![0; nodes];
        for (_, on) in kins.with(sort.needs()).filter(|(kin, _)| sort.takes(kin)) {
            for (slot, count) in on {
                by_node[slot.index()] += count;
            }
        }
        Self {
            by_node: Arc::new(by_node),
            by_domain: Vec::new(),
            used: 0,
        }
    }

    pub(super) fn by_domain(&mut self, key: &Arc<str>, topology: &Topology) -> &Counts {
        let known = self.by_domain.iter().position(|(own, _)| own == key);
        let index = known.unwrap_or_else(|| {
            let mut counts = vec![0; topology.len()];
            for (slot, count) in Slot::all()
                .zip(self.by_node.iter())
                .filter(|(_, n)| **n > 0)
            {
                if let Some(domain) = topology.of(slot) {
                    counts[domain] += count;
                }
            }
            self.by_domain.push((Arc::clone(key), Arc::new(counts)));
            self.by_domain.len() - 1
        });
        &self.by_domain[index].1
    }

    fn count(&mut self, slot: Slot, topologies: &Topologies, by: i32) {
        let change = |count: &mut u32| *count = count.saturating_add_signed(by);
        if let Some(count) = Arc::make_mut(&mut self.by_node).get_mut(slot.index()) {
            change(count);
        }
        for (key, counts) in &mut self.by_domain {
            let domain = topologies.known(key).and_then(|known| known.of(slot));
            if let Some(domain) = domain {
                change(&mut Arc::make_mut(counts)[domain]);
            }
        }
    }
}

/// The tallies that were asked for of late.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    ids: HashMap<Arc<Matcher>, usize>,
    tallies: Vec<(Arc<Matcher>, Tally)>,
    by_label: Pairs,
    clock: u64,
}

impl Tallies {
    pub(super) fn get(&mut self, sort: &Matcher, kins: &Kins, nodes: usize) -> &mut Tally {
        self.clock += 1;
        let id = match self.ids.get(sort) {
            Some(id) => *id,
            None => self.insert(sort, Tally::new(sort, kins, nodes), nodes),
        };
        let tally = &mut self.tallies[id].1;
        tally.used = self.clock;
        tally
    }

    /// Puts a tally in place of the one that was not asked for the longest, if there are enough.
    fn insert(&mut self, sort: &Matcher, tally: Tally, nodes: usize) -> usize {
        let sort = Arc::new(sort.clone());
        let enough = (KEPT / nodes.max(1)).clamp(64, 4096);
        let id = if self.tallies.len() < enough {
            self.tallies.push((Arc::clone(&sort), tally));
            self.tallies.len() - 1
        } else {
            let oldest = self.tallies.iter().enumerate();
            let oldest = oldest.min_by_key(|(_, (_, tally))| tally.used);
            let id = oldest.map_or(0, |(id, _)| id);
            let (old, _) = std::mem::replace(&mut self.tallies[id], (Arc::clone(&sort), tally));
            self.ids.remove(&old);
            self.by_label.remove(old.needs(), id);
            id
        };
        self.by_label.insert(sort.needs(), id);
        self.ids.insert(sort, id);
        id
    }

    /// Forgets what is counted by a label.
    pub(super) fn forget(&mut self, key: &str) {
        for (_, tally) in &mut self.tallies {
            tally.by_domain.retain(|(own, _)| **own != *key);
        }
    }

    /// Counts one more pod, or one less, wherever it is counted.
    pub(super) fn count(&mut self, kin: &Kin, slot: Slot, topologies: &Topologies, by: i32) {
        for id in self.by_label.about(&kin.labels) {
            let (sort, tally) = &mut self.tallies[id];
            if sort.takes(kin) {
                tally.count(slot, topologies, by);
            }
        }
    }
}
