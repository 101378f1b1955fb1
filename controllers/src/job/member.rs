//! What a Job reads of one of its pods.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use crate::pod;

/// Holds a pod until its Job has counted it.
pub(crate) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The annotation, and the label, with a pod's completion index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation with how often its index has failed before.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same of failures that the Job's rules ignored.
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Whether the pod is held to be counted.
pub(crate) fn tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|own| own == FINALIZER)
}

/// The uid, empty where there is none.
pub(super) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The completion index.
pub(super) fn index(pod: &Pod) -> Option<i32> {
    number(pod, INDEX).filter(|index| *index >= 0)
}

/// How often the pod's index has failed before it.
pub(super) fn failures(pod: &Pod) -> i32 {
    number(pod, FAILURES).unwrap_or(0)
}

/// How often that was ignored.
pub(super) fn ignored_failures(pod: &Pod) -> i32 {
    number(pod, IGNORED_FAILURES).unwrap_or(0)
}

fn number(pod: &Pod, annotation: &str) -> Option<i32> {
    pod.annotations().get(annotation)?.parse().ok()
}

pub(super) fn succeeded(pod: &Pod) -> bool {
    pod::phase(pod) == "Succeeded"
}

/// Whether the pod counts as failed; one that is merely going does, unless only failed ones are replaced.
pub(super) fn failed(pod: &Pod, only_failed: bool) -> bool {
    let going = pod.metadata.deletion_timestamp.is_some() && !succeeded(pod);
    pod::phase(pod) == "Failed" || (!only_failed && going)
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let main = status.container_statuses.iter().flatten();
        main.chain(status.init_container_statuses.iter().flatten())
    })
}

/// How often containers of the pod were started again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    statuses(pod).map(|status| status.restart_count).sum()
}

/// When the pod came to its end: when its last container did, or else the best that is known.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let ended = statuses(pod).filter_map(|status| {
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        Some(terminated.finished_at.as_ref()?.0)
    });
    let unready = || {
        let ready = pod::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
        Some(ready.last_transition_time.as_ref()?.0)
    };
    let deleted = || {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let by = pod.metadata.deletion_timestamp.as_ref()?.0;
        by.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let ended = if pod::ended(pod) { ended.max() } else { None };
    ended
        .or_else(unready)
        .or_else(deleted)
        .or_else(created)
        .unwrap_or_default()
}
