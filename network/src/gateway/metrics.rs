//! What the gateway counts.

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

/// An answer's status; those that HTTP has no class for are 600.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Answered {
    code: u16,
}

static REQUESTS: LazyLock<Family<Answered, Counter>> = LazyLock::new(Family::default);
/// The counters themselves, from 100 on, once there was such an answer: looking them up takes a lock.
static BY_CODE: [OnceLock<Counter>; 501] = [const { OnceLock::new() }; 501];
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
    let code = status.as_u16().clamp(100, 600);
    let counter = || REQUESTS.get_or_create_owned(&Answered { code });
    BY_CODE[usize::from(code - 100)].get_or_init(counter).inc();
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
        "Requests that the gateway answered by the status",
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
