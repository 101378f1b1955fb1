//! Which images are on which nodes.
//!
//! Pure. Kept up to date node by node, as nodes report their images.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::census::Slot;
use crate::node::Node;

/// All images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Images {
    by_name: HashMap<Arc<str>, Image>,
}

/// An image that some node has.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// In bytes, as the first node said it.
    pub(crate) size: i64,
    pub(crate) nodes: HashSet<Slot>,
}

impl Images {
    pub(crate) fn get(&self, name: &str) -> Option<&Image> {
        self.by_name.get(name)
    }

    pub(crate) fn add(&mut self, slot: Slot, node: &Node) {
        for (name, size) in &node.images {
            let image = self
                .by_name
                .entry(Arc::clone(name))
                .or_insert_with(|| Image {
                    size: *size,
                    nodes: HashSet::new(),
                });
            image.nodes.insert(slot);
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot, node: &Node) {
        for (name, _) in &node.images {
            if let Some(image) = self.by_name.get_mut(name) {
                image.nodes.remove(&slot);
                if image.nodes.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
    }

    pub(crate) fn change(&mut self, slot: Slot, old: &Node, new: &Node) {
        if old.images != new.images {
            self.remove(slot, old);
            self.add(slot, new);
        }
    }
}
