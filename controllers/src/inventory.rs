//! Metadata of every object of every kind: who owns what.
//!
//! Watches every resource that discovery names and that can be listed, watched and deleted, Events
//! excepted. Keeps uid, place, owners and finalizers; never the objects.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;

/// Kinds may appear at any time; nothing tells of them.
const REDISCOVER: Duration = Duration::from_secs(30);

/// A kind that can hold garbage.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
}

/// What is known of one object.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) owners: Vec<OwnerReference>,
}

type OnRemoval = Box<dyn Fn(&str) + Send + Sync>;

/// Everything there is.
pub(crate) struct Inventory {
    pub(crate) client: Client,
    state: Mutex<State>,
    listeners: OnceLock<(Queue<String>, OnRemoval)>,
}

#[derive(Default)]
struct State {
    kinds: Vec<Kind>,
    items: HashMap<String, Item>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Inventory {
    pub(crate) fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            state: Mutex::default(),
            listeners: OnceLock::new(),
        })
    }

    /// Says which queue gets the uids to look at, and who hears of removals by namespace.
    pub(crate) fn listen(&self, garbage: Queue<String>, on_removal: OnRemoval) {
        if self.listeners.set((garbage, on_removal)).is_err() {
            tracing::error!(
                "the listeners of the inventory were set twice; the second set is unused"
            );
        }
    }

    /// Follows every kind until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut watches = JoinSet::new();
        loop {
            match self.discover().await {
                Ok(new) => {
                    for kind in new {
                        watches.spawn(self.clone().follow(kind, stop.clone()));
                    }
                }
                Err(error) => tracing::warn!(%error, "discovery failed; trying again"),
            }
            let pause = if self.kinds().is_empty() {
                Duration::from_millis(200)
            } else {
                REDISCOVER
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        while watches.join_next().await.is_some() {}
    }

    /// Kinds that were not known before.
    async fn discover(&self) -> Result<Vec<Kind>, kube::Error> {
        let discovery = Discovery::new(self.client.clone()).run().await?;
        let mut new = Vec::new();
        for (resource, can) in discovery
            .groups()
            .flat_map(|group| group.recommended_resources())
        {
            let usable = [verbs::LIST, verbs::WATCH, verbs::DELETE]
                .iter()
                .all(|verb| can.supports_operation(verb));
            let kind = Kind {
                namespaced: can.scope == Scope::Namespaced,
                resource,
            };
            if usable && kind.resource.plural != "events" && !self.kinds().contains(&kind) {
                self.state().kinds.push(kind.clone());
                new.push(kind);
            }
        }
        Ok(new)
    }

    async fn follow(self: Arc<Self>, kind: Kind, stop: CancellationToken) {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(self.client.clone(), &kind.resource);
        let mut events = watcher(api, Config::default()).default_backoff().boxed();
        let mut listed: HashSet<String> = HashSet::new();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.try_next() => event,
            };
            match event {
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(object))) => {
                    listed.extend(object.metadata.uid.clone());
                    self.seen(&kind, object.metadata);
                }
                Ok(Some(Event::InitDone)) => {
                    let gone: Vec<String> = {
                        let state = self.state();
                        state
                            .items
                            .iter()
                            .filter(|(uid, item)| item.kind == kind && !listed.contains(*uid))
                            .map(|(uid, _)| uid.clone())
                            .collect()
                    };
                    gone.iter().for_each(|uid| self.gone(uid));
                }
                Ok(Some(Event::Apply(object))) => self.seen(&kind, object.metadata),
                Ok(Some(Event::Delete(object))) => {
                    self.gone(&object.metadata.uid.unwrap_or_default());
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, kind = kind.resource.kind, "watch failed; trying again");
                }
            }
        }
    }

    fn seen(&self, kind: &Kind, metadata: ObjectMeta) {
        let Some(uid) = metadata.uid else { return };
        let owners = metadata.owner_references.unwrap_or_default();
        let interesting = !owners.is_empty() || metadata.deletion_timestamp.is_some();
        let item = Item {
            kind: kind.clone(),
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            owners: owners.clone(),
        };
        {
            let mut state = self.state();
            if let Some(old) = state.items.insert(uid.clone(), item) {
                state.unlink(&uid, &old);
            }
            for owner in owners {
                state
                    .dependents
                    .entry(owner.uid)
                    .or_default()
                    .insert(uid.clone());
            }
        }
        if interesting && let Some((garbage, _)) = self.listeners.get() {
            garbage.add(uid);
        }
    }

    /// Forgets an object; its dependents and its owners are worth a look.
    pub(crate) fn gone(&self, uid: &str) {
        let (item, mut touched) = {
            let mut state = self.state();
            let Some(item) = state.items.remove(uid) else {
                return;
            };
            state.unlink(uid, &item);
            let dependents = state.dependents.get(uid).cloned().unwrap_or_default();
            (item, dependents)
        };
        touched.extend(item.owners.iter().map(|owner| owner.uid.clone()));
        if let Some((garbage, on_removal)) = self.listeners.get() {
            touched.into_iter().for_each(|uid| garbage.add(uid));
            on_removal(&item.namespace);
        }
    }

    pub(crate) fn get(&self, uid: &str) -> Option<Item> {
        self.state().items.get(uid).cloned()
    }

    /// The uids of what an object owns, fully or in part.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<(String, Item)> {
        let state = self.state();
        let uids = state.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), state.items.get(uid)?.clone())))
            .collect()
    }

    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.state().kinds.clone()
    }

    /// Where the objects of a kind are asked for.
    pub(crate) fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        if kind.namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &kind.resource)
        } else {
            Api::all_with(self.client.clone(), &kind.resource)
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unlink(&mut self, uid: &str, item: &Item) {
        for owner in &item.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}
