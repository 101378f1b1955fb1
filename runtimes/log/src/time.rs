//! Times as text, in UTC. A calendar is all this needs, and the process that stays with a container carries
//! no more than it needs.

use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;

/// A moment's fields in UTC.
struct Moment {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    nanosecond: u32,
}

/// Moments before 1970 are its begin.
fn moment(time: SystemTime) -> Moment {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let (days, rest) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date(days);
    Moment {
        year,
        month,
        day,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        nanosecond: since.subsec_nanos(),
    }
}

/// Year, month and day of the `days`th day after 1 January 1970.
///
/// Counted in years that begin in March, so that a leap day is a year's last, and eras of 400 years, all equally long.
fn date(days: u64) -> (u64, u64, u64) {
    // Days: from 1 March of the year 0 to 1 January 1970, and of so many years.
    const EPOCH: u64 = 719_468;
    const ERA: u64 = 146_097;
    const CENTURY: u64 = 36_524;
    const FOUR: u64 = 1_461;
    const YEAR: u64 = 365;
    let days = days + EPOCH;
    let (era, day) = (days / ERA, days % ERA);
    // Leap days that came before this one are taken out; an era's last day is one.
    let year = (day - day / (FOUR - 1) + day / CENTURY - day / (ERA - 1)) / YEAR;
    let day = day - (YEAR * year + year / 4 - year / 100);
    // From March on, five months have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

/// `2026-01-02T03:04:05.000000006Z`: nine digits of a second always, so that entries sort as text.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let m = moment(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        m.year, m.month, m.day, m.hour, m.minute, m.second, m.nanosecond
    )
}

/// `20260102-030405.000000006`: for names of files.
pub(crate) fn compact(time: SystemTime) -> String {
    let m = moment(time);
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}.{:09}",
        m.year, m.month, m.day, m.hour, m.minute, m.second, m.nanosecond
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: u64, want: &str) {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 6);
        assert_eq!(rfc3339(time), want);
    }

    #[test]
    fn a_time_is_its_fields_in_utc() {
        check(0, "1970-01-01T00:00:00.000000006Z");
        check(951_782_399, "2000-02-28T23:59:59.000000006Z");
        check(951_782_400, "2000-02-29T00:00:00.000000006Z");
        check(951_868_800, "2000-03-01T00:00:00.000000006Z");
        check(1_700_000_000, "2023-11-14T22:13:20.000000006Z");
        check(1_735_689_599, "2024-12-31T23:59:59.000000006Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000000006Z");
    }

    #[test]
    fn days_follow_each_other() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let mut days = 0;
        for year in 1970..2500 {
            let february = if leap(year) { 29 } else { 28 };
            let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..).zip(lengths) {
                for day in 1..=length {
                    assert_eq!(date(days), (year, month, day));
                    days += 1;
                }
            }
        }
    }
}
