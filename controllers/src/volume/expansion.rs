//! Says who makes the volume of a claim larger.
//!
//! Nothing is made larger here: `wk-local` volumes are by the nodelet that has them, all others by
//! their provisioner's resizer, which a claim that waits says in an Event. Reads claims and volumes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::{PROVISIONED_BY, WK_LOCAL, terms};
use crate::cache::Listener;
use crate::context::Context;
use crate::error::Error;
use crate::events::Severity;
use crate::key::Key;
use crate::manager::Manager;
use crate::queue::{Action, Queue};

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let queue = Queue::new("volume_expand");
    manager.context.claims.listen(on_claim(&queue));
    manager.work(queue, reconcile);
}

/// Works on one claim.
async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(claim) = context.claims.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let volume = context
        .volumes
        .get(&Key::new("", terms::volume_name(&claim)));
    let Some(volume) = volume.filter(|_| terms::requested(&claim) > terms::given(&claim)) else {
        return Ok(Action::AwaitChange);
    };
    if volume.annotations().get(PROVISIONED_BY).map(String::as_str) != Some(WK_LOCAL) {
        let message = "waiting for an external controller to expand this PVC".to_owned();
        let recorder = context.recorder.named("volume_expand");
        recorder.record(&*claim, Severity::Normal, "ExternalExpanding", message);
    }
    Ok(Action::AwaitChange)
}

/// A claim that asks for more than before wakes itself.
fn on_claim(queue: &Queue<Key>) -> Listener<PersistentVolumeClaim> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        let (Some(old), Some(new)) = (old, new) else {
            return;
        };
        let bound = terms::phase_of_claim(new) == "Bound";
        if bound && terms::requested(new) > terms::requested(old) {
            queue.add(Key::of(&**new));
        }
    })
}
