//! The claims' side of binding: finds a volume for a claim, or asks for one to be made.
//!
//! Reads PersistentVolumeClaims, PersistentVolumes, StorageClasses and pods. Writes a claim's class,
//! volume, annotations and status, and the claim that a volume names. A claim is bound in four
//! writes, each decided from what is there, so that it goes on where it was interrupted: the
//! volume names the claim, is `Bound`, the claim names the volume, is `Bound`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, COMPONENT, OLD_PROVISIONER, PROVISIONER, patch_claim,
    patch_volume,
    plan::{Note, Step, View, plan},
    terms,
};
use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::key::Key;
use crate::pod;
use crate::queue::{Action, Queue};

/// Works on one claim.
pub(crate) async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(claim) = context.claims.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let view = view(&context, claim);
    let mut step = plan(&view);
    if matches!(step, Step::Lose(_)) {
        // Nothing is called lost on word of a cache.
        step = plan(&refreshed(&context, view).await?);
    }
    let Some(claim) = context.claims.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    match step {
        Step::Keep => {}
        Step::TakeClass(class) => {
            let patch = json!({"spec": {"storageClassName": class}});
            patch_claim(&context, &claim, "", patch).await?;
        }
        Step::Provision(provisioner) => ask(&context, claim, &provisioner).await?,
        Step::Bind(volume) => bind(&context, claim, volume).await?,
        Step::Wait(note) => {
            note.into_iter()
                .for_each(|note| say(&context, &claim, note));
            unbound(&context, &claim, "Pending").await?;
        }
        Step::Lose(note) => {
            if unbound(&context, &claim, "Lost").await? {
                say(&context, &claim, note);
            }
        }
    }
    Ok(Action::AwaitChange)
}

fn view(context: &Context, claim: Arc<PersistentVolumeClaim>) -> View {
    let key = Key::of(&*claim).to_string();
    let class = terms::class_of_claim(&claim);
    let mut volumes = context.volumes.by("free", class);
    volumes.extend(context.volumes.by("claim", &key));
    let waiting = context.pods.by("claim", &key).into_iter();
    let waiting = waiting.filter(|pod| pod::node(pod).is_none() && pod::active(pod));
    View {
        named: context
            .volumes
            .get(&Key::new("", terms::volume_name(&claim))),
        class: context.classes.get(&Key::new("", class)),
        default_class: default_class(context.classes.all()),
        waiting: waiting.map(|pod| pod.name_any()).collect(),
        volumes,
        claim,
    }
}

/// The same with the claim and its volume as the API has them now.
async fn refreshed(context: &Context, view: View) -> Result<View, Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(
        context.client.clone(),
        &view.claim.namespace().unwrap_or_default(),
    );
    let Some(claim) = within_opt(claims.get(&view.claim.name_any())).await? else {
        return Ok(view);
    };
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let named = match terms::volume_name(&claim) {
        "" => None,
        name => within_opt(volumes.get(name)).await?,
    };
    context.claims.apply(claim.clone());
    if let Some(named) = &named {
        context.volumes.apply(named.clone());
    }
    Ok(View {
        claim: Arc::new(claim),
        named: named.map(Arc::new),
        ..view
    })
}

/// The newest of the classes that are marked as the default, then the first by name.
fn default_class(classes: Vec<Arc<StorageClass>>) -> Option<Arc<StorageClass>> {
    let marked = classes.into_iter().filter(|class| terms::is_default(class));
    let made = |class: &StorageClass| class.meta().creation_timestamp.clone().map(|time| time.0);
    marked.reduce(|best, other| {
        if made(&other) > made(&best) {
            other
        } else {
            best
        }
    })
}

/// Says who shall make the volume, and waits for it.
async fn ask(
    context: &Context,
    claim: Arc<PersistentVolumeClaim>,
    provisioner: &str,
) -> Result<(), Error> {
    let asked = |name: &str| {
        claim
            .annotations()
            .get(name)
            .is_some_and(|to| to == provisioner)
    };
    let claim = if asked(PROVISIONER) && asked(OLD_PROVISIONER) {
        claim
    } else {
        let annotations = json!({PROVISIONER: provisioner, OLD_PROVISIONER: provisioner});
        let patch = json!({"metadata": {"annotations": annotations}});
        patch_claim(context, &claim, "", patch).await?
    };
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    say(
        context,
        &claim,
        Note::normal("ExternalProvisioning", message),
    );
    unbound(context, &claim, "Pending").await?;
    Ok(())
}

async fn bind(
    context: &Context,
    claim: Arc<PersistentVolumeClaim>,
    volume: Arc<PersistentVolume>,
) -> Result<(), Error> {
    let volume = match claim_ref(&volume, &claim) {
        Some(patch) => patch_volume(context, &volume, "", patch).await?,
        None => volume,
    };
    let volume = if terms::phase_of_volume(&volume) == "Bound" {
        volume
    } else {
        patch_volume(context, &volume, "status", phase("Bound", None)).await?
    };
    let claim = match named(&claim, &volume) {
        Some(patch) => patch_claim(context, &claim, "", patch).await?,
        None => claim,
    };
    if let Some(patch) = status(&claim, &volume) {
        patch_claim(context, &claim, "status", patch).await?;
        let (claim, volume) = (Key::of(&*claim), volume.name_any());
        tracing::info!(%claim, volume, "claim bound");
    }
    Ok(())
}

