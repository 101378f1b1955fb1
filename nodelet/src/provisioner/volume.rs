//! The PersistentVolume of a claim, and the patches to both. Pure.

use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{self, FINALIZER, NODE, PROVISIONED_BY, PROVISIONER};
use crate::config::Config;

/// The volume that a claim asks for.
///
/// # Errors
/// The class is another provisioner's, or the directory cannot be named in an object.
pub(super) fn new(
    name: &str,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    directory: &Path,
    config: &Config,
) -> anyhow::Result<PersistentVolume> {
    anyhow::ensure!(
        class.provisioner == PROVISIONER,
        "StorageClass {} has provisioner {}, not {PROVISIONER}",
        class.name_any(),
        class.provisioner,
    );
    let path = directory
        .to_str()
        .with_context(|| format!("the directory {} is not UTF-8", directory.display()))?;
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|resources| resources.requests);
    let storage = requests.and_then(|requests| requests.get("storage").cloned());
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: PROVISIONER, NODE: config.node_name},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": {"storage": storage},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(), "name": claim.name_any(),
                "uid": claim.uid(), "resourceVersion": claim.resource_version(),
            },
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{
                "key": "kubernetes.io/hostname", "operator": "In", "values": [config.hostname],
            }]}]}},
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": plan::class_name(claim),
            "volumeMode": "Filesystem",
        },
    });
    serde_json::from_value(volume).context("write the PersistentVolume down")
}

/// Makes a volume as large as its claim asks for, if it is not.
pub(super) fn larger(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Value> {
    (plan::requested(claim) > plan::capacity(volume)).then(|| {
        json!({
            "metadata": {"uid": volume.uid()},
            "spec": {"capacity": {"storage": request(claim)}},
        })
    })
}

/// Tells a claim that it has what it asks for.
pub(super) fn grown(claim: &PersistentVolumeClaim) -> Value {
    let status = claim.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.clone());
    let done = [
        "Resizing",
        "FileSystemResizePending",
        "ControllerResizeError",
        "NodeResizeError",
    ];
    let conditions = conditions.map(|conditions| {
        let left = conditions.into_iter();
        left.filter(|condition| !done.contains(&condition.type_.as_str()))
            .collect::<Vec<_>>()
    });
    let mut patch = json!({
        "metadata": {"uid": claim.uid(), "resourceVersion": claim.resource_version()},
        "status": {
            "capacity": {"storage": request(claim)},
            "allocatedResources": null,
            "allocatedResourceStatuses": null,
        },
    });
    if let Some(conditions) = conditions {
        patch["status"]["conditions"] = json!(conditions);
    }
    patch
}

fn request(claim: &PersistentVolumeClaim) -> Value {
    let spec = claim.spec.as_ref();
    let resources = spec.and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    json!(requests.and_then(|requests| requests.get("storage")))
}

/// Takes our finalizer from a volume.
pub(super) fn let_go(volume: &PersistentVolume) -> Value {
    let finalizers: Vec<&String> = volume
        .finalizers()
        .iter()
        .filter(|own| *own != FINALIZER)
        .collect();
    json!({"metadata": {
        "uid": volume.uid(), "resourceVersion": volume.resource_version(),
        "finalizers": finalizers,
    }})
}
