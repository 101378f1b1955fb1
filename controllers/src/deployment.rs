//! Rolls the pods of a Deployment from one template to the next.
//!
//! Reads `Deployment` and `ReplicaSet`; creates, scales and deletes `ReplicaSet`; writes
//! `Deployment` status, the revision annotation and Events. Never touches a pod, nor a ReplicaSet
//! whose controller is another object.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cache::Listener;
use crate::context::{Context, deployment_resource, replicaset_resource};
use crate::error::{Error, within, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::queue::{Action, Queue};
use crate::template;

const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const COMPONENT: &str = "deployment-controller";

/// A ReplicaSet as a plan sees it.
#[derive(Clone, Debug)]
struct Set {
    name: String,
    revision: i64,
    created: Option<Timestamp>,
    /// Whether its template is the Deployment's.
    current: bool,
    wanted: i32,
    actual: i32,
    ready: i32,
    available: i32,
    /// Whether its status speaks of its newest spec.
    observed: bool,
    /// What the Deployment wanted when the set was last scaled.
    desired: Option<i32>,
}

/// What the Deployment says, with percentages worked out.
#[derive(Clone, Debug)]
struct Wish {
    replicas: i32,
    recreate: bool,
    surge: i32,
    unavailable: i32,
    paused: bool,
    history: usize,
}

/// What to change, in this order.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Make the set of the current template, with so many replicas.
    create: Option<i32>,
    /// The revision that the current set should carry.
    revision: i64,
    scale: Vec<(String, i32)>,
    remove: Vec<String>,
}

/// Works on one Deployment.
pub(crate) async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(raw) = context.deployments.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let deployment: Deployment = (*raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    if deployment.metadata.deletion_timestamp.is_some() {
        return Ok(Action::AwaitChange);
    }
    let raws = context
        .replicasets
        .by("owner", &deployment.uid().unwrap_or_default());
    let template = raw
        .data
        .pointer("/spec/template")
        .cloned()
        .unwrap_or_default();
    let sets: Vec<Set> = raws
        .iter()
        .filter(|set| set.metadata.deletion_timestamp.is_none())
        .map(|set| read(set, &template))
        .collect::<Result<_, _>>()?;
    let wish = wish(&deployment);
    let plan = plan(&wish, &sets);
    let api = Api::namespaced_with(
        context.client.clone(),
        &key.namespace,
        &replicaset_resource(),
    );
    let mut made = None;
    if let Some(replicas) = plan.create {
        made = Some(
            create(
                &context,
                &api,
                &raw,
                &deployment,
                &template,
                replicas,
                plan.revision,
                &wish,
            )
            .await?,
        );
    } else if let Some(current) = newest(&sets).filter(|set| set.revision != plan.revision) {
        annotate(
            &context,
            &api,
            &current.name,
            json!({REVISION: plan.revision.to_string()}),
        )
        .await?;
    }
    for (name, replicas) in &plan.scale {
        scale(&context, &api, &deployment, &sets, name, *replicas, &wish).await?;
    }
    for name in &plan.remove {
        let uid = raws
            .iter()
            .find(|set| set.name_any() == *name)
            .and_then(|set| set.uid());
        let params = DeleteParams::background().preconditions(Preconditions {
            uid,
            resource_version: None,
        });
        within_opt(api.delete(name, &params)).await?;
    }
    let now = Timestamp::now();
    let current = newest(&sets).map(|set| set.name.clone());
    let (status, again) = status(
        &deployment,
        &wish,
        &sets,
        made.as_deref(),
        current.as_deref(),
        now,
    );
    write(&context, &raw, &deployment, &plan, status).await?;
    Ok(again.map_or(Action::AwaitChange, Action::After))
}

/// The oldest set with the current template; there may be more after a race.
fn newest(sets: &[Set]) -> Option<&Set> {
    sets.iter()
        .filter(|set| set.current)
        .min_by_key(|set| (set.created, set.name.clone()))
}

