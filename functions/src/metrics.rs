//! What this crate counts: decisions of the autoscaler and requests of triggers. One set for the process.

use std::sync::LazyLock;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What became of a trigger's request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// How the autoscaler decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}

static TRIGGERED: LazyLock<Family<Outcome, Counter>> = LazyLock::new(Family::default);
static UNANSWERED: LazyLock<Counter> = LazyLock::new(Counter::default);
static DECISIONS: LazyLock<Family<Mode, Counter>> = LazyLock::new(Family::default);

/// Counts a request of a trigger: `answered`, `repeated`, `given_up` or `missed`; one given up also as
/// `dead_lettered` or `lost`, if it has somewhere to go.
pub(crate) fn triggered(outcome: &'static str) {
    TRIGGERED.get_or_create(&Outcome { outcome }).inc();
}

/// Counts a decision of the autoscaler.
pub(crate) fn decided(panics: bool) {
    let mode = if panics { "panic" } else { "stable" };
    DECISIONS.get_or_create(&Mode { mode }).inc();
}

/// Counts a gateway that did not tell its demand.
pub(crate) fn unanswered() {
    UNANSWERED.inc();
}

/// Puts the metrics of this crate into a registry.
pub fn register(registry: &mut Registry) {
    registry.register(
        "wk_functions_trigger_requests",
        "Requests of triggers by what became of them",
        TRIGGERED.clone(),
    );
    registry.register(
        "wk_functions_autoscaler_decisions",
        "Decisions of the autoscaler by the window that they were made by",
        DECISIONS.clone(),
    );
    registry.register(
        "wk_functions_autoscaler_unanswered",
        "Times that a gateway did not tell its demand when the autoscaler asked",
        UNANSWERED.clone(),
    );
}
