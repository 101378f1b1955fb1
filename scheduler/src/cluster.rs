//! A copy of a cluster to ask what the scheduler would do: where a pod would go, and what each node has to say.
//!
//! Pure. It is filled with objects as the API lists them, and decides by the very same core as the running scheduler.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Resource, ResourceExt};

use crate::config::Config;
use crate::decision::{Decision, Rotation, ask, objection, rank, schedule};
use crate::node::Node;
use crate::owners::OwnerKind;
use crate::placed::Placed;
use crate::pod::{Pod, Standing};
use crate::profile::Profile;
use crate::selector::Selector;
use crate::snapshot::Snapshot;
use crate::storage::{Claim, Class, Volume};

/// A cluster as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct Cluster {
    profiles: HashMap<Arc<str>, Arc<Profile>>,
    snapshot: Snapshot,
    rotation: Rotation,
}

/// What a node has to say to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub node: Arc<str>,
    /// Whether the pod may run there.
    pub answer: Answer,
}

/// Whether a pod may run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may: the sum of the weighted scores and each plugin's part of it.
    Admitted {
        total: i64,
        scores: Vec<(&'static str, i64)>,
    },
    /// This plugin objects, for these reasons.
    Refused {
        plugin: &'static str,
        reasons: Vec<String>,
        /// Whether it may help to remove pods from the node.
        resolvable: bool,
    },
}

/// Why a pod is not looked at by any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// It is for another scheduler: `spec.schedulerName`.
    NoProfile(String),
    /// It may not be decided yet, for its scheduling gates say.
    Gated(String),
    /// No node could help.
    Refused {
        plugin: &'static str,
        message: String,
    },
}

impl Cluster {
    /// An empty cluster, whose scheduler is configured like this.
    pub fn new(config: &Config) -> Self {
        let profiles = config.profiles.iter();
        Self {
            profiles: profiles
                .map(|profile| (Arc::clone(&profile.name), Arc::clone(profile)))
                .collect(),
            snapshot: Snapshot::default(),
            rotation: Rotation::new(config.seed),
        }
    }

    /// Adds or replaces a node.
    pub fn put_node(&mut self, node: &core::Node) {
        self.snapshot.put_node(Node::from(node));
    }

    /// Removes a node; the pods that were there.
    pub fn remove_node(&mut self, name: &str) -> Vec<Arc<Placed>> {
        let candidate = self.snapshot.candidate(name);
        let pods = candidate.map(|candidate| candidate.pods.clone());
        let pods = pods.unwrap_or_default();
        for pod in &pods {
            self.snapshot.remove(&pod.uid);
        }
        self.snapshot.remove_node(name);
        pods
    }

    /// Takes in a pod: it takes room if it is on a node, and room is kept for it if some is made. True if it is ours to place.
    pub fn put_pod(&mut self, object: &core::Pod) -> bool {
        let pod = Pod::from(object);
        let ours = |scheduler: &str| self.profiles.contains_key(scheduler);
        match Standing::of(object, ours) {
            Standing::Placed(node) => self.snapshot.place(&pod, &node),
            Standing::Pending => {
                self.snapshot.nominate(&pod, pod.nominated.as_ref());
                return true;
            }
            Standing::Aside => {}
        }
        false
    }

    /// Removes a pod.
    pub fn remove_pod(&mut self, uid: &str) {
        self.snapshot.remove(uid);
    }

    /// Adds or replaces a namespace.
    pub fn put_namespace(&mut self, namespace: &core::Namespace) {
        let labels = namespace.labels().clone();
        self.snapshot.put_namespace(&namespace.name_any(), labels);
    }

    /// Adds or replaces a claim.
    pub fn put_claim(&mut self, claim: &core::PersistentVolumeClaim) {
        self.snapshot.storage.put_claim(Claim::from(claim));
    }

    /// Adds or replaces a volume.
    pub fn put_volume(&mut self, volume: &core::PersistentVolume) {
        self.snapshot.storage.put_volume(Volume::from(volume));
    }

    /// Adds or replaces a class of storage.
    pub fn put_class(&mut self, class: &StorageClass) {
        let name = class.name_any();
        self.snapshot.storage.put_class(name, Class::from(class));
    }

    /// Adds or replaces a Service: the pods that it selects are spread.
    pub fn put_service(&mut self, service: &core::Service) {
        let selector = service.spec.as_ref();
        let selector = selector.and_then(|spec| spec.selector.clone());
        let namespace = service.namespace().unwrap_or_default();
        let owners = &mut self.snapshot.owners;
        owners.put_service(
            &namespace,
            &service.name_any(),
            selector.unwrap_or_default(),
        );
    }

