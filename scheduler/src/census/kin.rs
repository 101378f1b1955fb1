//! Pods that no selector tells apart, and on which nodes they are.
//!
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::Slot;
use crate::pairs::Pairs;
use crate::placed::Placed;
use crate::pod::Labels;

/// What pods have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kin {
    pub(super) namespace: Arc<str>,
    pub(super) labels: Arc<Labels>,
    /// Whether they are being deleted.
    pub(super) deleting: bool,
}

impl Kin {
    pub(super) fn of(pod: &Placed) -> Self {
        Self {
            namespace: Arc::clone(&pod.namespace),
            labels: Arc::clone(&pod.labels),
            deleting: pod.deleting,
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Kins {
    ids: HashMap<Kin, usize>,
    kins: Vec<(Kin, HashMap<Slot, u32>)>,
    free: Vec<usize>,
    by_label: Pairs,
}

impl Kins {
    /// Counts a pod; answers what it is.
    pub(super) fn place(&mut self, slot: Slot, pod: &Placed) -> &Kin {
        let kin = Kin::of(pod);
        let id = match self.ids.get(&kin) {
            Some(id) => *id,
            None => self.insert(kin),
        };
        let (kin, nodes) = &mut self.kins[id];
        *nodes.entry(slot).or_default() += 1;
        kin
    }

    fn insert(&mut self, kin: Kin) -> usize {
        let id = self.free.pop().unwrap_or(self.kins.len());
        for (key, value) in kin.labels.iter() {
            self.by_label.insert(Some((key, value)), id);
        }
        self.ids.insert(kin.clone(), id);
        let empty = (kin, HashMap::new());
        match self.kins.get_mut(id) {
            Some(freed) => *freed = empty,
            None => self.kins.push(empty),
        }
        id
    }

    pub(super) fn remove(&mut self, slot: Slot, kin: &Kin) {
        let Some(id) = self.ids.get(kin).copied() else {
            return;
        };
        let nodes = &mut self.kins[id].1;
        if let Some(count) = nodes.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(&slot);
            }
        }
        if nodes.is_empty() {
            self.ids.remove(kin);
            self.free.push(id);
            for (key, value) in kin.labels.iter() {
                self.by_label.remove(Some((key, value)), id);
            }
        }
    }

    /// Those that may have a label, or all.
    pub(super) fn with(
        &self,
        label: Option<(&str, &str)>,
    ) -> impl Iterator<Item = (&Kin, &HashMap<Slot, u32>)> {
        let some = label.map(|(key, value)| self.by_label.of(key, value));
        let all = match some {
            Some(_) => 0,
            None => self.kins.len(),
        };
        let ids = some.unwrap_or_default().iter().copied().chain(0..all);
        ids.map(|id| (&self.kins[id].0, &self.kins[id].1))
    }
}
