//! Deletes a Job some time after it finished, if its `ttlSecondsAfterFinished` says so.
//!
//! Reads and deletes `Job`, with its pods: in the foreground, so that the Job goes last. Asks the apiserver before,
//! for the time may have been changed meanwhile. Never deletes a Job that has not finished.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::clock;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::job::finished;
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::queue::{Action, Queue};

/// However long there is, the clock is looked at this often: it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let queue = Queue::new("ttl-after-finished");
    manager.context.jobs.listen(changed(&queue));
    manager.work(queue, reconcile);
}

async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(raw) = context.jobs.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let seen: Job = (*raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    match left(&seen, clock::now()) {
        None => return Ok(Action::AwaitChange),
        Some(left) if !left.is_zero() => return Ok(Action::After(left.min(LONGEST_SLEEP))),
        Some(_) => {}
    }
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &key.namespace);
    let Some(live) = within_opt(jobs.get(&key.name)).await? else {
        return Ok(Action::AwaitChange);
    };
    if left(&live, clock::now()).is_some_and(|left| left.is_zero()) {
        let params = DeleteParams::foreground().preconditions(Preconditions {
            uid: live.uid(),
            resource_version: live.resource_version(),
        });
        within_opt(jobs.delete(&key.name, &params)).await?;
    }
    Ok(Action::AwaitChange)
}

/// How long a Job may stay; `None`: as long as it likes. One that finished in the future, by a clock that is set
/// otherwise than ours, stays for its whole time from now.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let end = finished(job)?.last_transition_time.as_ref()?.0;
    let ttl = SignedDuration::from_secs(i64::from(ttl));
    let passed = now.duration_since(end).max(SignedDuration::ZERO);
    Some(Duration::try_from(ttl - passed).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_finished_job_goes_and_only_when_its_time_is_up() {
        let job = |ttl: Option<i32>, kind: &str| {
            let conditions = json!([{"type": kind, "status": "True",
                "lastTransitionTime": "2026-01-01T00:01:00Z"}]);
            serde_json::from_value::<Job>(json!({
                "metadata": {}, "status": {"conditions": conditions},
                "spec": {"template": {}, "ttlSecondsAfterFinished": ttl},
            }))
            .unwrap()
        };
        let left = |job: &Job, now: &str| {
            let now = format!("2026-01-01T00:{now}Z").parse().unwrap();
            super::left(job, now).map(|left| left.as_secs())
        };
        assert_eq!(left(&job(Some(60), "Complete"), "01:10"), Some(50));
        assert_eq!(left(&job(Some(60), "Failed"), "02:00"), Some(0));
        assert_eq!(left(&job(Some(0), "Complete"), "01:00"), Some(0));
        assert_eq!(left(&job(Some(60), "FailureTarget"), "09:00"), None);
        assert_eq!(left(&job(None, "Complete"), "09:00"), None);
        assert_eq!(left(&job(Some(60), "Complete"), "00:10"), Some(60));
    }
}