    /// Adds or replaces a ReplicaSet: its pods are spread.
    pub fn put_replica_set(&mut self, set: &ReplicaSet) {
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        self.put_owner(OwnerKind::ReplicaSet, set, Selector::parse(selector));
    }

    /// Adds or replaces a StatefulSet: its pods are spread.
    pub fn put_stateful_set(&mut self, set: &StatefulSet) {
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        self.put_owner(OwnerKind::StatefulSet, set, Selector::parse(selector));
    }

    /// Adds or replaces a ReplicationController: its pods are spread.
    pub fn put_replication_controller(&mut self, controller: &core::ReplicationController) {
        let labels = controller.spec.as_ref();
        let labels = labels.and_then(|spec| spec.selector.clone());
        let selector = Selector::of_labels(&labels.unwrap_or_default());
        self.put_owner(OwnerKind::ReplicationController, controller, selector);
    }

    fn put_owner<K: Resource>(&mut self, kind: OwnerKind, owner: &K, selector: Selector) {
        let namespace = owner.namespace().unwrap_or_default();
        let owners = &mut self.snapshot.owners;
        owners.put(kind, &namespace, &owner.name_any(), selector);
    }

    /// Decides where a pod goes, and counts it there from now on.
    ///
    /// # Errors
    /// Why it is not decided at all.
    pub fn place(&mut self, object: &core::Pod) -> Result<Decision, Unasked> {
        let pod = Pod::from(object);
        let profile = self.profile(&pod)?;
        let decision = schedule(&profile, &self.snapshot, &pod, &mut self.rotation);
        if let Decision::Node(node) = &decision {
            self.snapshot.nominate(&pod, None);
            self.snapshot.assume(&pod, node);
            for plugin in &profile.reserves {
                // What it can't have shows when the next pod is decided.
                let _ = plugin.reserve(&mut self.snapshot, &pod, node);
            }
        }
        Ok(decision)
    }

    /// What each node has to say to a pod, in the order of decisions. Every node is asked and every node that admits it is
    /// ranked, where the scheduler of a large cluster stops at enough of them.
    ///
    /// # Errors
    /// Why no node is asked.
    pub fn explain(&self, object: &core::Pod) -> Result<Vec<Verdict>, Unasked> {
        let pod = Pod::from(object);
        let profile = self.profile(&pod)?;
        explain(&profile, &self.snapshot, &pod)
    }

    fn profile(&self, pod: &Pod) -> Result<Arc<Profile>, Unasked> {
        let profile = self.profiles.get(&pod.scheduler);
        let profile = profile.ok_or_else(|| Unasked::NoProfile(pod.scheduler.to_string()))?;
        for plugin in &profile.gates {
            if let Err(gated) = plugin.pre_enqueue(pod) {
                return Err(Unasked::Gated(gated.message));
            }
        }
        Ok(Arc::clone(profile))
    }
}

