//! Deletes objects whose owners are all gone.
//!
//! Reads the metadata of everything; deletes, and takes owner references and the finalizers
//! `foregroundDeletion` and `orphan` away. Never deletes on the word of a cache: the object and
//! each owner missing from it are asked for first, and a delete names the uid. Keeps on the word of
//! a cache, for the removal of an owner brings its dependents back.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::error::{Error, within, within_opt};
use crate::inventory::{Inventory, Item, Kind};
use crate::manager::Manager;
use crate::queue::{Action, Queue};

/// Requests in flight for the dependents of one object.
const AT_ONCE: usize = 32;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// How an owner stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Present,
    /// Being deleted in the foreground, and waiting for this object.
    Waiting,
    Gone,
}

/// What to do about an object whose owners were looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Keep,
    DropReferences,
    Delete,
}

/// Adds this controller; the inventory wakes `queue`, whose keys are uids.
pub(crate) fn start(manager: &mut Manager, queue: Queue<String>) {
    let inventory = manager.inventory.clone();
    let workers = manager.context.config.workers;
    manager.task(move |stop| async move {
        let reconcile = |uid| reconcile(inventory.clone(), uid);
        queue.run(workers, stop, reconcile).await;
    });
}

/// Works on one object.
async fn reconcile(inventory: Arc<Inventory>, uid: String) -> Result<Action, Error> {
    inventory.ready().await;
    let Some(item) = inventory.get(&uid) else {
        return Ok(Action::AwaitChange);
    };
    if !item.finalizing && owned(&inventory, &item) {
        return Ok(Action::AwaitChange);
    }
    let api = inventory.api(&item.kind, &item.namespace);
    let live = within_opt(api.get_metadata(&item.name)).await?;
    let Some(live) = live.filter(|live| live.metadata.uid.as_ref() == Some(&uid)) else {
        inventory.gone(&uid);
        return Ok(Action::AwaitChange);
    };
    let finalized = |name: &str| live.finalizers().iter().any(|finalizer| finalizer == name);
    if live.metadata.deletion_timestamp.is_some() {
        if finalized(ORPHAN) {
            orphan(&inventory, &uid).await?;
            remove_finalizer(&api, &live, ORPHAN).await?;
        } else if finalized(FOREGROUND) {
            foreground(&inventory, &api, &live, &uid).await?;
        }
        return Ok(Action::AwaitChange);
    }
    let references = live.owner_references();
    let mut owners = Vec::new();
    for reference in references {
        owners.push(look_up(&inventory, &item, reference).await?);
    }
    match plan(&owners) {
        Verdict::Keep => {}
        Verdict::DropReferences => {
            let kept: Vec<_> = references
                .iter()
                .zip(&owners)
                .filter(|(_, owner)| **owner == Owner::Present)
                .map(|(reference, _)| reference)
                .collect();
            let patch = json!({"metadata": {
                "uid": uid, "resourceVersion": live.resource_version(), "ownerReferences": kept,
            }});
            within_opt(api.patch_metadata(
                &item.name,
                &PatchParams::default(),
                &Patch::Merge(patch),
            ))
            .await?;
        }
        Verdict::Delete => {
            let policy = if finalized(ORPHAN) {
                PropagationPolicy::Orphan
            } else if finalized(FOREGROUND) || owners.contains(&Owner::Waiting) {
                PropagationPolicy::Foreground
            } else {
                PropagationPolicy::Background
            };
            let params = DeleteParams {
                propagation_policy: Some(policy),
                preconditions: Some(Preconditions {
                    uid: Some(uid.clone()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            within_opt(api.delete(&item.name, &params)).await?;
        }
    }
    Ok(Action::AwaitChange)
}

/// Whether every owner is known to be there, and none waits for this object.
fn owned(inventory: &Inventory, item: &Item) -> bool {
    item.owners.iter().all(|owner| {
        let known = inventory.get(&owner.uid);
        known.is_some_and(|owner| !owner.finalizing)
    })
}

/// Decides about an object from how its owners stand.
fn plan(owners: &[Owner]) -> Verdict {
    let present = owners.contains(&Owner::Present);
    if owners.is_empty() || owners.iter().all(|owner| *owner == Owner::Present) {
        Verdict::Keep
    } else if present {
        Verdict::DropReferences
    } else {
        Verdict::Delete
    }
}

async fn look_up(
    inventory: &Inventory,
    item: &Item,
    reference: &OwnerReference,
) -> Result<Owner, Error> {
    let group = reference
        .api_version
        .rsplit_once('/')
        .map_or("", |(group, _)| group);
    let kind: Option<Kind> = inventory
        .kinds()
        .into_iter()
        .find(|kind| kind.resource.group == group && kind.resource.kind == reference.kind);
    if inventory.absent(&item.namespace, reference) {
        return Ok(Owner::Gone);
    }
    // A kind that is not served (yet) says nothing about the owner.
    let Some(kind) = kind else {
        return Ok(Owner::Present);
    };
    // What belongs to the cluster cannot be owned from within a namespace, nobody knows which.
    if kind.namespaced && item.namespace.is_empty() {
        tracing::debug!(
            name = item.name,
            owner = reference.name,
            "a cluster-scoped object names an owner in a namespace; it is kept"
        );
        return Ok(Owner::Present);
    }
    let api = inventory.api(&kind, &item.namespace);
    let live = within_opt(api.get_metadata(&reference.name)).await?;
    Ok(
        match live.filter(|live| live.metadata.uid.as_ref() == Some(&reference.uid)) {
            None => {
                inventory.remember_absent(&item.namespace, reference);
                Owner::Gone
            }
            Some(live) => {
                let waits = live.metadata.deletion_timestamp.is_some()
                    && live
                        .finalizers()
                        .iter()
                        .any(|finalizer| finalizer == FOREGROUND);
                if waits {
                    Owner::Waiting
                } else {
                    Owner::Present
                }
            }
        },
    )
}

/// Lets the object go once nothing that blocks it is left. Each removal of a dependent comes here
/// again, so that the inventory answers and only what is not being deleted yet is asked for.
async fn foreground(
    inventory: &Inventory,
    api: &Api<DynamicObject>,
    live: &PartialObjectMeta<DynamicObject>,
    uid: &str,
) -> Result<(), Error> {
    // Nothing waits for itself.
    let mut dependents = inventory.dependents(uid);
    dependents.retain(|(dependent, _)| dependent != uid);
    let blocks =
        |owner: &OwnerReference| owner.uid == uid && owner.block_owner_deletion == Some(true);
    if !dependents
        .iter()
        .any(|(_, dependent)| dependent.owners.iter().any(blocks))
    {
        return remove_finalizer(api, live, FOREGROUND).await;
    }
    let mut requests = Vec::new();
    for (uid, dependent) in dependents.into_iter().filter(|(_, of)| !of.deleting) {
        if dependent.owners.len() == 1 {
            requests.push(delete_in_foreground(inventory, uid, dependent));
        } else {
            // Its other owners decide whether it goes, or merely loses this one.
            inventory.look_at(uid);
        }
    }
    stream::iter(requests)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn delete_in_foreground(inventory: &Inventory, uid: String, item: Item) -> Result<(), Error> {
    // It would wait for what it owns, and that, in a circle, waits for it: then nobody waits for it.
    let circles = inventory
        .dependents(&uid)
        .iter()
        .any(|(_, dependent)| dependent.finalizing);
    if circles {
        unblock(inventory, &uid, &item).await?;
    }
    let params = DeleteParams::foreground().preconditions(Preconditions {
        uid: Some(uid.clone()),
        resource_version: None,
    });
    let api = inventory.api(&item.kind, &item.namespace);
    match within(api.delete(&item.name, &params)).await {
        Ok(_) => inventory.deleted(&uid),
        // Gone, or its name is another object's by now.
        Err(Error::NotFound(_) | Error::Conflict(_)) => inventory.gone(&uid),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Has no owner of an object wait for it.
async fn unblock(inventory: &Inventory, uid: &str, item: &Item) -> Result<(), Error> {
    let api = inventory.api(&item.kind, &item.namespace);
    let live = within_opt(api.get_metadata(&item.name)).await?;
    let Some(live) = live.filter(|live| live.metadata.uid.as_deref() == Some(uid)) else {
        return Ok(());
    };
    let mut owners = live.owner_references().to_vec();
    if owners
        .iter()
        .all(|owner| owner.block_owner_deletion != Some(true))
    {
        return Ok(());
    }
    for owner in &mut owners {
        owner.block_owner_deletion = Some(false);
    }
    let patch = Patch::Merge(json!({"metadata": {
        "uid": uid, "resourceVersion": live.resource_version(), "ownerReferences": owners,
    }}));
    within_opt(api.patch_metadata(&item.name, &PatchParams::default(), &patch)).await?;
    Ok(())
}

/// Takes an owner out of everything that it owns.
async fn orphan(inventory: &Inventory, uid: &str) -> Result<(), Error> {
    let dependents = inventory.dependents(uid);
    let requests: Vec<_> = dependents
        .into_iter()
        .map(|(dependent, item)| release(inventory, dependent, item, uid))
        .collect();
    stream::iter(requests)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn release(inventory: &Inventory, uid: String, item: Item, owner: &str) -> Result<(), Error> {
    let api = inventory.api(&item.kind, &item.namespace);
    let live = within_opt(api.get_metadata(&item.name)).await?;
    let Some(live) = live.filter(|live| live.metadata.uid.as_ref() == Some(&uid)) else {
        return Ok(());
    };
    let references = live.owner_references();
    let kept: Vec<_> = references.iter().filter(|of| of.uid != owner).collect();
    if kept.len() == references.len() {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"metadata": {
        "uid": uid, "resourceVersion": live.resource_version(), "ownerReferences": kept,
    }}));
    let params = PatchParams::default();
    within_opt(api.patch_metadata(&item.name, &params, &patch)).await?;
    Ok(())
}

async fn remove_finalizer(
    api: &Api<DynamicObject>,
    live: &PartialObjectMeta<DynamicObject>,
    name: &str,
) -> Result<(), Error> {
    let kept: Vec<_> = live
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != name)
        .collect();
    let patch = json!({"metadata": {
        "uid": live.uid(), "resourceVersion": live.resource_version(), "finalizers": kept,
    }});
    match within(api.patch_metadata(
        &live.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    ))
    .await
    {
        Ok(_) | Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_goes_with_its_last_owner_only() {
        use Owner::{Gone, Present, Waiting};
        assert_eq!(plan(&[]), Verdict::Keep);
        assert_eq!(plan(&[Present]), Verdict::Keep);
        assert_eq!(plan(&[Gone]), Verdict::Delete);
        assert_eq!(plan(&[Gone, Waiting]), Verdict::Delete);
        assert_eq!(plan(&[Gone, Present]), Verdict::DropReferences);
    }
}
