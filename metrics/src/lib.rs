//! What a process counts and measures, and the text that tells it: one registry, in Prometheus' format.
//!
//! A contract below every component: each makes its own metrics in its `metrics.rs` and puts them in the
//! registry that it is given; whoever serves `/metrics` asks for [`Metrics::text`].
//! - [`process`]: memory, CPU and files of the process.
//! - [`rest_client`]: what a component asks of the API.
//! - [`text`]: the format. Pure.
//!
//! Names are Kubernetes' where it has them, else `wk_<component>_…`. Labels have a closed set of values:
//! never an object's name. Never sends anything anywhere.

#![warn(missing_docs)]

pub mod process;
pub mod rest_client;
pub mod text;

use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::{encoding::text::encode_registry, registry::Registry};

/// The registry of a process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<RwLock<Registry>>);

impl Metrics {
    /// A registry with what every process has.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process));
        Self(Arc::new(RwLock::new(registry)))
    }

    /// Puts metrics in. Names are without `_total`, which counters get.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        // A metric that was half put in harms no other.
        register(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything as it is now, of the type [`text::CONTENT_TYPE`].
    pub fn text(&self) -> String {
        let registry = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut open = String::new();
        encode_registry(&mut open, &registry).expect("a text takes whatever is written to it");
        text::from_open_metrics(&open)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
