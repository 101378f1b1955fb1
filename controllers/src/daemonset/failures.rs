//! How long failed pods are left alone: replaced at once they would fail again and again.
//!
//! Kept in memory: a restart only forgets patience.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// A node that was without failures for this long begins anew.
const FORGOTTEN: Duration = Duration::from_secs(2 * 15 * 60);
/// Between looks for what is to be forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// A DaemonSet's uid and generation: another template may do better. And a node.
type Place = (String, i64, String);

/// When pods failed where.
#[derive(Default)]
pub(super) struct Failures {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    places: HashMap<Place, Backoff>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Backoff {
    delay: Duration,
    since: Instant,
}

impl Backoff {
    fn forgotten(&self, now: Instant) -> bool {
        now - self.since > FORGOTTEN
    }
}

impl Failures {
    /// How long the next pod that failed there must still wait.
    pub(super) fn wait(&self, uid: &str, generation: i64, node: &str) -> Option<Duration> {
        let now = Instant::now();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (uid.to_owned(), generation, node.to_owned());
        let backoff = state.places.get(&place)?;
        let left = backoff.delay.checked_sub(now - backoff.since);
        left.filter(|left| !left.is_zero() && !backoff.forgotten(now))
    }

    /// A pod that failed there is being replaced.
    pub(super) fn note(&self, uid: &str, generation: i64, node: &str) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.swept.is_none_or(|swept| now - swept >= SWEEP) {
            state.swept = Some(now);
            state.places.retain(|_, backoff| !backoff.forgotten(now));
        }
        let place = (uid.to_owned(), generation, node.to_owned());
        let before = state.places.get(&place);
        let before = before.filter(|backoff| !backoff.forgotten(now));
        let delay = before.map_or(FIRST, |backoff| (backoff.delay * 2).min(LONGEST));
        let backoff = Backoff { delay, since: now };
        state.places.insert(place, backoff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_doubles_and_is_forgotten() {
        let failures = Failures::default();
        let wait = |node| {
            let wait = failures.wait("u", 1, node);
            wait.map(|wait| wait.as_secs())
        };
        assert_eq!(wait("a"), None);
        failures.note("u", 1, "a");
        assert_eq!((wait("a"), wait("b")), (Some(1), None));
        tokio::time::advance(FIRST).await;
        assert_eq!(wait("a"), None);
        failures.note("u", 1, "a");
        assert_eq!(wait("a"), Some(2));
        (0..20).for_each(|_| failures.note("u", 1, "a"));
        assert_eq!(wait("a"), Some(900));
        tokio::time::advance(FORGOTTEN + FIRST).await;
        failures.note("u", 1, "b");
        assert_eq!((wait("a"), wait("b")), (None, Some(1)));
        failures.note("u", 1, "a");
        assert_eq!(wait("a"), Some(1));
    }
}
