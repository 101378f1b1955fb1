//! The status of a Deployment: its counts, and the conditions `Available` and `Progressing`. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::set::{Set, current};
use super::wish::Wish;

/// Reasons of `Progressing` that decide what comes next.
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const NOT_CREATED: &str = "ReplicaSetCreateError";
const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";

/// What became of the ReplicaSet of the current template.
#[derive(Debug)]
pub(super) enum Made {
    /// It was there before, or is not wanted yet.
    Nothing,
    /// One of this name was made just now.
    Set(String),
    /// It could not be made: a message.
    Failed(String),
}

/// What `Progressing` should say.
struct Progress {
    status: &'static str,
    reason: &'static str,
    message: String,
    /// Whether the clock of the deadline starts anew.
    touch: bool,
}

/// The status to write, and when to look again though nothing changes.
pub(super) fn status(
    deployment: &Deployment,
    wish: &Wish,
    sets: &[Set],
    made: &Made,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = counts(deployment, sets);
    let mut conditions = old.conditions.clone().unwrap_or_default();
    available(&mut conditions, wish, &status, now);
    let spec = deployment.spec.as_ref();
    let deadline = spec.and_then(|spec| spec.progress_deadline_seconds);
    let deadline = deadline.unwrap_or(600);
    let mut again = None;
    if deadline == i32::MAX {
        conditions.retain(|condition| condition.type_ != PROGRESSING);
    } else if deployment.metadata.deletion_timestamp.is_none() {
        let before = find(&conditions, PROGRESSING).cloned();
        let progress = progress(deployment, wish, sets, &status, before.as_ref(), made);
        if let Some(progress) = progress {
            set_condition(&mut conditions, PROGRESSING, progress, now);
        }
        again = until_timed_out(&conditions, wish, &status, deadline, now);
        if again == Some(Duration::ZERO) {
            let late = Progress {
                status: "False",
                reason: TIMED_OUT,
                message: format!("{} has timed out progressing.", subject(deployment, sets)),
                touch: false,
            };
            set_condition(&mut conditions, PROGRESSING, late, now);
            again = None;
        }
    }
    failure(&mut conditions, sets);
    status.conditions = Some(conditions);
    (status, again)
}

/// Whose roll-out it is, as messages have it.
fn subject(deployment: &Deployment, sets: &[Set]) -> String {
    match current(sets) {
        Some(set) => format!("ReplicaSet \"{}\"", set.name),
        None => format!("Deployment \"{}\"", deployment.name_any()),
    }
}

/// What keeps pods of a set from being made or removed; the current set's trouble goes before others'.
fn failure(conditions: &mut Vec<DeploymentCondition>, sets: &[Set]) {
    let current = current(sets).and_then(|set| set.failure.as_ref());
    let found = current.or_else(|| sets.iter().find_map(|set| set.failure.as_ref()));
    let known = find(conditions, FAILURE);
    let same = known
        .zip(found)
        .is_some_and(|(known, found)| known.status == found.status && known.reason == found.reason);
    if same {
        return;
    }
    conditions.retain(|condition| condition.type_ != FAILURE);
    conditions.extend(found.map(|found| DeploymentCondition {
        type_: found.type_.clone(),
        status: found.status.clone(),
        reason: found.reason.clone(),
        message: found.message.clone(),
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time.clone(),
    }));
}

fn counts(deployment: &Deployment, sets: &[Set]) -> DeploymentStatus {
    let sum = |of: fn(&Set) -> i32| sets.iter().map(of).fold(0, i32::saturating_add);
    let available = sum(|set| set.available);
    DeploymentStatus {
        replicas: Some(sum(|set| set.actual)),
        updated_replicas: Some(current(sets).map_or(0, |set| set.actual)),
        ready_replicas: Some(sum(|set| set.ready)),
        available_replicas: Some(available),
        unavailable_replicas: Some((sum(|set| set.wanted) - available).max(0)),
        terminating_replicas: Some(sum(|set| set.terminating)),
        observed_generation: deployment.metadata.generation,
        collision_count: deployment.status.as_ref().and_then(|s| s.collision_count),
        ..DeploymentStatus::default()
    }
}

fn available(
    conditions: &mut Vec<DeploymentCondition>,
    wish: &Wish,
    status: &DeploymentStatus,
    now: Timestamp,
) {
    let enough = status.available_replicas.unwrap_or(0) >= wish.least();
    let (state, reason, verb) = if enough {
        ("True", "MinimumReplicasAvailable", "has")
    } else {
        ("False", "MinimumReplicasUnavailable", "does not have")
    };
    let said = Progress {
        status: state,
        reason,
        message: format!("Deployment {verb} minimum availability."),
        touch: false,
    };
    set_condition(conditions, "Available", said, now);
}

