//! What a pod's claims need before the pod is bound: writes that ask for their volumes, and pods that wait for them.
//!
//! Writes the claim that a free PersistentVolume names, or the node that a PersistentVolumeClaim's is made on; the
//! controllers and the provisioner do the rest. A pod that waits holds no slot for bindings, so that slow
//! storage keeps nobody else from being placed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::node::Node;
use crate::pod::Pod;
use crate::storage::{Claim, ClaimKey, Fate, SELECTED_NODE, Storage};

/// How long a pod's volumes may take, as in Kubernetes.
const PATIENCE: Duration = Duration::from_secs(600);

/// One write.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// A volume names a claim.
    Volume { name: Arc<str>, patch: Value },
    /// A claim names the node that its volume is made on.
    Claim {
        namespace: String,
        name: String,
        patch: Value,
    },
}

/// The writes that make these fates true, of those that are not.
pub(crate) fn writes(storage: &Storage, fates: &[(ClaimKey, Fate)]) -> Vec<Write> {
    let needed = fates.iter().filter_map(|(key, fate)| {
        let claim = storage.claim(key)?;
        match fate {
            Fate::Volume(name) => volume(storage, claim, name),
            Fate::Made(node) if claim.selected.as_ref() == Some(node) => None,
            Fate::Made(node) => Some(Write::Claim {
                namespace: claim.namespace.clone(),
                name: claim.name.clone(),
                patch: json!({"metadata": {
                    "uid": claim.uid, "annotations": {SELECTED_NODE: &**node},
                }}),
            }),
        }
    });
    needed.collect()
}

fn volume(storage: &Storage, claim: &Claim, name: &Arc<str>) -> Option<Write> {
    let volume = storage.volume(name)?;
    let mut patch = json!({
        "metadata": {"uid": volume.uid, "resourceVersion": volume.version},
        "spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace, "name": claim.name, "uid": claim.uid,
        }},
    });
    if volume.claim.is_none() {
        patch["metadata"]["annotations"] = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
    }
    let name = Arc::clone(name);
    Some(Write::Volume { name, patch })
}

/// Makes the writes, one after the other.
pub(crate) async fn write(client: Client, writes: Vec<Write>) -> kube::Result<()> {
    let params = PatchParams::default();
    for write in writes {
        match write {
            Write::Volume { name, patch } => {
                let api: Api<PersistentVolume> = Api::all(client.clone());
                api.patch(&name, &params, &Patch::Merge(patch)).await?;
            }
            Write::Claim {
                namespace,
                name,
                patch,
            } => {
                let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
                api.patch(&name, &params, &Patch::Merge(patch)).await?;
            }
        }
    }
    Ok(())
}

/// A pod that has a node and waits for its volumes.
pub(crate) struct Waiting {
    pub(crate) pod: Arc<Pod>,
    pub(crate) node: Arc<str>,
    /// Until when, at most.
    until: Instant,
    /// Claims whose chosen node was seen on them.
    selected: Vec<ClaimKey>,
}

/// How it is with the volumes of a pod that waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Ready,
    Under,
    /// They will not come: the pod must be decided again.
    Failed(String),
}

/// All that wait, by their uid.
#[derive(Default)]
pub(crate) struct WaitingPods(HashMap<Arc<str>, Waiting>);

impl WaitingPods {
    pub(crate) fn add(&mut self, pod: Arc<Pod>, node: Arc<str>, now: Instant) {
        let waiting = Waiting {
            node,
            until: now + PATIENCE,
            selected: Vec::new(),
            pod: Arc::clone(&pod),
        };
        self.0.insert(Arc::clone(&pod.uid), waiting);
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Waiting> {
        self.0.remove(uid)
    }

    /// When the first of them has waited too long.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|waiting| waiting.until).min()
    }

    /// Those that wait no longer, and why.
    pub(crate) fn settled(
        &mut self,
        storage: &Storage,
        node: impl Fn(&str) -> Option<Node>,
        now: Instant,
    ) -> Vec<(Waiting, Progress)> {
        let mut settled = Vec::new();
        for (uid, waiting) in &mut self.0 {
            let node = node(&waiting.node);
            let progress = match waiting.progress(storage, node.as_ref()) {
                Progress::Under if waiting.until <= now => {
                    Progress::Failed("context deadline exceeded".to_owned())
                }
                progress => progress,
            };
            if progress != Progress::Under {
                settled.push((Arc::clone(uid), progress));
            }
        }
        let out = settled.into_iter();
        out.filter_map(|(uid, progress)| Some((self.0.remove(&uid)?, progress)))
            .collect()
    }
}

