//! What has become of the Jobs that a CronJob made. Pure.

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;

use super::plan::Notice;
use crate::events::Severity;
use crate::job::finished;

/// Takes the Jobs that are over from the active ones, and says so; remembers the last success.
pub(super) fn follow(owned: &[Job], status: &mut CronJobStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    for job in owned {
        let (name, uid) = (job.name_any(), job.uid());
        let active = status.active.iter().flatten();
        let known = active.filter(|active| active.uid == uid).count() > 0;
        let Some(end) = finished(job) else {
            if !known && job.metadata.deletion_timestamp.is_none() {
                let message =
                    format!("Saw a job that the controller did not create or forgot: {name}");
                notices.push(Notice(Severity::Warning, "UnexpectedJob", message));
            }
            continue;
        };
        if known {
            forget(status, uid.as_deref());
            let message = format!("Saw completed job: {name}, condition: {}", end.type_);
            notices.push(Notice(Severity::Normal, "SawCompletedJob", message));
        }
        let completed = job.status.as_ref();
        let completed = completed.and_then(|status| status.completion_time.clone());
        if end.type_ == "Complete" && completed > status.last_successful_time {
            status.last_successful_time = completed;
        }
    }
    notices
}

/// The active Jobs that are not among these.
pub(super) fn unseen(owned: &[Job], status: &CronJobStatus) -> Vec<ObjectReference> {
    let active = status.active.iter().flatten();
    let unseen = active.filter(|active| !owned.iter().any(|job| job.uid() == active.uid));
    unseen.cloned().collect()
}

/// Takes a Job from the active ones.
pub(super) fn forget(status: &mut CronJobStatus, uid: Option<&str>) {
    if let Some(active) = &mut status.active {
        active.retain(|active| active.uid.as_deref() != uid);
    }
}

/// The Jobs that are over and more than are kept, the oldest first.
pub(super) fn too_old<'a>(cron: &CronJob, owned: &'a [Job]) -> Vec<&'a Job> {
    let spec = &cron.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    let mut old = Vec::new();
    for (kind, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let mut over: Vec<&Job> = owned.iter().collect();
        over.retain(|job| {
            job.metadata.deletion_timestamp.is_none()
                && finished(job).is_some_and(|end| end.type_ == kind)
        });
        over.sort_by_key(|job| {
            let started = job
                .status
                .as_ref()
                .and_then(|status| status.start_time.clone());
            (started.is_none(), started, job.name_any())
        });
        let surplus = over.len().saturating_sub(limit);
        old.extend(over.into_iter().take(surplus));
    }
    old
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `a` runs, `b+4` completed at minute 4, `c!5` failed then.
    fn job(text: &str) -> Job {
        let (name, rest) = text.split_at(1);
        let time = |minute: &str| format!("2026-01-01T00:0{minute}:00Z");
        let status = match rest.split_at_checked(1) {
            Some(("+", minute)) => {
                json!({"completionTime": time(minute), "startTime": time(minute),
                "conditions": [{"type": "Complete", "status": "True"}]})
            }
            Some((_, minute)) => json!({"startTime": time(minute),
                "conditions": [{"type": "Failed", "status": "True"}]}),
            None => json!({}),
        };
        let job = json!({"metadata": {"name": name, "uid": name}, "status": status});
        serde_json::from_value(job).unwrap()
    }

    fn jobs(text: &str) -> Vec<Job> {
        text.split_whitespace().map(job).collect()
    }

    #[test]
    fn jobs_that_are_over_are_not_active_and_the_last_success_is_kept() {
        let reference = |name: &str| json!({"name": name, "uid": name});
        let status = json!({"active": [reference("a"), reference("b"), reference("x")]});
        let mut status: CronJobStatus = serde_json::from_value(status).unwrap();
        let owned = jobs("a b+4 c+3 d!5 e");
        let said = follow(&owned, &mut status);
        let said: Vec<String> = said
            .into_iter()
            .map(|Notice(_, _, message)| message)
            .collect();
        assert_eq!(
            said,
            [
                "Saw completed job: b, condition: Complete",
                "Saw a job that the controller did not create or forgot: e",
            ]
        );
        let last = status.last_successful_time.clone().unwrap().0;
        assert_eq!(last.to_string(), "2026-01-01T00:04:00Z");
        let names: Vec<_> = unseen(&owned, &status)
            .into_iter()
            .map(|r| r.name)
            .collect();
        assert_eq!(names, [Some("x".to_owned())]);
        assert!(follow(&jobs("b+4"), &mut status).is_empty());
    }

    #[test]
    fn the_oldest_go_first() {
        let cron = json!({"metadata": {}, "spec": {"schedule": "", "jobTemplate": {},
            "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}});
        let cron = serde_json::from_value(cron).unwrap();
        let owned = jobs("a b+4 c+3 d!5 e+1");
        let old: Vec<String> = too_old(&cron, &owned)
            .iter()
            .map(|job| job.name_any())
            .collect();
        assert_eq!(old, ["e", "c", "d"]);
    }
}
