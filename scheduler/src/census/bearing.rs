//! Terms of affinity of pods that are placed, and on which nodes pods bear them.
//!
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::Slot;
use crate::pairs::Pairs;
use crate::placed::Placed;
use crate::pod::{Labels, PodAffinity, PodTerm};

/// What a term is to the pods that bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Weight {
    /// Required affinity.
    Near,
    /// Required anti-affinity.
    Never,
    /// Preferred affinity with its weight; preferred anti-affinity with less than nothing.
    Prefers(i64),
}

/// A term, and how many pods bear it on each node.
#[derive(Clone, Debug)]
pub(crate) struct Bearing {
    pub(crate) term: Arc<PodTerm>,
    pub(crate) weight: Weight,
    pub(crate) nodes: HashMap<Slot, u32>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Bearings {
    ids: HashMap<(Arc<PodTerm>, Weight), usize>,
    bearings: Vec<Bearing>,
    free: Vec<usize>,
    by_label: Pairs,
}

impl Bearings {
    pub(super) fn place(&mut self, slot: Slot, pod: &Placed) {
        for (term, weight) in terms(pod) {
            let key = (Arc::clone(term), weight);
            let id = match self.ids.get(&key) {
                Some(id) => *id,
                None => self.insert(key),
            };
            *self.bearings[id].nodes.entry(slot).or_default() += 1;
        }
    }

    fn insert(&mut self, (term, weight): (Arc<PodTerm>, Weight)) -> usize {
        let id = self.free.pop().unwrap_or(self.bearings.len());
        self.by_label.insert(term.selector.needs(), id);
        self.ids.insert((Arc::clone(&term), weight), id);
        let bearing = Bearing {
            term,
            weight,
            nodes: HashMap::new(),
        };
        match self.bearings.get_mut(id) {
            Some(freed) => *freed = bearing,
            None => self.bearings.push(bearing),
        }
        id
    }

    pub(super) fn remove(&mut self, slot: Slot, pod: &Placed) {
        for (term, weight) in terms(pod) {
            let key = (Arc::clone(term), weight);
            let Some(id) = self.ids.get(&key).copied() else {
                continue;
            };
            let nodes = &mut self.bearings[id].nodes;
            if let Some(count) = nodes.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&slot);
                }
            }
            if nodes.is_empty() {
                self.ids.remove(&key);
                self.free.push(id);
                self.by_label.remove(term.selector.needs(), id);
            }
        }
    }

    pub(super) fn about<'a>(
        &'a self,
        namespace: &'a str,
        of_namespace: &'a Labels,
        of_pod: &'a Labels,
    ) -> impl Iterator<Item = &'a Bearing> {
        let bearings = self.by_label.about(of_pod).map(|id| &self.bearings[id]);
        bearings.filter(move |bearing| bearing.term.means(namespace, of_namespace, of_pod))
    }
}

/// A pod may have a term twice: then it bears it twice.
fn terms(pod: &Placed) -> impl Iterator<Item = (&Arc<PodTerm>, Weight)> {
    let affinity = pod.affinity.iter().map(Arc::as_ref);
    affinity.flat_map(|affinity: &PodAffinity| {
        let near = affinity.required.iter().map(|term| (term, Weight::Near));
        let never = affinity.required_anti.iter();
        let never = never.map(|term| (term, Weight::Never));
        let likes = affinity.preferred.iter();
        let likes = likes.map(|(weight, term)| (term, Weight::Prefers(*weight)));
        let dislikes = affinity.preferred_anti.iter();
        let dislikes = dislikes.map(|(weight, term)| (term, Weight::Prefers(-weight)));
        near.chain(never).chain(likes).chain(dislikes)
    })
}
