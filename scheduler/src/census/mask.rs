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

/// What pods ask, and which nodes have it.
#[derive(Debug)]
struct Mask {
    selector: Labels,
    required: Option<Vec<Term>>,
    /// By slot.
    admitted: Arc<Vec<bool>>,
}

/// The masks that were asked for.
#[derive(Debug, Default)]
pub(super) struct Masks {
    by_hash: HashMap<u64, Vec<Mask>>,
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
        let mut known = known
            .filter(|mask| mask.selector == pod.node_selector && mask.required == pod.required);
        if let Some(mask) = known.next() {
            return Arc::clone(&mask.admitted);
        }
        let mut admitted = vec![false; slots];
        fill(&mut admitted);
        let admitted = Arc::new(admitted);
        if self.by_hash.len() >= KEPT {
            self.by_hash.clear();
        }
        self.by_hash.entry(hash).or_default().push(Mask {
            selector: pod.node_selector.clone(),
            required: pod.required.clone(),
            admitted: Arc::clone(&admitted),
        });
        admitted
    }
}
