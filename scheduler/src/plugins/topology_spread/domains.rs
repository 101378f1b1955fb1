//! Counts by domain that can be changed for a trial, and the least of them.
//!
//! Pure. The counts themselves are shared; a trial keeps the few that it changes.

use crate::census::Counts;

/// Stands for a domain whose nodes do not count.
pub(super) const ABSENT: u32 = u32::MAX;

/// Counts by domain.
#[derive(Clone, Debug)]
pub(super) struct Domains {
    counts: Counts,
    /// By domain, what differs now.
    shifts: Vec<(usize, i64)>,
    /// How many domains count.
    number: usize,
    /// The least of the shared counts, and how many domains have it.
    least: u32,
    at_least: usize,
}

impl Domains {
    pub(super) fn new(counts: Counts) -> Self {
        let least = counts.iter().copied().min().unwrap_or(ABSENT);
        let number = counts.iter().filter(|count| **count != ABSENT).count();
        let at_least = counts.iter().filter(|count| **count == least).count();
        Self {
            counts,
            shifts: Vec::new(),
            number,
            least,
            at_least,
        }
    }

    /// How many domains count.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The count of a domain; nothing if it does not count.
    pub(super) fn get(&self, domain: usize) -> i64 {
        let count = self.counts[domain];
        if count == ABSENT {
            return 0;
        }
        let shifts = self.shifts.iter();
        let shift = shifts.filter(|(own, _)| *own == domain);
        i64::from(count) + shift.map(|(_, by)| by).sum::<i64>()
    }

    /// The least count; `None` if no domain counts.
    pub(super) fn least(&self) -> Option<i64> {
        if self.number == 0 {
            return None;
        }
        let shifted = |domain: usize| self.shifts.iter().any(|(own, _)| *own == domain);
        let hidden = self.shifts.iter();
        let hidden = hidden.filter(|(domain, _)| self.counts[*domain] == self.least);
        let rest = if hidden.count() < self.at_least {
            Some(i64::from(self.least))
        } else {
            let counts = self.counts.iter().enumerate();
            let rest = counts.filter(|(domain, count)| **count != ABSENT && !shifted(*domain));
            rest.map(|(_, count)| i64::from(*count)).min()
        };
        let shifts = self.shifts.iter().map(|(domain, _)| self.get(*domain));
        rest.into_iter().chain(shifts).min()
    }

    /// Changes the count of a domain that counts.
    pub(super) fn shift(&mut self, domain: usize, by: i64) {
        if self.counts[domain] == ABSENT {
            return;
        }
        match self.shifts.iter_mut().find(|(own, _)| *own == domain) {
            Some((_, shift)) => *shift += by,
            None => self.shifts.push((domain, by)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_trial_counts_as_if_it_were_so(
            counts in proptest::collection::vec(0..4_u32, 1..6),
            shifts in proptest::collection::vec((0..6_usize, -1..2_i64), 0..6),
        ) {
            let mut plain: Vec<i64> = counts.iter().map(|count| i64::from(*count)).collect();
            let mut domains = Domains::new(Arc::new(counts));
            for (domain, by) in shifts {
                let domain = domain % plain.len();
                plain[domain] += by;
                domains.shift(domain, by);
            }
            prop_assert_eq!(domains.least(), plain.iter().copied().min());
            for (domain, count) in plain.iter().enumerate() {
                prop_assert_eq!(domains.get(domain), *count);
            }
        }
    }

    #[test]
    fn a_domain_that_does_not_count_has_no_say() {
        let mut domains = Domains::new(Arc::new(vec![ABSENT, 3]));
        domains.shift(0, 7);
        assert_eq!(
            (domains.number(), domains.least(), domains.get(0)),
            (1, Some(3), 0)
        );
        assert_eq!(Domains::new(Arc::new(vec![ABSENT])).least(), None);
    }
}
