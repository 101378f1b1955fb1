//! Lets pods go that their Job has counted, and those that no Job will count.
//!
//! Reads `Pod` and `Job`; takes our finalizer from `Pod`. A pod without a Job (it was deleted with its pods
//! orphaned, or is gone) is never waited for by anyone, so nothing else of it is kept.

use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::member::{self, FINALIZER};
use crate::context::{Context, controller, resource};
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::manager::Manager;
use crate::queue::{Action, Queue};

/// Requests in flight for one Job.
const AT_ONCE: usize = 64;

/// Adds the worker that frees pods whose Job is gone.
pub(super) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("job-orphan-pods"));
    let (woken, jobs) = (queue.clone(), Arc::downgrade(&context.jobs));
    context.pods.listen(Box::new(move |_, new| {
        let (Some(pod), Some(jobs)) = (new, jobs.upgrade()) else {
            return;
        };
        if member::tracked(pod) {
            let key = job_of(pod).map(|(key, uid)| (jobs.get(&key), uid));
            let counted = match key {
                Some((job, uid)) => job.is_some_and(|job| job.uid() == Some(uid)),
                None => controller(&**pod).is_some(),
            };
            if !counted {
                woken.add(Key::of(&**pod));
            }
        }
    }));
    let (woken, pods) = (queue.clone(), Arc::downgrade(&context.pods));
    context.jobs.listen(Box::new(move |old, new| {
        let (Some(job), None, Some(pods)) = (old, new, pods.upgrade()) else {
            return;
        };
        for pod in pods.by("owner", &job.uid().unwrap_or_default()) {
            if member::tracked(&pod) {
                woken.add(Key::of(&*pod));
            }
        }
    }));
    manager.work(queue, free);
}

/// The Job that controls a pod: its key and its uid.
fn job_of(pod: &Pod) -> Option<(Key, String)> {
    let owner = controller(pod)?;
    let group = owner.api_version.split_once('/').map(|(group, _)| group);
    let namespace = pod.namespace().unwrap_or_default();
    (owner.kind == "Job" && group == Some("batch"))
        .then(|| (Key::new(&namespace, &owner.name), owner.uid.clone()))
}

async fn free(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(pod) = context.pods.get(&key).filter(|pod| member::tracked(pod)) else {
        return Ok(Action::AwaitChange);
    };
    let counted = match job_of(&pod) {
        Some((job, uid)) => {
            let client = context.client.clone();
            let kind = resource::<Job>();
            let jobs = Api::<DynamicObject>::namespaced_with(client, &job.namespace, &kind);
            let live = within_opt(jobs.get_metadata(&job.name)).await?;
            live.is_some_and(|live| live.metadata.uid == Some(uid))
        }
        None => controller(&*pod).is_some(),
    };
    if !counted {
        remove(&context, &pod, None).await?;
    }
    Ok(Action::AwaitChange)
}

/// Takes the finalizer from each pod.
///
/// # Errors
/// One of the failures; all are tried.
pub(super) async fn remove_all(context: &Context, pods: &[Arc<Pod>]) -> Result<(), Error> {
    let tracked = pods.iter().filter(|pod| member::tracked(pod));
    let requests: Vec<_> = tracked.map(|pod| remove(context, pod, None)).collect();
    all(requests).await
}

/// Takes the finalizer from each pod that is as it was last seen: one that has ended meanwhile is to be counted.
///
/// # Errors
/// One of the failures, [`Error::Conflict`] for a pod that is not; all are tried.
pub(super) async fn remove_unchanged(context: &Context, pods: &[Arc<Pod>]) -> Result<(), Error> {
    let tracked = pods.iter().filter(|pod| member::tracked(pod));
    let requests: Vec<_> = tracked
        .map(|pod| remove(context, pod, pod.resource_version()))
        .collect();
    all(requests).await
}

async fn all(requests: Vec<impl Future<Output = Result<(), Error>>>) -> Result<(), Error> {
    let answers: Vec<_> = stream::iter(requests)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    answers.into_iter().collect()
}

async fn remove(context: &Context, pod: &Arc<Pod>, version: Option<String>) -> Result<(), Error> {
    let key = Key::of(&**pod);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let mut metadata = json!({
        "uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER],
    });
    if let Some(version) = version {
        metadata["resourceVersion"] = version.into();
    }
    let patch = Patch::Strategic(json!({ "metadata": metadata }));
    let params = PatchParams::default();
    let answer = pods.patch(&key.name, &params, &patch);
    match within_opt(answer).await? {
        // That was all that held a pod that is over: the answer is what it was.
        Some(pod)
            if pod.metadata.deletion_grace_period_seconds == Some(0)
                && pod.finalizers().is_empty() =>
        {
            context.pods.remove(&pod);
        }
        Some(pod) => context.pods.apply(pod),
        None => context.pods.remove(pod),
    }
    Ok(())
}
