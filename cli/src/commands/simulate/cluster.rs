//! A copy of what the scheduler reads, and what manifests add to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use http::Method;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, StatefulSet},
    core::v1::{
        Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
        Service,
    },
    policy::v1::PodDisruptionBudget,
    storage::v1::StorageClass,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use scheduler::{Profile, Simulation, Verdict};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    report::{Outcome, Placed, Workload},
    workload::{self, Copy, Plan},
};
use crate::{
    api::{self, Api},
    apply::Target,
    query,
};

/// The copy.
pub(super) struct Cluster {
    simulation: Simulation,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) pods: Vec<Pod>,
    pub(super) budgets: Vec<PodDisruptionBudget>,
    namespaces: BTreeSet<String>,
    /// `namespace/name`
    claims: BTreeSet<String>,
    /// The Deployment that each ReplicaSet belongs to, by the ReplicaSet's uid.
    deployments: HashMap<String, String>,
    /// How many pods were made up.
    made: usize,
}

impl Cluster {
    /// Lists what the scheduler reads.
    pub(super) async fn copy(api: &Api) -> Result<Cluster> {
        let (nodes, pods, namespaces, claims, volumes, classes, budgets, sets) = tokio::try_join!(
            list::<Node>(api, "/api/v1/nodes"),
            list::<Pod>(api, "/api/v1/pods"),
            list::<Namespace>(api, "/api/v1/namespaces"),
            list::<PersistentVolumeClaim>(api, "/api/v1/persistentvolumeclaims"),
            list::<PersistentVolume>(api, "/api/v1/persistentvolumes"),
            list::<StorageClass>(api, "/apis/storage.k8s.io/v1/storageclasses"),
            list::<PodDisruptionBudget>(api, "/apis/policy/v1/poddisruptionbudgets"),
            list::<ReplicaSet>(api, "/apis/apps/v1/replicasets"),
        )?;
        let (services, stateful, controllers) = tokio::try_join!(
            list::<Service>(api, "/api/v1/services"),
            list::<StatefulSet>(api, "/apis/apps/v1/statefulsets"),
            list::<ReplicationController>(api, "/api/v1/replicationcontrollers"),
        )?;
        let mut simulation = Simulation::new(vec![Profile::default()]);
        services
            .iter()
            .for_each(|service| simulation.put_service(service));
        sets.iter().for_each(|set| simulation.put_replica_set(set));
        for set in &stateful {
            simulation.put_stateful_set(set);
        }
        for controller in &controllers {
            simulation.put_replication_controller(controller);
        }
        nodes.iter().for_each(|node| simulation.put_node(node));
        let deployments = sets.iter().filter_map(|set| {
            let owners = set.owner_references().iter();
            let mut owners = owners.filter(|owner| owner.controller == Some(true));
            let owner = owners.find(|owner| owner.kind == "Deployment")?;
            Some((set.uid()?, owner.name.clone()))
        });
        for namespace in &namespaces {
            simulation.put_namespace(namespace);
        }
        claims.iter().for_each(|claim| simulation.put_claim(claim));
        for volume in &volumes {
            simulation.put_volume(volume);
        }
        classes.iter().for_each(|class| simulation.put_class(class));
        budgets
            .iter()
            .for_each(|budget| simulation.put_budget(budget));
        for pod in &pods {
            simulation.put_pod(pod);
        }
        let key = |claim: &PersistentVolumeClaim| {
            let namespace = claim.namespace().unwrap_or_default();
            format!("{namespace}/{}", claim.name_any())
        };
        Ok(Cluster {
            simulation,
            deployments: deployments.collect(),
            nodes: nodes
                .into_iter()
                .map(|node| (node.name_any(), node))
                .collect(),
            pods,
            budgets,
            namespaces: namespaces.iter().map(Namespace::name_any).collect(),
            claims: claims.iter().map(key).collect(),
            made: 0,
        })
    }

