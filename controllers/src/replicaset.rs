//! Keeps the number of pods a ReplicaSet or a ReplicationController owns equal to `spec.replicas`.
//!
//! Reads the sets of one of the two kinds and `Pod`; creates, deletes, adopts and releases `Pod`; writes the
//! set's status and Events. Never deletes a pod whose controller is not this set, and never creates or deletes
//! while pods it asked for have not been seen.

mod order;
mod plan;
mod set;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject};

use crate::cache::Cache;
use crate::context::{Context, controller, resource};
use crate::error::Error;
use crate::key::Key;
use crate::manager::{Manager, changed};
use crate::pod_control::PodControl;
use crate::queue::{Action, Queue};

use plan::plan;
use set::Set;

/// What tells ReplicaSets and ReplicationControllers apart.
#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    /// Signs the Events.
    component: &'static str,
    /// Whether its status tells of pods that are going.
    counts_terminating: bool,
    sets: fn(&Context) -> &Arc<Cache<DynamicObject>>,
}

/// Adds the controllers of both kinds.
pub(crate) fn start(manager: &mut Manager) {
    let sets = Kind {
        resource: resource::<ReplicaSet>(),
        component: "replicaset-controller",
        counts_terminating: true,
        sets: |context| &context.replicasets,
    };
    let control = PodControl::new::<ReplicaSet>(sets.component);
    start_kind(manager, sets, control, Queue::new("replicaset"));
    let controllers = Kind {
        resource: resource::<ReplicationController>(),
        component: "replication-controller",
        counts_terminating: false,
        sets: |context| &context.replication_controllers,
    };
    let control = PodControl::new::<ReplicationController>(controllers.component);
    let queue = Queue::new("replicationmanager");
    start_kind(manager, controllers, control, queue);
}

fn start_kind(manager: &mut Manager, kind: Kind, control: Arc<PodControl>, queue: Queue<Key>) {
    let context = &manager.context;
    let sets = (kind.sets)(context);
    context.pods.listen(control.on_pod(sets, &queue));
    sets.listen(changed(&queue));
    manager.work(queue, move |context, key| {
        reconcile(context, kind.clone(), control.clone(), key)
    });
}

/// Works on one set.
async fn reconcile(
    context: Arc<Context>,
    kind: Kind,
    control: Arc<PodControl>,
    key: Key,
) -> Result<Action, Error> {
    let Some(raw) = (kind.sets)(&context).get(&key) else {
        control.forget(&key);
        return Ok(Action::AwaitChange);
    };
    let Some(set) = Set::read(&raw)? else {
        tracing::warn!(kind = kind.resource.kind, object = %key, "spec.selector does not fit spec.template");
        return Ok(Action::AwaitChange);
    };
    let unsettled = control.until_settled(&key);
    let mut pods = context.pods.by("owner", &raw.uid().unwrap_or_default());
    pods.extend(context.pods.by("orphans", &key.namespace));
    let related = || siblings(&context, &raw);
    let mut plan = plan(&set, &pods, &related, unsettled.is_some(), Timestamp::now());
    if !kind.counts_terminating {
        plan.counts.terminating = 0;
    }
    control.adopt(&context, &raw, &plan.adopt).await?;
    control.release(&context, &raw, &plan.release).await?;
    let (made, reason) = if plan.create > 0 {
        let pods = vec![control.pod(&raw); plan.create];
        (control.create(&context, &raw, pods).await, "FailedCreate")
    } else {
        let deleted = control.delete(&context, &raw, plan.delete).await;
        (deleted, "FailedDelete")
    };
    let outcome = match &made {
        Ok(()) if unsettled.is_some() => status::Outcome::Unknown,
        Ok(()) | Err(Error::Ending(_)) => status::Outcome::Done,
        Err(error) => status::Outcome::Failed(reason, error.to_string()),
    };
    status::write(&context, &kind, &raw, &set, plan.counts, outcome).await?;
    made?;
    let again = unsettled.into_iter().chain(plan.look_again).min();
    Ok(again.map_or(Action::AwaitChange, Action::After))
}

/// The pods of the sets that have the same controller as this one: of all ReplicaSets of a Deployment.
fn siblings(context: &Context, set: &DynamicObject) -> Vec<Arc<Pod>> {
    let Some(controller) = controller(set) else {
        return context.pods.by("owner", &set.uid().unwrap_or_default());
    };
    let sets = context.replicasets.by("owner", &controller.uid).into_iter();
    sets.flat_map(|set| context.pods.by("owner", &set.uid().unwrap_or_default()))
        .collect()
}
