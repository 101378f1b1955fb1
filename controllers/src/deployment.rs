//! Rolls the pods of a Deployment from one template to the next.
//!
//! Reads `Deployment`, `ReplicaSet` and `Pod`; creates, adopts, scales and deletes `ReplicaSet`;
//! writes `Deployment` status, the revision annotation and Events. Never touches a pod, nor a
//! ReplicaSet whose controller is another object.

mod plan;
mod replicasets;
mod rollback;
mod set;
mod status;
mod wish;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::Listener;
use crate::clock;
use crate::context::{Context, resource, selector, selects};
use crate::error::{Error, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::pod;
use crate::queue::{Action, Queue};
use crate::template;

use plan::plan;
use replicasets::ReplicaSets;
use set::{REVISION, Set, current};
use status::Made;
use wish::Wish;

const COMPONENT: &str = "deployment-controller";

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("deployment"));
    context.deployments.listen(changed(&queue));
    context.replicasets.listen(on_replicaset(context, &queue));
    manager.work(queue, reconcile);
}

/// Works on one Deployment.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(raw) = context.deployments.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let deployment: Deployment = (*raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let template = raw.data.pointer("/spec/template");
    let template = template.cloned().unwrap_or_default();
    let bare = template::bare(&template);
    let wish = Wish::of(&deployment);
    let replicasets = ReplicaSets {
        context: &context,
        raw: &raw,
        deployment: &deployment,
        template: &template,
        bare: &bare,
        wish: &wish,
    };
    if selector(&raw).is_none_or(|selector| selector.selects_all()) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        replicasets.say(Severity::Warning, "SelectingAll", message.to_owned());
        let seen = json!({"observedGeneration": deployment.metadata.generation});
        let status = deployment.status.as_ref();
        if status.and_then(|status| status.observed_generation) != deployment.metadata.generation {
            let patch = json!({"metadata": {"uid": deployment.uid()}, "status": seen});
            patch_status(&context, &deployment, patch).await?;
        }
        return Ok(Action::AwaitChange);
    }
    if !makes_its_own(&raw) {
        tracing::warn!(object = %key, "spec.selector does not fit spec.template of the Deployment");
        return Ok(Action::AwaitChange);
    }
    let again = if deployment.metadata.deletion_timestamp.is_some() {
        let (_, sets) = owned(&context, &deployment, &wish, &bare)?;
        finish(&context, &deployment, &wish, &sets, &Made::Nothing).await?
    } else if rollback::roll_back(&replicasets).await? {
        None
    } else {
        advance(&replicasets).await?
    };
    Ok(again.map_or(Action::AwaitChange, Action::After))
}

/// Whether it selects the pods that it makes; validation refuses others.
fn makes_its_own(raw: &DynamicObject) -> bool {
    let labels = raw.data.pointer("/spec/template/metadata/labels");
    let labels = labels.and_then(|labels| BTreeMap::deserialize(labels).ok());
    labels.is_some_and(|labels| selects(raw, &labels))
}

/// Takes a roll-out a step further.
async fn advance(replicasets: &ReplicaSets<'_>) -> Result<Option<Duration>, Error> {
    let &ReplicaSets {
        context,
        raw,
        deployment,
        bare,
        wish,
        ..
    } = replicasets;
    let namespace = deployment.namespace().unwrap_or_default();
    let mut orphans = context.replicasets.by("orphans", &namespace);
    orphans.retain(|set| set.metadata.deletion_timestamp.is_none() && selects(raw, set.labels()));
    replicasets.adopt(&orphans).await?;
    let uid = deployment.uid().unwrap_or_default();
    let mut strangers = context.replicasets.by("owner", &uid);
    strangers
        .retain(|set| set.metadata.deletion_timestamp.is_none() && !selects(raw, set.labels()));
    for set in &strangers {
        replicasets.release(set).await?;
    }

    let (raws, sets) = owned(context, deployment, wish, bare)?;
    let plan = plan(wish, &sets);
    let made = match plan.create {
        Some(replicas) => replicasets.create(replicas, plan.revision).await,
        None => Ok(Made::Nothing),
    };
    let made = match made {
        Ok(made) => made,
        Err(error @ (Error::Conflict(_) | Error::Ending(_))) => return Err(error),
        Err(error) => {
            let made = Made::Failed(replicasets.tell_failure(&error));
            finish(context, deployment, wish, &sets, &made).await?;
            return Err(error);
        }
    };
    let find = |name: &str| raws.iter().find(|set| set.name_any() == name);
    if let Some(current) = current(&sets).and_then(|set| find(&set.name)) {
        replicasets.pass_on(current, plan.revision).await?;
    }
    for (name, replicas) in &plan.scale {
        replicasets.scale(&sets, name, *replicas).await?;
    }
    for set in plan.remove.iter().filter_map(|name| find(name)) {
        replicasets.remove(set).await?;
    }
    write_revision(context, raw, plan.revision).await?;
    finish(context, deployment, wish, &sets, &made).await
}

