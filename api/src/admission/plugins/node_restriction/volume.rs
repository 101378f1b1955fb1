//! What a node may write of volumes: those that it made for claims whose first pod is its own.
//!
//! Pure. A node makes the volume that a claim asked it for and no other, makes it as large as the claim
//! says, and deletes it once its claim has left it. So whoever has a node's credentials reaches the
//! data of that node's own volumes, which are on its disk anyway, and of no other.

use serde_json::{Value, json};

use super::{Write, require};
use crate::{
    admission::Operation,
    kinds::{
        local_volume,
        persistent_volume_claim::storage_class,
        value::{items, part, plain, text},
    },
    object,
    quantity::Quantity,
};

/// On a volume: its directory is there.
const FINALIZER: &str = "wk.dev/local-volume";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Of a PersistentVolume.
pub(super) fn check(write: &Write<'_>) -> Result<(), String> {
    let node = write.node;
    match (write.subresource, write.operation) {
        ("", Operation::Create) => create(write),
        ("", Operation::Update) => {
            own(write, write.old, "change")?;
            update(write)
        }
        ("", Operation::Delete) => {
            own(write, write.old, "delete")?;
            let released = matches!(text(write.old, "/status/phase"), "Released" | "Failed");
            let wanted = text(write.old, "/spec/persistentVolumeReclaimPolicy") == "Delete";
            require(
                released && wanted,
                format!(
                    "node {node:?} can only delete volumes that are released and to be deleted"
                ),
            )
        }
        (subresource, _) => Err(format!(
            "node {node:?} can not write {subresource:?} of volumes"
        )),
    }
}

/// Of a PersistentVolumeClaim's status: a claim that is bound to one of the node's own volumes.
pub(super) fn claim_status(write: &Write<'_>) -> Result<(), String> {
    let node = write.node;
    let bound = text(write.volume, "/spec/claimRef/uid") == object::uid(write.old);
    require(
        is_own(write.volume, node) && bound,
        format!("node {node:?} can only update the status of claims bound to its own volumes"),
    )?;
    let same = |pointer: &str| part(write.object, pointer) == part(write.old, pointer);
    require(
        same("/status/phase") && same("/status/accessModes"),
        format!("node {node:?} can not change what a claim is bound as"),
    )
}

fn is_own(volume: &Value, node: &str) -> bool {
    local_volume::maker(volume) == node
}

fn own(write: &Write<'_>, volume: &Value, does: &str) -> Result<(), String> {
    let node = write.node;
    require(
        is_own(volume, node),
        format!("node {node:?} can only {does} volumes that it made"),
    )
}

fn create(write: &Write<'_>) -> Result<(), String> {
    let (node, volume, claim) = (write.node, write.object, write.claim);
    own(write, volume, "create")?;
    let asked = local_volume::asked(claim) == node;
    let free = ["", write.name].contains(&text(claim, "/spec/volumeName"));
    require(
        asked && free && text(volume, "/spec/claimRef/uid") == object::uid(claim),
        format!("node {node:?} can only create volumes for claims that ask it for one"),
    )?;
    require(
        write.name == format!("pvc-{}", object::uid(claim)),
        format!("node {node:?} can only create a volume under the name of its claim"),
    )?;
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{
        "key": HOSTNAME, "operator": "In", "values": [write.hostname],
    }]}]}});
    let as_asked = items(volume, "/spec/accessModes") == items(claim, "/spec/accessModes")
        && storage(part(volume, "/spec/capacity/storage")) == request(claim)
        && storage_class(volume) == storage_class(claim);
    let as_class = text(write.class, "/provisioner") == local_volume::PROVISIONER
        && text(volume, "/spec/persistentVolumeReclaimPolicy")
            == text(write.class, "/reclaimPolicy");
    let here =
        part(volume, "/spec/local").is_object() && volume["spec"]["nodeAffinity"] == affinity;
    require(
        as_asked && as_class && here,
        format!(
            "node {node:?} can only create local volumes of its own, as the claim and its class ask for them"
        ),
    )
}

fn update(write: &Write<'_>) -> Result<(), String> {
    let node = write.node;
    let fixed = |volume: &Value| {
        let mut spec = volume["spec"].clone();
        spec["capacity"] = Value::Null;
        let metadata = &volume["metadata"];
        let fields = ["annotations", "labels", "ownerReferences"];
        (spec, fields.map(|field| metadata[field].clone()))
    };
    let kept = |volume: &Value| -> Vec<Value> {
        let finalizers = items(volume, "/metadata/finalizers").iter();
        finalizers
            .filter(|own| *own != FINALIZER)
            .cloned()
            .collect()
    };
    require(
        fixed(write.object) == fixed(write.old) && kept(write.object) == kept(write.old),
        format!("node {node:?} can only change the capacity and its own finalizer of volumes"),
    )?;
    let capacity = |volume: &Value| storage(part(volume, "/spec/capacity/storage"));
    let (new, old) = (capacity(write.object), capacity(write.old));
    let asked = text(write.old, "/spec/claimRef/uid") == object::uid(write.claim)
        && new >= old
        && new <= request(write.claim);
    require(
        new == old || asked,
        format!("node {node:?} can only make a volume as large as its claim asks for"),
    )
}

fn request(claim: &Value) -> Option<Quantity> {
    storage(part(claim, "/spec/resources/requests/storage"))
}

fn storage(amount: &Value) -> Option<Quantity> {
    plain(amount).parse().ok()
}
