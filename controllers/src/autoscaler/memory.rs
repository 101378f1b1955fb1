//! What an autoscaler remembers between two looks: what it would have done, and what it did.
//!
//! In memory only: after a restart the windows begin anew, as in Kubernetes.

use std::collections::VecDeque;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use tokio::time::Instant;

/// No window is longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// Of one autoscaler.
#[derive(Default, Debug)]
pub(super) struct Memory {
    /// Of which object, for another one may take its name.
    pub(super) uid: Option<String>,
    /// The spec that was looked at last: another one is looked at at once.
    pub(super) spec: Option<HorizontalPodAutoscalerSpec>,
    /// When to look again.
    pub(super) due: Option<Instant>,
    recommended: VecDeque<(Instant, i32)>,
    added: VecDeque<(Instant, i32)>,
    removed: VecDeque<(Instant, i32)>,
}

impl Memory {
    /// The first time, what there is counts as recommended.
    pub(super) fn begin(&mut self, replicas: i32, now: Instant) {
        if self.recommended.is_empty() {
            self.recommended.push_back((now, replicas));
        }
    }

    /// What was recommended within a window.
    pub(super) fn recommended(&self, window: Duration, now: Instant) -> impl Iterator<Item = i32> {
        within(&self.recommended, window, now)
    }

    pub(super) fn recommend(&mut self, replicas: i32, now: Instant) {
        forget(&mut self.recommended, now);
        self.recommended.push_back((now, replicas));
    }

    pub(super) fn rescaled(&mut self, from: i32, to: i32, now: Instant) {
        let (changes, change) = if to > from {
            (&mut self.added, to - from)
        } else {
            (&mut self.removed, from - to)
        };
        forget(changes, now);
        changes.push_back((now, change));
    }

    /// How many replicas there were a period ago, as far as our own changes tell.
    pub(super) fn before(&self, replicas: i32, period: Duration, now: Instant) -> i32 {
        let sum = |changes| within(changes, period, now).fold(0, i32::saturating_add);
        replicas
            .saturating_sub(sum(&self.added))
            .saturating_add(sum(&self.removed))
    }
}

fn within(
    kept: &VecDeque<(Instant, i32)>,
    window: Duration,
    now: Instant,
) -> impl Iterator<Item = i32> {
    kept.iter()
        .filter(move |(at, _)| now.duration_since(*at) < window)
        .map(|(_, number)| *number)
}

fn forget(kept: &mut VecDeque<(Instant, i32)>, now: Instant) {
    while kept
        .front()
        .is_some_and(|(at, _)| now.duration_since(*at) >= LONGEST)
    {
        kept.pop_front();
    }
}
