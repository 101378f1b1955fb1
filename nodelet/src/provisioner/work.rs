//! Which volumes want to be looked at: each once however often it is added, by one step at a time, and after a
//! failure again, later each time.
//!
//! Pure: the clock is passed in. Bounded by the number of this node's volumes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// The names of volumes.
#[derive(Default)]
pub(super) struct Work {
    ready: BTreeSet<String>,
    running: HashSet<String>,
    /// Added while they were worked on.
    again: HashSet<String>,
    later: BTreeSet<(Instant, String)>,
    failures: HashMap<String, u32>,
}

impl Work {
    /// Wants volumes looked at now.
    pub(super) fn add(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if self.running.contains(&name) {
                self.again.insert(name);
            } else {
                self.ready.insert(name);
            }
        }
    }

    /// The next one; from now on it is worked on.
    pub(super) fn take(&mut self, now: Instant) -> Option<String> {
        while let Some((due, name)) = self.later.pop_first() {
            if due > now {
                self.later.insert((due, name));
                break;
            }
            self.add([name]);
        }
        let name = self.ready.pop_first()?;
        self.running.insert(name.clone());
        Some(name)
    }

    /// Says how the work on a volume ended.
    pub(super) fn done(&mut self, name: String, succeeded: bool, now: Instant) {
        self.running.remove(&name);
        let again = self.again.remove(&name);
        if succeeded {
            self.failures.remove(&name);
            if again {
                self.ready.insert(name);
            }
            return;
        }
        let failures = self.failures.entry(name.clone()).or_default();
        *failures += 1;
        let doubled = FIRST_BACKOFF * 2_u32.pow((*failures - 1).min(10));
        self.later
            .insert((now + doubled.min(LONGEST_BACKOFF), name));
    }

    /// When the next failed one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_worked_on_by_one_and_again_if_it_changed_meanwhile() {
        let (mut work, now) = (Work::default(), Instant::now());
        work.add(["a".to_owned(), "a".to_owned()]);
        assert_eq!(work.take(now).as_deref(), Some("a"));
        work.add(["a".to_owned()]);
        assert_eq!(work.take(now), None);
        work.done("a".to_owned(), true, now);
        assert_eq!(work.take(now).as_deref(), Some("a"));
        work.done("a".to_owned(), true, now);
        assert_eq!(work.take(now), None);
    }

    #[test]
    fn a_failure_comes_back_later_each_time() {
        let (mut work, now) = (Work::default(), Instant::now());
        work.add(["a".to_owned()]);
        for seconds in [0.5, 1.0, 2.0] {
            assert_eq!(work.take(now + LONGEST_BACKOFF).as_deref(), Some("a"));
            work.done("a".to_owned(), false, now);
            assert_eq!(
                work.next_due(),
                Some(now + Duration::from_secs_f64(seconds))
            );
            assert_eq!(work.take(now), None);
        }
    }
}
