//! Which time of a schedule is due. Pure.

use cron::Schedule;
use function_kinds::CronTrigger;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// What a schedule asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Due {
    /// The time whose request is to be sent now.
    pub(super) at: Option<Timestamp>,
    /// The time whose request is too late.
    pub(super) missed: Option<Timestamp>,
    /// The next time.
    pub(super) next: Option<Timestamp>,
}

/// The newest time after `last` that has come; `Err`: what is wrong with the schedule.
pub(super) fn due(cron: &CronTrigger, last: Timestamp, now: Timestamp) -> Result<Due, String> {
    let schedule: Schedule = cron
        .schedule
        .parse()
        .map_err(|error| format!("unparseable schedule: {:?}: {error}", cron.schedule))?;
    let zone = match cron.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => {
            TimeZone::get(name).map_err(|error| format!("invalid timeZone: {name:?}: {error}"))?
        }
    };
    let newest = newest(&schedule, &zone, last, now);
    let deadline = cron.starting_deadline_seconds;
    let late = newest.filter(|at| {
        deadline
            .is_some_and(|deadline| now.duration_since(*at) > SignedDuration::from_secs(deadline))
    });
    Ok(Due {
        at: newest.filter(|_| late.is_none()),
        missed: late,
        next: schedule.next(newest.unwrap_or(last), &zone),
    })
}

/// The last time after `from` and not after `now`. There may be very many: it is looked for from ever further back.
fn newest(
    schedule: &Schedule,
    zone: &TimeZone,
    from: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let first = schedule.next(from, zone).filter(|first| *first <= now)?;
    let second = schedule.next(first, zone).filter(|second| *second <= now);
    let Some(second) = second else {
        return Some(first);
    };
    let mut window = second.duration_since(first);
    loop {
        let back = now.checked_sub(window).map_or(from, |back| back.max(from));
        let mut last = None;
        let mut next = schedule.next(back, zone);
        while let Some(at) = next.filter(|at| *at <= now) {
            last = Some(at);
            next = schedule.next(at, zone);
        }
        if last.is_some() || back == from {
            return last;
        }
        window = window.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(
        schedule: &str,
        zone: &str,
        deadline: Option<i64>,
        last: &str,
        now: &str,
        expected: Expect,
    ) {
        let cron = CronTrigger {
            schedule: schedule.to_owned(),
            time_zone: (!zone.is_empty()).then(|| zone.to_owned()),
            starting_deadline_seconds: deadline,
            ..CronTrigger::default()
        };
        let text = match due(&cron, last.parse().unwrap(), now.parse().unwrap()) {
            Ok(due) => {
                let shown = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| at.to_string());
                format!(
                    "at {} missed {} next {}",
                    shown(due.at),
                    shown(due.missed),
                    shown(due.next)
                )
            }
            Err(error) => error,
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        check(
            "0 3 * * *",
            "",
            None,
            "2026-01-01T03:00:00Z",
            "2026-01-02T02:59:59Z",
            expect!["at - missed - next 2026-01-02T03:00:00Z"],
        );
        check(
            "0 3 * * *",
            "",
            None,
            "2026-01-01T03:00:00Z",
            "2026-01-02T03:00:00Z",
            expect!["at 2026-01-02T03:00:00Z missed - next 2026-01-03T03:00:00Z"],
        );
    }

    #[test]
    fn of_what_was_missed_the_newest_is_made_up_for() {
        check(
            "*/5 * * * *",
            "",
            None,
            "2026-01-01T00:00:00Z",
            "2026-03-01T00:07:00Z",
            expect!["at 2026-03-01T00:05:00Z missed - next 2026-03-01T00:10:00Z"],
        );
        check(
            "@every 90s",
            "",
            None,
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:10:00Z",
            expect!["at 2026-01-01T00:10:00Z missed - next 2026-01-01T00:11:30Z"],
        );
    }

    #[test]
    fn what_is_too_late_is_given_up() {
        check(
            "0 3 * * *",
            "",
            Some(60),
            "2026-01-01T03:00:00Z",
            "2026-01-02T03:01:01Z",
            expect!["at - missed 2026-01-02T03:00:00Z next 2026-01-03T03:00:00Z"],
        );
        check(
            "0 3 * * *",
            "",
            Some(60),
            "2026-01-01T03:00:00Z",
            "2026-01-02T03:01:00Z",
            expect!["at 2026-01-02T03:00:00Z missed - next 2026-01-03T03:00:00Z"],
        );
    }

    #[test]
    fn a_schedule_goes_by_its_own_clock() {
        check(
            "30 2 * * *",
            "Europe/Berlin",
            None,
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            expect!["at - missed - next 2026-03-30T00:30:00Z"],
        );
        check(
            "0 9 * * *",
            "Asia/Tokyo",
            None,
            "2026-01-01T00:00:00Z",
            "2026-01-01T23:00:00Z",
            expect!["at - missed - next 2026-01-02T00:00:00Z"],
        );
        check(
            "often",
            "",
            None,
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z",
            expect![[
                r#"unparseable schedule: "often": expected exactly 5 fields, found 1: [often]"#
            ]],
        );
    }
}
