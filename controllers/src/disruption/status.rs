//! Writes the status of a budget, if it says something else.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::plan::Plan;
use crate::context::Context;
use crate::error::{Error, within_opt};

const ALLOWED: &str = "DisruptionAllowed";

/// Writes what was planned; says whether there was anything to write.
pub(super) async fn write(
    context: &Context,
    budget: &PodDisruptionBudget,
    plan: Plan,
    now: Timestamp,
) -> Result<bool, Error> {
    let status = budget.status.clone().unwrap_or_default();
    let disrupted = plan.disrupted.into_iter();
    let disrupted: BTreeMap<String, Time> = disrupted
        .map(|(name, evicted)| (name, Time(evicted)))
        .collect();
    let generation = budget.metadata.generation;
    let (is, reason) = if plan.allowed > 0 {
        (true, "SufficientPods")
    } else {
        (false, "InsufficientPods")
    };
    let condition = condition(budget, is, reason, "", generation, now);
    let unchanged = status.observed_generation == generation
        && status.expected_pods == Some(plan.expected)
        && status.desired_healthy == Some(plan.desired)
        && status.current_healthy == Some(plan.healthy)
        && status.disruptions_allowed == Some(plan.allowed)
        && status.disrupted_pods.clone().unwrap_or_default() == disrupted
        && known(budget) == Some(&condition);
    if unchanged {
        return Ok(false);
    }
    // Those that wait no longer are taken out one by one: a merge leaves what it does not name.
    let mut waiting = json!(disrupted);
    for name in status.disrupted_pods.iter().flatten().map(|(name, _)| name) {
        if !disrupted.contains_key(name) {
            waiting[name] = Value::Null;
        }
    }
    let status = json!({
        "observedGeneration": generation,
        "expectedPods": plan.expected,
        "desiredHealthy": plan.desired,
        "currentHealthy": plan.healthy,
        "disruptionsAllowed": plan.allowed,
        "disruptedPods": waiting,
        "conditions": with(budget, condition),
    });
    patch(context, budget, status).await?;
    Ok(true)
}

/// Says that it could not be counted, and that nothing may go; says whether that is news.
pub(super) async fn fail(
    context: &Context,
    budget: &PodDisruptionBudget,
    message: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let status = budget.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    let condition = condition(budget, false, "SyncFailed", message, observed, now);
    let none = status.is_some_and(|status| status.disruptions_allowed == Some(0));
    if none && known(budget) == Some(&condition) {
        return Ok(false);
    }
    let conditions = with(budget, condition);
    let status = json!({"disruptionsAllowed": 0, "conditions": conditions});
    patch(context, budget, status).await?;
    Ok(true)
}

fn known(budget: &PodDisruptionBudget) -> Option<&Condition> {
    let mut conditions = budget.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == ALLOWED)
}

/// The condition, which is as old as it has been so.
fn condition(
    budget: &PodDisruptionBudget,
    is: bool,
    reason: &str,
    message: &str,
    observed: Option<i64>,
    now: Timestamp,
) -> Condition {
    let is = if is { "True" } else { "False" };
    let before = known(budget).filter(|known| known.status == is);
    let since = before.map_or(Time(now), |known| known.last_transition_time.clone());
    Condition {
        last_transition_time: since,
        message: message.to_owned(),
        observed_generation: observed,
        reason: reason.to_owned(),
        status: is.to_owned(),
        type_: ALLOWED.to_owned(),
    }
}

fn with(budget: &PodDisruptionBudget, condition: Condition) -> Vec<Condition> {
    let status = budget.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.clone());
    let mut conditions = conditions.unwrap_or_default();
    conditions.retain(|known| known.type_ != ALLOWED);
    conditions.push(condition);
    conditions
}

async fn patch(
    context: &Context,
    budget: &PodDisruptionBudget,
    status: Value,
) -> Result<(), Error> {
    // An eviction since this was read has spent a disruption: then this status is not true any more.
    let revision = &budget.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": revision}, "status": status});
    let namespace = budget.namespace().unwrap_or_default();
    let api: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), &namespace);
    let (name, patch) = (budget.name_any(), Patch::Merge(patch));
    let written = within_opt(api.patch_status(&name, &PatchParams::default(), &patch)).await?;
    if let Some(budget) = written {
        context.budgets.apply(budget);
    }
    Ok(())
}