/// What became of the roll-out since `old`; `None` leaves the condition as it is.
fn progress(
    deployment: &Deployment,
    wish: &Wish,
    sets: &[Set],
    status: &DeploymentStatus,
    before: Option<&DeploymentCondition>,
    made: &Made,
) -> Option<Progress> {
    let reason = before.and_then(|condition| condition.reason.as_deref());
    let new = current(sets);
    let say = |status, reason, message, touch| {
        Some(Progress {
            status,
            reason,
            message,
            touch,
        })
    };
    if wish.paused {
        let keep = matches!(reason, Some(PAUSED | TIMED_OUT));
        let message = "Deployment is paused".to_owned();
        return say("Unknown", PAUSED, message, false).filter(|_| !keep);
    }
    match made {
        Made::Set(name) => {
            let message = format!("Created new replica set \"{name}\"");
            return say("True", "NewReplicaSetCreated", message, true);
        }
        Made::Failed(message) => return say("False", NOT_CREATED, message.clone(), false),
        Made::Nothing => {}
    }
    let subject = subject(deployment, sets);
    let idle = reason == Some(COMPLETE) && status.replicas == status.updated_replicas;
    if idle {
        return None;
    }
    if complete(wish, status) && new.is_none_or(|set| set.observed) {
        let message = format!("{subject} has successfully progressed.");
        return say("True", COMPLETE, message, false);
    }
    if reason == Some(PAUSED) {
        let message = "Deployment is resumed".to_owned();
        return say("Unknown", "DeploymentResumed", message, true);
    }
    if progressed(deployment.status.as_ref(), status) {
        let message = format!("{subject} is progressing.");
        return say("True", "ReplicaSetUpdated", message, true);
    }
    let found = new.filter(|_| reason.is_none())?;
    let message = format!("Found new replica set \"{}\"", found.name);
    say("True", "FoundNewReplicaSet", message, true)
}

fn complete(wish: &Wish, status: &DeploymentStatus) -> bool {
    let all = Some(wish.replicas);
    status.updated_replicas == all && status.replicas == all && status.available_replicas == all
}

/// Whether there are more new pods, fewer old ones, or more that serve.
fn progressed(old: Option<&DeploymentStatus>, status: &DeploymentStatus) -> bool {
    let nothing = DeploymentStatus::default();
    let old = old.unwrap_or(&nothing);
    let zero = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |of: &DeploymentStatus| zero(of.replicas) - zero(of.updated_replicas);
    zero(status.updated_replicas) > zero(old.updated_replicas)
        || outdated(status) < outdated(old)
        || zero(status.ready_replicas) > zero(old.ready_replicas)
        || zero(status.available_replicas) > zero(old.available_replicas)
}

