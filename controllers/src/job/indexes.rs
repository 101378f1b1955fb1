//! A set of completion indexes, and its text as Kubernetes writes it: `1,3-5,7`.

use std::fmt;

/// Ordered intervals, neither overlapping nor adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads the text; what is no number is left out, and so is what is not below `completions`.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let intervals = text.split(',').filter_map(|interval| {
            let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
            let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
            let last = last.min(completions - 1);
            (0 <= first && first <= last).then_some((first, last))
        });
        Self::joined(intervals.collect())
    }

    fn joined(mut intervals: Vec<(i32, i32)>) -> Self {
        intervals.sort_unstable();
        let mut joined: Vec<(i32, i32)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// The same with more.
    pub(super) fn with(&self, more: impl IntoIterator<Item = i32>) -> Self {
        let more = more.into_iter().map(|index| (index, index));
        Self::joined(self.0.iter().copied().chain(more).collect())
    }

    /// The indexes of either.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self::joined(self.0.iter().chain(&other.0).copied().collect())
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        let after = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(after).is_some_and(|(first, _)| *first <= index)
    }

    pub(super) fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> i32 {
        self.total() + other.total() - self.and(other).total()
    }

    /// The first indexes below `completions` that are not in it.
    pub(super) fn absent(&self, completions: i32) -> impl Iterator<Item = i32> {
        let starts = std::iter::once(0).chain(self.0.iter().map(|(_, last)| last + 1));
        let ends = self.0.iter().map(|(first, _)| *first);
        let ends = ends.chain(std::iter::once(completions));
        starts
            .zip(ends)
            .flat_map(move |(start, end)| start..end.min(completions))
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn whole(count: usize) -> i32 {
        i32::try_from(count).unwrap()
    }

    #[test]
    fn two_neighbours_are_written_one_by_one_and_three_as_a_range() {
        let text = |of: &[i32]| Indexes::default().with(of.iter().copied()).to_string();
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[4, 3, 1]), "1,3,4");
        assert_eq!(text(&[5, 3, 4, 1, 9]), "1,3-5,9");
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        assert_eq!(Indexes::parse("x,1,5-3,7-9,-4,12", 9).to_string(), "1,7,8");
        assert_eq!(Indexes::parse("2147483647", i32::MAX).total(), 0);
    }

    proptest! {
        #[test]
        fn it_is_a_set(first in proptest::collection::btree_set(0..40, 0..40),
                       more in proptest::collection::vec(0..40, 0..20)) {
            let all: BTreeSet<i32> = first.iter().chain(&more).copied().collect();
            let indexes = Indexes::default().with(first).with(more);
            prop_assert_eq!(Indexes::parse(&indexes.to_string(), 40), indexes.clone());
            prop_assert_eq!(indexes.total(), whole(all.len()));
            prop_assert_eq!(indexes.common(&Indexes(vec![(10, 19)])), whole(all.range(10..20).count()));
            let absent: Vec<i32> = (0..40).filter(|index| !all.contains(index)).collect();
            prop_assert_eq!(indexes.absent(40).collect::<Vec<_>>(), absent);
            for index in 0..40 {
                prop_assert_eq!(indexes.contains(index), all.contains(&index));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-0-9,x]{0,20}", completions in -1..100) {
            let _ = Indexes::parse(&text, completions).absent(completions).count();
        }
    }
}
