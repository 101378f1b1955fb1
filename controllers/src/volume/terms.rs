//! What a claim asks for and what a volume offers, and whether the two agree.
//!
//! Pure. Reads both as Kubernetes does: a claim without a class and one of class `""` want a volume
//! without a class, an older annotation goes before the field.

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Resource, ResourceExt};

use super::{BIND_COMPLETED, WK_LOCAL};
use crate::key::Key;
use crate::quantity::nanos;

/// Where the class was named before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// The class that a claim names; empty for none.
pub(crate) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let annotated = claim.annotations().get(OLD_CLASS);
    let named = annotated.or_else(|| claim.spec.as_ref()?.storage_class_name.as_ref());
    named.map_or("", String::as_str)
}

/// Whether a claim says anything of a class, be it `""`.
pub(crate) fn names_class(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    claim.annotations().contains_key(OLD_CLASS)
        || spec.is_some_and(|spec| spec.storage_class_name.is_some())
}

/// The class that a volume is of; empty for none.
pub(crate) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let annotated = volume.annotations().get(OLD_CLASS);
    let named = annotated.or_else(|| volume.spec.as_ref()?.storage_class_name.as_ref());
    named.map_or("", String::as_str)
}

pub(crate) fn is_default(class: &StorageClass) -> bool {
    let marked = |name: &&str| {
        class
            .annotations()
            .get(*name)
            .is_some_and(|on| on == "true")
    };
    DEFAULT_CLASS.iter().any(marked)
}

/// Whether volumes of a class are chosen or made only when a pod wants them.
pub(crate) fn waits(class: Option<&StorageClass>) -> bool {
    let mode = class.and_then(|class| class.volume_binding_mode.as_deref());
    mode == Some("WaitForFirstConsumer")
}

/// The volume that a claim names; empty for none.
pub(crate) fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let name = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref());
    name.unwrap_or_default()
}

pub(crate) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The claim that a volume names.
pub(crate) fn claim_key(volume: &PersistentVolume) -> Option<Key> {
    let claim = claim_ref(volume)?;
    Some(Key::new(
        claim.namespace.as_deref().unwrap_or_default(),
        claim.name.as_deref().unwrap_or_default(),
    ))
}

/// The uid of the claim that a volume names, if it says.
pub(crate) fn claim_uid(volume: &PersistentVolume) -> Option<&str> {
    let uid = claim_ref(volume)?.uid.as_deref();
    uid.filter(|uid| !uid.is_empty())
}

/// Whether a volume names this claim, by name at least, and no other of its name.
pub(crate) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_key(volume).is_some_and(|key| key == Key::of(claim))
        && claim_uid(volume).is_none_or(|uid| Some(uid) == claim.meta().uid.as_deref())
}

/// The amounts in nanos; what cannot be read is nothing.
pub(crate) fn requested(claim: &PersistentVolumeClaim) -> i128 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let storage = requests.and_then(|requests| requests.get("storage"));
    storage.and_then(|amount| nanos(&amount.0)).unwrap_or(0)
}

pub(crate) fn capacity(volume: &PersistentVolume) -> i128 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    let storage = capacity.and_then(|capacity| capacity.get("storage"));
    storage.and_then(|amount| nanos(&amount.0)).unwrap_or(0)
}

/// What a claim has of its volume.
pub(crate) fn given(claim: &PersistentVolumeClaim) -> i128 {
    let capacity = claim
        .status
        .as_ref()
        .and_then(|status| status.capacity.as_ref());
    let storage = capacity.and_then(|capacity| capacity.get("storage"));
    storage.and_then(|amount| nanos(&amount.0)).unwrap_or(0)
}

pub(crate) fn modes_of_claim(claim: &PersistentVolumeClaim) -> &[String] {
    let modes = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.access_modes.as_deref());
    modes.unwrap_or_default()
}

pub(crate) fn modes_of_volume(volume: &PersistentVolume) -> &[String] {
    let modes = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.access_modes.as_deref());
    modes.unwrap_or_default()
}

/// Whether one is a file system and the other a device.
pub(crate) fn modes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    const USUAL: &str = "Filesystem";
    let wanted = |spec: &PersistentVolumeClaimSpec| spec.volume_mode.clone();
    let offered = |spec: &PersistentVolumeSpec| spec.volume_mode.clone();
    claim
        .spec
        .as_ref()
        .and_then(wanted)
        .as_deref()
        .unwrap_or(USUAL)
        != volume
            .spec
            .as_ref()
            .and_then(offered)
            .as_deref()
            .unwrap_or(USUAL)
}

/// Whether a volume may be mounted in every way that a claim asks for.
pub(crate) fn mounts_as(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let offered = modes_of_volume(volume);
    modes_of_claim(claim)
        .iter()
        .all(|mode| offered.contains(mode))
}

/// Why a volume that a claim names does not suit it.
pub(crate) fn objection(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<&'static str> {
    if capacity(volume) < requested(claim) {
        Some("requested PV is too small")
    } else if class_of_volume(volume) != class_of_claim(claim) {
        Some("storageClassName does not match")
    } else if modes_differ(claim, volume) {
        Some("incompatible volumeMode")
    } else if !mounts_as(claim, volume) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

pub(crate) fn phase_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

pub(crate) fn phase_of_volume(volume: &PersistentVolume) -> &str {
    let phase = volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

/// Whether a claim was bound before.
pub(crate) fn was_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().contains_key(BIND_COMPLETED)
}

pub(crate) fn deleting(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// What `wk.dev/local` cannot give a claim. Said by the controller, before any node is asked.
pub(crate) fn beyond_local(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    if class.provisioner != WK_LOCAL {
        return None;
    }
    let source = spec
        .data_source_ref
        .as_ref()
        .map(|source| (&source.kind, &source.name));
    let source = source.or(spec
        .data_source
        .as_ref()
        .map(|source| (&source.kind, &source.name)));
    if let Some((kind, name)) = source {
        return Some(format!(
            "a new volume is empty: it cannot be filled from the data source {kind} {name:?}"
        ));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("volumeMode Block is not supported: volumes are directories".to_owned());
    }
    let wider = modes_of_claim(claim)
        .iter()
        .find(|mode| !["ReadWriteOnce", "ReadWriteOncePod"].contains(&mode.as_str()));
    if let Some(mode) = wider {
        return Some(format!(
            "access mode {mode} is not supported: a volume is on one node; use ReadWriteOnce or ReadWriteOncePod"
        ));
    }
    if spec.selector.is_some() {
        return Some("claim Selector is not supported".to_owned());
    }
    if !waits(Some(class)) {
        return Some(
            "the class must have volumeBindingMode WaitForFirstConsumer: a volume is made on the node of its first pod"
                .to_owned(),
        );
    }
    let parameter = class.parameters.iter().flatten().next();
    if let Some((name, _)) = parameter {
        return Some(format!("the class has the unknown parameter {name:?}"));
    }
    let options = class.mount_options.iter().flatten().next();
    options.map(|option| {
        format!("the class has the mount option {option:?}, which a directory does not take")
    })
}
