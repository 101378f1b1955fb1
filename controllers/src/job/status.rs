//! Writes the status of a Job and the Events that go with its conditions.

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, resource};
use crate::error::{Error, within_opt};
use crate::key::Key;

/// Patches what differs, if the Job is still at the version that `of` is; the answer is the new version.
/// `None`: there is nothing to write, or no Job any more.
pub(super) async fn write(
    context: &Context,
    of: &DynamicObject,
    old: &JobStatus,
    new: &JobStatus,
) -> Result<Option<DynamicObject>, Error> {
    let status = wire(new);
    if wire(old) == status && old.uncounted_terminated_pods.is_some() {
        return Ok(None);
    }
    let key = Key::of(of);
    let metadata = json!({"uid": of.uid(), "resourceVersion": of.resource_version()});
    let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
    let client = context.client.clone();
    let jobs = Api::<DynamicObject>::namespaced_with(client, &key.namespace, &resource::<Job>());
    let params = PatchParams::default();
    let answer = jobs.patch_status(&key.name, &params, &patch);
    let answer = within_opt(answer).await?;
    if let Some(job) = &answer {
        context.jobs.apply(job.clone());
    }
    Ok(answer)
}

/// The status as a merge patch: what Kubernetes leaves out where it is nothing is null.
fn wire(status: &JobStatus) -> Value {
    let count = |count: Option<i32>| count.filter(|count| *count != 0);
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let listed = status.uncounted_terminated_pods.as_ref();
    let uids = |uids: Option<&Vec<String>>| uids.filter(|uids| !uids.is_empty()).cloned();
    json!({
        "active": count(status.active),
        "ready": status.ready.unwrap_or(0),
        "terminating": status.terminating.unwrap_or(0),
        "succeeded": count(status.succeeded),
        "failed": count(status.failed),
        "completedIndexes": text(&status.completed_indexes),
        "failedIndexes": status.failed_indexes,
        "startTime": status.start_time,
        "completionTime": status.completion_time,
        "conditions": status.conditions,
        "uncountedTerminatedPods": {
            "failed": uids(listed.and_then(|listed| listed.failed.as_ref())),
            "succeeded": uids(listed.and_then(|listed| listed.succeeded.as_ref())),
        },
    })
}

/// The condition that says that the Job is over, if it is.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let last = |kind: &str| kind == "Complete" || kind == "Failed";
    conditions
        .iter()
        .find(|condition| last(&condition.type_) && condition.status == "True")
}
