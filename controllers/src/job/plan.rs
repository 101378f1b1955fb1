//! Which pods a Job makes and removes, and whether it ends. Pure.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::backoff::{Record, left_of_index};
use super::failure_policy::{Verdict, verdict};
use super::member;
use super::success_policy;
use super::view::{View, whole};
use crate::pod;
use crate::pod_control::BURST;

/// Why a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Ending {
    fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self {
            success: false,
            reason: reason.into(),
            message: message.into(),
        }
    }

    fn success(reason: &str, message: impl Into<String>) -> Self {
        Self {
            success: true,
            ..Self::failure(reason, message)
        }
    }

    /// Enough pods have succeeded.
    pub(super) fn complete() -> Self {
        Self::success(
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        )
    }

    /// The reason as an Event has it.
    pub(super) fn event(&self) -> &'static str {
        const KNOWN: [&str; 5] = [
            "BackoffLimitExceeded",
            "DeadlineExceeded",
            "FailedIndexes",
            "MaxFailedIndexesExceeded",
            "PodFailurePolicy",
        ];
        let known = KNOWN.into_iter().find(|known| *known == self.reason);
        known.unwrap_or("Failed")
    }
}

/// What to do about a Job's pods.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) ending: Option<Ending>,
    /// Pods that go. When the Job ends they are counted; else they are not, for others come or came.
    pub(super) delete: Vec<Arc<Pod>>,
    /// A pod each, of the index if the Job has some.
    pub(super) create: Vec<Option<i32>>,
    /// Whether creations and deletions were thought about at all.
    pub(super) managed: bool,
    /// When time alone may change the plan.
    pub(super) look_again: Option<Duration>,
}

/// Decides. `settled`: all that was asked for before has been seen.
pub(super) fn plan(view: &View, record: &Record, settled: bool, now: Timestamp) -> Plan {
    let ending = ending(view, now);
    if ending.is_some() {
        return Plan {
            ending,
            delete: view.active().take(BURST).cloned().collect(),
            ..Plan::default()
        };
    }
    let deadline = until_deadline(view, now);
    if !settled || view.deleting {
        return Plan {
            look_again: deadline,
            ..Plan::default()
        };
    }
    let (delete, create, wait) = manage(view, record, now);
    let look_again = deadline.into_iter().chain(wait).min();
    Plan {
        ending: None,
        delete,
        create,
        managed: true,
        look_again,
    }
}

/// Whether the Job ends, and why.
fn ending(view: &View, now: Timestamp) -> Option<Ending> {
    if let Some((reason, message)) = view.condition("SuccessCriteriaMet") {
        return Some(Ending::success(&reason, message));
    }
    if let Some((reason, message)) = view.condition("FailureTarget") {
        return Some(Ending::failure(&reason, message));
    }
    let spec = view.spec;
    if spec.pod_failure_policy.is_some() {
        let mut failed = view.pods.iter().filter(|pod| member::failed(pod, true));
        let message = failed.find_map(|pod| match verdict(spec, pod) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = message {
            return Some(Ending::failure("PodFailurePolicy", message));
        }
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if view.failed() > limit || restarted_too_often(view, limit) {
        let message = "Job has reached the specified backoff limit";
        return Some(Ending::failure("BackoffLimitExceeded", message));
    }
    if until_deadline(view, now).is_some_and(|left| left.is_zero()) {
        let message = "Job was active longer than specified deadline";
        return Some(Ending::failure("DeadlineExceeded", message));
    }
    if !view.indexed() {
        return None;
    }
    let succeeded = view.succeeded_indexes();
    if let Some(failed) = view.failed_indexes() {
        let most = spec.max_failed_indexes;
        if most.is_some_and(|most| failed.total() > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Ending::failure("MaxFailedIndexesExceeded", message));
        }
        if failed.total() > 0 && failed.total() + succeeded.total() >= view.completions() {
            return Some(Ending::failure("FailedIndexes", "Job has failed indexes"));
        }
    }
    let rule = success_policy::met(spec, &succeeded)?;
    let message = format!("Matched rules at index {rule}");
    Some(Ending::success("SuccessPolicy", message))
}

/// Containers that are started again in their pod use up the limit too.
fn restarted_too_often(view: &View, limit: i32) -> bool {
    let policy = view.spec.template.spec.as_ref();
    let policy = policy.and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let running = view.pods.iter().filter(|pod| !pod::ended(pod));
    let restarts: i32 = running.map(|pod| member::restarts(pod)).sum();
    restarts >= limit.max(1)
}

/// How long the Job may be at work still; `None` without a deadline, or while it is suspended.
fn until_deadline(view: &View, now: Timestamp) -> Option<Duration> {
    let seconds = view.spec.active_deadline_seconds?;
    let start = view.start_time(now).filter(|_| !view.suspended())?;
    let passed = Duration::try_from(now.duration_since(start)).unwrap_or_default();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).saturating_sub(passed))
}

