//! What a pod's claims need before the pod is bound: writes that ask for their volumes, and pods that wait for them.
//!
//! Writes the claim that a free PersistentVolume names, or the node that a PersistentVolumeClaim's is made on; the
//! controllers and the provisioner do the rest. A pod that waits holds no slot for bindings, so that slow
//! storage keeps nobody else from being placed.
//!
//! [`waiting`]: the pods that wait.

mod waiting;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::framework::{Permit, Plugin};
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::storage::{Claim, ClaimKey, Fate, SELECTED_NODE, Storage};

pub(crate) use waiting::WaitingPods;

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
    /// What it waits for the sake of.
    pub(crate) plugin: Arc<dyn Plugin>,
    /// Whether it waits for a permit, and of which of the plugins.
    pub(crate) permit: Option<usize>,
    /// Until when, at most.
    until: Instant,
    /// Claims whose chosen node was seen on them.
    selected: Vec<ClaimKey>,
}

/// How it is with what a pod waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Ready,
    Under,
    /// They will not come: the pod must be decided again.
    Failed(String),
}

impl Waiting {
    pub(crate) fn new(
        pod: Arc<Pod>,
        node: Arc<str>,
        plugin: Arc<dyn Plugin>,
        until: Instant,
    ) -> Self {
        Self {
            pod,
            node,
            plugin,
            permit: None,
            until,
            selected: Vec::new(),
        }
    }

    pub(crate) fn for_permit(
        pod: Arc<Pod>,
        node: Arc<str>,
        plugin: Arc<dyn Plugin>,
        index: usize,
        until: Instant,
    ) -> Self {
        Self {
            permit: Some(index),
            ..Self::new(pod, node, plugin, until)
        }
    }

    /// How it is with what it waits for.
    fn ask(&mut self, snapshot: &Snapshot, now: Instant) -> Progress {
        let plugin = Arc::clone(&self.plugin);
        let late = self.until <= now;
        if self.permit.is_none() {
            return match plugin.progress(snapshot, self) {
                Progress::Under if late => Progress::Failed("context deadline exceeded".to_owned()),
                progress => progress,
            };
        }
        match plugin.permit(snapshot, &self.pod, &self.node) {
            Permit::Allow => Progress::Ready,
            Permit::Deny(why) => Progress::Failed(why),
            Permit::Wait(_) if late => {
                let name = plugin.name();
                Progress::Failed(format!(
                    "rejected due to timeout after waiting at plugin {name}"
                ))
            }
            Permit::Wait(_) => Progress::Under,
        }
    }

    /// How it is with the volumes of a pod that waits for them.
    pub(crate) fn progress(&mut self, storage: &Storage, node: Option<&Node>) -> Progress {
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

    use std::time::Duration;

    use super::*;
    use crate::framework::Change;
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
        let mut snapshot = Snapshot::default();
        snapshot.put_node(node);
        let volume = json!({"metadata": {"name": "v"}, "spec": {
            "claimRef": {"namespace": "ns", "name": "c", "uid": "u"}}});
        let volume: core::PersistentVolume = serde_json::from_value(volume).unwrap();
        snapshot.storage.put_volume(Volume::from(&volume));
        let (mut waiting, now) = (WaitingPods::default(), Instant::now());
        let late = now + Duration::from_secs(600);
        let plugin = crate::plugins::make("VolumeBinding", "", Value::Null);
        let plugin = plugin.unwrap().unwrap();
        waiting.add(Waiting::new(Arc::new(pod), "a".into(), plugin, late));
        let mut said = Vec::new();
        for state in states {
            snapshot.storage.put_claim(claim(state));
            waiting.stir_claim("ns/c");
            let settled = waiting.settled(&snapshot, now);
            said.extend(
                settled
                    .into_iter()
                    .map(|(_, progress)| format!("{progress:?}")),
            );
        }
        if said.is_empty() {
            let settled = waiting.settled(&snapshot, late);
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
            expect![[r#"Failed("binding volumes: provisioning failed for PVC \"c\"")"#]],
        );
        check(
            &["on:a", "on:b"],
            expect![[
                r#"Failed("binding volumes: selectedNode annotation value \"b\" not set to scheduled node \"a\"")"#
            ]],
        );
        check(
            &["on:a", "deleting"],
            expect![[r#"Failed("binding volumes: persistentvolumeclaim \"c\" not found")"#]],
        );
        // A node that was selected long ago, and whose successor is on its way.
        check(&["on:gone", "on:a", "on:a =:v"], expect!["Ready"]);
    }

    /// Lets a pod pass once there is a node `b`, and none named `bad`.
    struct Pair;

    impl Plugin for Pair {
        fn name(&self) -> &'static str {
            "Pair"
        }

        fn permit(&self, snapshot: &Snapshot, pod: &Pod, _: &str) -> Permit {
            if &*pod.name == "bad" {
                Permit::Deny("never".to_owned())
            } else if snapshot.node("b").is_some() {
                Permit::Allow
            } else {
                Permit::Wait(Duration::from_secs(10))
            }
        }

        fn may_help(&self, _: &Change<'_>, _: &Pod) -> bool {
            false
        }
    }

    #[test]
    fn a_pod_waits_for_its_permit_but_not_for_ever() {
        let (mut snapshot, mut waiting) = (Snapshot::default(), WaitingPods::default());
        let now = Instant::now();
        let mut settle = |name: &str, snapshot: &Snapshot, seconds| {
            let pod = json!({"metadata": {"name": name, "uid": name}});
            let pod = Pod::from(&serde_json::from_value::<core::Pod>(pod).unwrap());
            let until = now + Duration::from_secs(10);
            let plugin = Arc::new(Pair);
            let own = Waiting::for_permit(Arc::new(pod), "a".into(), plugin, 0, until);
            waiting.add(own);
            let settled = waiting.settled(snapshot, now + Duration::from_secs(seconds));
            waiting.remove(name);
            settled.into_iter().map(|(_, progress)| progress).next()
        };
        let failed = |why: &str| Some(Progress::Failed(why.to_owned()));
        assert_eq!(settle("good", &snapshot, 9), None);
        let late = "rejected due to timeout after waiting at plugin Pair";
        assert_eq!(settle("good", &snapshot, 10), failed(late));
        assert_eq!(settle("bad", &snapshot, 0), failed("never"));
        let node = json!({"metadata": {"name": "b"}});
        let node = serde_json::from_value::<core::Node>(node).unwrap();
        snapshot.put_node(Node::from(&node));
        assert_eq!(settle("good", &snapshot, 0), Some(Progress::Ready));
    }
}