/// Decides what to change. Pure: same inputs, same plan.
fn plan(wish: &Wish, sets: &[Set]) -> Plan {
    let current = newest(sets);
    let name = current.map_or("", |set| set.name.as_str());
    let old: Vec<&Set> = sets.iter().filter(|set| set.name != name).collect();
    let latest = old.iter().map(|set| set.revision).max().unwrap_or(0);
    let mut plan = Plan {
        revision: current.map_or(0, |set| set.revision).max(latest + 1),
        ..Plan::default()
    };
    let resized = sets
        .iter()
        .any(|set| set.wanted > 0 && set.desired.is_some_and(|desired| desired != wish.replicas));
    if wish.paused || resized {
        if wish.paused {
            plan.revision = current.map_or(0, |set| set.revision);
        }
        plan.scale = proportional(wish, sets, current);
        return plan;
    }
    let Some(current) = current else {
        plan.create = Some(first_size(wish, &old));
        return plan;
    };
    if wish.recreate {
        plan.scale = recreate(wish, current, &old);
    } else {
        plan.scale = roll(wish, current, &old);
    }
    let finished = current.available >= wish.replicas
        && old.iter().all(|set| set.actual == 0 && set.wanted == 0);
    if finished {
        let mut idle: Vec<&&Set> = old.iter().filter(|set| set.observed).collect();
        idle.sort_by_key(|set| set.revision);
        plan.remove = idle
            .iter()
            .take(idle.len().saturating_sub(wish.history))
            .map(|set| set.name.clone())
            .collect();
    }
    plan
}

/// How large the new set may start.
fn first_size(wish: &Wish, old: &[&Set]) -> i32 {
    let total: i32 = old.iter().map(|set| set.wanted).sum();
    if wish.recreate {
        return if old.iter().all(|set| set.actual == 0 && set.wanted == 0) {
            wish.replicas
        } else {
            0
        };
    }
    (wish.replicas + wish.surge - total).clamp(0, wish.replicas)
}

fn recreate(wish: &Wish, current: &Set, old: &[&Set]) -> Vec<(String, i32)> {
    let down: Vec<_> = old
        .iter()
        .filter(|set| set.wanted > 0)
        .map(|set| (set.name.clone(), 0))
        .collect();
    let gone = old.iter().all(|set| set.wanted == 0 && set.actual == 0);
    if gone && current.wanted != wish.replicas {
        return vec![(current.name.clone(), wish.replicas)];
    }
    down
}

/// Up by what surge allows, then down by what availability allows.
fn roll(wish: &Wish, current: &Set, old: &[&Set]) -> Vec<(String, i32)> {
    let total: i32 = old.iter().map(|set| set.wanted).sum::<i32>() + current.wanted;
    if current.wanted > wish.replicas {
        return vec![(current.name.clone(), wish.replicas)];
    }
    if current.wanted < wish.replicas {
        let up = (wish.replicas + wish.surge - total).clamp(0, wish.replicas - current.wanted);
        if up > 0 {
            return vec![(current.name.clone(), current.wanted + up)];
        }
    }
    let least = wish.replicas - wish.unavailable;
    let mut spare = total - least - (current.wanted - current.available).max(0);
    let mut old: Vec<Set> = old
        .iter()
        .filter(|set| set.wanted > 0)
        .map(|set| (*set).clone())
        .collect();
    old.sort_by_key(|set| set.revision);
    let before: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    // Pods that serve nobody go first.
    for set in &mut old {
        let idle = (set.wanted - set.available).clamp(0, spare.max(0));
        set.wanted -= idle;
        spare -= idle;
    }
    let available: i32 = old
        .iter()
        .map(|set| set.available.min(set.wanted))
        .sum::<i32>()
        + current.available;
    let mut spare = spare.min(available - least);
    for set in &mut old {
        let down = set.wanted.min(spare.max(0));
        set.wanted -= down;
        spare -= down;
    }
    old.into_iter()
        .zip(before)
        .filter(|(set, before)| set.wanted != *before)
        .map(|(set, _)| (set.name, set.wanted))
        .collect()
}

