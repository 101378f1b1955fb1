//! The next time that a schedule means.

use jiff::{SignedDuration, Timestamp, ToSpan, Zoned, civil::Date, tz::TimeZone};

use crate::{Fields, Rule, Schedule};

/// What does not happen within so many years never does: February 30th.
const YEARS: i16 = 5;

impl Schedule {
    /// The first time after `after` that the clocks of the zone show what is asked for; `None` if they never do.
    ///
    /// A time that the clocks skip does not happen that day; one that they show twice happens twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.0 {
            Rule::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*period).ok()
            }
            Rule::At(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // The next whole minute.
        let second = after.as_second();
        let start = Timestamp::from_second(second - second.rem_euclid(60) + 60).ok()?;
        let start = start.to_zoned(zone.clone());
        let last = start.year().saturating_add(YEARS);
        let mut from = start;
        loop {
            let date = from.date();
            if date.year() > last {
                return None;
            }
            if !self.has_month(date) {
                from = first_of_next_month(date)?.to_zoned(zone.clone()).ok()?;
            } else if !self.has_day(date) {
                from = date.tomorrow().ok()?.to_zoned(zone.clone()).ok()?;
            } else if let Some(found) = self.next_within(&from) {
                return Some(found);
            } else {
                from = date.tomorrow().ok()?.to_zoned(zone.clone()).ok()?;
            }
        }
    }

    fn has_month(&self, date: Date) -> bool {
        has(self.months, date.month())
    }

    /// Where both the day of the month and that of the week are given, either will do.
    fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        }
    }

    /// The first time on the same day, by steps of what the clocks show: hours until one fits, then minutes.
    fn next_within(&self, from: &Zoned) -> Option<Timestamp> {
        let date = from.date();
        let mut at = from.clone();
        while at.date() == date {
            let minute = i64::from(at.minute());
            let step = if !has(self.hours, at.hour()) {
                60 - minute
            } else if !has(self.minutes, at.minute()) {
                1
            } else {
                return Some(at.timestamp());
            };
            at = at.checked_add(SignedDuration::from_mins(step)).ok()?;
        }
        None
    }
}

fn has(bits: u64, number: i8) -> bool {
    bits >> number & 1 == 1
}

