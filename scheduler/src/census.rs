//! Counts of placed pods by what they are and where, so that a decision need not visit every pod.
//!
//! Pure. Kept up to date pod by pod and node by node, of what is placed or assumed. Pods of the same namespace and labels
//! are one [`kin`]; terms of affinity that many pods bear are one [`bearing`]. What a decision asks for, pods that
//! are selected by node or by domain, is a [`tally`]: made from the kins when it is first asked for, then kept up to date
//! as well, until too many others were asked for since. What is counted is always what visiting every pod would count.

mod bearing;
mod kin;
mod mask;
mod tally;
mod topology;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::placed::Placed;
use crate::pod::{Labels, Pod};
use bearing::Bearings;
use kin::Kins;
use mask::Masks;
use tally::Tallies;
use topology::Topologies;

pub(crate) use bearing::{Bearing, Weight};
pub(crate) use tally::{Matcher, Namespaces, Scope};
pub(crate) use topology::Topology;

/// A node here; it stays the same while the node is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(u32);

impl Slot {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// Every slot that there could be, in order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..u32::MAX).map(Self)
    }
}

/// How many pods are on each node or in each domain.
pub(crate) type Counts = Arc<Vec<u32>>;

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// The labels of each node; `None` where a node was.
    nodes: Vec<Option<Arc<Labels>>>,
    free: Vec<Slot>,
    kins: Kins,
    bearings: Bearings,
    /// What can be made anew from the rest.
    derived: Mutex<Derived>,
}

#[derive(Debug, Default)]
struct Derived {
    topologies: Topologies,
    tallies: Tallies,
    masks: Masks,
}

impl Derived {
    /// How a label divides the nodes. Should pods ask for ever other labels, the one that was not asked for the longest
    /// goes, with the counts that are by it.
    fn topology(&mut self, key: &Arc<str>, nodes: &[Option<Arc<Labels>>]) -> Arc<Topology> {
        let (topology, gone) = self.topologies.get(key, nodes);
        if let Some(gone) = gone {
            self.tallies.forget(&gone);
        }
        topology
    }
}

/// A copy counts the same, but has nothing that can be made anew.
impl Clone for Census {
    fn clone(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            free: self.free.clone(),
            kins: self.kins.clone(),
            bearings: self.bearings.clone(),
            derived: Mutex::default(),
        }
    }
}

impl Census {
    /// Takes in a node without pods.
    pub(crate) fn add_node(&mut self, labels: Arc<Labels>) -> Slot {
        *self.changing() = Derived::default();
        if let Some(slot) = self.free.pop() {
            self.nodes[slot.index()] = Some(labels);
            return slot;
        }
        let slot = u32::try_from(self.nodes.len()).expect("there are fewer nodes than that");
        self.nodes.push(Some(labels));
        Slot(slot)
    }

    /// Takes in other labels of a node.
    pub(crate) fn relabel_node(&mut self, slot: Slot, labels: &Arc<Labels>) {
        if self.nodes[slot.index()].as_ref() != Some(labels) {
            self.nodes[slot.index()] = Some(Arc::clone(labels));
            *self.changing() = Derived::default();
        }
    }

    /// Forgets a node from which its pods were removed.
    pub(crate) fn remove_node(&mut self, slot: Slot) {
        self.nodes[slot.index()] = None;
        self.free.push(slot);
        *self.changing() = Derived::default();
    }

    /// Counts a pod on a node.
    pub(crate) fn place(&mut self, slot: Slot, pod: &Placed) {
        let kin = self.kins.place(slot, pod);
        let derived = self.derived.get_mut();
        let derived = derived.unwrap_or_else(PoisonError::into_inner);
        let topologies = &derived.topologies;
        derived.tallies.count(kin, slot, topologies, 1);
        self.bearings.place(slot, pod);
    }