impl Waiting {
    fn progress(&mut self, storage: &Storage, node: Option<&Node>) -> Progress {
        let Some(node) = node else {
            return Progress::Failed(format!("node {:?} not found", &*self.node));
        };
        let mut progress = Progress::Ready;
        for wanted in &self.pod.claims {
            let name = &wanted.name;
            let Some(claim) = storage.claim(&wanted.key).filter(|claim| !claim.deleting) else {
                return Progress::Failed(format!("persistentvolumeclaim {name:?} not found"));
            };
            if claim.is_bound() {
                match storage.volume(&claim.volume) {
                    Some(volume) if !volume.is_reached_from(node) => {
                        return Progress::Failed(format!(
                            "pv {:?} node affinity doesn't match node {:?}",
                            claim.volume, &*self.node
                        ));
                    }
                    Some(volume) if volume.is_for(claim) && claim.is_ready() => {}
                    _ => progress = Progress::Under,
                }
                continue;
            }
            progress = Progress::Under;
            let known = self.selected.contains(&claim.key);
            match &claim.selected {
                Some(selected) if *selected != self.node && known => {
                    return Progress::Failed(format!(
                        "selectedNode annotation value {selected:?} not set to scheduled node {:?}",
                        &*self.node
                    ));
                }
                Some(selected) if *selected == self.node && !known => {
                    self.selected.push(Arc::clone(&claim.key));
                }
                // The provisioner gave up on this node.
                None if known => {
                    return Progress::Failed(format!("provisioning failed for PVC {name:?}"));
                }
                _ => {}
            }
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1 as core;

    use super::*;
    use crate::storage::Volume;

    fn claim(words: &str) -> Claim {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}});
        for word in words.split_whitespace() {
            match word.split_once(':') {
                Some(("on", node)) => claim["metadata"]["annotations"][SELECTED_NODE] = node.into(),
                Some((_, volume)) => {
                    claim["spec"]["volumeName"] = volume.into();
                    claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] =
                        "yes".into();
                    claim["status"]["phase"] = "Bound".into();
                }
                None => claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
            }
        }
        let claim: core::PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        Claim::from(&claim)
    }

    /// What becomes of a pod on node `a` that uses the claim, as the claim goes through these states.
    #[track_caller]
    fn check(states: &[&str], expected: Expect) {
        let object = |value| serde_json::from_value::<core::Pod>(value).unwrap();
        let pod = Pod::from(&object(json!({
            "metadata": {"uid": "p", "name": "p", "namespace": "ns"},
            "spec": {"containers": [], "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
        })));
        let node = json!({"metadata": {"name": "a"}});
        let node = Node::from(&serde_json::from_value::<core::Node>(node).unwrap());
        let mut storage = Storage::default();
        let volume = json!({"metadata": {"name": "v"}, "spec": {
            "claimRef": {"namespace": "ns", "name": "c", "uid": "u"}}});
        let volume: core::PersistentVolume = serde_json::from_value(volume).unwrap();
        storage.put_volume(Volume::from(&volume));
        let (mut waiting, now) = (WaitingPods::default(), Instant::now());
        waiting.add(Arc::new(pod), "a".into(), now);
        let mut said = Vec::new();
        for state in states {
            storage.put_claim(claim(state));
            let settled = waiting.settled(&storage, |_| Some(node.clone()), now);
            said.extend(
                settled
                    .into_iter()
                    .map(|(_, progress)| format!("{progress:?}")),
            );
        }
        if said.is_empty() {
            let late = now + PATIENCE;
            let settled = waiting.settled(&storage, |_| Some(node.clone()), late);
            said.extend(
                settled
                    .into_iter()
                    .map(|(_, progress)| format!("later {progress:?}")),
            );
        }
        expected.assert_eq(&said.join(", "));
    }

    #[test]
    fn a_pod_waits_until_its_claim_is_bound_to_a_volume_that_is_there() {
        check(&["", "on:a", "on:a =:v"], expect!["Ready"]);
        check(&["", "=:v"], expect!["Ready"]);
        check(
            &["", "on:a", "on:a =:unseen"],
            expect![[r#"later Failed("context deadline exceeded")"#]],
        );
    }

    #[test]
    fn a_pod_is_decided_again_when_its_volume_will_not_come() {
        check(
            &["", "on:a", ""],
            expect![[r#"Failed("provisioning failed for PVC \"c\"")"#]],
        );
        check(
            &["on:a", "on:b"],
            expect![[
                r#"Failed("selectedNode annotation value \"b\" not set to scheduled node \"a\"")"#
            ]],
        );
        check(
            &["on:a", "deleting"],
            expect![[r#"Failed("persistentvolumeclaim \"c\" not found")"#]],
        );
        // A node that was selected long ago, and whose successor is on its way.
        check(&["on:gone", "on:a", "on:a =:v"], expect!["Ready"]);
    }
}
