//! Whether a Job of a CronJob is due, and when the next will be. Pure.

use cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus};
use kube::ResourceExt;

use crate::events::Severity;

/// More missed times than this are worth a warning.
const MANY: i64 = 100;

/// An Event: how bad, why, and what is said.
#[derive(Debug, PartialEq)]
pub(super) struct Notice(
    pub(super) Severity,
    pub(super) &'static str,
    pub(super) String,
);

/// What to do now.
#[derive(Debug)]
pub(super) struct Plan {
    /// The time that a Job is to be made for.
    pub(super) due: Option<Timestamp>,
    /// Whether the Jobs that still run go first.
    pub(super) replace: bool,
    pub(super) notices: Vec<Notice>,
    /// When to look again; `None`: not before something changes.
    pub(super) next: Option<Timestamp>,
    /// Whose clocks the schedule goes by.
    pub(super) zone: TimeZone,
}

/// Decides. `zone` is this process's own, for a CronJob that names none.
pub(super) fn plan(cron: &CronJob, status: &CronJobStatus, now: Timestamp, zone: TimeZone) -> Plan {
    let mut plan = Plan {
        due: None,
        replace: false,
        notices: Vec::new(),
        next: None,
        zone,
    };
    let spec = &cron.spec;
    let warn = |reason, message| vec![Notice(Severity::Warning, reason, message)];
    if let Some(name) = &spec.time_zone {
        match TimeZone::get(name) {
            Ok(zone) => plan.zone = zone,
            Err(error) => {
                let message = format!("invalid timeZone: {name:?}: {error}");
                plan.notices = warn("UnknownTimeZone", message);
                return plan;
            }
        }
    }
    if spec.suspend == Some(true) {
        return plan;
    }
    let schedule: Schedule = match spec.schedule.parse() {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.notices = warn("UnparseableSchedule", message);
            return plan;
        }
    };
    let last = status.last_schedule_time.as_ref();
    let last = last.or(cron.metadata.creation_timestamp.as_ref());
    let last = last.map_or(now, |time| time.0);
    let deadline = spec
        .starting_deadline_seconds
        .map(SignedDuration::from_secs);
    let earliest = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
    let earliest = earliest.map_or(last, |earliest| earliest.max(last));
    let clock = Clock {
        schedule: &schedule,
        zone: &plan.zone,
    };
    let (Some(missed), Some(all)) = (clock.missed(earliest, now), clock.missed(last, now)) else {
        let why = "time difference between two schedules is less than 1 second";
        let message = format!("invalid schedule: {} : {why}", spec.schedule);
        plan.notices = warn("InvalidSchedule", message);
        return plan;
    };
    plan.next = clock.after(all.last.unwrap_or(last), now);
    let Some(due) = missed.last else {
        return plan;
    };
    if missed.count > MANY {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.notices = warn("TooManyMissedTimes", message.into());
    }
    if deadline.is_some_and(|deadline| now.duration_since(due) > deadline) {
        let at = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let message = format!("Missed scheduled time to start a job: {at}");
        plan.notices.extend(warn("MissSchedule", message));
        return plan;
    }
    let name = job_name(cron, due);
    let mut active = status.active.iter().flatten();
    let begun = active.any(|active| active.name.as_ref() == Some(&name));
    if begun || status.last_schedule_time.as_ref().map(|time| time.0) == Some(due) {
        return plan;
    }
    let busy = status
        .active
        .as_ref()
        .is_some_and(|active| !active.is_empty());
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if busy => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.notices
                .push(Notice(Severity::Normal, "JobAlreadyActive", message.into()));
            return plan;
        }
        Some("Replace") => plan.replace = busy,
        _ => {}
    }
    plan.due = Some(due);
    plan
}

/// Times that have passed.
struct Missed {
    last: Option<Timestamp>,
    /// About how many.
    count: i64,
}

struct Clock<'a> {
    schedule: &'a Schedule,
    zone: &'a TimeZone,
}

