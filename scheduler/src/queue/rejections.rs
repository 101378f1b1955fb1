//! Parked pods by the plugins that kept them from every node, so that a change is put only to those that it may concern.
//!
//! Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::framework::{ChangeKind, Plugin};
use crate::profile::Plugins;

/// By the plugin's name: what changes a plugin hears of is the same in every profile.
#[derive(Default)]
pub(super) struct Rejections {
    by_plugin: HashMap<&'static str, Rejected>,
    /// Those that no plugin objected to.
    by_none: BTreeSet<Arc<str>>,
}

struct Rejected {
    plugin: Arc<dyn Plugin>,
    pods: BTreeSet<Arc<str>>,
}

impl Rejections {
    pub(super) fn insert(&mut self, uid: &Arc<str>, by: &Plugins) {
        if by.is_empty() {
            self.by_none.insert(Arc::clone(uid));
        }
        for plugin in by {
            let rejected = self.by_plugin.entry(plugin.name());
            let rejected = rejected.or_insert_with(|| Rejected {
                plugin: Arc::clone(plugin),
                pods: BTreeSet::new(),
            });
            rejected.pods.insert(Arc::clone(uid));
        }
    }

    pub(super) fn remove(&mut self, uid: &str, by: &Plugins) {
        self.by_none.remove(uid);
        for plugin in by {
            if let Some(rejected) = self.by_plugin.get_mut(plugin.name()) {
                rejected.pods.remove(uid);
                if rejected.pods.is_empty() {
                    self.by_plugin.remove(plugin.name());
                }
            }
        }
    }

    /// The plugins that hear of such changes, and the pods that each rejected.
    pub(super) fn heard(
        &self,
        kind: ChangeKind,
    ) -> impl Iterator<Item = (&'static str, &BTreeSet<Arc<str>>)> {
        let heard = self.by_plugin.iter();
        let heard = heard.filter(move |(_, rejected)| rejected.plugin.hears(kind));
        heard.map(|(name, rejected)| (*name, &rejected.pods))
    }

    /// The pods that no plugin objected to.
    pub(super) fn by_none(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_none.iter()
    }
}
