//! Makes and removes the pods of an owner, and remembers what it asked for until it has been seen.
//!
//! Reads nothing; creates, deletes, adopts and releases `Pod`; writes Events about the owner. One for each
//! kind of owner. While [`PodControl::until_settled`] says so the cache is behind our own writes, and its
//! controller must neither create nor delete.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cache::{Cache, Listener};
use crate::context::{Context, controller, resource, selects};
use crate::error::{Error, within, within_opt};
use crate::events::Severity;
use crate::key::Key;
use crate::queue::Queue;

/// Most pods created or deleted in one go; the rest follows when these have been seen.
pub(crate) const BURST: usize = 500;
/// Requests in flight for one owner.
const AT_ONCE: usize = 64;
/// After this an expectation counts as lost, and the cache as right.
const EXPECTATION_LIFE: Duration = Duration::from_secs(300);

/// The pods of one kind of owner.
pub(crate) struct PodControl {
    owners: ApiResource,
    /// Whose Events these are.
    component: &'static str,
    /// Put on pods that are adopted, and taken from those that are released.
    finalizer: Option<&'static str>,
    expectations: Expectations,
}

impl PodControl {
    /// For owners of this kind; `component` signs the Events.
    pub(crate) fn new<K: Resource<DynamicType = ()>>(component: &'static str) -> Arc<Self> {
        Arc::new(Self {
            owners: resource::<K>(),
            component,
            finalizer: None,
            expectations: Expectations::default(),
        })
    }

    /// The same for owners whose pods all have a finalizer.
    pub(crate) fn with_finalizer<K: Resource<DynamicType = ()>>(
        component: &'static str,
        finalizer: &'static str,
    ) -> Arc<Self> {
        Arc::new(Self {
            owners: resource::<K>(),
            component,
            finalizer: Some(finalizer),
            expectations: Expectations::default(),
        })
    }

    /// How long to wait for pods that were asked for and not seen; `None` when all were, or have been
    /// waited for long.
    pub(crate) fn until_settled(&self, owner: &Key) -> Option<Duration> {
        self.expectations.until_settled(owner)
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.expectations.forget(owner);
    }