impl Clock<'_> {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, self.zone)
    }

    /// The times after `from` up to now; `None` for a schedule that never comes.
    fn missed(&self, from: Timestamp, now: Timestamp) -> Option<Missed> {
        let first = self.next(from)?;
        let second = self.next(first)?;
        if first > now {
            return Some(Missed {
                last: None,
                count: 0,
            });
        }
        if second > now {
            return Some(Missed {
                last: Some(first),
                count: 1,
            });
        }
        let interval = second.duration_since(first);
        let passed = now.duration_since(first);
        let count = passed.as_secs() / interval.as_secs().max(1) + 1;
        // The last one is looked for from ever further back: there may be very many.
        let mut window = interval;
        loop {
            let back = now.checked_sub(window).map_or(from, |back| back.max(from));
            let mut last = None;
            let mut next = self.next(back);
            while let Some(at) = next.filter(|at| *at <= now) {
                last = Some(at);
                next = self.next(at);
            }
            if last.is_some() || back == from {
                return Some(Missed { last, count });
            }
            window = window.saturating_mul(2);
        }
    }

    /// The first time after `last` that is still to come.
    fn after(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        self.next(last)
            .filter(|next| *next > now)
            .or_else(|| self.next(now))
    }
}

/// The name of the Job for a time.
pub(super) fn job_name(cron: &CronJob, due: Timestamp) -> String {
    name_for(&cron.name_any(), due)
}

/// The same of a CronJob's name.
pub(super) fn name_for(cron: &str, due: Timestamp) -> String {
    format!("{cron}-{}", due.as_second() / 60)
}

