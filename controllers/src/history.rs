//! What a StatefulSet or a DaemonSet once was, kept as ControllerRevisions to go back to.
//!
//! Reads and writes `ControllerRevision`: creates, adopts, releases, renumbers and deletes them; raises
//! `status.collisionCount` of their owner. Their data is Kubernetes': a strategic patch that replaces the
//! owner's `spec.template`, so that `kubectl rollout history` and `undo` read them. Never touches a
//! revision of another owner.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, controller, resource, selects};
use crate::error::{Error, within, within_opt};
use crate::pod_control::PodControl;
use crate::template;

/// The label that says of which revision a pod is.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";

/// The longest part of an owner's name that stands in the name of its revisions.
const NAME_PREFIX: usize = 223;

/// The revisions of one owner.
pub(crate) struct History<'a> {
    context: &'a Context,
    control: &'a PodControl,
    owner: &'a DynamicObject,
    owners: ApiResource,
    /// The label of a revision that holds the hash in its name.
    hash_label: &'static str,
}

/// Where the revision of today's template comes from.
#[derive(Debug, PartialEq)]
enum Current {
    /// It is the newest one there is.
    Newest,
    /// This one was it before, and gets the highest number again.
    Again(usize, i64),
    /// There is none yet; it gets this number.
    New(i64),
}

impl<'a> History<'a> {
    /// For an owner of kind `K`.
    pub(crate) fn new<K: Resource<DynamicType = ()>>(
        context: &'a Context,
        control: &'a PodControl,
        owner: &'a DynamicObject,
        hash_label: &'static str,
    ) -> Self {
        Self {
            context,
            control,
            owner,
            owners: resource::<K>(),
            hash_label,
        }
    }

    /// The owner's revisions, oldest first. Those that nobody owns and its selector selects are adopted,
    /// those that it does not select any more let go, unless the owner is being deleted.
    ///
    /// # Errors
    /// When the apiserver refuses one of these changes.
    pub(crate) async fn claim(&self) -> Result<Vec<Arc<DynamicObject>>, Error> {
        let uid = self.owner.uid().unwrap_or_default();
        let owned = self.context.revisions.by("owner", &uid);
        let (mut claimed, strangers): (Vec<_>, Vec<_>) = owned
            .into_iter()
            .partition(|revision| selects(self.owner, revision.labels()));
        if self.owner.metadata.deletion_timestamp.is_none() {
            for revision in strangers {
                let reference = json!([{"$patch": "delete", "uid": uid}]);
                self.refer(&revision, reference).await?;
            }
            let namespace = self.owner.namespace().unwrap_or_default();
            let mut orphans = self.context.revisions.by("orphans", &namespace);
            orphans.retain(|revision| {
                revision.metadata.deletion_timestamp.is_none()
                    && selects(self.owner, revision.labels())
            });
            if !orphans.is_empty() {
                self.control.check_owner(self.context, self.owner).await?;
            }
            for revision in orphans {
                let reference = json!([self.control.reference(self.owner)]);
                claimed.extend(self.refer(&revision, reference).await?);
            }
        }
        sort(&mut claimed);
        Ok(claimed)
    }

    /// The revision of the owner's template as it is now, of its `revisions`, oldest first: found, renumbered
    /// or made.
    ///
    /// # Errors
    /// [`Error::Conflict`] when its name was taken: another one comes with the next try.
    pub(crate) async fn ensure_current(
        &self,
        revisions: &[Arc<DynamicObject>],
    ) -> Result<Arc<DynamicObject>, Error> {
        match (find(revisions, self.owner), revisions.last()) {
            (Current::Newest, Some(newest)) => Ok(newest.clone()),
            (Current::Again(place, number), _) => self.renumber(&revisions[place], number).await,
            (Current::New(number), _) => self.create(number).await,
            (Current::Newest, None) => Err(Error::Conflict("the revision is gone".into())),
        }
    }

