//! A copy of a cluster to try decisions on: the scheduler's own core, and nothing around it.
//!
//! Pure. What is decided here is what the scheduler would decide if it saw the same objects in the same order; among
//! equally good nodes it may pick another. Every decision counts for those that follow it. Never asks or tells an API.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::decision::{Decision, schedule};
use crate::node::Node;
use crate::owners::OwnerKind;
use crate::pod::{Pod, Standing};
use crate::profile::Profile;
use crate::selector::Selector;
use crate::snapshot::Snapshot;
use crate::storage::{Claim, Class, Volume};

/// Nodes, what is placed on them, and what else decisions read.
pub struct Simulation {
    profiles: Vec<Profile>,
    snapshot: Snapshot,
    ties: SmallRng,
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

impl Simulation {
    /// An empty cluster whose scheduler has these profiles.
    pub fn new(profiles: Vec<Profile>) -> Self {
        Self {
            profiles,
            snapshot: Snapshot::default(),
            ties: SmallRng::seed_from_u64(0),
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

    /// Adds or replaces a namespace.
    pub fn put_namespace(&mut self, namespace: &core::Namespace) {
        let metadata = &namespace.metadata;
        let labels = metadata.labels.clone().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        self.snapshot.put_namespace(name, labels);
    }

    /// Adds or replaces a claim.
    pub fn put_claim(&mut self, claim: &core::PersistentVolumeClaim) {
        self.snapshot.storage.put_claim(Claim::from(claim));
    }

    /// Adds or replaces a volume.
    pub fn put_volume(&mut self, volume: &core::PersistentVolume) {
        self.snapshot.storage.put_volume(Volume::from(volume));
    }

    /// Adds or replaces a class of volumes.
    pub fn put_class(&mut self, class: &StorageClass) {
        let name = class.metadata.name.clone().unwrap_or_default();
        self.snapshot.storage.put_class(name, Class::from(class));
    }

    /// Adds or replaces a Service: its pods are kept apart.
    pub fn put_service(&mut self, service: &core::Service) {
        let metadata = &service.metadata;
        let spec = service.spec.as_ref();
        self.snapshot.owners.put_service(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
            spec.and_then(|spec| spec.selector.clone())
                .unwrap_or_default(),
        );
    }

    /// Adds or replaces an owner of pods, `ReplicaSet`, `StatefulSet` or `ReplicationController`: its pods are kept
    /// apart. Other kinds change nothing.
    pub fn put_owner(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
        pods: Option<&LabelSelector>,
    ) {
        let kind = match kind {
            "ReplicaSet" => OwnerKind::ReplicaSet,
            "StatefulSet" => OwnerKind::StatefulSet,
            "ReplicationController" => OwnerKind::ReplicationController,
            _ => return,
        };
        let pods = Selector::parse(pods);
        self.snapshot.owners.put(kind, namespace, name, pods);
    }

    /// Counts a pod where it is; false if it takes no room: it has no node, or has ended.
    pub fn put_pod(&mut self, pod: &core::Pod) -> bool {
        let Standing::Placed(node) = Standing::of(pod, "") else {
            return false;
        };
        self.snapshot.place(&Pod::from(pod), &node);
        true
    }

    /// Takes a pod away.
    pub fn remove_pod(&mut self, uid: &str) {
        self.snapshot.storage.forget(uid);
        self.snapshot.remove(uid);
    }

    /// Decides where a pod goes that has no node yet. Pods are told apart by `metadata.uid`.
    pub fn place(&mut self, object: &core::Pod) -> Verdict {
        let pod = Pod::from(object);
        let wanted = object.spec.as_ref();
        let wanted = wanted.and_then(|spec| spec.scheduler_name.as_deref());
        let wanted = wanted.unwrap_or("default-scheduler");
        let profile = self.profiles.iter().find(|known| *known.name == *wanted);
        let Some(profile) = profile else {
            return refused(format!(
                "its schedulerName is {wanted:?}, which this scheduler leaves to another"
            ));
        };
        let gated = profile.plugins.iter();
        let gated = gated.filter_map(|plugin| plugin.pre_enqueue(&pod).err());
        if let Some(gated) = gated.into_iter().next() {
            return refused(gated.message);
        }
        match schedule(profile, &self.snapshot, &pod, &mut self.ties) {
            Decision::Node(node) => {
                self.assume(&pod, &node);
                Verdict::Fits(node.to_string())
            }
            Decision::Unschedulable(why) => Verdict::Refused {
                message: why.to_string(),
                objections: objections(profile, &self.snapshot, &pod),
            },
        }
    }

    /// As the scheduler does before it binds: the pod counts, and its claims get what they would get.
    fn assume(&mut self, pod: &Pod, node: &Arc<str>) {
        let fates = self.snapshot.fates(pod, node);
        self.snapshot.assume(pod, node);
        for (claim, fate) in fates {
            self.snapshot.storage.assume(&claim, &pod.uid, fate);
        }
    }
}

fn refused(message: String) -> Verdict {
    Verdict::Refused {
        message,
        objections: Vec::new(),
    }
}

/// The first objection to each node, by the nodes' names.
fn objections(profile: &Profile, snapshot: &Snapshot, pod: &Pod) -> Vec<Objection> {
    let mut filters = Vec::with_capacity(profile.plugins.len());
    for plugin in &profile.plugins {
        match plugin.pre_filter(snapshot, pod) {
            Ok(None) => {}
            Ok(Some(filter)) => filters.push((plugin.name(), filter)),
            // The same is true of every node, and the message says it.
            Err(_) => return Vec::new(),
        }
    }
    let mut found = Vec::new();
    for candidate in snapshot.candidates() {
        let objection = filters.iter().find_map(|(plugin, filter)| {
            let reasons = filter.filter(candidate).err()?;
            Some(Objection {
                node: candidate.node.name.to_string(),
                plugin,
                reasons: reasons.iter().map(|reason| reason.to_string()).collect(),
                resolvable: reasons.is_resolvable(),
            })
        });
        found.extend(objection);
    }
    found.sort_by(|a, b| a.node.cmp(&b.node));
    found
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, cpu: &str) -> core::Node {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "9"}}});
        serde_json::from_value(node).expect("a node")
    }

    fn pod(uid: &str, cpu: &str, extra: &Value) -> core::Pod {
        let mut pod = json!({"metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        for (key, value) in extra.as_object().expect("fields") {
            pod["spec"][key] = value.clone();
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn cluster() -> Simulation {
        let mut cluster = Simulation::new(vec![Profile::default()]);
        cluster.put_node(&node("a", "2"));
        cluster.put_node(&node("b", "1"));
        cluster
    }

    #[test]
    fn decisions_count_for_those_that_follow() {
        let mut cluster = cluster();
        let mut place = |uid: &str| cluster.place(&pod(uid, "1", &json!({})));
        let mut nodes: Vec<_> = ["1", "2", "3"].iter().map(|uid| place(uid)).collect();
        nodes.sort_by_key(|verdict| format!("{verdict:?}"));
        expect![[r#"[Fits("a"), Fits("a"), Fits("b")]"#]].assert_eq(&format!("{nodes:?}"));
        expect![[r#"
            Refused {
                message: "0/2 nodes are available: 2 Insufficient cpu.",
                objections: [
                    Objection {
                        node: "a",
                        plugin: "NodeResourcesFit",
                        reasons: [
                            "Insufficient cpu",
                        ],
                        resolvable: true,
                    },
                    Objection {
                        node: "b",
                        plugin: "NodeResourcesFit",
                        reasons: [
                            "Insufficient cpu",
                        ],
                        resolvable: true,
                    },
                ],
            }
        "#]]
        .assert_debug_eq(&place("4"));
    }

    #[test]
    fn what_is_taken_away_makes_room() {
        let mut cluster = cluster();
        let there = pod("there", "2", &json!({"nodeName": "a"}));
        assert!(cluster.put_pod(&there));
        assert!(!cluster.put_pod(&pod("waits", "1", &json!({}))));
        let large = pod("large", "2", &json!({}));
        assert!(matches!(cluster.place(&large), Verdict::Refused { .. }));
        cluster.remove_pod("there");
        assert_eq!(cluster.place(&large), Verdict::Fits("a".to_owned()));
        cluster.remove_pod("large");
        cluster.remove_node("a");
        assert!(matches!(cluster.place(&large), Verdict::Refused { .. }));
    }

    #[test]
    fn another_schedulers_pods_are_not_placed() {
        let pod = pod("p", "1", &json!({"schedulerName": "mine"}));
        let Verdict::Refused { message, .. } = cluster().place(&pod) else {
            panic!("it was placed");
        };
        expect![[r#"its schedulerName is "mine", which this scheduler leaves to another"#]]
            .assert_eq(&message);
    }
}