/// A time as its Job is annotated with it.
pub(super) fn shown(due: Timestamp, zone: &TimeZone) -> String {
    let due = due.to_zoned(zone.clone());
    if due.offset().is_zero() {
        due.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        due.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// A CronJob that was made on the first of January at noon.
    #[track_caller]
    fn check(spec: Value, status: Value, now: &str, expect: Expect) {
        let mut full = json!({"schedule": "0 * * * *", "jobTemplate": {}});
        for (field, value) in spec.as_object().unwrap() {
            full[field] = value.clone();
        }
        let metadata = json!({"name": "c", "creationTimestamp": "2026-01-01T12:00:00Z"});
        let cron = json!({"metadata": metadata, "spec": full});
        let status = serde_json::from_value(status).unwrap();
        let cron = serde_json::from_value(cron).unwrap();
        let plan = plan(&cron, &status, now.parse().unwrap(), TimeZone::UTC);
        let mut said = Vec::new();
        if let Some(due) = plan.due {
            let how = if plan.replace {
                "replace for"
            } else {
                "start for"
            };
            said.push(format!("{how} {}", shown(due, &plan.zone)));
        }
        said.extend(
            plan.notices
                .into_iter()
                .map(|Notice(_, r, m)| format!("{r}: {m}")),
        );
        match plan.next {
            Some(next) => said.push(format!("next {}", shown(next, &plan.zone))),
            None => said.push("await a change".into()),
        }
        expect.assert_eq(&said.join("; "));
    }

    #[test]
    fn a_job_is_due_once_its_time_has_come() {
        check(
            json!({}),
            json!({}),
            "2026-01-01T12:59:59Z",
            expect!["next 2026-01-01T13:00:00Z"],
        );
        check(
            json!({}),
            json!({}),
            "2026-01-01T13:00:00Z",
            expect!["start for 2026-01-01T13:00:00Z; next 2026-01-01T14:00:00Z"],
        );
        check(
            json!({}),
            json!({"lastScheduleTime": "2026-01-01T13:00:00Z"}),
            "2026-01-01T13:00:01Z",
            expect!["next 2026-01-01T14:00:00Z"],
        );
    }

    #[test]
    fn of_missed_times_the_last_is_made_up_for() {
        check(
            json!({}),
            json!({}),
            "2026-01-01T17:30:00Z",
            expect!["start for 2026-01-01T17:00:00Z; next 2026-01-01T18:00:00Z"],
        );
        check(
            json!({"schedule": "0 9,10 * * *"}),
            json!({}),
            "2026-01-20T17:30:00Z",
            expect![[
                "start for 2026-01-20T10:00:00Z; TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew; next 2026-01-21T09:00:00Z"
            ]],
        );
        check(
            json!({"schedule": "* * * * *"}),
            json!({}),
            "2036-01-01T12:00:30Z",
            expect![[
                "start for 2036-01-01T12:00:00Z; TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew; next 2036-01-01T12:01:00Z"
            ]],
        );
    }

    #[test]
    fn a_deadline_bounds_how_late_a_job_may_start() {
        let spec = json!({"startingDeadlineSeconds": 600});
        check(
            spec.clone(),
            json!({}),
            "2026-01-03T17:09:00Z",
            expect!["start for 2026-01-03T17:00:00Z; next 2026-01-03T18:00:00Z"],
        );
        check(
            spec,
            json!({}),
            "2026-01-03T17:11:00Z",
            expect!["next 2026-01-03T18:00:00Z"],
        );
    }

    #[test]
    fn jobs_overlap_or_do_not() {
        let running = json!({"active": [{"name": "c-1", "uid": "u"}]});
        let policy = |policy: &str| json!({"concurrencyPolicy": policy});
        let now = "2026-01-01T13:00:01Z";
        check(
            policy("Allow"),
            running.clone(),
            now,
            expect!["start for 2026-01-01T13:00:00Z; next 2026-01-01T14:00:00Z"],
        );
        check(
            policy("Forbid"),
            running.clone(),
            now,
            expect![[
                "JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid; next 2026-01-01T14:00:00Z"
            ]],
        );
        check(
            policy("Replace"),
            running,
            now,
            expect!["replace for 2026-01-01T13:00:00Z; next 2026-01-01T14:00:00Z"],
        );
    }

    #[test]
    fn zones_have_their_own_clocks() {
        let spec = json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin"});
        let last = |time: &str| json!({"lastScheduleTime": time});
        check(
            spec.clone(),
            last("2026-03-28T01:30:00Z"),
            "2026-03-29T12:00:00Z",
            expect!["next 2026-03-30T02:30:00+02:00"],
        );
        check(
            spec,
            last("2026-10-25T00:30:00Z"),
            "2026-10-25T01:30:00Z",
            expect!["start for 2026-10-25T02:30:00+01:00; next 2026-10-26T02:30:00+01:00"],
        );
        check(
            json!({"timeZone": "Nowhere"}),
            json!({}),
            "2026-01-01T13:00:00Z",
            expect![[
                r#"UnknownTimeZone: invalid timeZone: "Nowhere": failed to find time zone `Nowhere` in time zone database; await a change"#
            ]],
        );
    }

    #[test]
    fn nothing_is_due_of_what_is_suspended_wrong_or_never() {
        let now = "2026-06-01T13:00:00Z";
        check(
            json!({"suspend": true}),
            json!({}),
            now,
            expect!["await a change"],
        );
        check(
            json!({"schedule": "0 0 30 2 *"}),
            json!({}),
            now,
            expect![[
                "InvalidSchedule: invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second; await a change"
            ]],
        );
        check(
            json!({"schedule": "often"}),
            json!({}),
            now,
            expect![[
                r#"UnparseableSchedule: unparseable schedule: "often" : expected exactly 5 fields, found 1: [often]; await a change"#
            ]],
        );
    }

    #[test]
    fn a_clock_that_was_set_back_waits_for_the_time_it_had() {
        check(
            json!({}),
            json!({"lastScheduleTime": "2026-01-01T15:00:00Z"}),
            "2026-01-01T13:30:00Z",
            expect!["next 2026-01-01T16:00:00Z"],
        );
    }
}
