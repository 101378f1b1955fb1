//! Keeps the pods of a StatefulSet: each with a name, a host name and volumes of its own.
//!
//! Reads `StatefulSet`, `Pod`, `PersistentVolumeClaim` and `ControllerRevision`; creates, deletes, labels,
//! adopts and releases `Pod`; creates `PersistentVolumeClaim` and sets whom they go with; writes
//! `ControllerRevision`, `StatefulSet` status and Events. Never has two pods of one ordinal, never deletes
//! one by force, never deletes a claim, and leaves the volumes of a pod that it adopts as they are.
//!
//! - [`set`]: what is asked for. Pure.
//! - [`claims`]: what claims are made of and whom they go with. Pure.
//! - [`plan`]: what to do, in which order. Pure.
//! - [`status`]: the counts.
//! - [`pods`]: does it.

mod claims;
mod plan;
mod pods;
mod set;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::DynamicObject;

use self::plan::{Plan, Seen, plan};
use self::pods::Pods;
use self::set::Set;
use crate::cache::Listener;
use crate::context::{Context, owner, selects};
use crate::error::Error;
use crate::events::Severity;
use crate::history::{self, History, REVISION_LABEL};
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::pod_control::PodControl;
use crate::queue::{Action, Queue};

const COMPONENT: &str = "statefulset-controller";
/// The label of a revision that holds the hash in its name.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// After this a claim that should go is looked at again.
const WAIT: Duration = Duration::from_secs(30);

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("statefulset"));
    let control = PodControl::new::<StatefulSet>(COMPONENT);
    context
        .pods
        .listen(control.on_pod(&context.statefulsets, &queue));
    context.claims.listen(on_claim_gone(context, &queue));
    context.statefulsets.listen(changed(&queue));
    manager.work(queue, move |context, key| {
        reconcile(context, control.clone(), key)
    });
}

/// Works on one StatefulSet.
async fn reconcile(
    context: Arc<Context>,
    control: Arc<PodControl>,
    key: Key,
) -> Result<Action, Error> {
    let Some(raw) = context.statefulsets.get(&key) else {
        control.forget(&key);
        return Ok(Action::AwaitChange);
    };
    let typed: StatefulSet = (*raw)
        .clone()
        .try_parse()
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let set = Set::read(&typed);
    let members = claim_pods(&context, &control, &raw, &set).await?;
    let said = typed.status.clone().unwrap_or_default();
    let claim = |name: &str| context.claims.get(&Key::new(&key.namespace, name));
    let seen = |current, update| Seen {
        set: &set,
        current,
        update,
        pods: &members,
        claim: &claim,
        now: Timestamp::now(),
    };
    let current = said.current_revision.unwrap_or_default();
    if set.deleting {
        let update = said.update_revision.unwrap_or_default();
        let plan = plan(&seen(&current, &update));
        status::write(&context, &typed, &plan.status).await?;
        return Ok(Action::AwaitChange);
    }
    let history = History::new::<StatefulSet>(&context, &control, &raw, HASH_LABEL);
    let revisions = history.claim().await?;
    let update = history.ensure_current(&revisions).await?;
    let current = revisions
        .iter()
        .find(|revision| revision.name_any() == current)
        .unwrap_or(&update);
    let (current_name, update_name) = (current.name_any(), update.name_any());
    let plan = plan(&seen(&current_name, &update_name));
    let pods = Pods {
        context: &context,
        control: &control,
        raw: &raw,
        set: &set,
        namespace: &key.namespace,
    };
    let done = carry_out(&pods, &plan, &members, [current, &update]).await;
    status::write(&context, &typed, &plan.status).await?;
    done?;
    let live = |revision: &DynamicObject| {
        let name = revision.name_any();
        let of = |pod: &Arc<Pod>| pod.labels().get(REVISION_LABEL) == Some(&name);
        name == current_name || name == update_name || members.iter().any(of)
    };
    let dead = revisions.iter().filter(|revision| !live(revision)).count();
    let surplus = dead.saturating_sub(set.history);
    let surplus = history::oldest(&revisions, surplus, live);
    history.remove(&surplus).await?;
    let again = plan.waits.then_some(WAIT).into_iter();
    let again = again.chain(plan.look_again).min();
    Ok(again.map_or(Action::AwaitChange, Action::After))
}

/// The set's pods. Those that bear its name and labels and that nobody owns become its own; those that do
/// not any more are let go.
async fn claim_pods(
    context: &Context,
    control: &PodControl,
    raw: &DynamicObject,
    set: &Set,
) -> Result<Vec<Arc<Pod>>, Error> {
    let member = |pod: &Arc<Pod>| set.ordinal(pod).is_some() && selects(raw, pod.labels());
    let (mut members, strangers): (Vec<_>, Vec<_>) = context
        .pods
        .by("owner", &set.uid)
        .into_iter()
        .partition(member);
    if !set.deleting {
        let namespace = raw.namespace().unwrap_or_default();
        let mut orphans = context.pods.by("orphans", &namespace);
        orphans.retain(|pod| pod.metadata.deletion_timestamp.is_none() && member(pod));
        control.adopt(context, raw, &orphans).await?;
        control.release(context, raw, &strangers).await?;
        let adopted = orphans
            .iter()
            .filter_map(|pod| context.pods.get(&Key::of(&**pod)));
        members.extend(adopted.filter(|pod| owner(&**pod).contains(&set.uid)));
    }
    Ok(members)
}

async fn carry_out(
    pods: &Pods<'_>,
    plan: &Plan,
    members: &[Arc<Pod>],
    [current, update]: [&Arc<DynamicObject>; 2],
) -> Result<(), Error> {
    let named = |names: &[String]| -> Vec<Arc<Pod>> {
        let named = members.iter().filter(|pod| names.contains(&pod.name_any()));
        named.cloned().collect()
    };
    for claim in &plan.conflicting {
        let message = format!(
            "PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a manging \
             controller, the retention policy is ignored for this claim"
        );
        pods.tell(Severity::Warning, "ConflictingController", message);
    }
    for (claim, owners) in &plan.own {
        pods.own(claim, owners).await?;
    }
    for (ordinal, template) in &plan.claims {
        pods.create_claim(*ordinal, *template).await?;
    }
    pods.create(&plan.create, current, update).await?;
    for pod in named(&plan.identify) {
        pods.identify(&pod).await?;
    }
    pods.delete(named(&plan.delete)).await?;
    for (pod, claim) in &plan.refused {
        pods.failed("create", pod, &format!("pvc {claim} is being deleted"));
    }
    match plan.refused.first() {
        Some((_, claim)) => Err(Error::Conflict(format!("pvc {claim} is being deleted"))),
        None => Ok(()),
    }
}

/// A claim that has gone wakes the sets whose pods it could be for: one may wait for a new claim.
fn on_claim_gone(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<PersistentVolumeClaim> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let (Some(claim), None, Some(context)) = (old, new, context.upgrade()) else {
            return;
        };
        let (name, namespace) = (claim.name_any(), claim.namespace().unwrap_or_default());
        for set in context.statefulsets.by("namespace", &namespace) {
            if name.contains(&format!("-{}-", set.name_any())) {
                queue.add(Key::of(&*set));
            }
        }
    })
}
