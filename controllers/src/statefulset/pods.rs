//! Makes and removes the pods of a StatefulSet and their claims, with Events in Kubernetes' words.
//!
//! Names are given, so nothing is ever made twice: where the cache is behind, the apiserver refuses, and
//! the next look is at what is there. A pod is deleted only if it is still the same one, and with its own
//! grace period: one whose node is lost stays until somebody who knows that it has ended removes it.

use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use super::claims;
use super::plan::{Creation, INDEX_LABEL, NAME_LABEL};
use super::set::Set;
use crate::context::{Context, resource};
use crate::error::{Error, within, within_opt};
use crate::events::Severity;
use crate::history::REVISION_LABEL;
use crate::key::Key;
use crate::pod_control::{PodControl, remove};

/// Requests in flight for one set.
const AT_ONCE: usize = 64;

/// The pods of one set, for writing.
pub(super) struct Pods<'a> {
    pub(super) context: &'a Context,
    pub(super) control: &'a PodControl,
    pub(super) raw: &'a DynamicObject,
    pub(super) set: &'a Set,
    pub(super) namespace: &'a str,
}

impl Pods<'_> {
    /// Makes pods in batches of 1, 2, 4, …, each after its claims.
    ///
    /// # Errors
    /// The last of a batch's failures; later batches are not tried.
    pub(super) async fn create(
        &self,
        creations: &[Creation],
        current: &DynamicObject,
        update: &DynamicObject,
    ) -> Result<(), Error> {
        let [old, new] = [current, update].map(|revision| self.template_pod(revision));
        let (mut left, mut batch) = (creations, 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let requests = now.iter().map(|creation| {
                let pod = if creation.updated { &new } else { &old };
                self.create_one(creation, pod.clone())
            });
            let answers: Vec<_> = stream::iter(requests.collect::<Vec<_>>())
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            answers.into_iter().collect::<Result<(), _>>()?;
            (left, batch) = (later, batch * 2);
        }
        Ok(())
    }

    async fn create_one(&self, creation: &Creation, mut pod: Value) -> Result<(), Error> {
        let name = self.set.pod_name(creation.ordinal);
        for template in &creation.claims {
            if let Err(error) = self.create_claim(creation.ordinal, *template).await {
                if !matches!(error, Error::Conflict(_)) {
                    let template = &self.set.templates[*template];
                    let claim = self.set.claim_name(template, creation.ordinal);
                    self.failed(
                        "create",
                        &name,
                        &format!("failed to create PVC {claim}: {error}"),
                    );
                }
                return Err(error);
            }
        }
        identify(&mut pod, self.set, creation.ordinal);
        let pod: DynamicObject = serde_json::from_value(pod)?;
        match self.create_object::<Pod>(&pod).await {
            Ok(pod) => {
                self.done("create", &name);
                let pod = pod.try_parse::<Pod>();
                let pod = pod.map_err(|error| Error::Invalid(error.to_string()))?;
                self.context.pods.apply(pod);
                Ok(())
            }
            // The name is taken, be it by our own pod unseen or by one that is no business of ours.
            Err(error @ Error::Conflict(_)) => Err(error),
            Err(error) => {
                self.failed("create", &name, &error.to_string());
                Err(error)
            }
        }
    }

    /// Makes the claim of a template for a pod.
    pub(super) async fn create_claim(&self, ordinal: i64, template: usize) -> Result<(), Error> {
        let claim = claims::claim(self.set, self.raw, template, ordinal);
        let claim: DynamicObject = serde_json::from_value(claim)?;
        let (name, pod) = (claim.name_any(), self.set.pod_name(ordinal));
        let set = &self.set.name;
        match self.create_object::<PersistentVolumeClaim>(&claim).await {
            Ok(claim) => {
                let claim = claim.try_parse::<PersistentVolumeClaim>();
                let claim = claim.map_err(|error| Error::Invalid(error.to_string()))?;
                self.context.claims.apply(claim);
                let message = format!("create Claim {name} Pod {pod} in StatefulSet {set} success");
                self.tell(Severity::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(Error::Conflict(message)) => {
                // It is there unseen: the next look is at what it is.
                let api = self.claims_api();
                let seen = within_opt(api.get(&name)).await?;
                seen.into_iter()
                    .for_each(|claim| self.context.claims.apply(claim));
                Err(Error::Conflict(message))
            }
            Err(error) => {
                let message = format!(
                    "create Claim {name} for Pod {pod} in StatefulSet {set} failed error: {error}"
                );
                self.tell(Severity::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    /// Gives a claim other owners, if it is still as it was seen.
    pub(super) async fn own(&self, name: &str, owners: &[OwnerReference]) -> Result<(), Error> {
        let Some(claim) = self.context.claims.get(&Key::new(self.namespace, name)) else {
            return Ok(());
        };
        let patch = json!({"metadata": {
            "uid": claim.uid(), "resourceVersion": claim.resource_version(),
            "ownerReferences": owners,
        }});
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let answer = within_opt(self.claims_api().patch(name, &params, &patch)).await?;
        answer
            .into_iter()
            .for_each(|claim| self.context.claims.apply(claim));
        Ok(())
    }

    /// Gives a pod the labels of its identity.
    pub(super) async fn identify(&self, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = self.set.ordinal(pod) else {
            return Ok(());
        };
        let name = pod.name_any();
        let labels = json!({NAME_LABEL: name, INDEX_LABEL: ordinal.to_string()});
        let patch = json!({"metadata": {"uid": pod.uid(), "labels": labels}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        match within_opt(self.pods_api().patch(&name, &params, &patch)).await {
            Ok(answer) => {
                self.done("update", &name);
                answer
                    .into_iter()
                    .for_each(|pod| self.context.pods.apply(pod));
                Ok(())
            }
            Err(error) => {
                self.failed("update", &name, &error.to_string());
                Err(error)
            }
        }
    }

    /// Asks pods to end, each only if it is still the same one.
    ///
    /// # Errors
    /// One of the failures; all are tried.
    pub(super) async fn delete(&self, doomed: Vec<Arc<Pod>>) -> Result<(), Error> {
        let requests = doomed.into_iter().map(|pod| remove(self.pods_api(), pod));
        let answers: Vec<_> = stream::iter(requests.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut outcome = Ok(());
        for (pod, answer) in answers {
            match answer {
                Ok(answer) => {
                    answer
                        .into_iter()
                        .for_each(|pod| self.context.pods.apply(pod));
                    self.done("delete", &pod.name_any());
                }
                Err(error) => {
                    if !matches!(error, Error::Conflict(_)) {
                        self.failed("delete", &pod.name_any(), &error.to_string());
                    }
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// The pod that a revision's template asks for; it has no identity yet.
    fn template_pod(&self, revision: &DynamicObject) -> Value {
        let mut owner = self.raw.clone();
        let template = revision.data.pointer("/data/spec/template");
        let mut template = template.cloned().unwrap_or_default();
        if let Some(template) = template.as_object_mut() {
            template.remove("$patch");
        }
        owner.data["spec"]["template"] = template;
        let mut pod = self.control.pod(&owner);
        pod["metadata"]["labels"][REVISION_LABEL] = json!(revision.name_any());
        let service = self.raw.data.pointer("/spec/serviceName");
        if let Some(service) = service
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
        {
            pod["spec"]["subdomain"] = json!(service);
        }
        pod
    }

    async fn create_object<K: Resource<DynamicType = ()>>(
        &self,
        object: &DynamicObject,
    ) -> Result<DynamicObject, Error> {
        let client = self.context.client.clone();
        let api = Api::<DynamicObject>::namespaced_with(client, self.namespace, &resource::<K>());
        let params = PostParams {
            field_manager: Some("kube-controller-manager".into()),
            ..PostParams::default()
        };
        within(api.create(&params, object)).await
    }

    fn pods_api(&self) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), self.namespace)
    }

    fn claims_api(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), self.namespace)
    }

    fn done(&self, verb: &str, pod: &str) {
        let reason = match verb {
            "create" => "SuccessfulCreate",
            "update" => "SuccessfulUpdate",
            _ => "SuccessfulDelete",
        };
        let message = format!(
            "{verb} Pod {pod} in StatefulSet {} successful",
            self.set.name
        );
        self.tell(Severity::Normal, reason, message);
    }

    pub(super) fn failed(&self, verb: &str, pod: &str, error: &str) {
        let reason = match verb {
            "create" => "FailedCreate",
            "update" => "FailedUpdate",
            _ => "FailedDelete",
        };
        let set = &self.set.name;
        let message = format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}");
        self.tell(Severity::Warning, reason, message);
    }

    pub(super) fn tell(&self, severity: Severity, reason: &'static str, message: String) {
        self.control
            .tell(self.context, self.raw, severity, reason, message);
    }
}

/// Gives a pod its name, host name, labels and volumes.
fn identify(pod: &mut Value, set: &Set, ordinal: i64) {
    let name = set.pod_name(ordinal);
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"][NAME_LABEL] = json!(name);
    pod["metadata"]["labels"][INDEX_LABEL] = json!(ordinal.to_string());
    pod["spec"]["hostname"] = json!(name);
    if set.templates.is_empty() {
        return;
    }
    let claims = set.templates.iter().map(|template| {
        let claim = set.claim_name(template, ordinal);
        json!({"name": template, "persistentVolumeClaim": {"claimName": claim}})
    });
    let others = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let others = others.filter(|volume| {
        let name = volume["name"].as_str().unwrap_or_default();
        !set.templates.iter().any(|template| template == name)
    });
    let volumes: Vec<_> = claims.chain(others.cloned()).collect();
    pod["spec"]["volumes"] = json!(volumes);
}
