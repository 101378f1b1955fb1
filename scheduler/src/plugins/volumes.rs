//! A pod's claims: the nodes that reach their volumes, and for those without one the nodes where there is a free
//! volume or one can be made.
//!
//! Pure. What Kubernetes does in VolumeRestrictions, VolumeBinding and VolumeZone. A pod whose claims no node could
//! help is refused before any node is looked at.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::core::{Selector, SelectorExt};

use super::arguments::VolumeBindingArgs;
use crate::framework::{Change, ChangeKind, Filter, Plugin, PreBind, Reason, Reasons, Refused};
use crate::node::Node;
use crate::pod::{Pod, PodClaim};
use crate::prebind::{self, Progress, Waiting};
use crate::snapshot::{Candidate, Snapshot};
use crate::storage::{Claim, Fate, Storage, Volume};

/// Labels that say which zone or region a volume is in; a label may name several, `a__b`.
const ZONES: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

const IN_USE: Reason<'_> = Reason::Says(
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
);
const MISSING: Reason<'_> =
    Reason::Says("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
const NODE: Reason<'_> = Reason::Says("node(s) didn't match PersistentVolume's node affinity");
const NONE: Reason<'_> = Reason::Says("node(s) didn't find available persistent volumes to bind");
const ZONE: Reason<'_> = Reason::Says("node(s) had no available volume zone");

/// A claim that one pod alone may use is not used by two.
pub(super) struct VolumeRestrictions;
/// Volumes are reached from the node, found there or made there.
pub(super) struct VolumeBinding {
    /// How long a pod's volumes may take.
    patience: Duration,
}
/// Volumes are in the node's zone.
pub(super) struct VolumeZone;

#[derive(Clone, Copy)]
struct InUse;
#[derive(Clone)]
struct Reached<'a>(Wants<'a>);
#[derive(Clone)]
struct SameZone<'a>(Wants<'a>);

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn pre_filter<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        let mut claims = pod.claims.iter().map(|wanted| &*wanted.key);
        let taken = claims.any(|key| {
            let claim = snapshot.storage.claim(key);
            claim.is_some_and(Claim::is_exclusive) && snapshot.users(key, &pod.uid) > 0
        });
        Ok(taken.then(|| Box::new(InUse) as _))
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(kind, ChangeKind::PodRemoved | ChangeKind::Storage)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        match change {
            Change::PodRemoved { pod: gone, .. } => {
                let mut claims = pod.claims.iter();
                claims.any(|wanted| gone.load.claims.contains(&wanted.key))
            }
            Change::Storage => true,
            _ => false,
        }
    }
}

impl<'a> Filter<'a> for InUse {
    fn filter<'n>(&'n self, _: &'n Candidate) -> Result<(), Reasons<'n>> {
        Err(Reasons::resolvable(IN_USE))
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}

impl VolumeBinding {
    pub(super) fn new(args: VolumeBindingArgs) -> Self {
        let seconds = args.bind_timeout_seconds.unsigned_abs();
        Self {
            patience: Duration::from_secs(seconds),
        }
    }
}

/// Whether a change of storage or of a node may help a pod with claims.
fn may_help(change: &Change<'_>) -> bool {
    match change {
        Change::Storage | Change::NodeAdded(_) => true,
        Change::NodeChanged { old, new } => old.labels != new.labels,
        _ => false,
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn pre_filter<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        let wants = prepare(snapshot, pod).map_err(Refused::unresolvable)?;
        Ok((!wants.is_empty()).then(|| Box::new(Reached(wants)) as _))
    }

    /// Assumes what the pod's claims get on its node, so that no other decision gives it to another.
    fn reserve(&self, snapshot: &mut Snapshot, pod: &Pod, node: &str) -> Result<(), String> {
        if pod.claims.is_empty() {
            return Ok(());
        }
        for (claim, fate) in snapshot.fates(pod, node) {
            snapshot.storage.assume(&claim, &pod.uid, fate);
        }
        Ok(())
    }

    fn unreserve(&self, snapshot: &mut Snapshot, pod: &Pod) {
        if !pod.claims.is_empty() {
            snapshot.storage.forget(&pod.uid);
        }
    }

    fn pre_bind(&self, snapshot: &Snapshot, pod: &Pod, _: &str) -> Option<PreBind> {
        let storage = &snapshot.storage;
        let ready = |wanted: &PodClaim| storage.claim(&wanted.key).is_some_and(Claim::is_ready);
        if pod.claims.iter().all(ready) {
            return None;
        }
        Some(PreBind {
            writes: prebind::writes(storage, &storage.assumed_for(&pod.uid)),
            patience: self.patience,
        })
    }

    fn progress(&self, snapshot: &Snapshot, waiting: &mut Waiting) -> Progress {
        let node = snapshot.node(&waiting.node);
        match waiting.progress(&snapshot.storage, node) {
            Progress::Failed(why) => Progress::Failed(format!("binding volumes: {why}")),
            progress => progress,
        }
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(
            kind,
            ChangeKind::NodeAdded | ChangeKind::NodeChanged | ChangeKind::Storage
        )
    }

    fn may_help(&self, change: &Change<'_>, _: &Pod) -> bool {
        may_help(change)
    }
}

impl<'a> Filter<'a> for Reached<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        let (wants, node) = (&self.0, &node.node);
        let mut volumes = wants.bound.iter().flatten();
        let against = [
            (wants.bound.iter().any(Option::is_none), MISSING),
            (volumes.any(|volume| !volume.is_reached_from(node)), NODE),
            (wants.fates(node).is_none(), NONE),
        ];
        let against = against.into_iter().filter(|(holds, _)| *holds);
        Reasons::from_all(against.map(|(_, reason)| Reasons::unresolvable(reason)))
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn pre_filter<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        let wants = prepare(snapshot, pod).map_err(Refused::unresolvable)?;
        Ok((!wants.bound.is_empty()).then(|| Box::new(SameZone(wants)) as _))
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(
            kind,
            ChangeKind::NodeAdded | ChangeKind::NodeChanged | ChangeKind::Storage
        )
    }

    fn may_help(&self, change: &Change<'_>, _: &Pod) -> bool {
        may_help(change)
    }
}

impl<'a> Filter<'a> for SameZone<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        let mut volumes = self.0.bound.iter().flatten();
        if volumes.all(|volume| is_in_zone(volume, &node.node)) {
            Ok(())
        } else {
            Err(Reasons::unresolvable(ZONE))
        }
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

/// What a pod's claims ask of its node.
#[derive(Clone)]
pub(crate) struct Wants<'a> {
    storage: &'a Storage,
    /// The volumes that its claims have or are assumed to get; `None` for one that is not there.
    bound: Vec<Option<&'a Volume>>,
    /// Claims that get a volume with this decision, and the node that it must be made on.
    open: Vec<(&'a Claim, Option<&'a Arc<str>>)>,
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
    };
    let mut unbound = false;
    for wanted in &pod.claims {
        let claim = find(storage, pod, wanted)?;
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
                    .filter(|node| snapshot.node(node).is_some());
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
    fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.open.is_empty()
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
