//! What the registry counts: `wk_registry_*`.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{collect::Collected, error::Error};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Asked {
    operation: &'static str,
    code: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// One set for a registry. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct RegistryMetrics {
    requests: Family<Asked, Counter>,
    received: Counter,
    sent: Counter,
    runs: Family<Outcome, Counter>,
    seconds: Gauge<f64, AtomicU64>,
    finished: Gauge,
    removed: Counter,
    freed: Counter,
    blobs: Gauge,
    bytes: Gauge,
}

impl RegistryMetrics {
    /// Makes them and puts them into a registry of metrics.
    pub fn new(registry: &mut Registry) -> RegistryMetrics {
        let own = RegistryMetrics::default();
        registry.register(
            "wk_registry_requests",
            "Requests to the image registry, by operation and HTTP status",
            own.requests.clone(),
        );
        registry.register(
            "wk_registry_received_bytes",
            "Bytes of blobs that clients of the image registry have sent",
            own.received.clone(),
        );
        registry.register(
            "wk_registry_sent_bytes",
            "Bytes of blobs that the image registry has sent, to clients and to this node",
            own.sent.clone(),
        );
        registry.register(
            "wk_registry_gc_runs",
            "Runs of the image registry's garbage collection, by result",
            own.runs.clone(),
        );
        registry.register(
            "wk_registry_gc_duration_seconds",
            "How long the last run of the image registry's garbage collection took",
            own.seconds.clone(),
        );
        registry.register(
            "wk_registry_gc_last_success_timestamp_seconds",
            "When the image registry's garbage collection last succeeded, in Unix time",
            own.finished.clone(),
        );
        registry.register(
            "wk_registry_gc_removed_blobs",
            "Blobs that the image registry's garbage collection has removed",
            own.removed.clone(),
        );
        registry.register(
            "wk_registry_gc_freed_bytes",
            "Bytes that the image registry's garbage collection has freed",
            own.freed.clone(),
        );
        registry.register(
            "wk_registry_stored_blobs",
            "Blobs and manifests that the image registry keeps, as of its last garbage collection",
            own.blobs.clone(),
        );
        registry.register(
            "wk_registry_stored_bytes",
            "Size of what the image registry keeps, as of its last garbage collection",
            own.bytes.clone(),
        );
        own
    }

    pub(crate) fn asked(&self, operation: &'static str, code: u16) {
        self.requests
            .get_or_create(&Asked { operation, code })
            .inc();
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    pub(crate) fn collected(&self, collected: &Result<Collected, Error>, took: Duration) {
        let result = if collected.is_ok() {
            "success"
        } else {
            "error"
        };
        self.runs.get_or_create(&Outcome { result }).inc();
        self.seconds.set(took.as_secs_f64());
        let Ok(collected) = collected else {
            return;
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        self.finished.set(i64::try_from(now).unwrap_or(i64::MAX));
        self.removed.inc_by(collected.blobs);
        self.freed.inc_by(collected.freed_bytes);
        self.blobs
            .set(i64::try_from(collected.kept_blobs).unwrap_or(i64::MAX));
        self.bytes
            .set(i64::try_from(collected.kept_bytes).unwrap_or(i64::MAX));
    }
}
