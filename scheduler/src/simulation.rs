//! A copy of a cluster to try decisions on: where a pod would go, and what each node has to say.
//!
//! Pure. It is filled with objects as the API lists them, and decides by the very same core as the running scheduler; among
//! equally good nodes it may pick another. Every decision counts for those that follow it. Never asks or tells an API.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Resource, ResourceExt};

use crate::budgets::Budget;
use crate::decision::{Decision, Rotation, ask, objection, rank, schedule};
use crate::framework::Room;
use crate::node::Node;
use crate::owners::OwnerKind;
use crate::pod::{Pod, Standing};
use crate::profile::Profile;
use crate::selector::Selector;
use crate::snapshot::Snapshot;
use crate::storage::{Claim, Class, Volume};

/// A cluster as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct Simulation {
    profiles: Vec<Arc<Profile>>,
    snapshot: Snapshot,
    rotation: Rotation,
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this node, and counts there from now on.
    Fits(String),
    /// It goes nowhere.
    Refused {
        /// As the pod's condition and its Event would say it.
        message: String,
        /// Why each node is not for it; none if no node was looked at.
        objections: Vec<Objection>,
        /// The node on which room is made for it, by pods that would go.
        room: Option<String>,
    },
}

/// Why a node is not for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The node's name.
    pub node: String,
    /// The plugin that objects, by Kubernetes' name.
    pub plugin: &'static str,
    /// One or more, as events show them.
    pub reasons: Vec<String>,
    /// Whether it may help to remove pods from the node.
    pub resolvable: bool,
}

/// What a node has to say to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may run there.
    Admitted {
        node: String,
        /// The sum of the weighted scores.
        total: i64,
        /// Each plugin's part of it.
        scores: Vec<(&'static str, i64)>,
    },
    Refused(Objection),
}

impl Simulation {
    /// An empty cluster whose scheduler has these profiles.
    pub fn new(profiles: Vec<Profile>) -> Self {
        Self {
            profiles: profiles.into_iter().map(Arc::new).collect(),
            snapshot: Snapshot::default(),
            rotation: Rotation::new(0),
        }
    }

    /// Adds or replaces a node.
    pub fn put_node(&mut self, node: &core::Node) {
        self.snapshot.put_node(Node::from(node));
    }

    /// Removes a node; its pods are to be removed first.
    pub fn remove_node(&mut self, name: &str) {
        self.snapshot.remove_node(name);
    }

    /// Counts a pod where it is; false if it takes no room: it has no node, or has ended. Room that is made for it is kept.
    pub fn put_pod(&mut self, object: &core::Pod) -> bool {
        let pod = Pod::from(object);
        let ours = |name: &str| self.profiles.iter().any(|profile| *profile.name == *name);
        match Standing::of(object, ours) {
            Standing::Placed(node) => {
                self.snapshot.place(&pod, &node);
                true
            }
            Standing::Pending => {
                match &pod.nominated {
                    Some(node) => self.snapshot.nominate(&pod, node),
                    None => self.snapshot.denominate(&pod.uid),
                };
                false
            }
            Standing::Aside => false,
        }
    }

