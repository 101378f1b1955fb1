//! What queues count: `workqueue_*`, as in Kubernetes. One set for the process.

use std::sync::LazyLock;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Which controller's queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
}

const SECONDS: [f64; 11] = [
    1e-5, 1e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0,
];

type Durations = Family<Named, Histogram, fn() -> Histogram>;

#[derive(Default)]
struct Families {
    depth: Family<Named, Gauge>,
    adds: Family<Named, Counter>,
    retries: Family<Named, Counter>,
    working: Family<Named, Gauge>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(Families::default);
static DURATIONS: LazyLock<Durations> =
    LazyLock::new(|| Family::new_with_constructor(|| Histogram::new(SECONDS)));

/// Puts the metrics of all queues of this process into a registry.
pub fn register(registry: &mut Registry) {
    let families = &*FAMILIES;
    registry.register(
        "workqueue_depth",
        "Current depth of workqueue",
        families.depth.clone(),
    );
    registry.register(
        "workqueue_adds",
        "Total number of adds handled by workqueue",
        families.adds.clone(),
    );
    registry.register(
        "workqueue_retries",
        "Total number of retries handled by workqueue",
        families.retries.clone(),
    );
    registry.register(
        "workqueue_work_duration_seconds",
        "How long in seconds processing an item from workqueue takes",
        DURATIONS.clone(),
    );
    registry.register(
        "wk_workqueue_working",
        "How many items of the workqueue are worked on",
        families.working.clone(),
    );
}

/// The metrics of one queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueMetrics {
    pub(crate) depth: Gauge,
    pub(crate) adds: Counter,
    pub(crate) retries: Counter,
    pub(crate) seconds: Histogram,
    pub(crate) working: Gauge,
}

impl QueueMetrics {
    pub(crate) fn of(name: &'static str) -> Self {
        let named = Named { name };
        Self {
            depth: FAMILIES.depth.get_or_create_owned(&named),
            adds: FAMILIES.adds.get_or_create_owned(&named),
            retries: FAMILIES.retries.get_or_create_owned(&named),
            seconds: DURATIONS.get_or_create_owned(&named),
            working: FAMILIES.working.get_or_create_owned(&named),
        }
    }
}
