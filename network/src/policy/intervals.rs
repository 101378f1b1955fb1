//! Sets of numbers as intervals that neither overlap nor touch. Pure.

/// A set of numbers: addresses or ports.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Intervals(Vec<(u32, u32)>);

impl Intervals {
    /// Puts `first` to `last` in.
    pub(crate) fn add(&mut self, mut first: u32, mut last: u32) {
        if first > last {
            return;
        }
        self.0.retain(|&(from, to)| {
            let apart = to.saturating_add(1) < first || last.saturating_add(1) < from;
            if !apart {
                (first, last) = (first.min(from), last.max(to));
            }
            apart
        });
        let place = self.0.partition_point(|&(from, _)| from < first);
        self.0.insert(place, (first, last));
    }

    /// Takes `first` to `last` out.
    pub(crate) fn remove(&mut self, first: u32, last: u32) {
        let cut = |(from, to): (u32, u32)| {
            let before = (from < first).then(|| (from, to.min(first.wrapping_sub(1))));
            let after = (to > last).then(|| (from.max(last.wrapping_add(1)), to));
            let whole = (to < first || from > last).then_some((from, to));
            match whole {
                Some(whole) => [Some(whole), None],
                None => [before, after],
            }
        };
        let cut = std::mem::take(&mut self.0).into_iter().map(cut);
        self.0 = cut.flatten().flatten().collect();
    }

    pub(crate) fn union(&mut self, other: &Intervals) {
        for (first, last) in other.iter() {
            self.add(first, last);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.iter()
            .any(|(first, last)| (first..=last).contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_in_last_is_what_is_in(
            steps in prop::collection::vec((any::<bool>(), 0u32..64, 0u32..64), 0..12),
            edge in any::<bool>(),
        ) {
            // At either end of all numbers.
            let shift = if edge { u32::MAX - 63 } else { 0 };
            let mut intervals = Intervals::default();
            let mut wanted = [false; 64];
            for (add, from, to) in steps {
                let (from, to) = (from.min(to), from.max(to));
                for number in from..=to {
                    wanted[number as usize] = add;
                }
                match add {
                    true => intervals.add(from + shift, to + shift),
                    false => intervals.remove(from + shift, to + shift),
                }
            }
            for (number, wanted) in (0u32..).zip(wanted) {
                prop_assert_eq!(intervals.contains(number + shift), wanted);
            }
            let all: Vec<_> = intervals.iter().collect();
            for pair in all.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0, "{:?}", all);
            }
        }
    }
}