    /// The pod that the owner's `spec.template` asks for, as the value it is: it has no name, but
    /// `generateName`.
    pub(crate) fn pod(&self, owner: &DynamicObject) -> Value {
        let template = owner.data.pointer("/spec/template").cloned();
        let template = template.unwrap_or_default();
        let mut metadata = json!({
            "generateName": format!("{}-", owner.name_any()),
            "ownerReferences": [self.reference(owner)],
        });
        for field in ["labels", "annotations", "finalizers"] {
            if let Some(value) = template
                .pointer(&format!("/metadata/{field}"))
                .filter(|value| !value.is_null())
            {
                metadata[field] = value.clone();
            }
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    }

    /// The reference to the owner that makes an object its own.
    pub(crate) fn reference(&self, owner: &DynamicObject) -> Value {
        json!({
            "apiVersion": self.owners.api_version, "kind": self.owners.kind,
            "name": owner.name_any(), "uid": owner.uid(),
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    /// Writes an Event about the owner.
    pub(crate) fn tell(
        &self,
        context: &Context,
        owner: &DynamicObject,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let recorder = context.recorder.named(self.component);
        let (version, kind) = (&self.owners.api_version, &self.owners.kind);
        recorder.record_as(version, kind, owner, severity, reason, message);
    }

    /// Creates pods in batches of 1, 2, 4, …: a refusal then costs few requests.
    ///
    /// # Errors
    /// The last of a batch's failures; later batches are not tried.
    pub(crate) async fn create(
        &self,
        context: &Context,
        owner: &DynamicObject,
        pods: Vec<Value>,
    ) -> Result<(), Error> {
        let key = Key::of(owner);
        let api = Api::<DynamicObject>::namespaced_with(
            context.client.clone(),
            &key.namespace,
            &resource::<Pod>(),
        );
        let params = PostParams {
            field_manager: Some("kube-controller-manager".into()),
            ..PostParams::default()
        };
        let pods: Vec<DynamicObject> = pods
            .into_iter()
            .map(serde_json::from_value)
            .collect::<Result<_, _>>()?;
        self.expectations.expect_creations(&key, pods.len());
        let (mut left, mut batch) = (&pods[..], 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let requests = now.iter().map(|pod| within(api.create(&params, pod)));
            let answers: Vec<_> = stream::iter(requests.collect::<Vec<_>>())
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            (left, batch) = (later, batch * 2);
            let mut failure = None;
            for answer in answers {
                let pod = answer.and_then(|pod| {
                    pod.try_parse::<Pod>()
                        .map_err(|error| Error::Invalid(error.to_string()))
                });
                match pod {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", pod.name_any());
                        self.tell(
                            context,
                            owner,
                            Severity::Normal,
                            "SuccessfulCreate",
                            message,
                        );
                        context.pods.apply(pod);
                    }
                    Err(error) => {
                        // It may be there, and the watch will tell: a second one is not made meanwhile.
                        if !error.is_timeout() {
                            self.expectations.drop_creations(&key, 1);
                        }
                        failure = Some(error);
                    }
                }
            }
            if let Some(error) = failure {
                self.expectations.drop_creations(&key, left.len());
                let message = format!("Error creating: {error}");
                self.tell(context, owner, Severity::Warning, "FailedCreate", message);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Deletes pods, each only if it is still the same one.
    ///
    /// # Errors
    /// One of the failures; all are tried.
    pub(crate) async fn delete(
        &self,
        context: &Context,
        owner: &DynamicObject,
        doomed: Vec<Arc<Pod>>,
    ) -> Result<(), Error> {
        if doomed.is_empty() {
            return Ok(());
        }
        let key = Key::of(owner);
        let api: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
        self.expectations
            .expect_deletions(&key, doomed.iter().filter_map(|pod| pod.uid()));
        let requests = doomed.into_iter().map(|pod| remove(api.clone(), pod));
        let answers: Vec<_> = stream::iter(requests.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut outcome = Ok(());
        for (pod, answer) in answers {
            match answer {
                Ok(answer) => {
                    if let Some(pod) = answer {
                        context.pods.apply(pod);
                    }
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.tell(
                        context,
                        owner,
                        Severity::Normal,
                        "SuccessfulDelete",
                        message,
                    );
                }
                Err(error) => {
                    self.expectations
                        .deleted(&key, &pod.uid().unwrap_or_default());
                    let message = format!("Error deleting: {error}");
                    self.tell(context, owner, Severity::Warning, "FailedDelete", message);
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Makes pods that nobody owns the owner's, once the apiserver has said that the owner is still there
    /// and stays.
    pub(crate) async fn adopt(
        &self,
        context: &Context,
        owner: &DynamicObject,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        if pods.is_empty() {
            return Ok(());
        }
        self.check_owner(context, owner).await?;
        let mut metadata = json!({"ownerReferences": [self.reference(owner)]});
        if let Some(finalizer) = self.finalizer {
            metadata["finalizers"] = json!([finalizer]);
        }
        for pod in pods {
            self.refer(context, pod, metadata.clone()).await?;
        }
        Ok(())
    }

    /// Lets pods go that the owner no longer selects.
    pub(crate) async fn release(
        &self,
        context: &Context,
        owner: &DynamicObject,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        let references = json!([{"$patch": "delete", "uid": owner.uid()}]);
        let mut metadata = json!({"ownerReferences": references});
        if let Some(finalizer) = self.finalizer {
            metadata["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
        }
        for pod in pods {
            self.refer(context, pod, metadata.clone()).await?;
        }
        Ok(())
    }

    async fn refer(&self, context: &Context, pod: &Pod, mut metadata: Value) -> Result<(), Error> {
        let namespace = pod.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
        metadata["uid"] = json!(pod.uid());
        let patch = json!({"metadata": metadata});
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let answer = within_opt(api.patch(&pod.name_any(), &params, &patch)).await?;
        answer.into_iter().for_each(|pod| context.pods.apply(pod));
        Ok(())
    }

    /// Asks the apiserver whether the owner is still there and stays: only then may it adopt.
    ///
    /// # Errors
    /// [`Error::Conflict`] if not.
    pub(crate) async fn check_owner(
        &self,
        context: &Context,
        owner: &DynamicObject,
    ) -> Result<(), Error> {
        let key = Key::of(owner);
        let client = context.client.clone();
        let api = Api::<DynamicObject>::namespaced_with(client, &key.namespace, &self.owners);
        let live = within_opt(api.get_metadata(&key.name)).await?;
        let stays = live.is_some_and(|live| {
            live.metadata.uid == owner.metadata.uid && live.metadata.deletion_timestamp.is_none()
        });
        if stays {
            Ok(())
        } else {
            let kind = &self.owners.kind;
            Err(Error::Conflict(format!(
                "{kind} {key} is going: it adopts nothing"
            )))
        }
    }

    /// A pod wakes its owner; one without an owner wakes every object of its namespace that selects it.
    pub(crate) fn on_pod(
        self: &Arc<Self>,
        owners: &Arc<Cache<DynamicObject>>,
        queue: &Queue<Key>,
    ) -> Listener<Pod> {
        let (control, owners, queue) = (self.clone(), Arc::downgrade(owners), queue.clone());
        Box::new(move |old, new| {
            let Some(owners) = owners.upgrade() else {
                return;
            };
            for pod in old.into_iter().chain(new) {
                let namespace = pod.namespace().unwrap_or_default();
                match controller(&**pod) {
                    Some(owner) if control.owns(&owner.api_version, &owner.kind) => {
                        let key = Key::new(&namespace, &owner.name);
                        if old.is_none() {
                            control.expectations.drop_creations(&key, 1);
                        }
                        if new.is_none_or(|new| new.metadata.deletion_timestamp.is_some()) {
                            let uid = pod.uid().unwrap_or_default();
                            control.expectations.deleted(&key, &uid);
                        }
                        queue.add(key);
                    }
                    Some(_) => {}
                    None => {
                        for owner in owners.by("namespace", &namespace) {
                            if selects(&owner, pod.labels()) {
                                queue.add(Key::of(&*owner));
                            }
                        }
                    }
                }
            }
        })
    }

    /// Whether a reference names an owner of this kind, in whichever version of its group.
    fn owns(&self, version: &str, kind: &str) -> bool {
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        kind == self.owners.kind && group == self.owners.group
    }
}

/// Asks a pod to end, if it is still the same one. Answers the pod while it is going.
pub(crate) async fn remove(api: Api<Pod>, pod: Arc<Pod>) -> (Arc<Pod>, Result<Option<Pod>, Error>) {
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: pod.uid(),
        resource_version: None,
    });
    let answer = within_opt(api.delete(&pod.name_any(), &params)).await;
    // While it is going the answer is the pod, else a Status.
    let answer = answer.map(|answer| answer.and_then(|answer| answer.left()));
    (pod, answer)
}

/// Pods asked for and not yet seen: while there are some, the cache is behind our own writes.
#[derive(Default)]
struct Expectations {
    of: Mutex<HashMap<Key, Expected>>,
}

struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expected {
    fn left(&self) -> Option<Duration> {
        if self.creations == 0 && self.deletions.is_empty() {
            return None;
        }
        let left = EXPECTATION_LIFE.checked_sub(self.since.elapsed());
        left.filter(|left| !left.is_zero())
    }
}

impl Expectations {
    fn with(&self, key: &Key, change: impl FnOnce(&mut Expected)) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(expected) = of.get_mut(key) {
            change(expected);
        }
    }

    /// Adds to what is expected; what was waited for too long is not any more.
    fn expect(&self, key: &Key, change: impl FnOnce(&mut Expected)) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Expected {
            creations: 0,
            deletions: HashSet::new(),
            since: Instant::now(),
        };
        let expected = of.entry(key.clone()).or_insert_with(fresh);
        if expected.left().is_none() {
            *expected = fresh();
        }
        change(expected);
    }

    fn expect_creations(&self, key: &Key, count: usize) {
        self.expect(key, |expected| expected.creations += count);
    }

    fn expect_deletions(&self, key: &Key, uids: impl Iterator<Item = String>) {
        self.expect(key, |expected| expected.deletions.extend(uids));
    }

    fn drop_creations(&self, key: &Key, count: usize) {
        self.with(key, |expected| {
            expected.creations = expected.creations.saturating_sub(count);
        });
    }

    fn deleted(&self, key: &Key, uid: &str) {
        self.with(key, |expected| {
            expected.deletions.remove(uid);
        });
    }

    fn until_settled(&self, key: &Key) -> Option<Duration> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.get(key)?.left()
    }

    fn forget(&self, key: &Key) {
        self.of
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_settle_when_every_pod_was_seen() {
        let (expectations, key) = (Expectations::default(), Key::new("ns", "s"));
        expectations.expect_creations(&key, 2);
        expectations.expect_deletions(&key, ["u".to_owned()].into_iter());
        expectations.drop_creations(&key, 1);
        assert!(expectations.until_settled(&key).is_some());
        expectations.drop_creations(&key, 1);
        assert!(expectations.until_settled(&key).is_some());
        expectations.deleted(&key, "u");
        assert!(expectations.until_settled(&key).is_none());
    }
}
