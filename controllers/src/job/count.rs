//! Counts the pods of a Job that came to an end: each once, whatever is lost or repeated. Pure.
//!
//! A pod is held by a finalizer until the status lists its uid as not counted yet; then the finalizer goes, and
//! once it is gone the uid leaves the list and the count goes up, in one write. A write names the version of the
//! Job that it was decided on. Completion indexes are a set, so for them no list is needed.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::member;
use super::plan::Ending;
use super::view::{View, whole};
use crate::pod;

/// Most pods in the list at once, so that the status stays small.
pub(super) const MOST_UNCOUNTED: usize = 500;

/// A status to write before any finalizer goes, and the pods to let go after it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Count {
    pub(super) status: JobStatus,
    pub(super) release: Vec<Arc<Pod>>,
    /// What is new of these, for the wait after failures.
    pub(super) succeeded: Vec<Arc<Pod>>,
    pub(super) failed: Vec<Arc<Pod>>,
    /// There are more than fit.
    pub(super) partial: bool,
}

/// Takes in what has happened. `managed`: whether creations and deletions were thought about.
pub(super) fn count(view: &View, ending: Option<&Ending>, managed: bool, now: Timestamp) -> Count {
    let mut count = Count {
        status: view.status.clone(),
        ..Count::default()
    };
    let tracked = view.pods.iter().filter(|pod| member::tracked(pod));
    move_counted(
        &mut count.status,
        &tracked.map(|pod| member::uid(pod)).collect(),
    );
    count_ended(view, ending, &mut count);
    let status = &mut count.status;
    if view.indexed() {
        let succeeded = view.succeeded_indexes();
        status.succeeded = Some(succeeded.total());
        status.completed_indexes = Some(succeeded.to_string());
        let failed = match ending {
            Some(_) => view.failed_indexes_at_end(),
            None => view.failed_indexes(),
        };
        status.failed_indexes = failed.map(|failed| failed.to_string());
    }
    status.active = Some(whole(view.active().count()));
    status.ready = Some(whole(view.active().filter(|pod| pod::ready(pod)).count()));
    status.terminating = Some(whole(view.terminating().count()));
    status.start_time = view.start_time(now).map(Time);
    match ending {
        Some(ending) => {
            let kind = if ending.success {
                "SuccessCriteriaMet"
            } else {
                "FailureTarget"
            };
            if view.condition(kind).is_none() {
                set_condition(status, kind, ending, now);
            }
        }
        None if managed => suspend_or_resume(status, view.suspended(), now),
        None => {}
    }
    count
}

fn count_ended(view: &View, ending: Option<&Ending>, count: &mut Count) {
    let remembered = view.remembered();
    let remembered: HashSet<&str> = remembered.values().map(|pod| member::uid(pod)).collect();
    let mut pods: Vec<&Arc<Pod>> = view.pods.iter().collect();
    pods.retain(|pod| member::tracked(pod));
    if view.indexed() {
        pods.sort_by_key(|pod| member::index(pod));
    }
    let listed = count
        .status
        .uncounted_terminated_pods
        .get_or_insert_default();
    let mut entries =
        listed.succeeded.as_ref().map_or(0, Vec::len) + listed.failed.as_ref().map_or(0, Vec::len);
    for pod in pods {
        let failed = member::failed(pod, view.only_failed);
        let free = view.deleting
            || ending.is_some()
            || member::succeeded(pod)
            || (failed && !remembered.contains(member::uid(pod)));
        if !free {
            continue;
        }
        if entries >= MOST_UNCOUNTED {
            count.partial = true;
            return;
        }
        count.release.push(pod.clone());
        if view.listed(pod) || !view.valid(pod) {
            continue;
        }
        // A Job that fails takes all its pods with it; one that succeeds has no more use for them.
        let failed = match ending {
            Some(ending) if ending.success => pod::phase(pod) == "Failed",
            Some(_) => true,
            None => failed,
        };
        if member::succeeded(pod) {
            entries += 1;
            count.succeeded.push(pod.clone());
            if !view.indexed() {
                let uids = listed.succeeded.get_or_insert_default();
                uids.push(member::uid(pod).to_owned());
            }
        } else if failed {
            count.failed.push(pod.clone());
            if view.counts(pod) {
                entries += 1;
                let uids = listed.failed.get_or_insert_default();
                uids.push(member::uid(pod).to_owned());
            }
        }
    }
}

/// Moves pods whose finalizer is gone from the lists to the counts. `tracked`: the uids of those that have it.
pub(super) fn move_counted(status: &mut JobStatus, tracked: &HashSet<&str>) {
    let Some(UncountedTerminatedPods { failed, succeeded }) = &mut status.uncounted_terminated_pods
    else {
        return;
    };
    let lists = [
        (failed, &mut status.failed),
        (succeeded, &mut status.succeeded),
    ];
    for (list, count) in lists {
        let Some(uids) = list else { continue };
        let before = uids.len();
        uids.retain(|uid| tracked.contains(uid.as_str()));
        let gone = whole(before - uids.len());
        if gone > 0 {
            *count = Some(count.unwrap_or(0).saturating_add(gone));
        }
    }
}

/// Says that the Job is over, if nothing of it is left to wait for.
pub(super) fn finish(status: &mut JobStatus, ending: &Ending, now: Timestamp) -> bool {
    let all_counted = status
        .uncounted_terminated_pods
        .as_ref()
        .is_none_or(|listed| {
            let mut lists = [&listed.failed, &listed.succeeded].into_iter().flatten();
            lists.all(Vec::is_empty)
        });
    if !all_counted || status.terminating.unwrap_or(0) > 0 {
        return false;
    }
    if ending.success {
        set_condition(status, "Complete", ending, now);
        status.completion_time = Some(Time(now));
    } else {
        set_condition(status, "Failed", ending, now);
    }
    true
}

fn suspend_or_resume(status: &mut JobStatus, suspended: bool, now: Timestamp) {
    let mut conditions = status.conditions.iter().flatten();
    let known = conditions.find(|condition| condition.type_ == "Suspended");
    let holds = known.is_some_and(|condition| condition.status == "True");
    let (state, reason, message) = match (holds, suspended) {
        (false, true) => ("True", "JobSuspended", "Job suspended"),
        (true, false) => {
            // The deadline counts from here.
            status.start_time = Some(Time(now));
            ("False", "JobResumed", "Job resumed")
        }
        _ => return,
    };
    put_condition(status, condition("Suspended", state, reason, message, now));
}

fn set_condition(status: &mut JobStatus, kind: &str, ending: &Ending, now: Timestamp) {
    let condition = condition(kind, "True", &ending.reason, &ending.message, now);
    put_condition(status, condition);
}

fn put_condition(status: &mut JobStatus, condition: JobCondition) {
    let conditions = status.conditions.get_or_insert_default();
    match conditions
        .iter_mut()
        .find(|known| known.type_ == condition.type_)
    {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}
