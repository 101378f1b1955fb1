//! Makes the claims of pods' generic ephemeral volumes: `<pod>-<volume>`, owned by the pod.
//!
//! Reads pods, creates PersistentVolumeClaims. Never deletes one: the garbage collector does when the
//! pod is gone. A claim of that name that is not the pod's is left alone, and the pod waits.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within};
use crate::events::Severity;
use crate::key::Key;
use crate::manager::Manager;
use crate::pod;
use crate::queue::{Action, Queue};

const COMPONENT: &str = "ephemeral_volume";

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let (context, queue) = (&manager.context, Queue::new("ephemeral_volume"));
    context.pods.listen(on_pod(&queue));
    context.claims.listen(on_claim(context, &queue));
    manager.work(queue, reconcile);
}

/// Works on one pod.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(pod) = context.pods.get(&key).filter(|pod| pod::active(pod)) else {
        return Ok(Action::AwaitChange);
    };
    let missing: Vec<Value> = volumes(&pod)
        .filter(|volume| {
            let claim = Key::new(&key.namespace, &pod::ephemeral_claim(&pod, &volume.name));
            context.claims.get(&claim).is_none()
        })
        .filter_map(|volume| new_claim(&pod, volume))
        .collect();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    for claim in missing {
        let claim: PersistentVolumeClaim = serde_json::from_value(claim)?;
        match within(api.create(&PostParams::default(), &claim)).await {
            Ok(made) => context.claims.apply(made),
            // It is there: ours, made before, or somebody's, which the scheduler says.
            Err(Error::Conflict(_)) => {}
            Err(Error::Refused(why)) => {
                let message = format!("create PVC {}: {why}", claim.name_any());
                let recorder = context.recorder.named(COMPONENT);
                recorder.record(&*pod, Severity::Warning, "FailedCreate", message.clone());
                return Err(Error::Refused(message));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Action::AwaitChange)
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| volume.ephemeral.is_some())
}

/// The claim of an ephemeral volume.
fn new_claim(pod: &Pod, volume: &Volume) -> Option<Value> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let metadata = template.metadata.clone().unwrap_or_default();
    Some(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": pod::ephemeral_claim(pod, &volume.name),
            "namespace": pod.namespace(),
            "labels": metadata.labels,
            "annotations": metadata.annotations,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid(),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": template.spec,
    }))
}

/// A pod with ephemeral volumes wakes itself.
fn on_pod(queue: &Queue<Key>) -> Listener<Pod> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        if let (None, Some(pod)) = (old, new)
            && volumes(pod).next().is_some()
        {
            queue.add(Key::of(&**pod));
        }
    })
}

/// A claim that goes wakes the pods that it was made for.
fn on_claim(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<PersistentVolumeClaim> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let (Some(claim), None, Some(context)) = (old, new, context.upgrade()) else {
            return;
        };
        for pod in context.pods.by("claim", &Key::of(&**claim).to_string()) {
            if volumes(&pod).next().is_some() {
                queue.add(Key::of(&*pod));
            }
        }
    })
}
