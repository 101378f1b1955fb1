//! Conditions, kept as Kubernetes keeps them. Pure.

use function_kinds::Condition;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::readiness::Why;

/// What a condition is to say.
pub(crate) struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub(crate) status: &'static str,
    pub(crate) why: Why,
}

impl Verdict {
    pub(crate) fn new(status: &'static str, why: Why) -> Self {
        Self { status, why }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of a type: its time is that of its last change of status.
pub(crate) fn condition(
    before: &[Condition],
    type_: &str,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let old = before.iter().find(|condition| condition.type_ == type_);
    let since = old.filter(|old| old.status == verdict.status);
    Condition {
        type_: type_.to_owned(),
        status: verdict.status.to_owned(),
        reason: verdict.why.reason.clone(),
        message: verdict.why.message.clone(),
        observed_generation: generation,
        last_transition_time: since.map_or_else(
            // The wire has whole seconds.
            || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            |old| old.last_transition_time.clone(),
        ),
    }
}
