//! A few samples of one thing, and the rate between the oldest and the newest. Pure.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

/// How many samples are kept: with a sample each 5 s, a rate is over 15 s.
const KEPT: usize = 4;

/// What something had used at a moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sample {
    /// For rates: it does not jump.
    pub(crate) at: Instant,
    /// For people.
    pub(crate) time: Timestamp,
    /// CPU time since it started.
    pub(crate) cpu: Duration,
    pub(crate) memory_bytes: u64,
}

/// The last samples, oldest first.
#[derive(Default, Debug)]
pub(crate) struct Series(VecDeque<Sample>);

/// What something uses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Used {
    /// When it was seen.
    pub(crate) time: Timestamp,
    /// CPU time since it started.
    pub(crate) cpu: Duration,
    pub(crate) memory_bytes: u64,
    /// None until there are two samples.
    pub(crate) rate: Option<Rate>,
}

/// CPU time over a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    /// Billionths of a core.
    pub(crate) nano_cores: u64,
    pub(crate) window: Duration,
}

impl Series {
    /// Adds the newest; CPU time that went back is of something new, and what was before is forgotten.
    pub(crate) fn push(&mut self, sample: Sample) {
        if self.0.back().is_some_and(|last| sample.cpu < last.cpu) {
            self.0.clear();
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// What the newest sample says; none before the first.
    pub(crate) fn used(&self) -> Option<Used> {
        let (oldest, newest) = (self.0.front()?, self.0.back()?);
        Some(Used {
            time: newest.time,
            cpu: newest.cpu,
            memory_bytes: newest.memory_bytes,
            rate: rate(oldest, newest),
        })
    }
}

fn rate(oldest: &Sample, newest: &Sample) -> Option<Rate> {
    let window = newest.at.saturating_duration_since(oldest.at);
    let used = newest.cpu.saturating_sub(oldest.cpu).as_nanos();
    let nano_cores = (used * 1_000_000_000).checked_div(window.as_nanos())?;
    Some(Rate {
        nano_cores: u64::try_from(nano_cores).unwrap_or(u64::MAX),
        window,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Samples as seconds and milliseconds of CPU time.
    #[track_caller]
    fn check(samples: &[(u64, u64)], expected: Expect) {
        let start = Instant::now();
        let mut series = Series::default();
        for (seconds, millis) in samples {
            series.push(Sample {
                at: start + Duration::from_secs(*seconds),
                time: Timestamp::UNIX_EPOCH,
                cpu: Duration::from_millis(*millis),
                memory_bytes: *seconds,
            });
        }
        let rate = series.used().map(|used| used.rate);
        let text = match rate {
            None => "nothing".to_owned(),
            Some(None) => "no rate".to_owned(),
            Some(Some(rate)) => format!("{}n over {:?}", rate.nano_cores, rate.window),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_rate_takes_two_samples() {
        check(&[], expect!["nothing"]);
        check(&[(0, 700)], expect!["no rate"]);
        check(&[(0, 700), (5, 1200)], expect!["100000000n over 5s"]);
        check(&[(0, 700), (5, 700)], expect!["0n over 5s"]);
        check(&[(3, 700), (3, 800)], expect!["no rate"]);
    }

    #[test]
    fn a_rate_is_over_the_last_samples_only() {
        check(
            &[(0, 0), (5, 9000), (10, 9000), (15, 9000), (20, 9000)],
            expect!["0n over 15s"],
        );
        check(
            &[(0, 0), (5, 10), (10, 20), (15, 30), (20, 40)],
            expect!["2000000n over 15s"],
        );
    }

    #[test]
    fn time_that_went_back_is_of_something_new() {
        check(&[(0, 700), (5, 100)], expect!["no rate"]);
        check(
            &[(0, 700), (5, 100), (10, 350)],
            expect!["50000000n over 5s"],
        );
    }
}
