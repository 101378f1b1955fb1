//! Cron expressions as Kubernetes has them, and the times that they mean.
//!
//! Five fields (minute, hour, day of month, month, day of week) of `*`, `?`, numbers, names, ranges, steps and
//! lists; or a word such as `@daily`, or `@every 1h30m`. Where both days are given, either will do. The apiserver
//! checks expressions with it, controllers go by it. Pure: no clock, and the zone is passed in.
#![warn(missing_docs)]

mod next;
mod parse;

use jiff::SignedDuration;

/// When something happens again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Rule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    At(Fields),
    /// So long after the last time; whole seconds, at least one.
    Every(SignedDuration),
}

/// A bit for each number that fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days of the month, or of the week, are whichever.
    any_day: bool,
    any_weekday: bool,
}
