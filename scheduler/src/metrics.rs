//! What the scheduler counts: `scheduler_*`, as in Kubernetes. One set for the process.

use std::sync::LazyLock;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// How an attempt ended: `scheduled`, `unschedulable` or `error`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Attempt {
    result: &'static str,
    profile: &'static str,
}

/// In which part of the queue pods wait: `active` or `unschedulable`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Waiting {
    queue: &'static str,
}

static ATTEMPTS: LazyLock<Family<Attempt, Counter>> = LazyLock::new(Family::default);
static PENDING: LazyLock<Family<Waiting, Gauge>> = LazyLock::new(Family::default);
static SECONDS: LazyLock<Histogram> =
    LazyLock::new(|| Histogram::new(exponential_buckets(0.000_01, 2.0, 20)));

/// Puts the scheduler's metrics into a registry.
pub fn register(registry: &mut Registry) {
    registry.register(
        "scheduler_schedule_attempts",
        "Number of attempts to schedule pods, by the result",
        ATTEMPTS.clone(),
    );
    registry.register(
        "scheduler_pending_pods",
        "Number of pending pods, by the queue type",
        PENDING.clone(),
    );
    registry.register(
        "scheduler_scheduling_algorithm_duration_seconds",
        "Scheduling algorithm latency in seconds",
        SECONDS.clone(),
    );
}

/// An attempt ended.
pub(crate) fn attempted(result: &'static str) {
    let attempt = Attempt {
        result,
        profile: "default-scheduler",
    };
    ATTEMPTS.get_or_create(&attempt).inc();
}

/// A decision took so long.
pub(crate) fn decided(seconds: f64) {
    SECONDS.observe(seconds);
}

/// So many pods wait.
pub(crate) fn pending(counts: [(&'static str, usize); 2]) {
    for (queue, count) in counts {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        PENDING.get_or_create(&Waiting { queue }).set(count);
    }
}
