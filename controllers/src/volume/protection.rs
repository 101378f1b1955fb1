//! Finalizers that keep a claim while a pod uses it, and a volume while it is bound.
//!
//! Admission gives them to new objects; here they are given to those that have none, and taken once
//! nothing holds the object. Before a claim is let go the API itself is asked for its pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::{patch_claim, patch_volume, terms};
use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within};
use crate::key::Key;
use crate::manager::Manager;
use crate::pod;
use crate::queue::{Action, Queue};

const OF_CLAIM: &str = "kubernetes.io/pvc-protection";
const OF_VOLUME: &str = "kubernetes.io/pv-protection";
/// Pods that are read at a time when the API is asked who uses a claim.
const PAGE: u32 = 500;

/// Adds this controller.
pub(crate) fn start(manager: &mut Manager) {
    let context = &manager.context;
    let (claims, volumes) = (Queue::new("pvcprotection"), Queue::new("pvprotection"));
    context.claims.listen(on_claim(&claims));
    context.pods.listen(on_pod(&claims));
    context.volumes.listen(on_volume(&volumes));
    manager.work(claims, reconcile_claim);
    manager.work(volumes, reconcile_volume);
}

/// Works on one claim.
async fn reconcile_claim(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(claim) = context.claims.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let cached = context.pods.by("claim", &key.to_string());
    let used = cached.iter().any(|pod| uses(pod, &key));
    let Some(finalizers) = plan(&*claim, OF_CLAIM, used) else {
        return Ok(Action::AwaitChange);
    };
    if terms::deleting(&*claim) && used_by_any(&context, &key).await? {
        return Ok(Action::AwaitChange);
    }
    patch_claim(&context, &claim, "", finalizers).await?;
    Ok(Action::AwaitChange)
}

/// Works on one volume.
async fn reconcile_volume(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(volume) = context.volumes.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let bound = terms::phase_of_volume(&volume) == "Bound";
    if let Some(finalizers) = plan(&*volume, OF_VOLUME, bound) {
        patch_volume(&context, &volume, "", finalizers).await?;
    }
    Ok(Action::AwaitChange)
}

/// The finalizers that an object should have, if they are not those that it has. Pure.
fn plan(object: &impl Resource, finalizer: &str, used: bool) -> Option<Value> {
    let mut finalizers = object.finalizers().to_vec();
    let guarded = finalizers.iter().any(|own| own == finalizer);
    match (terms::deleting(object), guarded) {
        (false, false) => finalizers.push(finalizer.to_owned()),
        (true, true) if !used => finalizers.retain(|own| own != finalizer),
        _ => return None,
    }
    Some(json!({"metadata": {"finalizers": finalizers}}))
}

/// Whether a pod holds a claim: it names it and has a node. A pod that has ended still does, for its
/// volumes are there until it is deleted.
fn uses(pod: &Pod, claim: &Key) -> bool {
    pod::node(pod).is_some() && pod::claims(pod).contains(claim)
}

async fn used_by_any(context: &Context, claim: &Key) -> Result<bool, Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &claim.namespace);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = within(api.list(&params)).await?;
        if page.items.iter().any(|pod| uses(pod, claim)) {
            return Ok(true);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(false),
        }
    }
}

fn on_claim(queue: &Queue<Key>) -> Listener<PersistentVolumeClaim> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .for_each(|claim| queue.add(Key::of(&**claim)));
    })
}

fn on_volume(queue: &Queue<Key>) -> Listener<PersistentVolume> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .for_each(|volume| queue.add(Key::of(&**volume)));
    })
}

/// A pod that goes wakes the claims that it held.
fn on_pod(queue: &Queue<Key>) -> Listener<Pod> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        if let (Some(pod), None) = (old, new) {
            pod::claims(pod).into_iter().for_each(|key| queue.add(key));
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(finalizers: &[&str], deleting: bool, used: bool, expect: Expect) {
        let mut claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"finalizers": finalizers}})).unwrap();
        if deleting {
            let now = jiff::Timestamp::UNIX_EPOCH;
            claim.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        }
        let planned = plan(&claim, OF_CLAIM, used);
        let list = planned.map(|patch| patch["metadata"]["finalizers"].to_string());
        expect.assert_eq(list.as_deref().unwrap_or("as they are"));
    }

    #[test]
    fn a_claim_is_guarded_until_it_goes_and_nobody_uses_it() {
        let own = [OF_CLAIM, "example.com/mine"];
        check(
            &[],
            false,
            false,
            expect![[r#"["kubernetes.io/pvc-protection"]"#]],
        );
        check(&own, false, false, expect!["as they are"]);
        check(&own, true, true, expect!["as they are"]);
        check(&own, true, false, expect![[r#"["example.com/mine"]"#]]);
        check(&[], true, false, expect!["as they are"]);
    }
}
