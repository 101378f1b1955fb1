//! A pod's claims: the nodes that reach their volumes, and for those without one the nodes where there is a free
//! volume or one can be made.
//!
//! Pure. What Kubernetes does in VolumeRestrictions, VolumeBinding and VolumeZone. A pod whose claims no node could
//! help is refused before any node is looked at.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::core::{Selector, SelectorExt};

use super::Reason;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::storage::{Claim, Fate, Storage, Volume};

/// Labels that say which zone or region a volume is in; a label may name several, `a__b`.
const ZONES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// What a pod's claims ask of its node.
pub(crate) struct Wants<'a> {
    storage: &'a Storage,
    /// The volumes that its claims have or are assumed to get; `None` for one that is not there.
    bound: Vec<Option<&'a Volume>>,
    /// Claims that get a volume with this decision, and the node that it must be made on.
    open: Vec<(&'a Claim, Option<&'a Arc<str>>)>,
    /// Whether another pod has a claim that one pod alone may use.
    taken: bool,
}

/// Looks at a pod's claims.
///
/// # Errors
/// Why no node could help, in Kubernetes' words.
pub(crate) fn prepare<'a>(snapshot: &'a Snapshot, pod: &'a Pod) -> Result<Wants<'a>, String> {
    let storage = &snapshot.storage;
    let mut wants = Wants {
        storage,
        bound: Vec::new(),
        open: Vec::new(),
        taken: false,
    };
    let mut unbound = false;
    for wanted in &pod.claims {
        let claim = find(storage, pod, wanted)?;
        wants.taken |= claim.is_exclusive() && snapshot.users(&claim.key, &pod.uid) > 0;
        if claim.is_bound() {
            wants.bound.push(storage.volume(&claim.volume));
            continue;
        }
        let waits = storage.class(&claim.class).is_some_and(|class| class.waits);
        if !waits || !claim.volume.is_empty() {
            unbound = true;
            continue;
        }
        match storage.assumed(&claim.key) {
            Some(Fate::Volume(volume)) => wants.bound.push(storage.volume(volume)),
            Some(Fate::Made(node)) => wants.open.push((claim, Some(node))),
            None => {
                // A node that is gone makes no volume: the claim is as good as new.
                let selected = claim
                    .selected
                    .as_ref()
                    .filter(|node| snapshot.has_node(node));
                wants.open.push((claim, selected));
            }
        }
    }
    if unbound {
        return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
    }
    wants.open.sort_by_key(|(claim, _)| claim.request);
    wants.open.dedup_by_key(|(claim, _)| &claim.key);
    Ok(wants)
}

fn find<'a>(
    storage: &'a Storage,
    pod: &Pod,
    wanted: &crate::pod::PodClaim,
) -> Result<&'a Claim, String> {
    let name = &wanted.name;
    let Some(claim) = storage.claim(&wanted.key) else {
        return Err(if wanted.ephemeral {
            format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            )
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    if claim.lost {
        let volume = &claim.volume;
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        ));
    }
    if claim.deleting {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    if wanted.ephemeral && claim.owner.as_deref() != Some(&pod.uid) {
        return Err(format!(
            "PVC {} was not created for pod {}/{} (pod is not owner)",
            claim.key, pod.namespace, pod.name
        ));
    }
    Ok(claim)
}

impl<'a> Wants<'a> {
    /// The reasons against a node.
    pub(crate) fn filter(&self, node: &Node) -> Vec<Reason<'a>> {
        if self.taken {
            return vec![Reason::ClaimInUse];
        }
        let mut reasons = vec![];
        let volumes = || self.bound.iter().flatten();
        if self.bound.iter().any(Option::is_none) {
            reasons.push(Reason::VolumeMissing);
        }
        if volumes().any(|volume| !volume.is_reached_from(node)) {
            reasons.push(Reason::VolumeNode);
        }
        if self.fates(node).is_none() {
            reasons.push(Reason::NoVolume);
        }
        if reasons.is_empty() && volumes().any(|volume| !is_in_zone(volume, node)) {
            reasons.push(Reason::VolumeZone);
        }
        reasons
    }

    /// What its open claims get on a node; `None` if there is nothing for one of them.
    pub(crate) fn fates(&self, node: &Node) -> Option<Vec<(&'a Claim, Fate)>> {
        if self.open.is_empty() {
            return Some(Vec::new());
        }
        let mut taken = self.storage.taken();
        let fates = self.open.iter().map(|(claim, selected)| {
            let fate = match selected {
                Some(selected) if ***selected != *node.name => return None,
                Some(_) => None,
                None => best(self.storage, claim, node, &taken),
            };
            let fate = match fate {
                Some(volume) => {
                    taken.insert(&volume.name);
                    Fate::Volume(Arc::clone(&volume.name))
                }
                None if can_make(self.storage, claim, node) => Fate::Made(Arc::clone(&node.name)),
                None => return None,
            };
            Some((*claim, fate))
        });
        fates.collect()
    }
}

/// The smallest free volume that suits a claim on a node; one that names the claim goes first.
fn best<'a>(
    storage: &'a Storage,
    claim: &Claim,
    node: &Node,
    taken: &BTreeSet<&str>,
) -> Option<&'a Volume> {
    let selector = match &claim.selector {
        None => Selector::default(),
        Some(selector) => Selector::try_from(selector.clone()).ok()?,
    };
    let suits = |volume: &&Volume| {
        volume.capacity >= claim.request
            && volume.block == claim.block
            && claim.modes.iter().all(|mode| volume.modes.contains(mode))
            && volume.is_reached_from(node)
            && is_in_zone(volume, node)
            && !taken.contains(&*volume.name)
    };
    let free = |volume: &&Volume| {
        volume.is_for(claim)
            || (volume.claim.is_none()
                && volume.class == claim.class
                && selector.matches(&volume.labels))
    };
    let suiting = storage.open().filter(free).filter(suits);
    suiting.min_by_key(|volume| (volume.claim.is_none(), volume.capacity, &volume.name))
}

/// Whether a claim's volume can be made on a node.
fn can_make(storage: &Storage, claim: &Claim, node: &Node) -> bool {
    let Some(class) = storage
        .class(&claim.class)
        .filter(|class| class.provisioned)
    else {
        return false;
    };
    let holds = |(key, values): &(String, Vec<String>)| {
        node.labels
            .get(key)
            .is_some_and(|value| values.contains(value))
    };
    class.topologies.is_empty() || class.topologies.iter().any(|term| term.iter().all(holds))
}

/// Whether a volume that says its zone or region is in the node's. A node that says neither has all.
fn is_in_zone(volume: &Volume, node: &Node) -> bool {
    if !ZONES.iter().any(|label| node.labels.contains_key(*label)) {
        return true;
    }
    ZONES.iter().all(|label| match volume.labels.get(*label) {
        None => true,
        Some(zones) => {
            let own = node.labels.get(*label);
            own.is_some_and(|own| zones.split("__").any(|zone| zone == own))
        }
    })
}