/// Pods to delete, pods to create, and how long creations are put off.
fn manage(
    view: &View,
    record: &Record,
    now: Timestamp,
) -> (Vec<Arc<Pod>>, Vec<Option<i32>>, Option<Duration>) {
    let active: Vec<&Arc<Pod>> = view.active().collect();
    if view.suspended() {
        let all = active.into_iter().take(BURST).cloned();
        return (all.collect(), Vec::new(), None);
    }
    let count = whole(active.len());
    let parallelism = view.spec.parallelism.unwrap_or(1);
    let succeeded = view.succeeded();
    let wanted = match view.spec.completions {
        Some(completions) => (completions - succeeded).min(parallelism).max(0),
        None if succeeded > 0 => count,
        None => parallelism,
    };
    let surplus = usize::try_from(count - wanted).unwrap_or(0);
    let mut doomed = to_remove(view, active, surplus);
    if !doomed.is_empty() {
        doomed.truncate(BURST);
        return (doomed, Vec::new(), None);
    }
    let going = if view.only_failed {
        whole(view.terminating().count())
    } else {
        0
    };
    let missing = usize::try_from(wanted - count - going)
        .unwrap_or(0)
        .min(BURST);
    if missing == 0 {
        return (Vec::new(), Vec::new(), None);
    }
    if view.spec.backoff_limit_per_index.is_none() {
        let left = record.left(now);
        if !left.is_zero() {
            return (Vec::new(), Vec::new(), Some(left));
        }
    }
    let (create, wait) = if view.indexed() {
        missing_indexes(view, missing, now)
    } else {
        (vec![None; missing], None)
    };
    (Vec::new(), create, wait)
}

/// The first indexes without a pod and without an outcome, but for those that have to wait; and how long
/// the first of these must.
fn missing_indexes(
    view: &View,
    count: usize,
    now: Timestamp,
) -> (Vec<Option<i32>>, Option<Duration>) {
    let going: &mut dyn Iterator<Item = &Arc<Pod>> = if view.only_failed {
        &mut view.active().chain(view.terminating())
    } else {
        &mut view.active()
    };
    let mut taken = view.succeeded_indexes().with(
        going
            .filter(|pod| view.valid(pod))
            .filter_map(|pod| member::index(pod)),
    );
    if let Some(failed) = view.failed_indexes() {
        taken = taken.and(&failed);
    }
    let remembered = view.remembered();
    let (mut create, mut wait) = (Vec::new(), None);
    for index in taken.absent(view.completions()).take(count) {
        let left = remembered.get(&index).map(|pod| left_of_index(pod, now));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => wait = Some(wait.map_or(left, |wait: Duration| wait.min(left))),
            None => create.push(Some(index)),
        }
    }
    (create, wait)
}

/// The pods that go first: those that would end uncounted, those of no or of another's index, and then as many
/// more as must, the least far first.
fn to_remove(view: &View, active: Vec<&Arc<Pod>>, at_least: usize) -> Vec<Arc<Pod>> {
    let mut active = active;
    active.sort_by_key(|pod| rank(pod));
    let mut seen = HashSet::new();
    let mut stray = HashSet::new();
    // The furthest pod of an index keeps it.
    for pod in active.iter().rev() {
        let kept = member::tracked(pod)
            && view.valid(pod)
            && (!view.indexed() || seen.insert(member::index(pod)));
        if !kept {
            stray.insert(member::uid(pod));
        }
    }
    let (stray, rest): (Vec<_>, Vec<_>) = active
        .into_iter()
        .partition(|pod| stray.contains(member::uid(pod)));
    let more = at_least.saturating_sub(stray.len());
    let rest = rest.into_iter().take(more);
    stray.into_iter().chain(rest).cloned().collect()
}

/// Unassigned before assigned, pending before running, not ready before ready, shortest ready, most restarts,
/// newest.
fn rank(pod: &Pod) -> impl Ord + use<> {
    let phase = match pod::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    (
        pod::node(pod).is_some(),
        phase,
        pod::ready(pod),
        Reverse(pod::ready_since(pod)),
        Reverse(member::restarts(pod)),
        Reverse(pod.creation_timestamp().map(|time| time.0)),
        pod.name_any(),
    )
}