/// What each node has to say to a pod, in the order of decisions.
///
/// # Errors
/// Why no node is asked.
pub fn explain(profile: &Profile, snapshot: &Snapshot, pod: &Pod) -> Result<Vec<Verdict>, Unasked> {
    let asked = ask(profile, snapshot, pod).map_err(|(plugin, refused)| Unasked::Refused {
        plugin,
        message: refused.message,
    })?;
    let candidates = snapshot.order().iter();
    let candidates: Vec<_> = candidates
        .map(|index| &snapshot.candidates()[*index])
        .collect();
    let objections: Vec<_> = candidates
        .iter()
        .map(|candidate| objection(snapshot, pod, &asked, candidate))
        .collect();
    let both = candidates.iter().zip(&objections);
    let admitted: Vec<_> = both
        .filter(|(_, objection)| objection.is_none())
        .map(|(candidate, _)| *candidate)
        .collect();
    let mut parts: Vec<Vec<(&'static str, i64)>> = vec![Vec::new(); admitted.len()];
    let totals = rank(profile, snapshot, pod, &admitted, |plugin, scores| {
        for (parts, score) in parts.iter_mut().zip(scores) {
            parts.push((plugin, *score));
        }
    });
    let mut ranked = totals.into_iter().zip(parts);
    let verdicts = candidates.iter().zip(objections);
    Ok(verdicts
        .map(|(candidate, objection)| Verdict {
            node: Arc::clone(&candidate.node.name),
            answer: match objection {
                None => {
                    let (total, scores) = ranked.next().unwrap_or_default();
                    Answer::Admitted { total, scores }
                }
                Some(objection) => Answer::Refused {
                    plugin: objection.plugin,
                    reasons: objection.reasons(),
                    resolvable: objection.is_resolvable(),
                },
            },
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn cluster() -> Cluster {
        let mut cluster = Cluster::new(&Config::default());
        let node = |name: &str, extra: Value| {
            let mut node = json!({"metadata": {"name": name},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
            node["spec"] = extra;
            serde_json::from_value::<core::Node>(node).unwrap()
        };
        cluster.put_node(&node("big", json!({})));
        cluster.put_node(&node("busy", json!({})));
        cluster.put_node(&node("shut", json!({"unschedulable": true})));
        let mut taken = pod("taken", "3");
        taken.spec.as_mut().unwrap().node_name = Some("busy".to_owned());
        assert!(!cluster.put_pod(&taken));
        cluster
    }

    fn pod(name: &str, cpu: &str) -> core::Pod {
        let pod = json!({"metadata": {"name": name, "uid": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]}});
        serde_json::from_value(pod).unwrap()
    }

    #[track_caller]
    fn check(cluster: &Cluster, pod: &core::Pod, expected: Expect) {
        expected.assert_eq(&match cluster.explain(pod) {
            Err(why) => format!("{why:?}"),
            Ok(verdicts) => {
                let lines = verdicts.iter().map(|verdict| match &verdict.answer {
                    Answer::Admitted { total, scores } => {
                        format!("{}: {total} {scores:?}", verdict.node)
                    }
                    Answer::Refused {
                        plugin,
                        reasons,
                        resolvable,
                    } => format!("{}: {plugin} {reasons:?} {resolvable}", verdict.node),
                });
                lines.collect::<Vec<_>>().join("\n")
            }
        });
    }

    #[test]
    fn every_node_says_why_it_takes_a_pod_or_not() {
        check(
            &cluster(),
            &pod("new", "2"),
            expect![[r#"
            big: 149 [("NodeResourcesFit", 68), ("NodeResourcesBalancedAllocation", 81)]
            busy: NodeResourcesFit ["Insufficient cpu"] true
            shut: NodeUnschedulable ["node(s) were unschedulable"] false"#]],
        );
        check(
            &cluster(),
            &pod("new", "5"),
            expect![[r#"
            big: NodeResourcesFit ["Insufficient cpu"] false
            busy: NodeResourcesFit ["Insufficient cpu"] false
            shut: NodeUnschedulable ["node(s) were unschedulable"] false"#]],
        );
    }

    #[test]
    fn a_pod_that_is_not_decided_says_why() {
        let mut gated = pod("new", "1");
        let gates = json!([{"name": "a"}, {"name": "b"}]);
        gated.spec.as_mut().unwrap().scheduling_gates = serde_json::from_value(gates).unwrap();
        check(
            &cluster(),
            &gated,
            expect![[r#"Gated("waiting for scheduling gates: [a b]")"#]],
        );
        let mut other = pod("new", "1");
        other.spec.as_mut().unwrap().scheduler_name = Some("mine".to_owned());
        check(&cluster(), &other, expect![[r#"NoProfile("mine")"#]]);
    }

    #[test]
    fn the_pods_of_a_node_that_goes_find_another() {
        let mut cluster = cluster();
        let gone = cluster.remove_node("busy");
        assert_eq!(&*gone[0].name, "taken");
        let decision = cluster.place(&pod("taken", "3"));
        assert_eq!(decision, Ok(Decision::Node("big".into())));
        let Ok(Decision::Unschedulable(why)) = cluster.place(&pod("other", "2")) else {
            panic!("no room");
        };
        let said = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.";
        assert_eq!(why.to_string(), said);
    }

    #[test]
    fn room_that_is_made_is_kept_for_the_pod_it_is_made_for() {
        let mut cluster = cluster();
        cluster.remove_node("busy");
        let mut waits = pod("waits", "3");
        waits.spec.as_mut().unwrap().priority = Some(5);
        waits.status.get_or_insert_default().nominated_node_name = Some("big".to_owned());
        assert!(cluster.put_pod(&waits));
        check(
            &cluster,
            &pod("lower", "2"),
            expect![[r#"
            big: NodeResourcesFit ["Insufficient cpu"] true
            shut: NodeUnschedulable ["node(s) were unschedulable"] false"#]],
        );
        let mut higher = pod("higher", "2");
        higher.spec.as_mut().unwrap().priority = Some(6);
        assert_eq!(
            cluster.clone().place(&higher),
            Ok(Decision::Node("big".into()))
        );
        assert_eq!(cluster.place(&waits), Ok(Decision::Node("big".into())));
    }
}
