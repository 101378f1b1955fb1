//! What the gateway counts.

use std::{sync::LazyLock, time::Duration};

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

/// The class of an answer's status.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Class {
    code: &'static str,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

static REQUESTS: LazyLock<Family<Class, Counter>> = LazyLock::new(Family::default);
/// The counters themselves: looking them up takes a lock.
static BY_CLASS: LazyLock<[Counter; 5]> =
    LazyLock::new(|| CLASSES.map(|code| REQUESTS.get_or_create_owned(&Class { code })));
static IN_FLIGHT: LazyLock<Gauge> = LazyLock::new(Gauge::default);
static CONNECTIONS: LazyLock<Gauge> = LazyLock::new(Gauge::default);
static DURATIONS: LazyLock<Histogram> = LazyLock::new(|| {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
    ])
});

/// A request, from its headers to its answer's end.
pub(super) struct InFlight {
    begun: Instant,
}

impl InFlight {
    pub(super) fn new(begun: Instant) -> Self {
        IN_FLIGHT.inc();
        Self { begun }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT.dec();
        DURATIONS.observe(self.begun.elapsed().as_secs_f64());
    }
}

/// An open connection.
pub(super) struct Connection;

impl Connection {
    pub(super) fn new() -> Self {
        CONNECTIONS.inc();
        Self
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        CONNECTIONS.dec();
    }
}

/// Counts an answer.
pub(super) fn answered(status: StatusCode) {
    let class = usize::from(status.as_u16() / 100).clamp(1, 5);
    BY_CLASS[class - 1].inc();
}

/// A wait for a container's pod.
pub(super) fn waited(time: Duration) {
    WAITS.observe(time.as_secs_f64());
}

static WAITS: LazyLock<Histogram> = LazyLock::new(|| {
    Histogram::new([0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
});

/// Puts the gateway's metrics into a registry.
pub(crate) fn register(registry: &mut Registry) {
    registry.register(
        "wk_gateway_requests",
        "Requests that the gateway answered by the class of the status",
        REQUESTS.clone(),
    );
    registry.register(
        "wk_gateway_request_duration_seconds",
        "From a request's headers to the end of its answer",
        DURATIONS.clone(),
    );
    registry.register(
        "wk_gateway_requests_in_flight",
        "Requests that the gateway has under way",
        IN_FLIGHT.clone(),
    );
    registry.register(
        "wk_gateway_connections",
        "Connections of clients that the gateway has open",
        CONNECTIONS.clone(),
    );
    registry.register(
        "wk_gateway_wait_duration_seconds",
        "How long requests waited for a container's pod",
        WAITS.clone(),
    );
}
