//! The plugins that pods of one scheduler name go through, phase by phase, and the weights of their scores.

use std::fmt;
use std::sync::Arc;

use crate::framework::Plugin;
use crate::pod::Pod;

/// Plugins in the order in which they are asked.
pub(crate) type Plugins = Vec<Arc<dyn Plugin>>;

/// Pods whose `spec.schedulerName` is its name are decided by its plugins. The default is that of Kubernetes.
#[derive(Clone)]
pub struct Profile {
    /// `spec.schedulerName`; also the source of events.
    pub name: Arc<str>,
    /// Of how many nodes in a hundred it is enough that they admit a pod; 0 is as many as suit the cluster's size.
    pub(crate) percentage: usize,
    pub(crate) gates: Plugins,
    /// The first that objects to a node decides.
    pub(crate) filters: Plugins,
    pub(crate) post_filters: Plugins,
    /// Those that score, and their weights.
    pub(crate) scores: Vec<(Arc<dyn Plugin>, i64)>,
    pub(crate) reserves: Plugins,
    pub(crate) permits: Plugins,
    pub(crate) pre_binds: Plugins,
}

impl Profile {
    /// Whether a pod may be decided.
    pub(crate) fn lets_in(&self, pod: &Pod) -> bool {
        self.gates
            .iter()
            .all(|plugin| plugin.pre_enqueue(pod).is_ok())
    }

    /// The plugins with these names.
    pub(crate) fn named(&self, wanted: impl Fn(&str) -> bool) -> Plugins {
        let filters = self.filters.iter().chain(&self.permits);
        let mut found: Plugins = Vec::new();
        for plugin in filters.filter(|plugin| wanted(plugin.name())) {
            if !found.iter().any(|known| known.name() == plugin.name()) {
                found.push(Arc::clone(plugin));
            }
        }
        found
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
