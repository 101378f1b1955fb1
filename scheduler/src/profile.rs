//! The plugins that pods of one scheduler name go through, in order, and the weights of their scores.

use std::sync::Arc;

use crate::framework::Plugin;
use crate::plugins;

/// Pods whose `spec.schedulerName` is its name are decided by its plugins.
#[derive(Clone)]
pub struct Profile {
    /// `spec.schedulerName`; also the source of events.
    pub name: Arc<str>,
    /// In the order in which they filter; the first that objects to a node decides.
    pub(crate) plugins: Vec<Arc<dyn Plugin>>,
    /// Those that score, and their weights.
    pub(crate) scores: Vec<(Arc<dyn Plugin>, i64)>,
}

impl Profile {
    /// Kubernetes' default profile under this name.
    pub fn new(name: &str) -> Self {
        let known = || {
            let names = plugins::DEFAULT.iter();
            names.filter_map(|(name, weight)| Some((plugins::make(name)?, *weight)))
        };
        Self {
            name: name.into(),
            plugins: known().map(|(plugin, _)| plugin).collect(),
            scores: known().filter(|(_, weight)| *weight > 0).collect(),
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::new("default-scheduler")
    }
}
