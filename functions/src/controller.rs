//! Makes revisions of Functions, decides where their requests go, and keeps what containers need.
//!
//! Reads `Function`, `FunctionRevision`, `ReplicaSet`, `Pod`, `Service` and `Ingress`; creates and deletes
//! `FunctionRevision`; creates `Service` and `ReplicaSet`, and scales the latter; writes the status of Functions (but
//! for triggers) and of revisions (but for nodes), and Events. Everything it makes is owned by the Function or its
//! revision and goes with it. Never changes what a revision is, and never touches an object that is not its own.
//!
//! In reading order: [`revision`], [`readiness`], [`traffic`], [`history`], [`routes`], [`pods`], [`plan`].

mod conditions;
mod history;
mod plan;
pub(crate) mod pods;
pub(crate) mod readiness;
pub(crate) mod revision;
pub(crate) mod routes;
mod traffic;

use std::{collections::BTreeMap, sync::Arc};

use function_kinds::{Function, REVISION_LABEL};
use kube::{
    Api, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
    },
};
use serde_json::{Value, json};

use crate::{
    clock,
    context::{Context, Kinds},
    error::{Error, within, within_opt},
    key::Key,
    queue::Action,
};
use plan::{Plan, Seen, Service, plan};
use readiness::{Pods, Why};
use revision::Revision;

/// Numbers that are tried for a revision whose name somebody else's object has.
const NUMBERS: u32 = 16;

/// Works on one Function.
pub(crate) async fn reconcile(context: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(function) = context.functions.get(&key) else {
        return Ok(Action::AwaitChange);
    };
    let read: Function = serde_json::from_value(serde_json::to_value(&function)?)?;
    let work = Work {
        context,
        function,
        key,
    };
    let objects = work.revisions();
    let mut seen = work.see(&read, &objects).await?;
    let mut decided = plan(&seen);
    if let Some(number) = decided.create {
        match work.create_revision(number).await {
            Ok(()) => {}
            // A quota, most likely: the Function says so, and what serves goes on serving.
            Err(Error::Refused(message)) => {
                seen.refused = Some(Why::new("FailedCreate", message));
                decided = plan(&seen);
            }
            Err(error) => return Err(error),
        }
    }
    work.act(&decided, &objects).await?;
    Ok(decided.again.into())
}

/// One Function being worked on.
struct Work {
    context: Arc<Context>,
    function: DynamicObject,
    key: Key,
}

impl Work {
    /// The Function's own revisions.
    fn revisions(&self) -> Vec<DynamicObject> {
        let uid = self.function.uid();
        let mut objects = self.context.revisions.of(&self.key);
        objects.retain(|object| controller_uid(object) == uid);
        objects
    }

