//! Takes back that a pod is to go (`DisruptionTarget`) when it has not begun to after two minutes.
//!
//! Reads `Pod`; writes that condition. Never touches a pod that ends.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::manager::Manager;
use crate::pod;
use crate::queue::{Action, Queue};

const TARGET: &str = "DisruptionTarget";
/// How long a pod may be said to go without going.
const STALE_SECONDS: i64 = 120;

/// Adds this part of the controller.
pub(super) fn start(manager: &mut Manager) {
    let queue = Queue::new("stale_pod_disruption");
    manager.context.pods.listen(on_pod(&queue));
    manager.work_at_once(1, queue, reconcile);
}

fn on_pod(queue: &Queue<Key>) -> Listener<Pod> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        let stays = new.filter(|pod| since(pod).is_some());
        stays.into_iter().for_each(|pod| queue.add(Key::of(&**pod)));
    })
}

/// Since when a pod that has not begun to end is said to go.
fn since(pod: &Pod) -> Option<Timestamp> {
    let condition = pod::condition(pod, TARGET).filter(|condition| condition.status == "True")?;
    let since = condition.last_transition_time.as_ref();
    pod::active(pod).then(|| since.map_or(Timestamp::MIN, |since| since.0))
}

async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(pod) = context.pods.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let Some(since) = since(&pod) else {
        return Ok(Action::AwaitChange);
    };
    let now = Timestamp::now();
    let left = STALE_SECONDS - now.duration_since(since).as_secs();
    if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
        return Ok(Action::After(Duration::from_secs(left)));
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let condition = json!({
        "type": TARGET, "status": "False", "reason": null, "message": null,
        "lastTransitionTime": Time(now),
    });
    let patch = Patch::Strategic(json!({
        "metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]},
    }));
    let written = within_opt(api.patch_status(&key.name, &PatchParams::default(), &patch)).await?;
    written.into_iter().for_each(|pod| context.pods.apply(pod));
    Ok(Action::AwaitChange)
}