    /// Deletes revisions, each only if it is still the same one.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) async fn remove(&self, revisions: &[Arc<DynamicObject>]) -> Result<(), Error> {
        for revision in revisions {
            let params = DeleteParams::background().preconditions(Preconditions {
                uid: revision.uid(),
                resource_version: None,
            });
            within_opt(self.api().delete(&revision.name_any(), &params)).await?;
            self.context.revisions.remove(revision);
        }
        Ok(())
    }

    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.context.client.clone(),
            &self.owner.namespace().unwrap_or_default(),
            &resource::<ControllerRevision>(),
        )
    }

    async fn patch(
        &self,
        revision: &DynamicObject,
        patch: Patch<Value>,
    ) -> Result<Option<Arc<DynamicObject>>, Error> {
        let params = PatchParams::default();
        let answer = within_opt(self.api().patch(&revision.name_any(), &params, &patch)).await?;
        Ok(answer.map(|revision| {
            self.context.revisions.apply(revision.clone());
            Arc::new(revision)
        }))
    }

    async fn refer(
        &self,
        revision: &DynamicObject,
        references: Value,
    ) -> Result<Option<Arc<DynamicObject>>, Error> {
        let patch = json!({"metadata": {"uid": revision.uid(), "ownerReferences": references}});
        self.patch(revision, Patch::Strategic(patch)).await
    }

    async fn renumber(
        &self,
        revision: &DynamicObject,
        number: i64,
    ) -> Result<Arc<DynamicObject>, Error> {
        let patch = json!({"metadata": {"uid": revision.uid()}, "revision": number});
        let patched = self.patch(revision, Patch::Merge(patch)).await?;
        patched.ok_or_else(|| Error::Conflict("the revision is gone".into()))
    }

    async fn create(&self, number: i64) -> Result<Arc<DynamicObject>, Error> {
        let data = data(self.owner);
        let collisions = collisions(self.owner);
        let hash = template::hash(&data, collisions);
        let name = name(&self.owner.name_any(), &hash);
        let labels = self.owner.data.pointer("/spec/template/metadata/labels");
        let mut labels = labels.cloned().unwrap_or_else(|| json!({}));
        labels[self.hash_label] = json!(hash);
        let revision: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": self.owner.annotations(),
                "ownerReferences": [self.control.reference(self.owner)],
            },
            "data": data,
            "revision": number,
        }))?;
        match within(self.api().create(&PostParams::default(), &revision)).await {
            Ok(created) => {
                self.context.revisions.apply(created.clone());
                Ok(Arc::new(created))
            }
            Err(Error::Conflict(message)) => {
                let ours = self
                    .taken(&name, &revision.data["data"], collisions)
                    .await?;
                ours.ok_or(Error::Conflict(message))
            }
            Err(error) => Err(error),
        }
    }

    /// The name is taken: by the very revision, which then is the answer; by one of a predecessor of this
    /// owner, which is going or waits to be adopted; or by another revision, so that this name is lost to us.
    async fn taken(
        &self,
        name: &str,
        data: &Value,
        collisions: i32,
    ) -> Result<Option<Arc<DynamicObject>>, Error> {
        let Some(existing) = within_opt(self.api().get(name)).await? else {
            return Ok(None);
        };
        let same = template::bare(&existing.data["data"]) == template::bare(data);
        let owner = controller(&existing);
        let ours = owner.is_some_and(|owner| Some(&owner.uid) == self.owner.uid().as_ref());
        let waits = match owner {
            Some(owner) => {
                owner.kind == self.owners.kind && owner.name == self.owner.name_any() && !ours
            }
            None => selects(self.owner, existing.labels()),
        };
        self.context.revisions.apply(existing.clone());
        match (same, ours, waits) {
            (true, true, _) => return Ok(Some(Arc::new(existing))),
            (true, _, true) => {}
            _ => self.collided(collisions.saturating_add(1)).await?,
        }
        Ok(None)
    }

    async fn collided(&self, count: i32) -> Result<(), Error> {
        let api = Api::<DynamicObject>::namespaced_with(
            self.context.client.clone(),
            &self.owner.namespace().unwrap_or_default(),
            &self.owners,
        );
        let patch = json!({
            "metadata": {"uid": self.owner.uid()},
            "status": {"collisionCount": count},
        });
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        within_opt(api.patch_status(&self.owner.name_any(), &params, &patch)).await?;
        Ok(())
    }
}

/// A revision's number; higher is newer.
pub(crate) fn number(revision: &DynamicObject) -> i64 {
    revision.data["revision"].as_i64().unwrap_or(0)
}

