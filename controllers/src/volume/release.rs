//! The volumes' side of binding: phases, and what becomes of a volume that its claim left.
//!
//! Reads PersistentVolumes and PersistentVolumeClaims; writes a volume's status, and takes the claim
//! out of one that was bound in vain. `Delete` is left to who made the volume, `Retain` to the
//! user; a volume that nobody here can delete or recycle is `Failed` and says why.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::{BOUND_BY_CONTROLLER, COMPONENT, PROVISIONED_BY, binding::phase, patch_volume, terms};
use crate::cache::Listener;
use crate::context::Context;
use crate::error::{Error, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::queue::{Action, Queue};

/// What to do about a volume.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It is in this phase.
    Phase(&'static str),
    /// Its claim has yet to take it, or cannot.
    Await,
    /// Its claim took another volume: it is free again.
    Free,
    /// Its claim is gone.
    Reclaim,
}

/// What becomes of a volume whose claim is gone.
#[derive(Debug, PartialEq)]
pub(super) enum Fate {
    /// It is the user's, or its provisioner's to delete.
    Left,
    /// Nobody can do what its policy asks for.
    Failed {
        reason: &'static str,
        message: String,
    },
}

/// Works on one volume.
pub(crate) async fn reconcile(
    context: Arc<Context>,
    claims: Queue<Key>,
    key: Key,
) -> Result<Action, Error> {
    let Some(volume) = context.volumes.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let claim = terms::claim_key(&volume).and_then(|key| context.claims.get(&key));
    let mut step = plan(&volume, claim.as_deref());
    if matches!(step, Step::Reclaim | Step::Free) && !left(&volume) {
        // No claim is called gone on word of a cache.
        step = plan(&volume, find_claim(&context, &volume).await?.as_ref());
    }
    match step {
        Step::Phase(to) => {
            enter(&context, volume, to, None).await?;
        }
        Step::Await => {
            if let Some(claim) = claim {
                warn_of_modes(&context, &volume, &claim);
                claims.add(Key::of(&*claim));
            }
        }
        Step::Free => free(&context, volume).await?,
        Step::Reclaim => reclaim(&context, volume).await?,
    }
    Ok(Action::AwaitChange)
}

async fn find_claim(
    context: &Context,
    volume: &PersistentVolume,
) -> Result<Option<PersistentVolumeClaim>, Error> {
    let Some(key) = terms::claim_key(volume) else {
        return Ok(None);
    };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let claim = within_opt(api.get(&key.name)).await?;
    if let Some(claim) = &claim {
        context.claims.apply(claim.clone());
    }
    Ok(claim)
}

/// Decides what to do about a volume. Pure.
pub(super) fn plan(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Step {
    let Some(uid) = terms::claim_uid(volume) else {
        // It names nobody, or somebody who has yet to take it.
        return Step::Phase("Available");
    };
    let Some(claim) = claim.filter(|claim| claim.meta().uid.as_deref() == Some(uid)) else {
        return Step::Reclaim;
    };
    match terms::volume_name(claim) {
        "" => Step::Await,
        name if name == volume.name_any() => Step::Phase("Bound"),
        _ => {
            let made = volume.annotations().contains_key(PROVISIONED_BY);
            if made && policy(volume) == "Delete" {
                Step::Reclaim
            } else {
                Step::Free
            }
        }
    }
}

/// Decides what becomes of a volume whose claim is gone. Pure.
pub(super) fn fate(volume: &PersistentVolume) -> Fate {
    let maker = volume.annotations().get(PROVISIONED_BY);
    let made = maker.is_some_and(|maker| !maker.starts_with("kubernetes.io/"));
    match policy(volume) {
        "Retain" => Fate::Left,
        "Delete" if made => Fate::Left,
        "Delete" => Fate::Failed {
            reason: "VolumeFailedDelete",
            message: format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                volume.name_any()
            ),
        },
        "Recycle" => Fate::Failed {
            reason: "VolumeFailedRecycle",
            message: "No recycler plugin found for the volume!".to_owned(),
        },
        _ => Fate::Failed {
            reason: "VolumeUnknownReclaimPolicy",
            message: "Volume has unrecognized reclaim policy".to_owned(),
        },
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// Whether it is known already that the claim is gone.
fn left(volume: &PersistentVolume) -> bool {
    matches!(terms::phase_of_volume(volume), "Released" | "Failed")
}

async fn enter(
    context: &Context,
    volume: Arc<PersistentVolume>,
    to: &'static str,
    message: Option<&str>,
) -> Result<Arc<PersistentVolume>, Error> {
    if terms::phase_of_volume(&volume) == to {
        return Ok(volume);
    }
    patch_volume(context, &volume, "status", phase(to, message)).await
}

/// Takes the claim out of a volume; one that a user put there stays, without its uid.
async fn free(context: &Context, volume: Arc<PersistentVolume>) -> Result<(), Error> {
    let patch = if volume.annotations().contains_key(BOUND_BY_CONTROLLER) {
        json!({
            "metadata": {"annotations": {BOUND_BY_CONTROLLER: null}},
            "spec": {"claimRef": null},
        })
    } else {
        json!({"spec": {"claimRef": {"uid": null}}})
    };
    let volume = patch_volume(context, &volume, "", patch).await?;
    enter(context, volume, "Available", None).await?;
    Ok(())
}

async fn reclaim(context: &Context, volume: Arc<PersistentVolume>) -> Result<(), Error> {
    let volume = if left(&volume) {
        volume
    } else {
        enter(context, volume, "Released", None).await?
    };
    let Fate::Failed { reason, message } = fate(&volume) else {
        return Ok(());
    };
    if terms::phase_of_volume(&volume) == "Failed" {
        return Ok(());
    }
    let volume = enter(context, volume, "Failed", Some(&message)).await?;
    let recorder = context.recorder.named(COMPONENT);
    recorder.record(&*volume, Severity::Warning, reason, message);
    Ok(())
}

fn warn_of_modes(context: &Context, volume: &PersistentVolume, claim: &PersistentVolumeClaim) {
    if !terms::modes_differ(claim, volume) {
        return;
    }
    let recorder = context.recorder.named(COMPONENT);
    let (severity, reason) = (Severity::Warning, "VolumeMismatch");
    let name = claim.name_any();
    recorder.record(
        volume,
        severity,
        reason,
        format!(
            "Cannot bind PersistentVolume to requested PersistentVolumeClaim {name:?} due to incompatible volumeMode."
        ),
    );
    let volume = volume.name_any();
    recorder.record(
        claim,
        severity,
        reason,
        format!(
            "Cannot bind PersistentVolume {volume:?} to requested PersistentVolumeClaim {name:?} due to incompatible volumeMode."
        ),
    );
}

/// The class of a volume that names no claim, for an index.
pub(crate) fn free_of_class(volume: &PersistentVolume) -> Vec<String> {
    match terms::claim_ref(volume) {
        None => vec![terms::class_of_volume(volume).to_owned()],
        Some(_) => Vec::new(),
    }
}

/// The claim that a volume names, for an index.
pub(crate) fn by_claim(volume: &PersistentVolume) -> Vec<String> {
    let key = terms::claim_key(volume);
    key.map(|key| key.to_string()).into_iter().collect()
}

/// A volume wakes itself.
pub(crate) fn on_volume(queue: &Queue<Key>) -> Listener<PersistentVolume> {
    let queue = queue.clone();
    Box::new(move |_, new| {
        new.into_iter()
            .for_each(|volume| queue.add(Key::of(&**volume)));
    })
}

/// A claim wakes the volumes that name it and the one that it names.
pub(crate) fn on_claim(
    context: &Arc<Context>,
    queue: &Queue<Key>,
) -> Listener<PersistentVolumeClaim> {
    let (context, queue) = (Arc::downgrade(context), queue.clone());
    Box::new(move |old, new| {
        let (Some(context), Some(claim)) = (context.upgrade(), new.or(old)) else {
            return;
        };
        for volume in context.volumes.by("claim", &Key::of(&**claim).to_string()) {
            queue.add(Key::of(&*volume));
        }
        match terms::volume_name(claim) {
            "" => {}
            name => queue.add(Key::new("", name)),
        }
    })
}