    async fn see<'a>(
        &'a self,
        read: &'a Function,
        objects: &[DynamicObject],
    ) -> Result<Seen<'a>, Error> {
        let revisions = objects.iter().map(Revision::read);
        let mut revisions = revisions.collect::<Result<Vec<_>, _>>()?;
        revisions.sort_by_key(|revision| revision.number);
        let sets = self.context.sets.of(&self.key);
        let all = self.context.revisions.of(&self.key);
        let said = read.status.as_ref();
        let said = said.and_then(|status| status.latest_created_revision.as_deref());
        let numbers = all.iter().map(ResourceExt::name_any);
        let numbers = numbers.chain(said.map(str::to_owned));
        let owners: Vec<Option<String>> = objects
            .iter()
            .map(ResourceExt::uid)
            .chain([self.function.uid()])
            .collect();
        let own = |object: &&DynamicObject| owners.contains(&controller_uid(object));
        Ok(Seen {
            last_number: numbers
                .filter_map(|name| revision::number_in(&name))
                .max()
                .unwrap_or(0),
            pods: self.pods(&revisions, &sets),
            sets: sets
                .iter()
                .filter(own)
                .map(|set| (set.name_any(), replicas_of(set)))
                .collect(),
            service: self.service().await?,
            refused: None,
            rival: self.context.routes.rival(&self.function),
            address: &self.context.config.address,
            now: clock::now(),
            function: &self.function,
            read,
            revisions,
        })
    }

    /// What pods say, by revision.
    fn pods(&self, revisions: &[Revision], sets: &[DynamicObject]) -> BTreeMap<String, Pods> {
        let all = self.context.pods.of(&self.key);
        let of = |name: &str| {
            let label = |pod: &&DynamicObject| {
                pod.labels().get(REVISION_LABEL).map(String::as_str) == Some(name)
            };
            let pods: Vec<DynamicObject> = all.iter().filter(label).cloned().collect();
            let set = sets.iter().find(|set| set.name_any() == name);
            pods::seen(set, &pods)
        };
        let names = revisions.iter().map(|revision| revision.name.clone());
        names.map(|name| (name.clone(), of(&name))).collect()
    }

    /// The Service of the Function's name. Those of ours are in the cache, or soon.
    async fn service(&self) -> Result<Service, Error> {
        let uid = self.function.uid();
        let known = self.context.services.get(&self.key);
        if known.is_some_and(|service| controller_uid(&service) == uid) {
            return Ok(Service::Own);
        }
        let services = self.api(&self.context.kinds.services);
        let Some(found) = within_opt(services.get(&self.key.name)).await? else {
            return Ok(Service::Missing);
        };
        if controller_uid(&found) != uid {
            return Ok(Service::Another);
        }
        self.context.services.apply(found);
        Ok(Service::Own)
    }

    fn api(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.context.client.clone(), &self.key.namespace, kind)
    }

    async fn act(&self, plan: &Plan, objects: &[DynamicObject]) -> Result<(), Error> {
        let Kinds {
            functions,
            revisions,
            services,
            sets,
            ..
        } = &self.context.kinds;
        if plan.own_service {
            let service = pods::function_service(&self.function);
            self.ensure(services, &self.context.services, service)
                .await?;
        }
        for (name, patch) in &plan.revisions {
            let patched = self.patch_status(revisions, name, patch).await?;
            patched
                .into_iter()
                .for_each(|object| self.context.revisions.apply(object));
        }
        // Pods are of the digest that is written down by now.
        for (name, replicas) in &plan.sets {
            self.scale(sets, objects, name, *replicas).await?;
        }
        if let Some(patch) = &plan.status {
            let patched = self.patch_status(functions, &self.key.name, patch).await?;
            patched
                .into_iter()
                .for_each(|object| self.context.functions.apply(object));
        }
        // What is told was decided on, and is written down by now.
        for notice in &plan.notices {
            self.context.events.tell(&self.function, notice).await;
        }
        for name in &plan.remove {
            self.remove(revisions, objects, name).await?;
        }
        Ok(())
    }

    /// Makes a revision; if its name is another's, the next number is tried.
    async fn create_revision(&self, first: u32) -> Result<(), Error> {
        let api = self.api(&self.context.kinds.revisions);
        for number in first..first + NUMBERS {
            let wanted = serde_json::from_value(revision::new(&self.function, number))?;
            match within(api.create(&PostParams::default(), &wanted)).await {
                Ok(made) => {
                    self.context.revisions.apply(made);
                    return Ok(());
                }
                Err(Error::Conflict(message)) => {
                    let name = revision::name(&self.key.name, number);
                    let found = within_opt(api.get(&name)).await?;
                    let Some(found) = found.filter(|found| {
                        controller_uid(found).is_some_and(|uid| Some(uid) == self.function.uid())
                    }) else {
                        continue;
                    };
                    // Made before, and not seen until now: decide again.
                    self.context.revisions.apply(found);
                    return Err(Error::Conflict(message));
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Conflict(format!(
            "the names of revisions of Function {} from number {first} on are others'",
            self.key
        )))
    }

    /// Makes an object unless it is there.
    async fn ensure(
        &self,
        kind: &ApiResource,
        cache: &crate::cache::Cache,
        wanted: Value,
    ) -> Result<(), Error> {
        let wanted: DynamicObject = serde_json::from_value(wanted)?;
        let api = self.api(kind);
        match within(api.create(&PostParams::default(), &wanted)).await {
            Ok(made) => cache.apply(made),
            Err(Error::Conflict(message)) => {
                let found = within_opt(api.get(&wanted.name_any())).await?;
                let own = controller_uid(&wanted);
                match found {
                    Some(found) if controller_uid(&found) == own => cache.apply(found),
                    _ => return Err(Error::Conflict(message)),
                }
            }
            Err(error) => return Err(self.told(error, "FailedCreate").await),
        }
        Ok(())
    }

    /// Has a revision's set make so many pods.
    async fn scale(
        &self,
        kind: &ApiResource,
        objects: &[DynamicObject],
        name: &str,
        replicas: i32,
    ) -> Result<(), Error> {
        if self.context.sets.get(&self.at(name)).is_none() {
            if let Some((revision, object)) = find(objects, name)? {
                let set = pods::replica_set(&self.function, &revision, object, replicas);
                self.ensure(kind, &self.context.sets, set).await?;
            }
            return Ok(());
        }
        let patch = json!({"spec": {"replicas": replicas}});
        let api = self.api(kind);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        if let Some(set) = within_opt(api.patch(name, &params, &patch)).await? {
            self.context.sets.apply(set);
        }
        Ok(())
    }

    async fn patch_status(
        &self,
        kind: &ApiResource,
        name: &str,
        patch: &Value,
    ) -> Result<Option<DynamicObject>, Error> {
        let api = self.api(kind);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        within_opt(api.patch_status(name, &params, &patch)).await
    }

    async fn remove(
        &self,
        kind: &ApiResource,
        objects: &[DynamicObject],
        name: &str,
    ) -> Result<(), Error> {
        let object = objects.iter().find(|object| object.name_any() == name);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.and_then(ResourceExt::uid),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        within_opt(self.api(kind).delete(name, &params))
            .await
            .map(drop)
    }

    fn at(&self, name: &str) -> Key {
        Key::new(&self.key.namespace, name)
    }

    /// Tells the owner of a Function of what the apiserver refuses.
    async fn told(&self, error: Error, reason: &str) -> Error {
        if let Error::Refused(message) = &error {
            let why = Why::new(reason, message.as_str());
            let notice = plan::Notice::warning(&why);
            self.context.events.tell(&self.function, &notice).await;
        }
        error
    }
}

fn find<'a>(
    objects: &'a [DynamicObject],
    name: &str,
) -> Result<Option<(Revision, &'a DynamicObject)>, Error> {
    let found = objects.iter().find(|object| object.name_any() == name);
    found
        .map(|object| Ok((Revision::read(object)?, object)))
        .transpose()
}

/// The uid of what an object is controlled by.
fn controller_uid(object: &DynamicObject) -> Option<String> {
    let mut owners = object.owner_references().iter();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(owner.uid.clone())
}

fn replicas_of(set: &DynamicObject) -> i32 {
    let replicas = set.data["spec"]["replicas"].as_i64().unwrap_or(1);
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

pub(crate) use plan::Notice;