/// Spreads a new size over the sets in proportion to theirs: the roll-out goes on as it was.
fn proportional(wish: &Wish, sets: &[Set], current: Option<&Set>) -> Vec<(String, i32)> {
    let mut live: Vec<&Set> = sets.iter().filter(|set| set.wanted > 0).collect();
    if live.is_empty() {
        live.extend(current);
    }
    if let [only] = live[..] {
        let right = only.wanted == wish.replicas
            && only.desired.is_none_or(|desired| desired == wish.replicas);
        return if right {
            Vec::new()
        } else {
            vec![(only.name.clone(), wish.replicas)]
        };
    }
    if live
        .iter()
        .all(|set| set.desired.is_none_or(|desired| desired == wish.replicas))
    {
        return Vec::new();
    }
    let total: i32 = live.iter().map(|set| set.wanted).sum();
    let allowed = if wish.replicas > 0 && !wish.recreate {
        wish.replicas + wish.surge
    } else {
        wish.replicas
    };
    let mut left = allowed - total;
    live.sort_by_key(|set| (std::cmp::Reverse(set.wanted), set.created));
    let mut sizes: Vec<(String, i32)> = Vec::new();
    for set in live {
        let share = i64::from(set.wanted) * i64::from(allowed - total);
        let share = (share as f64 / f64::from(total.max(1))).round() as i32;
        let part = if left > 0 {
            share.clamp(0, left)
        } else {
            share.clamp(left, 0)
        };
        left -= part;
        sizes.push((set.name.clone(), (set.wanted + part).max(0)));
    }
    if let Some(first) = sizes.first_mut() {
        first.1 = (first.1 + left).max(0);
    }
    sizes
}

fn wish(deployment: &Deployment) -> Wish {
    let spec = deployment.spec.clone().unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1);
    let strategy = spec.strategy.unwrap_or_default();
    let rolling = strategy.rolling_update.unwrap_or_default();
    let surge = part_of(rolling.max_surge.as_ref(), replicas, true);
    let mut unavailable = part_of(rolling.max_unavailable.as_ref(), replicas, false);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    Wish {
        replicas,
        recreate: strategy.type_.as_deref() == Some("Recreate"),
        surge,
        unavailable: unavailable.min(replicas),
        paused: spec.paused.unwrap_or(false),
        history: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
    }
}

/// A number, or a percentage of the replicas: surge is rounded up, unavailable down. Default 25 %.
fn part_of(value: Option<&IntOrString>, replicas: i32, up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return *number,
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
        None => 25,
    };
    let hundredths = i64::from(replicas) * percent;
    i32::try_from(if up {
        (hundredths + 99) / 100
    } else {
        hundredths / 100
    })
    .unwrap_or(i32::MAX)
}

fn read(raw: &Arc<DynamicObject>, wanted: &Value) -> Result<Set, Error> {
    let set: ReplicaSet = (**raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let status = set.status.clone().unwrap_or_default();
    let number = |name: &str| {
        set.annotations()
            .get(name)
            .and_then(|text| text.parse::<i64>().ok())
    };
    Ok(Set {
        name: set.name_any(),
        revision: number(REVISION).unwrap_or(0),
        created: set.creation_timestamp().map(|time| time.0),
        current: raw
            .data
            .pointer("/spec/template")
            .is_some_and(|have| template::bare(have) == template::bare(wanted)),
        wanted: set
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1),
        actual: status.replicas,
        ready: status.ready_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
        observed: status.observed_generation >= set.metadata.generation,
        desired: number(DESIRED).and_then(|number| i32::try_from(number).ok()),
    })
}

/// Makes the ReplicaSet of the current template; a name taken by another template raises
/// `collisionCount`, and the next try finds a free one.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one new object, used here only"
)]
async fn create(
    context: &Context,
    api: &Api<DynamicObject>,
    raw: &DynamicObject,
    deployment: &Deployment,
    wanted: &Value,
    replicas: i32,
    revision: i64,
    wish: &Wish,
) -> Result<String, Error> {
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    let hash = template::hash(wanted, collisions);
    let name = format!("{}-{hash}", deployment.name_any());
    let mut copy = wanted.clone();
    copy["metadata"]["labels"][template::HASH_LABEL] = json!(hash);
    let mut selector = raw
        .data
        .pointer("/spec/selector")
        .cloned()
        .unwrap_or_default();
    selector["matchLabels"][template::HASH_LABEL] = json!(hash);
    let mut annotations = deployment.annotations().clone();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.insert(REVISION.into(), revision.to_string());
    annotations.insert(DESIRED.into(), wish.replicas.to_string());
    annotations.insert(MAX.into(), (wish.replicas + wish.surge).to_string());
    let set: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": name, "labels": copy["metadata"]["labels"], "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment.name_any(), "uid": deployment.uid(),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "replicas": replicas, "selector": selector, "template": copy,
            "minReadySeconds": deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
        },
    }))?;
    match within(api.create(&PostParams::default(), &set)).await {
        Ok(set) => context.replicasets.apply(set),
        Err(Error::Conflict(message)) => {
            let existing = within(api.get(&name)).await?;
            let ours = existing
                .owner_references()
                .iter()
                .any(|owner| Some(&owner.uid) == deployment.uid().as_ref());
            let same = existing
                .data
                .pointer("/spec/template")
                .is_some_and(|have| template::bare(have) == template::bare(wanted));
            if ours && same {
                context.replicasets.apply(existing);
            } else {
                let patch = json!({"status": {"collisionCount": collisions + 1}});
                patch_status(context, deployment, patch).await?;
            }
            return Err(Error::Conflict(message));
        }
        Err(error) => {
            let message = format!("Failed to create new replica set \"{name}\": {error}");
            context.recorder.named(COMPONENT).record(
                deployment,
                Severity::Warning,
                "ReplicaSetCreateError",
                message,
            );
            return Err(error);
        }
    }
    if replicas > 0 {
        let message = format!("Scaled up replica set {name} from 0 to {replicas}");
        context.recorder.named(COMPONENT).record(
            deployment,
            Severity::Normal,
            "ScalingReplicaSet",
            message,
        );
    }
    Ok(name)
}

