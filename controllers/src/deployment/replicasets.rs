//! Writes the ReplicaSets of one Deployment: makes, scales, labels, adopts and releases them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::COMPONENT;
use super::set::{DESIRED, HISTORY, MAX, REVISION, Set};
use super::status::Made;
use super::wish::Wish;
use crate::context::{Context, resource};
use crate::error::{Error, within, within_opt};
use crate::events::Severity;
use crate::template;

/// Annotations that are a Deployment's own.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    HISTORY,
    REVISION,
    DESIRED,
    MAX,
];
/// How long the list of a set's earlier revisions may be.
const HISTORY_LENGTH: usize = 2000;

/// The ReplicaSets of one Deployment, for writing.
pub(super) struct ReplicaSets<'a> {
    pub(super) context: &'a Context,
    pub(super) raw: &'a DynamicObject,
    pub(super) deployment: &'a Deployment,
    pub(super) template: &'a Value,
    /// The template for comparison.
    pub(super) bare: &'a Value,
    pub(super) wish: &'a Wish,
}

impl ReplicaSets<'_> {
    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.context.client.clone(),
            &self.deployment.namespace().unwrap_or_default(),
            &resource::<ReplicaSet>(),
        )
    }

    pub(super) fn say(&self, severity: Severity, reason: &'static str, message: String) {
        let recorder = self.context.recorder.named(COMPONENT);
        recorder.record(self.deployment, severity, reason, message);
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<(), Error> {
        let request = Patch::Merge(patch);
        let params = PatchParams::default();
        let answer = within(self.api().patch(name, &params, &request)).await?;
        self.context.replicasets.apply(answer);
        Ok(())
    }

    /// Makes the ReplicaSet of the current template. A name taken by another template raises `collisionCount`,
    /// and the next try finds a free one.
    pub(super) async fn create(&self, replicas: i32, revision: i64) -> Result<Made, Error> {
        let (name, hash, collisions) = self.new_name();
        let set = self.new_set(&name, &hash, replicas, revision)?;
        match within(self.api().create(&PostParams::default(), &set)).await {
            Ok(set) => self.context.replicasets.apply(set),
            Err(Error::Conflict(message)) => {
                self.taken(&name, collisions).await?;
                return Err(Error::Conflict(message));
            }
            Err(error) => return Err(error),
        }
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.say(Severity::Normal, "ScalingReplicaSet", message);
        }
        Ok(Made::Set(name))
    }

    /// Says that the ReplicaSet could not be made; answers with the message.
    pub(super) fn tell_failure(&self, error: &Error) -> String {
        let (name, ..) = self.new_name();
        let message = format!("Failed to create new replica set \"{name}\": {error}");
        let reason = "ReplicaSetCreateError";
        self.say(Severity::Warning, reason, message.clone());
        message
    }

    /// The new set's name, its hash, and how often such names were taken.
    fn new_name(&self) -> (String, String, i32) {
        let status = self.deployment.status.as_ref();
        let collisions = status.and_then(|s| s.collision_count).unwrap_or(0);
        let hash = template::hash(self.template, collisions);
        let name = format!("{}-{hash}", self.deployment.name_any());
        (name, hash, collisions)
    }

    fn new_set(
        &self,
        name: &str,
        hash: &str,
        replicas: i32,
        revision: i64,
    ) -> Result<DynamicObject, Error> {
        let mut template = self.template.clone();
        template["metadata"]["labels"][template::HASH_LABEL] = json!(hash);
        let selector = self.raw.data.pointer("/spec/selector");
        let mut selector = selector.cloned().unwrap_or_default();
        selector["matchLabels"][template::HASH_LABEL] = json!(hash);
        let mut annotations = copied(self.deployment.annotations());
        annotations.insert(REVISION.into(), revision.to_string());
        annotations.insert(DESIRED.into(), self.wish.replicas.to_string());
        annotations.insert(MAX.into(), self.wish.most().to_string());
        Ok(serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [self.owner_reference()],
            },
            "spec": {
                "replicas": replicas,
                "selector": selector,
                "template": template,
                "minReadySeconds": self.wish.min_ready_seconds,
            },
        }))?)
    }

    fn owner_reference(&self) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "name": self.deployment.name_any(), "uid": self.deployment.uid(),
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    /// The set may be ours and merely unseen; else its name is lost to us.
    async fn taken(&self, name: &str, collisions: i32) -> Result<(), Error> {
        let existing = within(self.api().get(name)).await?;
        let ours = existing
            .owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == self.deployment.uid().as_ref());
        let have = existing.data.pointer("/spec/template");
        if ours && have.is_some_and(|have| template::bare(have) == *self.bare) {
            self.context.replicasets.apply(existing);
            return Ok(());
        }
        let count = json!({"collisionCount": collisions.saturating_add(1)});
        let patch = json!({"metadata": {"uid": self.deployment.uid()}, "status": count});
        super::patch_status(self.context, self.deployment, patch).await
    }

    pub(super) async fn scale(&self, sets: &[Set], name: &str, to: i32) -> Result<(), Error> {
        let found = sets.iter().find(|set| set.name == name);
        let from = found.map_or(0, |set| set.wanted);
        let annotations = json!({
            DESIRED: self.wish.replicas.to_string(),
            MAX: self.wish.most().to_string(),
        });
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}});
        self.patch(name, patch).await?;
        if from != to {
            let way = if to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {from} to {to}");
            self.say(Severity::Normal, "ScalingReplicaSet", message);
        }
        Ok(())
    }

    /// Passes on to the current set what may change without a roll-out: its revision,
    /// `minReadySeconds` and the Deployment's annotations.
    pub(super) async fn pass_on(&self, set: &DynamicObject, revision: i64) -> Result<(), Error> {
        let mut annotations = copied(self.deployment.annotations());
        let before = set.annotations().get(REVISION);
        if let Some(before) =
            before.filter(|before| before.parse::<i64>().is_ok_and(|n| n < revision))
        {
            let history = set.annotations().get(HISTORY).map_or("", String::as_str);
            annotations.extend(extended(history, before).map(|now| (HISTORY.to_owned(), now)));
        }
        annotations.insert(REVISION.into(), revision.to_string());
        annotations.retain(|name, value| set.annotations().get(name) != Some(value));
        let seconds = set.data.pointer("/spec/minReadySeconds");
        let seconds = seconds.and_then(Value::as_i64).unwrap_or(0);
        let wanted = self.wish.min_ready_seconds;
        let mut patch = json!({});
        if !annotations.is_empty() {
            patch["metadata"] = json!({"annotations": annotations});
        }
        if seconds != i64::from(wanted) {
            patch["spec"] = json!({"minReadySeconds": wanted});
        }
        if patch == json!({}) {
            return Ok(());
        }
        self.patch(&set.name_any(), patch).await
    }

    /// Takes sets that nobody owns, unless the Deployment is going or is another one by now.
    pub(super) async fn adopt(&self, orphans: &[Arc<DynamicObject>]) -> Result<(), Error> {
        if orphans.is_empty() {
            return Ok(());
        }
        let deployments: Api<DynamicObject> = Api::namespaced_with(
            self.context.client.clone(),
            &self.deployment.namespace().unwrap_or_default(),
            &resource::<Deployment>(),
        );
        let live = within_opt(deployments.get(&self.deployment.name_any())).await?;
        let stays = live.is_some_and(|live| {
            live.metadata.deletion_timestamp.is_none() && live.uid() == self.deployment.uid()
        });
        if !stays {
            return Err(Error::Conflict("the Deployment is going".into()));
        }
        for set in orphans {
            let mut owners = json!(set.owner_references());
            if let Some(owners) = owners.as_array_mut() {
                owners.push(self.owner_reference());
            }
            let patch = json!({"metadata": {
                "uid": set.uid(),
                "resourceVersion": set.resource_version(),
                "ownerReferences": owners,
            }});
            self.patch(&set.name_any(), patch).await?;
        }
        Ok(())
    }

    /// Lets a set go whose labels are not the Deployment's any more.
    pub(super) async fn release(&self, set: &DynamicObject) -> Result<(), Error> {
        let kept: Vec<_> = set
            .owner_references()
            .iter()
            .filter(|owner| Some(&owner.uid) != self.deployment.uid().as_ref())
            .collect();
        let patch = json!({"metadata": {
            "uid": set.uid(),
            "resourceVersion": set.resource_version(),
            "ownerReferences": kept,
        }});
        match self.patch(&set.name_any(), patch).await {
            Err(Error::NotFound(_)) => Ok(()),
            released => released,
        }
    }

    pub(super) async fn remove(&self, set: &DynamicObject) -> Result<(), Error> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: set.uid(),
            resource_version: set.resource_version(),
        });
        within_opt(self.api().delete(&set.name_any(), &params)).await?;
        Ok(())
    }
}

/// A list of revisions with one more; the oldest go when it gets too long.
fn extended(history: &str, revision: &str) -> Option<String> {
    let mut revisions: Vec<&str> = history.split(',').filter(|of| !of.is_empty()).collect();
    let mut length = history.len() + revision.len() + 1;
    while length > HISTORY_LENGTH && !revisions.is_empty() {
        length -= revisions.remove(0).len() + 1;
    }
    revisions.push(revision);
    Some(revisions.join(",")).filter(|list| list.len() <= HISTORY_LENGTH)
}

/// What a Deployment and its ReplicaSets share of annotations.
pub(super) fn copied(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut annotations = annotations.clone();
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_of_revisions_forgets_the_oldest() {
        assert_eq!(extended("", "1").unwrap(), "1");
        assert_eq!(extended("1,3", "5").unwrap(), "1,3,5");
        let long = vec!["12345"; 333].join(",");
        let longer = extended(&long, "67890").unwrap();
        assert!(longer.len() <= HISTORY_LENGTH && longer.ends_with("12345,67890"));
    }
}
