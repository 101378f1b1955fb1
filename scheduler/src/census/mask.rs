//! Which nodes have what pods ask of a node's labels: the same for all pods that ask the same.
//!
//! Pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::labels::Term;
use crate::pod::{Labels, Pod};

/// Masks that are kept at most.
const KEPT: usize = 256;

/// What a pod asks.
#[derive(Debug, PartialEq, Eq)]
struct Asks {
    selector: Labels,
    required: Option<Vec<Term>>,
}

/// The masks that were asked for.
#[derive(Debug, Default)]
pub(super) struct Masks {
    by_hash: HashMap<u64, Vec<(Asks, Arc<Vec<bool>>)>>,
}

impl Masks {
    /// The nodes that a pod's node selector and required affinity admit, by slot; `fill` finds them.
    pub(super) fn get(
        &mut self,
        pod: &Pod,
        slots: usize,
        fill: impl FnOnce(&mut [bool]),
    ) -> Arc<Vec<bool>> {
        let mut hasher = DefaultHasher::new();
        (&pod.node_selector, &pod.required).hash(&mut hasher);
        let hash = hasher.finish();
        let known = self.by_hash.get(&hash).into_iter().flatten();
        let mut known = known.filter(|(asks, _)| {
            asks.selector == pod.node_selector && asks.required == pod.required
        });
        if let Some((_, mask)) = known.next() {
            return Arc::clone(mask);
        }
        let mut mask = vec![false; slots];
        fill(&mut mask);
        let mask = Arc::new(mask);
        if self.by_hash.len() >= KEPT {
            self.by_hash.clear();
        }
        let asks = Asks {
            selector: pod.node_selector.clone(),
            required: pod.required.clone(),
        };
        let masks = self.by_hash.entry(hash).or_default();
        masks.push((asks, Arc::clone(&mask)));
        mask
    }
}
