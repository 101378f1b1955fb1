//! A pod's claims: the nodes that reach their volumes, and for those without one the nodes where there is a free
//! volume or one can be made.
//!
//! Pure. What Kubernetes does in VolumeRestrictions, VolumeBinding and VolumeZone. A pod whose claims no node could
//! help is refused before any node is looked at.

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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1 as core;
    use k8s_openapi::api::storage::v1::StorageClass;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use serde_json::{Value, json};

    use super::*;
    use crate::decision::{Decision, schedule};
    use crate::storage::Class;

    fn read<T: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    /// Each line is an object and then words. `node a zone:z`; `class k made|by-hand [now] [in:zone]`; `claim c`
    /// with a class `of:k`, a volume `=v`, `1Gi`, `on:node`, `RWOP`, `lost`, `deleting`, `of-pod:uid`; `volume v`
    /// with `of:k`, `at:node`, `2Gi`, `zone:z`, `for:c`; `user p c`, a pod on node `a` that uses the claim.
    fn snapshot(lines: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<_> = line.split_whitespace().collect();
            let (name, rest) = (words[1], &words[2..]);
            match words[0] {
                "node" => {
                    snapshot.put_node(Node::from(&read::<core::Node>(node(name, rest))));
                }
                "class" => {
                    let class = Class::from(&read::<StorageClass>(class(rest)));
                    snapshot.storage.put_class(name.to_owned(), class);
                }
                "claim" => {
                    let claim = read::<core::PersistentVolumeClaim>(claim(name, rest));
                    snapshot.storage.put_claim(Claim::from(&claim));
                }
                "volume" => {
                    let volume = read::<core::PersistentVolume>(volume(name, rest));
                    snapshot.storage.put_volume(Volume::from(&volume));
                }
                _ => snapshot.place(&pod(name, rest[0]), &"a".into()),
            }
        }
        snapshot
    }

    fn node(name: &str, words: &[&str]) -> Value {
        let mut labels = json!({"kubernetes.io/hostname": name});
        for word in words {
            labels["topology.kubernetes.io/zone"] = word["zone:".len()..].into();
        }
        json!({"metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "10"}}})
    }

    fn class(words: &[&str]) -> Value {
        let mut class = json!({"metadata": {}, "provisioner": "example.com/disk",
            "volumeBindingMode": "WaitForFirstConsumer"});
        for word in words {
            match *word {
                "by-hand" => class["provisioner"] = "kubernetes.io/no-provisioner".into(),
                "now" => class["volumeBindingMode"] = "Immediate".into(),
                "made" => {}
                zone => {
                    let rule = json!({"key": "topology.kubernetes.io/zone",
                        "values": [&zone["in:".len()..]]});
                    class["allowedTopologies"] = json!([{"matchLabelExpressions": [rule]}]);
                }
            }
        }
        class
    }

    fn claim(name: &str, words: &[&str]) -> Value {
        let mut claim = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": format!("{name}-uid")},
            "spec": {"storageClassName": "k", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        for word in words {
            match word.split_once(':') {
                Some(("of", class)) => claim["spec"]["storageClassName"] = class.into(),
                Some(("on", node)) => {
                    claim["metadata"]["annotations"][crate::storage::SELECTED_NODE] = node.into();
                }
                Some((_, uid)) => {
                    claim["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1",
                        "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
                }
                None if word.starts_with('=') => {
                    claim["spec"]["volumeName"] = word[1..].into();
                    claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] =
                        "yes".into();
                }
                None => match *word {
                    "RWOP" => claim["spec"]["accessModes"] = json!(["ReadWriteOncePod"]),
                    "lost" => claim["status"]["phase"] = "Lost".into(),
                    "deleting" => {
                        claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                    }
                    size => claim["spec"]["resources"]["requests"]["storage"] = size.into(),
                },
            }
        }
        claim
    }

    fn volume(name: &str, words: &[&str]) -> Value {
        let mut volume = json!({
            "metadata": {"name": name, "labels": {}}, "status": {"phase": "Available"},
            "spec": {"storageClassName": "k", "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"}},
        });
        for word in words {
            match word.split_once(':') {
                Some(("of", class)) => volume["spec"]["storageClassName"] = class.into(),
                Some(("at", node)) => {
                    volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname",
                            "operator": "In", "values": [node]}]}]);
                }
                Some(("for", claim)) => {
                    volume["spec"]["claimRef"] = json!({"namespace": "ns", "name": claim});
                }
                Some((_, zone)) => {
                    volume["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone.into();
                }
                None => volume["spec"]["capacity"]["storage"] = (*word).into(),
            }
        }
        volume
    }

    /// Its claims are separated by commas; one that begins with `~` is an ephemeral volume.
    fn pod(uid: &str, claims: &str) -> Pod {
        let volumes = claims
            .split(',')
            .map(|claim| match claim.strip_prefix('~') {
                Some(volume) => json!({"name": volume, "ephemeral": {}}),
                None => json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}),
            });
        Pod::from(&read::<core::Pod>(json!({
            "metadata": {"uid": uid, "name": uid, "namespace": "ns"},
            "spec": {"containers": [], "volumes": volumes.collect::<Vec<_>>()},
        })))
    }

    #[track_caller]
    fn check(lines: &str, claims: &str, expected: Expect) {
        let (snapshot, pod) = (snapshot(lines), pod("new", claims));
        let mut ties = SmallRng::seed_from_u64(1);
        expected.assert_eq(&match schedule(&snapshot, &pod, &mut ties) {
            Decision::Unschedulable(why) => why.to_string(),
            Decision::Node(name) => {
                let fates = snapshot.fates(&pod, &name);
                let shown = fates.iter().map(|(key, fate)| format!(" {key} {fate:?}"));
                format!("{name}{}", shown.collect::<String>())
            }
        });
    }

    #[test]
    fn a_pod_whose_claims_no_node_could_help_is_refused_before_any() {
        check(
            "node a",
            "c",
            expect![[r#"0/1 nodes are available: persistentvolumeclaim "c" not found."#]],
        );
        check(
            "node a",
            "~scratch",
            expect![[
                r#"0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "new-scratch"."#
            ]],
        );
        check(
            "node a\nclaim new-scratch of-pod:other",
            "~scratch",
            expect![
                "0/1 nodes are available: PVC ns/new-scratch was not created for pod ns/new (pod is not owner)."
            ],
        );
        check(
            "node a\nclaim c =gone lost",
            "c",
            expect![[
                r#"0/1 nodes are available: persistentvolumeclaim "c" bound to non-existent persistentvolume "gone"."#
            ]],
        );
        check(
            "node a\nclaim c deleting",
            "c",
            expect![[r#"0/1 nodes are available: persistentvolumeclaim "c" is being deleted."#]],
        );
        for class in ["class k made now", "class other made"] {
            check(
                &format!("node a\nclaim c\n{class}"),
                "c",
                expect![
                    "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
                ],
            );
        }
    }

    #[test]
    fn a_pod_goes_where_its_volumes_are() {
        let lines = "node a\nnode b\nclaim c =v\nvolume v at:b";
        check(lines, "c", expect!["b"]);
        check(
            "node a\nclaim c =v\nvolume v at:b",
            "c",
            expect![
                "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity."
            ],
        );
        check(
            "node a\nclaim c =v",
            "c",
            expect![
                "0/1 nodes are available: 1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."
            ],
        );
        check(
            "node a zone:x\nnode b zone:y\nclaim c =v\nvolume v zone:y__z",
            "c",
            expect!["b"],
        );
        check(
            "node a zone:x\nclaim c =v\nvolume v zone:y",
            "c",
            expect!["0/1 nodes are available: 1 node(s) had no available volume zone."],
        );
    }

    #[test]
    fn a_claim_that_waits_gets_the_smallest_free_volume_or_a_new_one() {
        check(
            "node a\nclass k by-hand\nclaim c\nvolume v 9Gi at:a\nvolume w 2Gi at:a\nvolume x at:b",
            "c",
            expect![[r#"a ns/c Volume("w")"#]],
        );
        check(
            "node a\nclass k by-hand\nclaim c 5Gi\nvolume v 2Gi at:a",
            "c",
            expect![
                "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind."
            ],
        );
        check(
            "node a\nclass k made\nclaim c",
            "c",
            expect![[r#"a ns/c Made("a")"#]],
        );
        check(
            "node a\nclass k made\nclaim c\nclaim d\nvolume v at:a",
            "c,d",
            expect![[r#"a ns/c Volume("v") ns/d Made("a")"#]],
        );
        check(
            "node a zone:x\nnode b zone:y\nclass k made in:y\nclaim c",
            "c",
            expect![[r#"b ns/c Made("b")"#]],
        );
    }

    #[test]
    fn a_claim_keeps_the_node_that_was_selected_unless_that_is_gone() {
        let lines = "node a\nnode b\nclass k made\nclaim c on:b";
        check(lines, "c", expect![[r#"b ns/c Made("b")"#]]);
        let lines = "node a\nclass k made\nclaim c on:b";
        check(lines, "c", expect![[r#"a ns/c Made("a")"#]]);
    }

    #[test]
    fn a_claim_for_one_pod_is_not_for_another() {
        let lines = "node a\nclass k made\nclaim c RWOP =v\nvolume v\nuser p c";
        check(
            lines,
            "c",
            expect![
                "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."
            ],
        );
        check("node a\nclaim c =v\nvolume v\nuser p c", "c", expect!["a"]);
    }

    #[test]
    fn what_is_assumed_for_one_pod_holds_for_the_next() {
        let mut snapshot =
            snapshot("node a\nnode b\nclass k made\nclaim c\nclaim d\nvolume v at:a");
        let decide = |snapshot: &Snapshot, pod: &Pod| {
            let mut ties = SmallRng::seed_from_u64(7);
            match schedule(snapshot, pod, &mut ties) {
                Decision::Node(node) => (node.to_string(), snapshot.fates(pod, &node)),
                Decision::Unschedulable(why) => (why.to_string(), vec![]),
            }
        };
        let first = pod("first", "c");
        snapshot.assume(&first, &"a".into());
        for (key, fate) in snapshot.fates(&first, "a") {
            snapshot.storage.assume(&key, &first.uid, fate);
        }
        // The volume is taken: another claim is not given it, and the same claim is nowhere else.
        assert_eq!(
            snapshot.fates(&pod("other", "d"), "a")[0].1,
            Fate::Made("a".into())
        );
        assert_eq!(decide(&snapshot, &pod("second", "c")).0, "a");
        snapshot.storage.forget("first");
        assert_eq!(
            snapshot.fates(&pod("other", "d"), "a")[0].1,
            Fate::Volume("v".into())
        );
    }
}