async fn scale(
    context: &Context,
    api: &Api<DynamicObject>,
    deployment: &Deployment,
    sets: &[Set],
    name: &str,
    to: i32,
    wish: &Wish,
) -> Result<(), Error> {
    let from = sets
        .iter()
        .find(|set| set.name == name)
        .map_or(0, |set| set.wanted);
    let patch = json!({
        "metadata": {"annotations": {DESIRED: wish.replicas.to_string(), MAX: (wish.replicas + wish.surge).to_string()}},
        "spec": {"replicas": to},
    });
    let set = within(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    context.replicasets.apply(set);
    if from != to {
        let way = if to > from { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {name} from {from} to {to}");
        context.recorder.named(COMPONENT).record(
            deployment,
            Severity::Normal,
            "ScalingReplicaSet",
            message,
        );
    }
    Ok(())
}

async fn annotate(
    context: &Context,
    api: &Api<DynamicObject>,
    name: &str,
    annotations: Value,
) -> Result<(), Error> {
    let patch = json!({"metadata": {"annotations": annotations}});
    let set = within(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    context.replicasets.apply(set);
    Ok(())
}

/// The status to write, and when to look again though nothing changes.
fn status(
    deployment: &Deployment,
    wish: &Wish,
    sets: &[Set],
    made: Option<&str>,
    current: Option<&str>,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let old = deployment.status.clone().unwrap_or_default();
    let new = sets.iter().find(|set| Some(set.name.as_str()) == current);
    let sum = |of: fn(&Set) -> i32| sets.iter().map(of).sum::<i32>();
    let (replicas, available) = (sum(|set| set.actual), sum(|set| set.available));
    let updated = new.map_or(0, |set| set.actual);
    let unavailable = (sum(|set| set.wanted) - available).max(0);
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let enough = available >= wish.replicas - wish.unavailable;
    let (state, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set_condition(
        &mut conditions,
        "Available",
        state,
        reason,
        message,
        false,
        now,
    );
    let name = made.or(current).unwrap_or_default();
    let complete = updated == wish.replicas
        && replicas == wish.replicas
        && available == wish.replicas
        && new.is_some_and(|set| set.observed);
    let progressed = updated > old.updated_replicas.unwrap_or(0)
        || replicas - updated < old.replicas.unwrap_or(0) - old.updated_replicas.unwrap_or(0)
        || sum(|set| set.ready) > old.ready_replicas.unwrap_or(0)
        || available > old.available_replicas.unwrap_or(0);
    let deadline = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.progress_deadline_seconds)
        .unwrap_or(600);
    let progressing = conditions
        .iter()
        .find(|condition| condition.type_ == "Progressing")
        .cloned();
    let was = progressing
        .as_ref()
        .and_then(|condition| condition.reason.clone())
        .unwrap_or_default();
    let mut again = None;
    if wish.paused {
        set_condition(
            &mut conditions,
            "Progressing",
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused",
            false,
            now,
        );
    } else if complete {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        set_condition(
            &mut conditions,
            "Progressing",
            "True",
            "NewReplicaSetAvailable",
            &message,
            false,
            now,
        );
    } else if made.is_some() {
        let message = format!("Created new replica set \"{name}\"");
        set_condition(
            &mut conditions,
            "Progressing",
            "True",
            "NewReplicaSetCreated",
            &message,
            true,
            now,
        );
    } else if progressing.is_none() || was == "DeploymentPaused" {
        let message = format!("Found new replica set \"{name}\"");
        set_condition(
            &mut conditions,
            "Progressing",
            "True",
            "FoundNewReplicaSet",
            &message,
            true,
            now,
        );
    } else if progressed {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        set_condition(
            &mut conditions,
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            &message,
            true,
            now,
        );
    } else if was != "NewReplicaSetAvailable"
        || new.is_none_or(|set| {
            set.actual < set.wanted && old.updated_replicas != Some(wish.replicas)
        })
    {
        let since = progressing
            .and_then(|condition| condition.last_update_time)
            .map_or(now, |time| time.0);
        let left = i64::from(deadline) - now.duration_since(since).as_secs();
        if left <= 0 {
            let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
            set_condition(
                &mut conditions,
                "Progressing",
                "False",
                "ProgressDeadlineExceeded",
                &message,
                false,
                now,
            );
        } else if deadline != i32::MAX {
            again = Some(Duration::from_secs(left.unsigned_abs()));
        }
    }
    if again.is_none()
        && !complete
        && !wish.paused
        && deadline != i32::MAX
        && was != "ProgressDeadlineExceeded"
    {
        again = Some(Duration::from_secs(u64::try_from(deadline).unwrap_or(600)));
    }
    let status = DeploymentStatus {
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        ready_replicas: Some(sum(|set| set.ready)),
        available_replicas: Some(available),
        unavailable_replicas: Some(unavailable),
        observed_generation: deployment.metadata.generation,
        collision_count: old.collision_count,
        conditions: Some(conditions),
        ..DeploymentStatus::default()
    };
    (status, again)
}

fn set_condition(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    touch: bool,
    now: Timestamp,
) {
    let old = conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .cloned();
    if old.as_ref().is_some_and(|old| {
        old.status == status
            && old.reason.as_deref() == Some(reason)
            && old.message.as_deref() == Some(message)
    }) && !touch
    {
        return;
    }
    let moved = old
        .filter(|old| old.status == status)
        .and_then(|old| old.last_transition_time);
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: moved.or(Some(Time(now))),
    });
}

async fn write(
    context: &Context,
    raw: &DynamicObject,
    deployment: &Deployment,
    plan: &Plan,
    status: DeploymentStatus,
) -> Result<(), Error> {
    let revision = plan.revision.to_string();
    if plan.revision > 0 && raw.annotations().get(REVISION) != Some(&revision) {
        let api: Api<DynamicObject> = Api::namespaced_with(
            context.client.clone(),
            &raw.namespace().unwrap_or_default(),
            &deployment_resource(),
        );
        let patch = json!({"metadata": {"uid": raw.uid(), "annotations": {REVISION: revision}}});
        if let Some(answer) = within_opt(api.patch(
            &raw.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        ))
        .await?
        {
            context.deployments.apply(answer);
        }
    }
    let zeroed = |status: &DeploymentStatus| {
        let counts = [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
            status.unavailable_replicas,
        ];
        (
            counts.map(|count| count.unwrap_or(0)),
            status.observed_generation,
            status.conditions.clone().unwrap_or_default(),
        )
    };
    if zeroed(&deployment.status.clone().unwrap_or_default()) == zeroed(&status) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": deployment.uid()}, "status": status});
    patch_status(context, deployment, patch).await
}

async fn patch_status(
    context: &Context,
    deployment: &Deployment,
    patch: Value,
) -> Result<(), Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &deployment.namespace().unwrap_or_default(),
        &deployment_resource(),
    );
    let answer = within_opt(api.patch_status(
        &deployment.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    ))
    .await?;
    answer
        .into_iter()
        .for_each(|deployment| context.deployments.apply(deployment));
    Ok(())
}