    /// Counts a pod no longer, as it was when it was placed.
    pub(crate) fn remove(&mut self, slot: Slot, pod: &Placed) {
        let kin = kin::Kin::of(pod);
        let derived = self.derived.get_mut();
        let derived = derived.unwrap_or_else(PoisonError::into_inner);
        let topologies = &derived.topologies;
        derived.tallies.count(&kin, slot, topologies, -1);
        self.kins.remove(slot, &kin);
        self.bearings.remove(slot, pod);
    }

    /// How many slots there are, those included where a node was.
    pub(crate) fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// How a label divides the nodes.
    pub(crate) fn topology(&self, key: &Arc<str>) -> Arc<Topology> {
        self.derived().topology(key, &self.nodes)
    }

    /// How many pods of a sort are on each node, by slot.
    pub(crate) fn by_node(&self, sort: &Matcher) -> Counts {
        let nodes = self.nodes.len();
        let tallies = &mut self.derived().tallies;
        Arc::clone(&tallies.get(sort, &self.kins, nodes).by_node)
    }

    /// How many pods of a sort are in each domain of a label.
    pub(crate) fn by_domain(&self, sort: &Matcher, key: &Arc<str>) -> Counts {
        let mut derived = self.derived();
        let topology = derived.topology(key, &self.nodes);
        let derived = &mut *derived;
        let tally = derived.tallies.get(sort, &self.kins, self.nodes.len());
        Arc::clone(tally.by_domain(key, &topology))
    }

    /// The nodes that a pod's node selector and required affinity admit, by slot. Where that is not known yet, `fill`
    /// finds it.
    pub(crate) fn mask(&self, pod: &Pod, fill: impl FnOnce(&mut [bool])) -> Arc<Vec<bool>> {
        self.derived().masks.get(pod, self.nodes.len(), fill)
    }

    /// The terms of placed pods that mean a pod with these labels, of a namespace with those, and who bears them.
    pub(crate) fn bearings<'a>(
        &'a self,
        namespace: &'a str,
        of_namespace: &'a Labels,
        of_pod: &'a Labels,
    ) -> impl Iterator<Item = &'a Bearing> {
        self.bearings.about(namespace, of_namespace, of_pod)
    }

    /// What can be made anew is whole at any moment, so that a panic elsewhere does not matter.
    fn derived(&self) -> MutexGuard<'_, Derived> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&mut self) -> &mut Derived {
        let derived = self.derived.get_mut();
        derived.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::selector::Selector;

    fn pod(name: &str) -> Placed {
        let pod = json!({"metadata": {"name": name, "uid": name, "namespace": "ns"}});
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        Placed::from(&Pod::from(&pod))
    }

    #[test]
    fn the_label_that_was_not_asked_for_the_longest_is_forgotten_and_nothing_else() {
        let mut census = Census::default();
        let labels: Labels = (0..300)
            .map(|key| (format!("key-{key}"), "value".to_owned()))
            .collect();
        let slot = census.add_node(Arc::new(labels));
        census.place(slot, &pod("one"));
        let sort = Matcher {
            scopes: vec![Scope {
                namespaces: Namespaces::All,
                selector: Selector::parse(Some(&Default::default())),
            }],
            deleting: true,
        };
        let key = |key: usize| -> Arc<str> { format!("key-{key}").into() };
        let (kept, forgotten) = (census.topology(&key(0)), census.topology(&key(1)));
        assert_eq!(*census.by_domain(&sort, &key(1)), [1]);
        for other in 2..300 {
            assert!(Arc::ptr_eq(&kept, &census.topology(&key(0))), "{other}");
            assert_eq!(*census.by_domain(&sort, &key(other)), [1]);
        }
        // What is counted by a forgotten label is counted anew, with all that happened since.
        census.place(slot, &pod("two"));
        assert!(!Arc::ptr_eq(&forgotten, &census.topology(&key(1))));
        for key in [key(0), key(1), key(299)] {
            assert_eq!(*census.by_domain(&sort, &key), [2]);
        }
    }
}
