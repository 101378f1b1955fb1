//! What the apiserver counts and measures, under Kubernetes' names; the store under ours.
//!
//! Labels are verbs, codes and the resources that are served: never what a client made up.

mod store;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

pub use store::Measured;

/// What a request was about.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, EncodeLabelSet)]
pub(crate) struct Asked {
    /// `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `APPLY`, `DELETE`, `DELETECOLLECTION`.
    pub(crate) verb: &'static str,
    /// `All` or empty.
    pub(crate) dry_run: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    /// `cluster`, `namespace`, `resource`, or empty for what is no resource.
    pub(crate) scope: &'static str,
    pub(crate) component: &'static str,
}

/// What it was about and how it ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Answered {
    #[prometheus(flatten)]
    asked: Asked,
    code: u16,
}

/// Whose events a watch tells.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct Watched {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
}

/// The apiserver's metrics.
#[derive(Debug)]
pub(crate) struct ApiMetrics {
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram>,
    sizes: Family<Asked, Histogram>,
    lasting: Family<Asked, Gauge>,
    watch_events: Family<Watched, Counter>,
}

const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

impl ApiMetrics {
    /// Puts them into a registry.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let made = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            sizes: Family::new_with_constructor(|| Histogram::new(SIZES)),
            lasting: Family::default(),
            watch_events: Family::default(),
        };
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code",
            made.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component",
            made.durations.clone(),
        );
        registry.register(
            "apiserver_response_sizes",
            "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component",
            made.sizes.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component",
            made.lasting.clone(),
        );
        registry.register(
            "apiserver_watch_events",
            "Number of events sent in watch clients",
            made.watch_events.clone(),
        );
        made
    }

    /// A request was answered; `bytes` is how long the answer is, where that is known.
    pub(crate) fn answered(&self, asked: &Asked, code: u16, seconds: f64, bytes: Option<u64>) {
        self.durations.get_or_create(asked).observe(seconds);
        if let Some(bytes) = bytes.filter(|_| matches!(asked.verb, "GET" | "LIST")) {
            // No answer is so long that the difference matters.
            #[expect(clippy::cast_precision_loss, reason = "a size for a histogram")]
            self.sizes.get_or_create(asked).observe(bytes as f64);
        }
        self.count(asked.clone(), code);
    }

    /// Counts an answer, and no more.
    pub(crate) fn count(&self, asked: Asked, code: u16) {
        self.requests.get_or_create(&Answered { asked, code }).inc();
    }

    /// A request that lasts has begun; it counts until the answer is dropped.
    pub(crate) fn last(&self, asked: &Asked) -> Lasting {
        let gauge = self.lasting.get_or_create_owned(asked);
        gauge.inc();
        Lasting(gauge)
    }

    /// Counts the events that watches of a resource tell.
    pub(crate) fn watch_events(&self, watched: &Watched) -> Counter {
        self.watch_events.get_or_create_owned(watched)
    }
}

/// Counts one request that lasts, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Lasting(Gauge);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
