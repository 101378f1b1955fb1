//! Volumes: what binds PersistentVolumeClaims to PersistentVolumes, lets both go, and guards them.
//!
//! - [`terms`]: what a claim asks for and what a volume offers. Pure.
//! - [`matching`]: which volume suits a claim best. Pure.
//! - [`plan`]: what to do about a claim. Pure.
//! - [`binding`]: the claims' side of binding. Asks for a volume to be made where none is there.
//! - [`release`]: the volumes' side: phases, and what becomes of one that its claim left.
//! - [`protection`]: finalizers, while a claim or a volume is used.
//! - [`expansion`]: says who makes a volume larger.
//! - [`ephemeral`]: claims that live and die with their pod.
//!
//! Follows Kubernetes' controllers of the same names, with their phases, annotations and messages.
//! Every write names the version that it was decided on, so a volume is never bound to two claims,
//! whatever was stale. Never makes, mounts or removes storage itself: `wk-local` is the nodelets',
//! everything else its provisioner's.

pub(crate) mod binding;
mod ephemeral;
mod expansion;
mod matching;
mod plan;
mod protection;
pub(crate) mod release;
pub(crate) mod terms;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{Error, within};
use crate::manager::Manager;
use crate::queue::Queue;

/// On both: the controller chose the partner, not the user.
pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: it was bound once, for good.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a volume: who made it.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: who shall make its volume.
pub(crate) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// As the annotation was called before; some provisioners still read it.
pub(crate) const OLD_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim: the node that its first pod goes to.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of `wk-local`, a part of each nodelet.
pub(crate) const WK_LOCAL: &str = "wk.dev/local";
/// Whose Events these are.
pub(crate) const COMPONENT: &str = "persistentvolume-controller";

/// Adds these controllers.
pub(crate) fn start(manager: &mut Manager) {
    let context = manager.context.clone();
    let claims = Queue::new("claims");
    context.pods.listen(binding::on_pod(&context, &claims));
    context.claims.listen(binding::on_claim(&claims));
    let on_volume = binding::on_volume(&context, &claims);
    context.volumes.listen(on_volume);
    context.classes.listen(binding::on_class(&context, &claims));
    manager.work(claims.clone(), binding::reconcile);

    let volumes = Queue::new("volumes");
    context.volumes.listen(release::on_volume(&volumes));
    context.claims.listen(release::on_claim(&context, &volumes));
    manager.work(volumes, move |context, key| {
        release::reconcile(context, claims.clone(), key)
    });
    protection::start(manager);
    expansion::start(manager);
    ephemeral::start(manager);
}

/// Patches a volume as it was last seen; `subresource` is empty or `status`.
async fn patch_volume(
    context: &Context,
    volume: &PersistentVolume,
    subresource: &str,
    patch: Value,
) -> Result<Arc<PersistentVolume>, Error> {
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    let patch = Patch::Merge(with_version(volume, patch));
    let (name, params) = (volume.name_any(), PatchParams::default());
    let patched = if subresource.is_empty() {
        within(api.patch(&name, &params, &patch)).await?
    } else {
        within(api.patch_subresource(subresource, &name, &params, &patch)).await?
    };
    context.volumes.apply(patched.clone());
    Ok(Arc::new(patched))
}

/// The same for a claim.
async fn patch_claim(
    context: &Context,
    claim: &PersistentVolumeClaim,
    subresource: &str,
    patch: Value,
) -> Result<Arc<PersistentVolumeClaim>, Error> {
    let namespace = claim.namespace().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let patch = Patch::Merge(with_version(claim, patch));
    let (name, params) = (claim.name_any(), PatchParams::default());
    let patched = if subresource.is_empty() {
        within(api.patch(&name, &params, &patch)).await?
    } else {
        within(api.patch_subresource(subresource, &name, &params, &patch)).await?
    };
    context.claims.apply(patched.clone());
    Ok(Arc::new(patched))
}

fn with_version(object: &impl ResourceExt, mut patch: Value) -> Value {
    patch["metadata"]["uid"] = json!(object.uid());
    patch["metadata"]["resourceVersion"] = json!(object.resource_version());
    patch
}