fn first_of_next_month(date: Date) -> Option<Date> {
    date.first_of_month().checked_add(1.month()).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    /// The next four times.
    #[track_caller]
    fn check(schedule: &str, zone: &str, after: &str, expect: Expect) {
        let schedule: Schedule = schedule.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let mut times = Vec::new();
        for _ in 0..4 {
            let Some(next) = schedule.next(at, &zone) else {
                times.push("never".to_owned());
                break;
            };
            let shown = next.to_zoned(zone.clone());
            times.push(shown.strftime("%a %Y-%m-%d %H:%M:%S %z").to_string());
            at = next;
        }
        expect.assert_eq(&times.join("\n"));
    }

    #[test]
    fn times_come_one_after_another() {
        check(
            "*/20 9-10 * * *",
            "UTC",
            "2026-01-01T09:20:00Z",
            expect![[r#"
                Thu 2026-01-01 09:40:00 +0000
                Thu 2026-01-01 10:00:00 +0000
                Thu 2026-01-01 10:20:00 +0000
                Thu 2026-01-01 10:40:00 +0000"#]],
        );
        check(
            "@monthly",
            "UTC",
            "2026-11-30T23:59:59.5Z",
            expect![[r#"
                Tue 2026-12-01 00:00:00 +0000
                Fri 2027-01-01 00:00:00 +0000
                Mon 2027-02-01 00:00:00 +0000
                Mon 2027-03-01 00:00:00 +0000"#]],
        );
        check(
            "@every 1h30m",
            "UTC",
            "2026-01-01T00:00:00.7Z",
            expect![[r#"
                Thu 2026-01-01 01:30:00 +0000
                Thu 2026-01-01 03:00:00 +0000
                Thu 2026-01-01 04:30:00 +0000
                Thu 2026-01-01 06:00:00 +0000"#]],
        );
    }

    #[test]
    fn of_two_kinds_of_days_either_will_do() {
        check(
            "0 0 13 * fri",
            "UTC",
            "2026-11-08T00:00:00Z",
            expect![[r#"
                Fri 2026-11-13 00:00:00 +0000
                Fri 2026-11-20 00:00:00 +0000
                Fri 2026-11-27 00:00:00 +0000
                Fri 2026-12-04 00:00:00 +0000"#]],
        );
        check(
            "0 0 */10 * mon",
            "UTC",
            "2026-11-08T00:00:00Z",
            expect![[r#"
                Mon 2026-11-09 00:00:00 +0000
                Wed 2026-11-11 00:00:00 +0000
                Mon 2026-11-16 00:00:00 +0000
                Sat 2026-11-21 00:00:00 +0000"#]],
        );
    }

    #[test]
    fn a_leap_day_is_waited_for_and_february_30th_never_comes() {
        check(
            "0 12 29 feb *",
            "UTC",
            "2026-01-01T00:00:00Z",
            expect![[r#"
                Tue 2028-02-29 12:00:00 +0000
                Sun 2032-02-29 12:00:00 +0000
                Fri 2036-02-29 12:00:00 +0000
                Wed 2040-02-29 12:00:00 +0000"#]],
        );
        check(
            "0 0 30 2 *",
            "UTC",
            "2026-01-01T00:00:00Z",
            expect!["never"],
        );
    }

    #[test]
    fn a_skipped_time_does_not_happen_and_a_repeated_one_happens_twice() {
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            expect![[r#"
                Sat 2026-03-28 02:30:00 +0100
                Mon 2026-03-30 02:30:00 +0200
                Tue 2026-03-31 02:30:00 +0200
                Wed 2026-04-01 02:30:00 +0200"#]],
        );
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            expect![[r#"
                Sun 2026-10-25 02:30:00 +0200
                Sun 2026-10-25 02:30:00 +0100
                Mon 2026-10-26 02:30:00 +0100
                Tue 2026-10-27 02:30:00 +0100"#]],
        );
        check(
            "@hourly",
            "America/New_York",
            "2026-03-08T05:30:00Z",
            expect![[r#"
                Sun 2026-03-08 01:00:00 -0500
                Sun 2026-03-08 03:00:00 -0400
                Sun 2026-03-08 04:00:00 -0400
                Sun 2026-03-08 05:00:00 -0400"#]],
        );
    }

    #[test]
    fn a_day_may_begin_after_midnight() {
        check(
            "@daily",
            "America/Santiago",
            "2026-09-05T12:00:00Z",
            expect![[r#"
                Mon 2026-09-07 00:00:00 -0300
                Tue 2026-09-08 00:00:00 -0300
                Wed 2026-09-09 00:00:00 -0300
                Thu 2026-09-10 00:00:00 -0300"#]],
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_next_time_is_the_first_minute_that_fits(
            m in 0..60_i8, h in 0..24_i8, day in 1..29_i8, weekday in 0..7_i8,
            any in (any::<bool>(), any::<bool>(), any::<bool>()),
            second in 1_700_000_000_i64..1_900_000_000,
            zone in prop_oneof![Just("UTC"), Just("Australia/Lord_Howe"), Just("America/St_Johns")],
        ) {
            let or = |any: bool, number: i8| if any { "*".to_owned() } else { number.to_string() };
            let text = format!("{m} {} {} * {}", or(any.0, h), or(any.1, day), or(any.2, weekday));
            let zone = TimeZone::get(zone).unwrap();
            let after = Timestamp::from_second(second).unwrap();
            let next = text.parse::<Schedule>().unwrap().next(after, &zone).unwrap();
            let fits = |at: Timestamp| {
                let at = at.to_zoned(zone.clone());
                let on = at.day() == day;
                let week = at.weekday().to_sunday_zero_offset() == weekday;
                let days = match (any.1, any.2) {
                    (false, false) => on || week,
                    (by_day, by_week) => (by_day || on) && (by_week || week),
                };
                at.minute() == m && (any.0 || at.hour() == h) && days
            };
            let mut at = Timestamp::from_second(second - second.rem_euclid(60)).unwrap();
            // Two days of minutes are looked through; beyond them only the answer is.
            for _ in 0..2_880 {
                at += SignedDuration::from_mins(1);
                prop_assert_eq!(at == next, fits(at), "{} at {}", text, at);
                if at == next {
                    break;
                }
            }
            prop_assert!(fits(next) && next > after);
        }
    }
}