    /// Adds what a manifest says beside pods, if the scheduler reads it.
    pub(super) async fn add(&mut self, api: &Api, target: &Target) -> Result<()> {
        match target.resource.kind.as_str() {
            "Node" => {
                self.put_node(read(target.object.clone())?);
            }
            "Namespace" => {
                let namespace: Namespace = read(target.object.clone())?;
                self.simulation.put_namespace(&namespace);
            }
            "Service" => {
                let mut service: Service = read(target.object.clone())?;
                service.metadata.namespace = Some(target.namespace.clone());
                self.simulation.put_service(&service);
            }
            "StorageClass" => self.simulation.put_class(&read(target.object.clone())?),
            "PersistentVolume" => {
                let mut volume = target.object.clone();
                volume["status"] = json!({"phase": "Available"});
                self.simulation.put_volume(&read(volume)?);
            }
            "PersistentVolumeClaim" => {
                let path = target.resource.collection(Some(&target.namespace));
                self.add_claim(api, &path, target.object.clone()).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds a claim as it would be made; one that is there stays as it is.
    async fn add_claim(&mut self, api: &Api, path: &str, claim: Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &claim["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        if !self.claims.insert(format!("{namespace}/{name}")) {
            return Ok(());
        }
        let claim = self.admitted(api, path, &namespace, claim).await?;
        self.simulation.put_claim(&read(claim)?);
        Ok(())
    }

    /// The object as the server would store it; as it is if its namespace is not there yet.
    async fn admitted(
        &self,
        api: &Api,
        path: &str,
        namespace: &str,
        object: Value,
    ) -> Result<Value> {
        if !self.namespaces.contains(namespace) {
            return Ok(object);
        }
        let parameters = [("fieldManager", "wkctl-simulate"), ("dryRun", "All")];
        api.send(Method::POST, &query::with(path, &parameters), &object)
            .await
    }

    /// Places the pods that an object of a manifest would make, in place of those that it has.
    pub(super) async fn place(&mut self, api: &Api, target: &Target) -> Result<Workload> {
        let (kind, namespace, name) = (
            target.resource.kind.as_str(),
            target.namespace.as_str(),
            target.name.as_str(),
        );
        let nodes: Vec<String> = self.nodes.keys().cloned().collect();
        let plan = workload::plan(kind, name, &target.object, &nodes)?;
        let replaced = self.remove_pods_of(kind, namespace, name);
        for claim in &plan.claims {
            let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
            let mut claim = claim.clone();
            claim["metadata"]["namespace"] = namespace.into();
            self.add_claim(api, &path, claim).await?;
        }
        let mut template = self.template(api, namespace, &plan).await?;
        self.own(&mut template, kind, target)?;
        let mut pods = Vec::with_capacity(plan.copies.len());
        for copy in &plan.copies {
            let outcome = self.place_copy(&template, namespace, copy)?;
            // A DaemonSet wants no pod on a node that it does not select or bear.
            if let (Some(node), Outcome::Refused { objections, .. }) = (&copy.node, &outcome)
                && objections.iter().any(|objection| {
                    objection.node == *node && workload::UNWANTED.contains(&objection.plugin)
                })
            {
                continue;
            }
            pods.push(Placed {
                name: copy.name.clone(),
                outcome,
            });
        }
        Ok(Workload {
            display: target.display(),
            namespace: namespace.to_owned(),
            replaced,
            pods,
        })
    }

    /// A pod of the plan as the server would store it.
    async fn template(&self, api: &Api, namespace: &str, plan: &Plan) -> Result<Value> {
        let mut pod = plan.template.clone();
        if let Some(first) = plan.copies.first() {
            workload::fill(&mut pod, first, false);
        }
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["namespace"] = namespace.into();
        // A pod of that name may be there.
        pod["metadata"]["name"] = Value::Null;
        pod["metadata"]["generateName"] = "simulated-".into();
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.admitted(api, &path, namespace, pod).await
    }

    /// Makes the pods those of their owner, which keeps them apart.
    fn own(&mut self, template: &mut Value, kind: &str, target: &Target) -> Result<()> {
        let mut owner = target.object.clone();
        // A Deployment's pods are those of a ReplicaSet that it makes.
        if kind == "Deployment" {
            owner["kind"] = "ReplicaSet".into();
            owner["metadata"]["name"] = format!("simulated-{}", target.name).into();
            owner["spec"] = json!({"selector": owner["spec"]["selector"]});
        }
        let of = owner.clone();
        match kind {
            "Deployment" | "ReplicaSet" => self.simulation.put_replica_set(&read(of)?),
            "StatefulSet" => self.simulation.put_stateful_set(&read(of)?),
            "ReplicationController" => self.simulation.put_replication_controller(&read(of)?),
            _ => return Ok(()),
        }
        template["metadata"]["ownerReferences"] = json!([{
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": "simulated", "controller": true,
        }]);
        Ok(())
    }

    fn place_copy(&mut self, template: &Value, namespace: &str, copy: &Copy) -> Result<Outcome> {
        let mut pod = template.clone();
        self.made += 1;
        pod["metadata"]["uid"] = format!("simulated-{}", self.made).into();
        pod["metadata"]["namespace"] = namespace.into();
        workload::fill(&mut pod, copy, true);
        let pod: Pod = read(pod)?;
        if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) {
            self.simulation.put_pod(&pod);
            return Ok(Outcome::Fits { node });
        }
        Ok(self.decide(&pod))
    }

    /// Decides where a pod goes that has no node yet, and counts it there from now on.
    pub(super) fn decide(&mut self, pod: &Pod) -> Outcome {
        match self.simulation.place(pod) {
            Verdict::Fits(node) => Outcome::Fits { node },
            Verdict::Refused {
                message,
                objections,
                room,
            } => Outcome::Refused {
                message,
                objections,
                room,
            },
        }
    }

    /// Adds or replaces a node.
    pub(super) fn put_node(&mut self, node: Node) {
        self.simulation.put_node(&node);
        self.nodes.insert(node.name_any(), node);
    }

    /// Removes a node and what is on it.
    pub(super) fn remove_node(&mut self, name: &str) {
        let on_it = |pod: &&Pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.as_deref()) == Some(name)
        };
        for pod in self.pods.iter().filter(on_it) {
            self.simulation.remove_pod(&pod.uid().unwrap_or_default());
        }
        self.simulation.remove_node(name);
        self.nodes.remove(name);
    }

