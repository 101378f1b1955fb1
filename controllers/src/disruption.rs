//! Keeps the status of each PodDisruptionBudget: how many of its pods are healthy, how many must be, and
//! how many may be evicted now.
//!
//! Reads `PodDisruptionBudget`, `Pod`, the workloads and, for owners of other kinds, their `scale`; writes
//! the budget's status. Never evicts anything: that is the apiserver's, which trusts this status and spends
//! from it. What cannot be counted allows nothing.
//!
//! - [`plan`]: what the status should say. [`owners`]: how many pods the owners want.
//! - [`status`]: writes it. [`stale`]: takes back that a pod is to go when it did not.

mod owners;
mod plan;
mod stale;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::{Selector, SelectorExt};

use crate::cache::Listener;
use crate::context::Context;
use crate::error::Error;
use crate::events::{Recorder, Severity};
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::queue::{Action, Queue};
use crate::selector;

use owners::Owners;
use plan::{EVICTION_SECONDS, Plan};

/// When to count again what an owner says that nobody watches, or that could not be counted.
const AGAIN: Duration = Duration::from_secs(60);

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("disruption"));
    context.pods.listen(on_pod(context, &queue));
    for workloads in [
        &context.replicasets,
        &context.deployments,
        &context.statefulsets,
        &context.replication_controllers,
    ] {
        workloads.listen(on_scale(context, &queue));
    }
    context.budgets.listen(changed(&queue));
    manager.work(queue, reconcile);
    stale::start(manager);
}

/// Works on one budget.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(budget) = context.budgets.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    if budget.metadata.deletion_timestamp.is_some() {
        return Ok(Action::AwaitChange);
    }
    let now = Timestamp::now();
    let mut pods = context.pods.by("namespace", &key.namespace);
    pods.retain(|pod| selects(&budget, pod));
    let owners = if plan::needs_owners(&budget) {
        Owners::find(&context, &key.namespace, &pods).await
    } else {
        Ok(Owners::default())
    };
    let (owners, failure) = match owners {
        Ok(owners) => (owners, None),
        Err(error) => (Owners::default(), Some(error)),
    };
    if let Some(error) = failure {
        let message = error.to_string();
        if status::fail(&context, &budget, &message, now).await? {
            let message = format!("Failed to calculate the number of expected pods: {message}");
            let reason = "CalculateExpectedPodCountFailed";
            recorder(&context).record(&*budget, Severity::Warning, reason, message);
        }
        return match error {
            Error::Unavailable(_) => Err(error),
            _ => Ok(Action::After(AGAIN)),
        };
    }
    let plan = plan::plan(&budget, &pods, &owners, now);
    let evicted = plan.disrupted.values();
    let wait = evicted
        .map(|evicted| EVICTION_SECONDS - now.duration_since(*evicted).as_secs())
        .min();
    let wait = wait.map(|seconds| Duration::from_secs(seconds.max(1).unsigned_abs()));
    let unwatched = owners.asked().then_some(AGAIN);
    tell_late(&context, &budget, &plan, &pods);
    let unmanaged = plan.unmanaged;
    if status::write(&context, &budget, plan, now).await? {
        tell(&context, &budget, pods.is_empty(), unmanaged);
    }
    Ok(match wait.into_iter().chain(unwatched).min() {
        Some(wait) => Action::After(wait),
        None => Action::AwaitChange,
    })
}

/// Says what is odd about the pods. Told when the status changes, for else it would be told for ever.
fn tell(context: &Context, budget: &PodDisruptionBudget, none: bool, unmanaged: bool) {
    if none {
        let message = "No matching pods found".to_owned();
        recorder(context).record(budget, Severity::Normal, "NoPods", message);
    }
    if unmanaged {
        let spec = budget.spec.as_ref();
        let selector = selector::as_go(spec.and_then(|spec| spec.selector.as_ref()));
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As \
             a result, the status of the PDB cannot be calculated correctly, which may result in undefined \
             behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an \
             integer value."
        );
        recorder(context).record(budget, Severity::Warning, "UnmanagedPods", message);
    }
}

/// Says which evicted pods have not gone.
fn tell_late(context: &Context, budget: &PodDisruptionBudget, plan: &Plan, pods: &[Arc<Pod>]) {
    for pod in pods
        .iter()
        .filter(|pod| plan.late.contains(&pod.name_any()))
    {
        let key = Key::of(budget);
        let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
        recorder(context).record(&**pod, Severity::Warning, "NotDeleted", message);
    }
}

fn recorder(context: &Context) -> Recorder {
    context.recorder.named("controllermanager")
}

/// Whether a budget is about a pod: one without a selector is about none, an empty one about all.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    selector
        .and_then(|selector: LabelSelector| Selector::try_from(selector).ok())
        .is_some_and(|selector| selector.matches(pod.labels()))
}

/// A pod wakes the budgets that select it, before or after the change.
fn on_pod(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Pod> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        let Some(pod) = new.or(old) else { return };
        let namespace = pod.namespace().unwrap_or_default();
        let mut chosen = Vec::new();
        for budget in context.budgets.by("namespace", &namespace) {
            let now = new.is_some_and(|new| selects(&budget, new));
            if now || old.is_some_and(|old| selects(&budget, old)) {
                queue.add(Key::of(&*budget));
            }
            if now {
                chosen.push(budget.name_any());
            }
        }
        let fresh = old.is_none_or(|old| old.labels() != pod.labels());
        if fresh && let [first, _, ..] = chosen.as_slice() {
            let message = format!(
                "Pod {namespace:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {first:?} arbitrarily.",
                pod.name_any()
            );
            let reason = "MultiplePodDisruptionBudgets";
            recorder(&context).record(&**pod, Severity::Warning, reason, message);
        }
    })
}

/// What a controller wants is part of what a budget expects.
fn on_scale(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<DynamicObject> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        let replicas = |object: &Arc<DynamicObject>| object.data.pointer("/spec/replicas").cloned();
        if old.map(replicas) == new.map(replicas) {
            return;
        }
        let Some(object) = new.or(old) else { return };
        let namespace = object.namespace().unwrap_or_default();
        for budget in context.budgets.by("namespace", &namespace) {
            queue.add(Key::of(&*budget));
        }
    })
}