    /// Takes a pod away.
    pub fn remove_pod(&mut self, uid: &str) {
        self.snapshot.storage.forget(uid);
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

    /// Adds or replaces a PodDisruptionBudget: room is made by its pods last.
    pub fn put_budget(&mut self, budget: &PodDisruptionBudget) {
        let namespace = budget.namespace().unwrap_or_default();
        let budgets = &mut self.snapshot.budgets;
        budgets.put(&namespace, &budget.name_any(), Budget::from(budget));
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

    /// Decides where a pod goes that has no node yet. Pods are told apart by `metadata.uid`.
    pub fn place(&mut self, object: &core::Pod) -> Verdict {
        let pod = Pod::from(object);
        let profile = match self.profile(&pod) {
            Ok(profile) => profile,
            Err(message) => {
                return Verdict::Refused {
                    message,
                    objections: Vec::new(),
                    room: None,
                };
            }
        };
        match schedule(&profile, &self.snapshot, &pod, &mut self.rotation) {
            Decision::Node(node) => {
                self.snapshot.denominate(&pod.uid);
                self.snapshot.assume(&pod, &node);
                for plugin in &profile.reserves {
                    // What it can't have shows when the next pod is decided.
                    let _ = plugin.reserve(&mut self.snapshot, &pod, &node);
                }
                Verdict::Fits(node.to_string())
            }
            Decision::Unschedulable(why) => {
                let answers = explain(&profile, &self.snapshot, &pod).unwrap_or_default();
                let mut objections: Vec<_> = answers
                    .into_iter()
                    .filter_map(|answer| match answer {
                        Answer::Refused(objection) => Some(objection),
                        Answer::Admitted { .. } => None,
                    })
                    .collect();
                objections.sort_by(|a, b| a.node.cmp(&b.node));
                let room = why.remedy.as_ref().and_then(|remedy| match &remedy.room {
                    Room::Made(nomination) => Some(nomination.node.to_string()),
                    Room::Kept | Room::Nowhere => None,
                });
                Verdict::Refused {
                    message: why.to_string(),
                    objections,
                    room,
                }
            }
        }
    }

    /// What each node has to say to a pod, in the order of decisions. Every node is asked and every node that admits it is
    /// ranked, where the scheduler of a large cluster stops at enough of them.
    ///
    /// # Errors
    /// Why no node is asked.
    pub fn explain(&self, object: &core::Pod) -> Result<Vec<Answer>, String> {
        let pod = Pod::from(object);
        let profile = self.profile(&pod)?;
        explain(&profile, &self.snapshot, &pod)
    }

    /// The profile that decides for a pod, or why none does.
    fn profile(&self, pod: &Pod) -> Result<Arc<Profile>, String> {
        let name = &pod.scheduler;
        let mut profiles = self.profiles.iter();
        let profile = profiles.find(|profile| profile.name == *name);
        let profile = profile.ok_or_else(|| {
            format!("its schedulerName is {name:?}, which this scheduler leaves to another")
        })?;
        let gated = profile.gates.iter();
        let mut gated = gated.filter_map(|plugin| plugin.pre_enqueue(pod).err());
        match gated.next() {
            Some(gated) => Err(gated.message),
            None => Ok(Arc::clone(profile)),
        }
    }
}

/// What each node has to say to a pod, in the order of decisions, or why none is asked.
fn explain(profile: &Profile, snapshot: &Snapshot, pod: &Pod) -> Result<Vec<Answer>, String> {
    let asked = ask(profile, snapshot, pod).map_err(|(_, refused)| refused.message)?;
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
    let answers = candidates.iter().zip(objections);
    Ok(answers
        .map(|(candidate, objection)| {
            let node = candidate.node.name.to_string();
            match objection {
                None => {
                    let (total, scores) = ranked.next().unwrap_or_default();
                    Answer::Admitted {
                        node,
                        total,
                        scores,
                    }
                }
                Some(objection) => Answer::Refused(Objection {
                    node,
                    plugin: objection.plugin,
                    reasons: objection.reasons(),
                    resolvable: objection.is_resolvable(),
                }),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn cluster() -> Simulation {
        let mut cluster = Simulation::new(vec![Profile::default()]);
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
        assert!(cluster.put_pod(&taken));
        cluster
    }

    fn pod(name: &str, cpu: &str) -> core::Pod {
        let pod = json!({"metadata": {"name": name, "uid": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]}});
        serde_json::from_value(pod).unwrap()
    }

    #[track_caller]
    fn check(cluster: &Simulation, pod: &core::Pod, expected: Expect) {
        expected.assert_eq(&match cluster.explain(pod) {
            Err(why) => why,
            Ok(answers) => {
                let lines = answers.iter().map(|answer| match answer {
                    Answer::Admitted {
                        node,
                        total,
                        scores,
                    } => format!("{node}: {total} {scores:?}"),
                    Answer::Refused(Objection {
                        node,
                        plugin,
                        reasons,
                        resolvable,
                    }) => format!("{node}: {plugin} {reasons:?} {resolvable}"),
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
            expect!["waiting for scheduling gates: [a b]"],
        );
        let mut other = pod("new", "1");
        other.spec.as_mut().unwrap().scheduler_name = Some("mine".to_owned());
        check(
            &cluster(),
            &other,
            expect![[r#"its schedulerName is "mine", which this scheduler leaves to another"#]],
        );
    }

    #[test]
    fn the_pods_of_a_node_that_goes_find_another() {
        let mut cluster = cluster();
        cluster.remove_pod("taken");
        cluster.remove_node("busy");
        let fits = Verdict::Fits("big".to_owned());
        assert_eq!(cluster.place(&pod("taken", "3")), fits);
        let Verdict::Refused {
            message,
            objections,
            room,
        } = cluster.place(&pod("other", "2"))
        else {
            panic!("no room");
        };
        let said = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.";
        assert!(message.starts_with(said), "{message}");
        let nodes: Vec<_> = objections.iter().map(|one| one.node.as_str()).collect();
        assert_eq!((nodes, room), (vec!["big", "shut"], None));
    }

    #[test]
    fn room_that_is_made_is_kept_for_the_pod_it_is_made_for() {
        let mut cluster = cluster();
        cluster.remove_node("busy");
        let mut waits = pod("waits", "3");
        waits.spec.as_mut().unwrap().priority = Some(5);
        waits.status.get_or_insert_default().nominated_node_name = Some("big".to_owned());
        assert!(!cluster.put_pod(&waits));
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
            Verdict::Fits("big".to_owned())
        );
        assert_eq!(cluster.place(&waits), Verdict::Fits("big".to_owned()));
    }
}
