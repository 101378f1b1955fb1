//! What the controllers count: `pod_gc_*`, as in Kubernetes. One set for the process.

use std::sync::LazyLock;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Why a pod was deleted that nobody looked after.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

static POD_GC: LazyLock<Family<Reason, Counter>> = LazyLock::new(Family::default);

/// Counts a pod that the pod garbage collector has deleted.
pub(crate) fn pod_deleted(reason: &'static str) {
    POD_GC.get_or_create(&Reason { reason }).inc();
}

/// Puts the metrics of all controllers of this process into a registry.
pub fn register(registry: &mut Registry) {
    registry.register(
        "pod_gc_collector_force_delete_pods",
        "Number of pods that are being forcefully deleted since the Pod GC Controller started",
        POD_GC.clone(),
    );
}