/// Oldest first.
pub(crate) fn sort(revisions: &mut [Arc<DynamicObject>]) {
    revisions.sort_by_cached_key(|revision| {
        let created = revision.creation_timestamp().map(|time| time.0);
        (number(revision), created, revision.name_any())
    });
}

/// Whether a revision holds the template that its owner has.
pub(crate) fn holds(revision: &DynamicObject, owner: &DynamicObject) -> bool {
    template::bare(&revision.data["data"]) == data(owner)
}

/// The `count` oldest revisions that nothing lives of; they come oldest first.
pub(crate) fn oldest(
    revisions: &[Arc<DynamicObject>],
    count: usize,
    alive: impl Fn(&DynamicObject) -> bool,
) -> Vec<Arc<DynamicObject>> {
    let dead = revisions.iter().filter(|revision| !alive(revision));
    dead.take(count).cloned().collect()
}

/// The patch that gives its owner the template back that it has now.
fn data(owner: &DynamicObject) -> Value {
    let template = owner.data.pointer("/spec/template");
    let mut template = template.cloned().unwrap_or_else(|| json!({}));
    template["$patch"] = json!("replace");
    template::bare(&json!({"spec": {"template": template}}))
}

/// `revisions` are sorted, oldest first.
fn find(revisions: &[Arc<DynamicObject>], owner: &DynamicObject) -> Current {
    let next = revisions
        .last()
        .map_or(1, |newest| number(newest).saturating_add(1));
    let equal = revisions
        .iter()
        .rposition(|revision| holds(revision, owner));
    match equal {
        Some(place) if place + 1 == revisions.len() => Current::Newest,
        Some(place) => Current::Again(place, next),
        None => Current::New(next),
    }
}

fn collisions(owner: &DynamicObject) -> i32 {
    let count = owner.data.pointer("/status/collisionCount");
    let count = count.and_then(Value::as_i64).unwrap_or(0);
    i32::try_from(count).unwrap_or(0)
}

fn name(owner: &str, hash: &str) -> String {
    let prefix = owner.get(..NAME_PREFIX).unwrap_or(owner);
    format!("{prefix}-{hash}")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn owner(image: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "db", "uid": "u"},
            "spec": {"template": {
                "metadata": {"creationTimestamp": null, "labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            }},
        }))
        .unwrap()
    }

    /// `a2`: the revision of image `a`, with number 2.
    fn revisions(text: &str) -> Vec<Arc<DynamicObject>> {
        let revision = |text: &str| {
            let (image, number) = text.split_at(1);
            let revision = json!({
                "metadata": {"name": format!("db-{image}")},
                "data": data(&owner(image)),
                "revision": number.parse::<i64>().unwrap(),
            });
            Arc::new(serde_json::from_value(revision).unwrap())
        };
        let mut revisions: Vec<_> = text.split_whitespace().map(revision).collect();
        sort(&mut revisions);
        revisions
    }

    #[track_caller]
    fn check(revisions_text: &str, image: &str, expect: Expect) {
        let found = find(&revisions(revisions_text), &owner(image));
        expect.assert_eq(&format!("{found:?}"));
    }

    #[test]
    fn a_new_template_gets_the_next_number() {
        check("", "a", expect!["New(1)"]);
        check("b5 a2", "c", expect!["New(6)"]);
    }

    #[test]
    fn the_newest_is_left_and_an_older_equal_one_comes_again() {
        check("a1 b2", "b", expect!["Newest"]);
        check("a1 b2", "a", expect!["Again(0, 3)"]);
        check("a1 a2 b3", "a", expect!["Again(1, 4)"]);
    }

    #[test]
    fn the_oldest_go_and_those_that_live_stay() {
        let revisions = revisions("d4 b2 a1 c3");
        let gone = oldest(&revisions, 2, |revision| revision.name_any() == "db-a");
        let names: Vec<_> = gone.iter().map(|revision| revision.name_any()).collect();
        assert_eq!(names, ["db-b", "db-c"]);
    }

    #[test]
    fn the_data_is_a_patch_that_replaces_the_template() {
        expect![[
            r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"db"}},"spec":{"containers":[{"image":"a","name":"c"}]}}}}"#
        ]]
        .assert_eq(&data(&owner("a")).to_string());
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(name("db", "x7"), "db-x7");
        assert_eq!(name(&"d".repeat(240), "x7").len(), 226);
    }
}
