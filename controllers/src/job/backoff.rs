//! How long a Job waits before it makes a pod in place of one that failed. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::member;

/// The wait after a first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// The failures of a Job since a pod of it last succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

impl Record {
    /// The same after more pods ended.
    pub(super) fn with(self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let success = succeeded.iter().map(|pod| member::finished_at(pod)).max();
        let later = failed.iter().map(|pod| member::finished_at(pod));
        let later: Vec<Timestamp> = later
            .filter(|at| success.is_none_or(|success| *at > success))
            .collect();
        let before = if success.is_some() {
            Self::default()
        } else {
            self
        };
        let failures = u32::try_from(later.len()).unwrap_or(u32::MAX);
        Self {
            failures: before.failures.saturating_add(failures),
            last: later.into_iter().max().or(before.last),
        }
    }

    /// How long to wait still.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        self.last
            .map_or(Duration::ZERO, |last| left(self.failures, last, now))
    }
}

/// How long to wait still before an index gets another pod in place of this one.
pub(super) fn left_of_index(pod: &Pod, now: Timestamp) -> Duration {
    let before = member::failures(pod).saturating_add(member::ignored_failures(pod));
    let failures = u32::try_from(before).unwrap_or(0).saturating_add(1);
    left(failures, member::finished_at(pod), now)
}

/// A last failure in the future, as a clock set back makes it, is waited for no longer than the longest.
fn left(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let wait = FIRST
        .saturating_mul(1 << (failures - 1).min(16))
        .min(LONGEST);
    let passed = now.duration_since(last);
    match Duration::try_from(passed) {
        Ok(passed) => wait.saturating_sub(passed),
        Err(_) => wait,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(finished: &str) -> Arc<Pod> {
        let pod = json!({"metadata": {"annotations": {member::FAILURES: "1"}}, "status": {
            "phase": "Failed", "conditions": [{"type": "Ready", "status": "False",
                "lastTransitionTime": format!("2026-01-01T00:{finished}Z")}]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T00:{time}Z").parse().unwrap()
    }

    #[test]
    fn the_wait_doubles_with_each_failure_up_to_ten_minutes() {
        let waits: Vec<u64> = [0, 1, 2, 3, 7, 100]
            .map(|failures| left(failures, at("00:00"), at("00:00")).as_secs())
            .into();
        assert_eq!(waits, [0, 10, 20, 40, 600, 600]);
        assert_eq!(left(1, at("00:00"), at("00:04")).as_secs(), 6);
        assert_eq!(left(1, at("30:00"), at("00:00")).as_secs(), 10);
    }

    #[test]
    fn a_success_starts_it_over() {
        let failed = Record::default().with(&[], &[pod("00:01"), pod("00:02")]);
        assert_eq!(failed.left(at("00:02")).as_secs(), 20);
        let mixed = failed.with(&[pod("00:05")], &[pod("00:04"), pod("00:06")]);
        assert_eq!(mixed.left(at("00:06")).as_secs(), 10);
        let over = mixed.with(&[pod("00:07")], &[]);
        assert_eq!(over.left(at("00:07")), Duration::ZERO);
        assert_eq!(left_of_index(&pod("00:00"), at("00:00")).as_secs(), 20);
    }
}