/// What makes a volume name a claim, if it does not.
fn claim_ref(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Value> {
    let uid = claim.meta().uid.as_deref();
    if terms::is_for(volume, claim) && terms::claim_uid(volume) == uid {
        return None;
    }
    let mut patch = json!({"spec": {"claimRef": {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
        "name": claim.name_any(), "uid": uid, "resourceVersion": claim.resource_version(),
    }}});
    if terms::claim_ref(volume).is_none() {
        patch["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
    }
    Some(patch)
}

/// What makes a claim name its volume for good, if it does not.
fn named(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Value> {
    let names = terms::volume_name(claim) == volume.name_any();
    if names && terms::was_bound(claim) {
        return None;
    }
    let mut patch = json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}});
    if !names {
        patch["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
        patch["spec"]["volumeName"] = volume.name_any().into();
    }
    Some(patch)
}

/// What makes a claim's status say what it got, if it does not. How much it got is said once: from
/// then on it is whoever makes the volume larger that says so.
fn status(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Value> {
    let modes = terms::modes_of_volume(volume);
    let said = claim
        .status
        .as_ref()
        .and_then(|status| status.access_modes.as_deref());
    let bound = terms::phase_of_claim(claim) == "Bound";
    if bound && said.unwrap_or_default() == modes {
        return None;
    }
    let mut patch = json!({"status": {"phase": "Bound", "accessModes": modes}});
    if !bound {
        let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.clone());
        patch["status"]["capacity"] = json!(capacity);
    }
    Some(patch)
}

/// What makes a volume be in a phase.
pub(super) fn phase(phase: &str, message: Option<&str>) -> Value {
    json!({"status": {
        "phase": phase, "message": message, "reason": null,
        "lastPhaseTransitionTime": Timestamp::now(),
    }})
}

/// Makes the status of a claim say that it has no volume; true if it did not.
async fn unbound(
    context: &Context,
    claim: &PersistentVolumeClaim,
    phase: &str,
) -> Result<bool, Error> {
    if terms::phase_of_claim(claim) == phase {
        return Ok(false);
    }
    let patch = json!({"status": {"phase": phase, "accessModes": null, "capacity": null}});
    patch_claim(context, claim, "status", patch).await?;
    Ok(true)
}

fn say(context: &Context, claim: &PersistentVolumeClaim, note: Note) {
    let recorder = context.recorder.named(COMPONENT);
    recorder.record(claim, note.severity, note.reason, note.message);
}

/// The volume that a claim names, for an index.
pub(crate) fn by_volume(claim: &PersistentVolumeClaim) -> Vec<String> {
    let name = Some(terms::volume_name(claim)).filter(|name| !name.is_empty());
    name.map(str::to_owned).into_iter().collect()
}

/// The class of a claim that has no volume yet, for an index.
pub(crate) fn unbound_of_class(claim: &PersistentVolumeClaim) -> Vec<String> {
    match terms::volume_name(claim) {
        "" => vec![terms::class_of_claim(claim).to_owned()],
        _ => Vec::new(),
    }
}

/// A claim wakes itself.
pub(crate) fn on_claim(queue: &Queue<Key>) -> Listener<PersistentVolumeClaim> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .for_each(|claim| queue.add(Key::of(&**claim)));
    })
}

/// A volume wakes the claims that name it and the one that it names; one that is free wakes those
/// that could take it.
pub(crate) fn on_volume(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<PersistentVolume> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let Some(context) = context.upgrade() else {
            return;
        };
        for volume in old.into_iter().chain(new) {
            terms::claim_key(volume)
                .into_iter()
                .for_each(|key| queue.add(key));
            for claim in context.claims.by("volume", &volume.name_any()) {
                queue.add(Key::of(&*claim));
            }
        }
        let free = |volume: &&Arc<PersistentVolume>| {
            terms::claim_ref(volume).is_none() && terms::phase_of_volume(volume) == "Available"
        };
        for volume in new.into_iter().filter(free) {
            for claim in context.claims.by("unbound", terms::class_of_volume(volume)) {
                queue.add(Key::of(&*claim));
            }
        }
    })
}

/// A class wakes the claims that wait for it, and, if it is the default, those that name none.
pub(crate) fn on_class(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<StorageClass> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |_, new| {
        let (Some(context), Some(class)) = (context.upgrade(), new) else {
            return;
        };
        let mut waiting = context.claims.by("unbound", &class.name_any());
        if terms::is_default(class) {
            waiting.extend(context.claims.by("unbound", ""));
        }
        for claim in waiting {
            queue.add(Key::of(&*claim));
        }
    })
}

/// A pod without a node wakes the claims that wait for it.
pub(crate) fn on_pod(context: &Arc<Context>, queue: &Queue<Key>) -> Listener<Pod> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let (None, Some(pod), Some(context)) = (old, new, context.upgrade()) else {
            return;
        };
        for key in pod::claims(pod) {
            let waits = |claim: &Arc<PersistentVolumeClaim>| terms::volume_name(claim).is_empty();
            if context.claims.get(&key).is_some_and(|claim| waits(&claim)) {
                queue.add(key);
            }
        }
    })
}
