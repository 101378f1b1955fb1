//! What the scheduler counts: `scheduler_*`, as in Kubernetes. One set for the process.

use std::sync::{Arc, LazyLock};

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

/// How an attempt ended: `scheduled`, `unschedulable` or `error`; and whose it was, one of the configured profiles.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Attempt {
    result: &'static str,
    profile: Arc<str>,
}

/// In which part of the queue pods wait: `active`, `backoff`, `unschedulable` or `gated`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Waiting {
    queue: &'static str,
}

/// What the snapshot has: `nodes`, `pods` or `assumed_pods`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Cached {
    r#type: &'static str,
}

/// How many attempts a pod took; from fifteen on they are one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Attempts {
    attempts: String,
}

/// A phase of the framework that talks to the API, and how it ended: `Success` or `Error`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Point {
    extension_point: &'static str,
    status: &'static str,
    profile: Arc<str>,
}

static ATTEMPTS: LazyLock<Family<Attempt, Counter>> = LazyLock::new(Family::default);
static PENDING: LazyLock<Family<Waiting, Gauge>> = LazyLock::new(Family::default);
static CACHED: LazyLock<Family<Cached, Gauge>> = LazyLock::new(Family::default);
static SECONDS: LazyLock<Histogram> = LazyLock::new(fine);
static ATTEMPT_SECONDS: LazyLock<Family<Attempt, Histogram>> =
    LazyLock::new(|| Family::new_with_constructor(fine));
static POINTS: LazyLock<Family<Point, Histogram>> = LazyLock::new(|| {
    Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 18)))
});
static SLI_SECONDS: LazyLock<Family<Attempts, Histogram>> = LazyLock::new(|| {
    Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 20)))
});
static POD_ATTEMPTS: LazyLock<Histogram> =
    LazyLock::new(|| Histogram::new(exponential_buckets(1.0, 2.0, 5)));
static PREEMPTIONS: LazyLock<Counter> = LazyLock::new(Counter::default);
static VICTIMS: LazyLock<Histogram> =
    LazyLock::new(|| Histogram::new(exponential_buckets(1.0, 2.0, 7)));

fn fine() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 2.0, 20))
}

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
        "scheduler_cache_size",
        "Number of nodes, pods, and assumed (bound) pods in the scheduler cache",
        CACHED.clone(),
    );
    registry.register(
        "scheduler_scheduling_algorithm_duration_seconds",
        "Scheduling algorithm latency in seconds",
        SECONDS.clone(),
    );
    registry.register(
        "scheduler_scheduling_attempt_duration_seconds",
        "Time from a pod's turn to its decision in seconds, by the result",
        ATTEMPT_SECONDS.clone(),
    );
    registry.register(
        "scheduler_framework_extension_point_duration_seconds",
        "Latency in seconds of the extension points that talk to the API",
        POINTS.clone(),
    );
    registry.register(
        "scheduler_pod_scheduling_sli_duration_seconds",
        "Time in seconds from when a pod was first seen to when it is bound, by the number of attempts",
        SLI_SECONDS.clone(),
    );
    registry.register(
        "scheduler_pod_scheduling_attempts",
        "Number of attempts to successfully schedule a pod",
        POD_ATTEMPTS.clone(),
    );
    registry.register(
        "scheduler_preemption_attempts",
        "Total preemption attempts in the cluster until now",
        PREEMPTIONS.clone(),
    );
    registry.register(
        "scheduler_preemption_victims",
        "Number of selected preemption victims",
        VICTIMS.clone(),
    );
}

/// An attempt ended.
pub(crate) fn attempted(profile: &Arc<str>, result: &'static str) {
    let profile = Arc::clone(profile);
    ATTEMPTS.get_or_create(&Attempt { result, profile }).inc();
}

/// A decision took so long.
pub(crate) fn decided(profile: &Arc<str>, result: &'static str, seconds: f64) {
    SECONDS.observe(seconds);
    let profile = Arc::clone(profile);
    let attempt = Attempt { result, profile };
    ATTEMPT_SECONDS.get_or_create(&attempt).observe(seconds);
}

/// An extension point took so long.
pub(crate) fn extended(
    profile: &Arc<str>,
    extension_point: &'static str,
    success: bool,
    seconds: f64,
) {
    let point = Point {
        extension_point,
        status: if success { "Success" } else { "Error" },
        profile: Arc::clone(profile),
    };
    POINTS.get_or_create(&point).observe(seconds);
}

/// A pod is bound, so long after it came and after so many attempts.
pub(crate) fn placed(seconds: f64, attempts: u32) {
    POD_ATTEMPTS.observe(f64::from(attempts));
    let attempts = match attempts {
        ..15 => attempts.to_string(),
        _ => "15+".to_owned(),
    };
    SLI_SECONDS
        .get_or_create(&Attempts { attempts })
        .observe(seconds);
}

/// Room is made for a pod.
pub(crate) fn preempted(victims: usize) {
    PREEMPTIONS.inc();
    VICTIMS.observe(f64::from(u32::try_from(victims).unwrap_or(u32::MAX)));
}

/// So many pods wait.
pub(crate) fn pending(counts: [(&'static str, usize); 4]) {
    for (queue, count) in counts {
        PENDING.get_or_create(&Waiting { queue }).set(whole(count));
    }
}

/// The snapshot has so many nodes and pods, of which some are assumed.
pub(crate) fn cached(nodes: usize, (pods, assumed): (usize, usize)) {
    for (r#type, count) in [("nodes", nodes), ("pods", pods), ("assumed_pods", assumed)] {
        CACHED.get_or_create(&Cached { r#type }).set(whole(count));
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