/// Writes the status; tells when to look again.
async fn finish(
    context: &Context,
    deployment: &Deployment,
    wish: &Wish,
    sets: &[Set],
    made: &Made,
) -> Result<Option<Duration>, Error> {
    let (status, again) = status::status(deployment, wish, sets, made, clock::now());
    write_status(context, deployment, status).await?;
    Ok(again)
}

/// The ReplicaSets of a Deployment that stay, as they are and as plans see them.
fn owned(
    context: &Context,
    deployment: &Deployment,
    wish: &Wish,
    bare: &Value,
) -> Result<(Vec<Arc<DynamicObject>>, Vec<Set>), Error> {
    let uid = deployment.uid().unwrap_or_default();
    let mut raws = context.replicasets.by("owner", &uid);
    raws.retain(|set| set.metadata.deletion_timestamp.is_none());
    let sets = raws.iter().map(|raw| {
        let mut set = Set::read(raw, bare)?;
        if wish.recreate && !set.current {
            // A status may lag behind; the pods themselves tell whether any is left.
            let pods = context.pods.by("owner", &raw.uid().unwrap_or_default());
            set.running |= pods.iter().any(|pod| !pod::ended(pod));
        }
        Ok(set)
    });
    let sets = sets.collect::<Result<_, Error>>()?;
    Ok((raws, sets))
}

async fn write_revision(
    context: &Context,
    raw: &DynamicObject,
    revision: i64,
) -> Result<(), Error> {
    let text = revision.to_string();
    if revision == 0 || raw.annotations().get(REVISION) == Some(&text) {
        return Ok(());
    }
    let api = api(context, &raw.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"uid": raw.uid(), "annotations": {REVISION: text}}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = within_opt(api.patch(&raw.name_any(), &params, &patch)).await?;
    answer
        .into_iter()
        .for_each(|deployment| context.deployments.apply(deployment));
    Ok(())
}

async fn write_status(
    context: &Context,
    deployment: &Deployment,
    status: DeploymentStatus,
) -> Result<(), Error> {
    let comparable = |status: &DeploymentStatus| {
        let counts = [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
            status.unavailable_replicas,
            status.terminating_replicas,
        ];
        (
            counts.map(|count| count.unwrap_or(0)),
            status.observed_generation,
            status.conditions.clone().unwrap_or_default(),
        )
    };
    if comparable(&deployment.status.clone().unwrap_or_default()) == comparable(&status) {
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
    let api = api(context, &deployment.namespace().unwrap_or_default());
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = within_opt(api.patch_status(&deployment.name_any(), &params, &patch)).await?;
    answer
        .into_iter()
        .for_each(|deployment| context.deployments.apply(deployment));
    Ok(())
}

fn api(context: &Context, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, &resource::<Deployment>())
}

/// A ReplicaSet wakes the Deployment that it belongs to; one without an owner wakes every
/// Deployment of its namespace that selects it.
fn on_replicaset(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<DynamicObject> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        for set in old.into_iter().chain(new) {
            let namespace = set.namespace().unwrap_or_default();
            let owners = set.owner_references();
            for owner in owners.iter().filter(|owner| owner.kind == "Deployment") {
                queue.add(Key::new(&namespace, &owner.name));
            }
            if owners.iter().any(|owner| owner.controller == Some(true)) {
                continue;
            }
            for deployment in context.deployments.by("namespace", &namespace) {
                if selects(&deployment, set.labels()) {
                    queue.add(Key::of(&*deployment));
                }
            }
        }
    })
}