pub(crate) fn on_deployment(queue: &Queue<Key>) -> Listener<DynamicObject> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        old.or(new)
            .into_iter()
            .for_each(|object| queue.add(Key::of(&**object)));
    })
}

/// A ReplicaSet wakes the Deployment that it belongs to.
pub(crate) fn on_replicaset(
    _context: &Arc<Context>,
    queue: &Queue<Key>,
) -> Listener<DynamicObject> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        for set in old.into_iter().chain(new) {
            for owner in set
                .owner_references()
                .iter()
                .filter(|owner| owner.kind == "Deployment")
            {
                queue.add(Key::new(&set.namespace().unwrap_or_default(), &owner.name));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `a1=3/2`: the set `a` of revision 1 wants 3 pods and has 2 available; `*` marks the current.
    fn set(text: &str) -> Set {
        let current = text.ends_with('*');
        let (name, counts) = text.trim_end_matches('*').split_once('=').unwrap();
        let (wanted, available) = counts.split_once('/').unwrap();
        let wanted = wanted.parse().unwrap();
        let available = available.parse().unwrap();
        Set {
            name: name.into(),
            revision: name[1..].parse().unwrap(),
            created: None,
            current,
            wanted,
            actual: wanted,
            ready: available,
            available,
            observed: true,
            desired: None,
        }
    }

    #[track_caller]
    fn check(wish: &str, sets: &str, expect: Expect) {
        let mut words = wish.split_whitespace();
        let replicas = words.next().unwrap().parse().unwrap();
        let mut wish = Wish {
            replicas,
            recreate: false,
            surge: 1,
            unavailable: 0,
            paused: false,
            history: 10,
        };
        for word in words {
            match word.split_once('=') {
                Some(("surge", n)) => wish.surge = n.parse().unwrap(),
                Some(("unavailable", n)) => wish.unavailable = n.parse().unwrap(),
                Some(("history", n)) => wish.history = n.parse().unwrap(),
                _ if word == "recreate" => wish.recreate = true,
                _ => wish.paused = true,
            }
        }
        let plan = plan(&wish, &sets.split_whitespace().map(set).collect::<Vec<_>>());
        let mut said = vec![format!("revision {}", plan.revision)];
        said.extend(plan.create.map(|size| format!("create {size}")));
        said.extend(
            plan.scale
                .iter()
                .map(|(name, size)| format!("{name} to {size}")),
        );
        said.extend(plan.remove.iter().map(|name| format!("remove {name}")));
        expect.assert_eq(&said.join(", "));
    }

    #[test]
    fn a_first_roll_out_starts_with_every_replica() {
        check("3", "", expect!["revision 1, create 3"]);
    }

    #[test]
    fn a_roll_out_goes_up_by_the_surge_then_down_by_what_is_available() {
        check("3", "a1=3/3", expect!["revision 2, create 1"]);
        check("3", "a1=3/3 b2=1/0*", expect!["revision 2"]);
        check("3", "a1=3/3 b2=1/1*", expect!["revision 2, a1 to 2"]);
        check("3", "a1=2/2 b2=1/1*", expect!["revision 2, b2 to 2"]);
        check(
            "4 surge=0 unavailable=1",
            "a1=4/4 b2=0/0*",
            expect!["revision 2, a1 to 3"],
        );
    }

    #[test]
    fn pods_that_serve_nobody_go_first() {
        check("3", "a1=3/1 b2=1/1*", expect!["revision 2, a1 to 2"]);
    }

    #[test]
    fn a_roll_back_reuses_the_old_set_under_a_new_revision() {
        check("3", "a1=0/0* b2=3/3", expect!["revision 3, a1 to 1"]);
    }

    #[test]
    fn recreate_waits_until_the_old_pods_are_gone() {
        check("3 recreate", "a1=3/3", expect!["revision 2, create 0"]);
        check(
            "3 recreate",
            "a1=3/3 b2=0/0*",
            expect!["revision 2, a1 to 0"],
        );
        check(
            "3 recreate",
            "a1=0/0 b2=0/0*",
            expect!["revision 2, b2 to 3"],
        );
    }

    #[test]
    fn a_paused_deployment_scales_but_does_not_roll() {
        check("3 paused", "a1=3/3 b2=1/1*", expect!["revision 2"]);
        check("5 paused", "b2=3/3*", expect!["revision 2, b2 to 5"]);
    }

    #[test]
    fn history_is_cut_to_its_limit_once_finished() {
        check(
            "1 history=1",
            "a1=0/0 b2=0/0 c3=1/1*",
            expect!["revision 3, remove a1"],
        );
    }

    #[test]
    fn surge_is_rounded_up_and_unavailable_down() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(
            (
                part_of(Some(&quarter), 3, true),
                part_of(Some(&quarter), 3, false)
            ),
            (1, 0)
        );
    }
}