    pub(super) fn remove_pod(&mut self, pod: &Pod) {
        self.simulation.remove_pod(&pod.uid().unwrap_or_default());
    }

    /// Takes away the pods that an object has: those of the manifest are in their place.
    fn remove_pods_of(&mut self, kind: &str, namespace: &str, name: &str) -> usize {
        let mut removed = 0;
        for pod in &self.pods {
            if pod.namespace().as_deref() != Some(namespace) {
                continue;
            }
            let owner = controller(pod);
            let its = match kind {
                "Pod" => pod.name_any() == name,
                "Deployment" => owner
                    .and_then(|owner| self.deployments.get(&owner.uid))
                    .is_some_and(|deployment| deployment == name),
                _ => owner.is_some_and(|owner| owner.kind == kind && owner.name == name),
            };
            if its && let Some(uid) = pod.uid() {
                self.simulation.remove_pod(&uid);
                removed += 1;
            }
        }
        removed
    }
}

/// Whose pod it is.
pub(super) fn controller(pod: &Pod) -> Option<&OwnerReference> {
    let mut owners = pod.owner_references().iter();
    owners.find(|owner| owner.controller == Some(true))
}

async fn list<T: DeserializeOwned>(api: &Api, path: &str) -> Result<Vec<T>> {
    let answer = api.get(path).await;
    let mut answer = match answer {
        // A server that does not have the kind has none of it.
        Err(error) if api::code(&error) == Some(404) => return Ok(Vec::new()),
        answer => answer?,
    };
    let Value::Array(items) = answer["items"].take() else {
        return Ok(Vec::new());
    };
    items
        .into_iter()
        .map(|item| read(item).with_context(|| format!("read {path}")))
        .collect()
}

fn read<T: DeserializeOwned>(object: Value) -> Result<T> {
    serde_json::from_value(object).context("it is not what its kind says")
}