/// How long the roll-out may still go without progress; `None` when nothing is waited for.
fn until_timed_out(
    conditions: &[DeploymentCondition],
    wish: &Wish,
    status: &DeploymentStatus,
    deadline: i32,
    now: Timestamp,
) -> Option<Duration> {
    let condition = find(conditions, "Progressing")?;
    let reason = condition.reason.as_deref();
    if wish.paused || matches!(reason, Some(TIMED_OUT)) || complete(wish, status) {
        return None;
    }
    if reason == Some(COMPLETE) {
        return None;
    }
    let since = condition
        .last_update_time
        .as_ref()
        .map_or(now, |time| time.0);
    let left = i64::from(deadline) - now.duration_since(since).as_secs();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

fn find<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn set_condition(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    new: Progress,
    now: Timestamp,
) {
    let old = find(conditions, kind).cloned();
    let same = old
        .as_ref()
        .is_some_and(|old| old.status == new.status && old.reason.as_deref() == Some(new.reason));
    if same && !new.touch {
        return;
    }
    let moved = old
        .filter(|old| old.status == new.status)
        .and_then(|old| old.last_transition_time);
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.into(),
        status: new.status.into(),
        reason: Some(new.reason.into()),
        message: Some(new.message),
        last_update_time: Some(Time(now)),
        last_transition_time: moved.or(Some(Time(now))),
    });
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// `old` is `replicas/updated/available`, a reason of Progressing and the seconds since it was
    /// written; `sets` are `actual/available`, the current one first.
    #[track_caller]
    fn check(old: &str, sets: &str, made: Option<&str>, expect: Expect) {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let words: Vec<&str> = old.split_whitespace().collect();
        let number = |text: &str| text.parse::<i32>().unwrap();
        let mut status = json!({});
        if let [counts, reason, age] = words[..] {
            let counts: Vec<i32> = counts.split('/').map(number).collect();
            let since = now - jiff::SignedDuration::from_secs(age.parse().unwrap());
            status = json!({
                "replicas": counts[0], "updatedReplicas": counts[1],
                "availableReplicas": counts[2], "readyReplicas": counts[2],
                "conditions": [{"type": "Progressing", "status": "True", "reason": reason,
                    "lastUpdateTime": since}],
            });
        }
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "d"},
            "spec": {"replicas": 3, "selector": {}, "template": {},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0}}},
            "status": status,
        }))
        .unwrap();
        let sets: Vec<Set> = sets
            .split_whitespace()
            .enumerate()
            .map(|(place, counts)| {
                let (actual, available) = counts.split_once('/').unwrap();
                Set {
                    name: format!("s{place}"),
                    current: place == 0,
                    wanted: number(actual),
                    actual: number(actual),
                    ready: number(available),
                    available: number(available),
                    observed: true,
                    ..Set::default()
                }
            })
            .collect();
        let wish = Wish::of(&deployment);
        let made = made.map_or(Made::Nothing, |name| Made::Set(name.into()));
        let (status, again) = super::status(&deployment, &wish, &sets, &made, now);
        let conditions = status.conditions.unwrap();
        let said = |kind| {
            let condition = find(&conditions, kind);
            condition.map_or("-".to_owned(), |condition| {
                format!("{} {}", condition.status, condition.reason.clone().unwrap())
            })
        };
        expect.assert_eq(&format!(
            "Available: {}\nProgressing: {}\n{} unavailable, again in {:?}\n",
            said("Available"),
            said("Progressing"),
            status.unavailable_replicas.unwrap(),
            again,
        ));
    }

    #[test]
    fn a_new_set_starts_the_clock_of_the_deadline() {
        check(
            "",
            "",
            Some("s0"),
            expect![[r#"
            Available: False MinimumReplicasUnavailable
            Progressing: True NewReplicaSetCreated
            0 unavailable, again in Some(600s)
        "#]],
        );
    }

    #[test]
    fn each_step_starts_the_clock_anew() {
        check(
            "3/1/1 NewReplicaSetCreated 500",
            "3/2",
            None,
            expect![[r#"
            Available: False MinimumReplicasUnavailable
            Progressing: True ReplicaSetUpdated
            1 unavailable, again in Some(600s)
        "#]],
        );
    }

    #[test]
    fn a_roll_out_that_stands_still_times_out() {
        check(
            "3/3/1 ReplicaSetUpdated 500",
            "3/1",
            None,
            expect![[r#"
            Available: False MinimumReplicasUnavailable
            Progressing: True ReplicaSetUpdated
            2 unavailable, again in Some(100s)
        "#]],
        );
        check(
            "3/3/1 ReplicaSetUpdated 600",
            "3/1",
            None,
            expect![[r#"
            Available: False MinimumReplicasUnavailable
            Progressing: False ProgressDeadlineExceeded
            2 unavailable, again in None
        "#]],
        );
        check(
            "3/3/1 ProgressDeadlineExceeded 9",
            "3/1",
            None,
            expect![[r#"
            Available: False MinimumReplicasUnavailable
            Progressing: True ProgressDeadlineExceeded
            2 unavailable, again in None
        "#]],
        );
        check(
            "3/3/1 ProgressDeadlineExceeded 9",
            "3/2",
            None,
            expect![[r#"
            Available: False MinimumReplicasUnavailable
            Progressing: True ReplicaSetUpdated
            1 unavailable, again in Some(600s)
        "#]],
        );
    }

    #[test]
    fn a_complete_roll_out_stays_complete_though_pods_fail() {
        check(
            "3/3/2 ReplicaSetUpdated 9",
            "3/3",
            None,
            expect![[r#"
            Available: True MinimumReplicasAvailable
            Progressing: True NewReplicaSetAvailable
            0 unavailable, again in None
        "#]],
        );
        check(
            "3/3/3 NewReplicaSetAvailable 900",
            "3/1",
            None,
            expect![[r#"
            Available: False MinimumReplicasUnavailable
            Progressing: True NewReplicaSetAvailable
            2 unavailable, again in None
        "#]],
        );
    }

    #[test]
    fn old_pods_are_no_part_of_a_complete_roll_out() {
        check(
            "4/3/4 ReplicaSetUpdated 9",
            "3/3 1/1",
            None,
            expect![[r#"
            Available: True MinimumReplicasAvailable
            Progressing: True ReplicaSetUpdated
            0 unavailable, again in Some(591s)
        "#]],
        );
    }
}
