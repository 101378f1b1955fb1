//! From results to verdicts. Pure.

/// Counts results of the same sort in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Threshold {
    successes: u32,
    failures: u32,
    last: Option<bool>,
    run: u32,
}

impl Threshold {
    /// So many successes, or failures, in a row make a verdict.
    pub(super) fn new(successes: u32, failures: u32) -> Threshold {
        Threshold {
            successes,
            failures,
            last: None,
            run: 0,
        }
    }

    /// Takes a result; answers the verdict if its threshold is met, also when it has not changed.
    pub(super) fn push(&mut self, passed: bool) -> Option<bool> {
        self.run = if self.last == Some(passed) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(passed);
        let needed = if passed {
            self.successes
        } else {
            self.failures
        };
        (self.run >= needed).then_some(passed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Results and verdicts as text: `+` passed, `-` failed, `.` none yet.
    #[track_caller]
    fn check(successes: u32, failures: u32, results: &str, expected: &str) {
        let mut threshold = Threshold::new(successes, failures);
        let verdicts: String = results
            .chars()
            .map(|result| match threshold.push(result == '+') {
                Some(true) => '+',
                Some(false) => '-',
                None => '.',
            })
            .collect();
        assert_eq!(verdicts, expected, "of {results}");
    }

    #[test]
    fn a_verdict_needs_its_results_in_a_row() {
        check(1, 3, "+--+---+", "+..+..-+");
        check(2, 3, "+-++--", "...+..");
        check(1, 1, "-+-+", "-+-+");
    }

    proptest! {
        #[test]
        fn a_verdict_is_what_the_last_results_all_were(
            successes in 1u32..5,
            failures in 1u32..5,
            results in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let mut threshold = Threshold::new(successes, failures);
            for (index, passed) in results.iter().enumerate() {
                let needed = if *passed { successes } else { failures } as usize;
                let seen = &results[..=index];
                let met = seen.len() >= needed && seen[seen.len() - needed..].iter().all(|r| r == passed);
                prop_assert_eq!(threshold.push(*passed), met.then_some(*passed));
            }
        }
    }
}
