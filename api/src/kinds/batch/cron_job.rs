//! CronJob: Jobs made by the clock.

use cron::Schedule;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::specification;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, Subresource, check, column,
        value::{child, fill, fill_text, find, items, part, present, text, truth},
        write,
    },
    name,
    time::since,
};

/// The kind.
pub(crate) struct CronJob;

static NAMES: Names = Names {
    group: "batch",
    version: "v1",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short: &["cj"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.batch.v1.CronJob",
};

/// A Job's name is its CronJob's with eleven more characters.
const LONGEST_NAME: usize = 52;

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Schedule", "When Jobs are made"),
    column::shown("Timezone", "Whose clock the schedule goes by"),
    column::shown("Suspend", "Whether Jobs are not made for now"),
    column::count("Active", "How many of its Jobs run"),
    column::shown("Last Schedule", "Time since a Job was made"),
    column::AGE,
    column::wide("Containers", "Names of the containers in the template"),
    column::wide("Images", "Images of the containers in the template"),
    column::wide("Selector", "Labels of its Jobs' pods"),
];

impl Kind for CronJob {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        let mut problems = name::subdomain_problems(name);
        if name.len() > LONGEST_NAME {
            problems.push(format!("must be no more than {LONGEST_NAME} characters"));
        }
        problems
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        let Some(spec) = child(object, "spec") else {
            return;
        };
        fill_text(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = find(spec, "jobTemplate").and_then(|job| child(job, "spec")) {
            specification::default(job);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        validate_schedule(&path.field("schedule"), spec, errors);
        check::counts(
            object,
            "spec",
            &[
                "startingDeadlineSeconds",
                "successfulJobsHistoryLimit",
                "failedJobsHistoryLimit",
            ],
            errors,
        );
        if let Some(zone) = part(spec, "/timeZone").as_str() {
            validate_zone(&path.field("timeZone"), zone, errors);
        }
        let policy = text(spec, "/concurrencyPolicy");
        if policy.is_empty() {
            errors.required(&path.field("concurrencyPolicy"), "");
        } else if !["Allow", "Forbid", "Replace"].contains(&policy) {
            errors.not_supported(
                &path.field("concurrencyPolicy"),
                policy,
                &["Allow", "Forbid", "Replace"],
            );
        }
        let template = path.field("jobTemplate");
        let metadata = template.field("metadata");
        let job = part(spec, "/jobTemplate");
        check::labels(&metadata.field("labels"), job, "/metadata/labels", errors);
        let job_spec = template.field("spec");
        if present(job, "/spec/manualSelector") && truth(job, "/spec/manualSelector") {
            errors.not_supported(&job_spec.field("manualSelector"), true, &["nil", "false"]);
        }
        specification::validate(&job_spec, part(job, "/spec"), errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let suspended = match part(object, "/spec/suspend") {
            Value::Bool(true) => "True",
            Value::Bool(false) => "False",
            _ => "<unset>",
        };
        let last = part(object, "/status/lastScheduleTime");
        let [containers, images] = column::containers(part(object, "/spec/jobTemplate"));
        vec![
            column::name(object),
            text(object, "/spec/schedule").into(),
            column::or_none(text(object, "/spec/timeZone")),
            suspended.into(),
            items(object, "/status/active").len().into(),
            if last.is_null() {
                "<none>".into()
            } else {
                since(last, now).into()
            },
            column::age(object, now),
            containers,
            images,
            column::selector(part(object, "/spec/jobTemplate/spec/selector")),
        ]
    }
}

/// What is wrong with the `schedule` of `spec`, which stands at `path`.
pub(crate) fn validate_schedule(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let given = text(spec, "/schedule");
    if given.is_empty() {
        errors.required(path, "");
    } else if given.contains("TZ") {
        errors.invalid(
            path,
            given,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        );
    } else if let Err(problem) = given.parse::<Schedule>() {
        errors.invalid(path, given, problem);
    }
}

/// What is wrong with the name of a time zone.
pub(crate) fn validate_zone(path: &Path, zone: &str, errors: &mut FieldErrors) {
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("local") {
        errors.invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    } else if TimeZone::get(zone).is_err() {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{defaulted, errors, row};

    const TEMPLATE: &str = "jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: \
                            [{name: a, image: i}]}}}}";

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        expect.assert_eq(&errors(
            &CronJob,
            &format!("{{spec: {{{spec}, {TEMPLATE}}}}}"),
        ));
    }

    #[test]
    fn jobs_may_overlap_and_some_are_kept() {
        expect![[r#"{"spec":{"concurrencyPolicy":"Allow","failedJobsHistoryLimit":1,"successfulJobsHistoryLimit":3,"suspend":false},"status":{}}"#]]
            .assert_eq(&defaulted(&CronJob, "{spec: {}}"));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        check(
            "schedule: '*/5 * * * *', timeZone: Europe/Berlin",
            expect![[""]],
        );
        check(
            "schedule: TZ=UTC 0 * * * *, timeZone: Local, concurrencyPolicy: x, failedJobsHistoryLimit: -1",
            expect![[r#"
                spec.schedule: Invalid value: "TZ=UTC 0 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
                spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
                spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones
                spec.concurrencyPolicy: Unsupported value: "x": supported values: "Allow", "Forbid", "Replace"
            "#]],
        );
        check(
            "schedule: often, timeZone: Europe/Nowhere",
            expect![[r#"
                spec.schedule: Invalid value: "often": expected exactly 5 fields, found 1: [often]
                spec.timeZone: Invalid value: "Europe/Nowhere": unknown time zone Europe/Nowhere
            "#]],
        );
    }

    #[test]
    fn its_name_leaves_room_for_its_jobs() {
        assert!(CronJob.name_problems(&"a".repeat(52)).is_empty());
        assert_eq!(
            CronJob.name_problems(&"a".repeat(53)),
            ["must be no more than 52 characters"]
        );
    }

    #[test]
    fn a_row_says_when() {
        expect!["a|@daily|<none>|False|1|60m|60m|a|i|<none>"].assert_eq(&row(
            &CronJob,
            &format!(
                "{{metadata: {{name: a}}, spec: {{schedule: '@daily', {TEMPLATE}}}, status: {{active: [{{}}], \
                 lastScheduleTime: '2026-01-01T00:00:00Z'}}}}"
            ),
        ));
    }
}
