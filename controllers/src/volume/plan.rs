//! What to do about a claim. Pure.
//!
//! The order of questions is Kubernetes': bound before, named by its user, a volume that is there, a class that came to
//! be the default, a pod to wait for, a volume to be made.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Resource, ResourceExt};

use super::{SELECTED_NODE, matching, terms};
use crate::events::Severity;

/// What a claim is decided on.
pub(super) struct View {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    /// The volume that it names.
    pub(super) named: Option<Arc<PersistentVolume>>,
    /// Volumes that are free, and those that name the claim.
    pub(super) volumes: Vec<Arc<PersistentVolume>>,
    pub(super) class: Option<Arc<StorageClass>>,
    pub(super) default_class: Option<Arc<StorageClass>>,
    /// Pods that use it and have no node yet.
    pub(super) waiting: Vec<String>,
}

/// What to do about a claim.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It stays without a volume; why is said, if it is not plain.
    Wait(Option<Note>),
    /// It gets the class that came to be the default.
    TakeClass(String),
    /// Its volume is made by this provisioner.
    Provision(String),
    /// It gets this volume, or has it and something is left to write.
    Bind(Arc<PersistentVolume>),
    /// It had a volume and has none any more.
    Lose(Note),
    /// Nothing.
    Keep,
}

/// An Event about a claim.
#[derive(Debug, PartialEq)]
pub(super) struct Note {
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Note {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        let severity = Severity::Normal;
        let message = message.into();
        Self {
            severity,
            reason,
            message,
        }
    }

    fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        let severity = Severity::Warning;
        let message = message.into();
        Self {
            severity,
            reason,
            message,
        }
    }
}

/// Decides what to do about a claim. Pure.
pub(super) fn plan(view: &View) -> Step {
    let claim = &view.claim;
    match (terms::was_bound(claim), terms::volume_name(claim)) {
        (true, _) => plan_bound(view),
        (false, _) if terms::deleting(&**claim) => Step::Keep,
        (false, "") => plan_free(view),
        (false, _) => plan_named(view),
    }
}

/// Of a claim that was bound before.
fn plan_bound(view: &View) -> Step {
    let lost = |message| Step::Lose(Note::warning("ClaimLost", message));
    if terms::volume_name(&view.claim).is_empty() {
        return lost(
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        );
    }
    let Some(volume) = &view.named else {
        return lost("Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    match terms::claim_uid(volume) {
        Some(uid) if Some(uid) != view.claim.meta().uid.as_deref() => Step::Lose(Note::warning(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        )),
        _ => Step::Bind(volume.clone()),
    }
}

/// Of a claim that names no volume.
fn plan_free(view: &View) -> Step {
    let claim = &view.claim;
    let delayed = terms::waits(view.class.as_deref());
    if let Some(volume) = matching::best(claim, &view.volumes, delayed) {
        return Step::Bind(volume);
    }
    if let (false, Some(class)) = (terms::names_class(claim), &view.default_class) {
        return Step::TakeClass(class.name_any());
    }
    if delayed && !claim.annotations().contains_key(SELECTED_NODE) {
        return Step::Wait(Some(wait_for_pod(&view.waiting)));
    }
    let class = match (terms::class_of_claim(claim), &view.class) {
        ("", _) => {
            return Step::Wait(Some(Note::normal(
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set",
            )));
        }
        (name, None) => {
            let message = format!("storageclass.storage.k8s.io {name:?} not found");
            return Step::Wait(Some(Note::warning("ProvisioningFailed", message)));
        }
        (_, Some(class)) => class,
    };
    let refused = terms::beyond_local(claim, class).map(|why| {
        let class = class.name_any();
        format!("failed to provision volume with StorageClass {class:?}: {why}")
    });
    let builtin = class.provisioner.starts_with("kubernetes.io/");
    let refused = refused.or_else(|| {
        builtin.then(|| format!("no volume plugin matched name: {}", class.provisioner))
    });
    match refused {
        Some(message) => Step::Wait(Some(Note::warning("ProvisioningFailed", message))),
        None => Step::Provision(class.provisioner.clone()),
    }
}

fn wait_for_pod(waiting: &[String]) -> Note {
    match waiting {
        [] => Note::normal(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ),
        [pod] => Note::normal(
            "WaitForPodScheduled",
            format!("waiting for pod {pod} to be scheduled"),
        ),
        pods => Note::normal(
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", pods.join(",")),
        ),
    }
}

/// Of a claim whose user named its volume.
fn plan_named(view: &View) -> Step {
    let claim = &view.claim;
    let Some(volume) = &view.named else {
        return Step::Wait(None);
    };
    if terms::claim_ref(volume).is_none() {
        return match terms::objection(claim, volume) {
            None => Step::Bind(volume.clone()),
            Some(why) => {
                let name = volume.name_any();
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                Step::Wait(Some(Note::warning("VolumeMismatch", message)))
            }
        };
    }
    if terms::is_for(volume, claim) {
        return Step::Bind(volume.clone());
    }
    let message = format!(
        "volume {:?} already bound to a different claim.",
        volume.name_any()
    );
    Step::Wait(Some(Note::warning("FailedBinding", message)))
}
