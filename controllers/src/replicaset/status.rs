//! Writes the status of a ReplicaSet or a ReplicationController, when it differs.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Kind;
use super::plan::Counts;
use super::set::Set;
use crate::context::Context;
use crate::error::{Error, within_opt};

const FAILURE: &str = "ReplicaFailure";

/// What became of the pods that were to be made or removed.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    /// Nothing was tried: what was said of it before holds.
    Unknown,
    /// A reason and a message.
    Failed(&'static str, String),
}

/// Writes the status if it differs from what is there.
pub(super) async fn write(
    context: &Context,
    kind: &Kind,
    raw: &DynamicObject,
    set: &Set,
    counts: Counts,
    outcome: Outcome,
) -> Result<(), Error> {
    let Some(mut status) = status(set, counts, outcome, Timestamp::now()) else {
        return Ok(());
    };
    if kind.counts_terminating {
        status["terminatingReplicas"] = counts.terminating.into();
    }
    let patch = json!({"metadata": {"uid": raw.uid()}, "status": status});
    let namespace = raw.namespace().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &namespace, &kind.resource);
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = within_opt(api.patch_status(&raw.name_any(), &params, &patch)).await?;
    let sets = (kind.sets)(context);
    answer.into_iter().for_each(|set| sets.apply(set));
    Ok(())
}

/// The status to write; `None` where nothing changed. Pure.
fn status(set: &Set, counts: Counts, outcome: Outcome, now: Timestamp) -> Option<Value> {
    let old = &set.status;
    let known = old.conditions.clone().unwrap_or_default();
    let mut conditions = known.clone();
    let failed = known.iter().any(|condition| condition.type_ == FAILURE);
    match outcome {
        Outcome::Unknown => {}
        Outcome::Done => conditions.retain(|condition| condition.type_ != FAILURE),
        // The first failure stays: each try would else write its own message.
        Outcome::Failed(..) if failed => {}
        Outcome::Failed(reason, message) => conditions.push(ReplicaSetCondition {
            type_: FAILURE.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
    }
    let same = Counts::of(old) == counts
        && old.observed_generation == set.generation
        && conditions == known;
    if same {
        return None;
    }
    Some(json!({
        "replicas": counts.replicas,
        "fullyLabeledReplicas": counts.labelled,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "observedGeneration": set.generation,
        "conditions": if conditions.is_empty() { Value::Null } else { json!(conditions) },
    }))
}

impl Counts {
    fn of(status: &ReplicaSetStatus) -> Self {
        Self {
            replicas: status.replicas,
            labelled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas.unwrap_or(0),
        }
    }
}
