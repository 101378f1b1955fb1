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
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;

/// Kinds may appear at any time; of most that do, a definition tells.
const REDISCOVER: Duration = Duration::from_secs(30);
/// How soon after a definition changed the kinds are asked for, by then served everywhere.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a discovery that was asked for is waited for.
const DISCOVERING: Duration = Duration::from_secs(10);

const RETRY_DISCOVERY: Duration = Duration::from_millis(500);
/// How long the first list of every kind is waited for.
const LISTING: Duration = Duration::from_secs(30);
/// Absent owners that are remembered; all are forgotten when there are more.
const REMEMBERED_ABSENCES: usize = 4096;

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
    /// Whether it has a deletionTimestamp.
    pub(crate) deleting: bool,
    /// Whether its deletion waits for what the garbage collector does to its dependents.
    pub(crate) finalizing: bool,
}

type OnChange = Box<dyn Fn(&str) + Send + Sync>;

/// Everything there is.
pub(crate) struct Inventory {
    pub(crate) client: Client,
    state: Mutex<State>,
    listeners: OnceLock<(Queue<String>, OnChange)>,
    ready: watch::Sender<bool>,
    /// Asks for a discovery now.
    ask: Notify,
    /// Discoveries that were begun.
    begun: watch::Sender<u64>,
    /// The last discovery that came to an end.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    kinds: Vec<Kind>,
    /// Those of which the first list is not in.
    unlisted: HashSet<Kind>,
    items: HashMap<String, Item>,
    dependents: HashMap<String, BTreeSet<String>>,
    /// How the last discovery went.
    discovered: Option<Result<(), String>>,
    /// How many objects each namespace holds.
    populations: HashMap<String, usize>,
    /// Owners that the apiserver said are not there: a uid never comes back.
    absent: HashSet<Reference>,
}

/// An owner as a dependent names it: namespace, kind, name and uid.
type Reference = (String, String, String, String);

impl Inventory {
    pub(crate) fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            state: Mutex::default(),
            listeners: OnceLock::new(),
            ready: watch::Sender::new(false),
            ask: Notify::new(),
            begun: watch::Sender::new(0),
            ended: watch::Sender::new(0),
        })
    }

    /// Says which queue gets the uids to look at, and who hears of namespaces that got an object or
    /// lost their last.
    pub(crate) fn listen(&self, garbage: Queue<String>, on_change: OnChange) {
        if self.listeners.set((garbage, on_change)).is_err() {
            tracing::error!(
                "the listeners of the inventory were set twice; the second set is unused"
            );
        }
    }

    /// Follows every kind until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut watches = JoinSet::new();
        let definitions: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(self.client.clone(), &definitions());
        let mut definitions = watcher(definitions, Config::default())
            .default_backoff()
            .boxed();
        loop {
            self.begun.send_modify(|count| *count += 1);
            let pause = match self.discover().await {
                Ok(new) => {
                    for kind in new {
                        watches.spawn(self.clone().follow(kind, stop.clone()));
                    }
                    self.state().discovered = Some(Ok(()));
                    REDISCOVER
                }
                Err(error) => {
                    tracing::warn!(%error, "discovery failed; trying again");
                    self.state().discovered = Some(Err(error.to_string()));
                    RETRY_DISCOVERY
                }
            };
            self.ended.send_replace(*self.begun.borrow());
            let mut again = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.ask.notified() => break,
                    event = definitions.next() => {
                        if matches!(event, Some(Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone))) {
                            again = again.min(Instant::now() + SETTLE);
                        }
                    }
                    () = sleep_until(again) => break,
                }
            }
            if stop.is_cancelled() {
                break;
            }
            // Those whose kinds are gone have ended.
            while watches.try_join_next().is_some() {}
        }
        while watches.join_next().await.is_some() {}
    }

    /// Looks for kinds now, so that one that was made before this call is known after it.
    pub(crate) async fn refresh(&self) {
        let wanted = *self.begun.borrow() + 1;
        let mut ended = self.ended.subscribe();
        self.ask.notify_one();
        // A discovery that does not end is told by what it says when it is looked at.
        let _ = tokio::time::timeout(DISCOVERING, ended.wait_for(|ended| *ended >= wanted)).await;
    }

    /// Forgets kinds that are not served any more, with all that was known of their objects.
    fn retain(&self, served: &[Kind]) {
        let gone: Vec<String> = {
            let mut state = self.state();
            if state.kinds.iter().all(|kind| served.contains(kind)) {
                return;
            }
            state.kinds.retain(|kind| served.contains(kind));
            state.unlisted.retain(|kind| served.contains(kind));
            let items = state.items.iter();
            items
                .filter(|(_, item)| !served.contains(&item.kind))
                .map(|(uid, _)| uid.clone())
                .collect()
        };
        gone.iter().for_each(|uid| self.gone(uid));
    }

    /// Kinds that were not known before; those that are gone are forgotten.
    async fn discover(&self) -> Result<Vec<Kind>, kube::Error> {
        let discovery = Discovery::new(self.client.clone()).run().await?;
        let mut new = Vec::new();
        let mut served = Vec::new();
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
            if !usable || kind.resource.plural == "events" {
                continue;
            }
            served.push(kind.clone());
            if !self.kinds().contains(&kind) {
                let mut state = self.state();
                state.kinds.push(kind.clone());
                state.unlisted.insert(kind.clone());
                new.push(kind);
            }
        }
        self.retain(&served);
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
                    self.listed(&kind);
                }
                Ok(Some(Event::Apply(object))) => self.seen(&kind, object.metadata),
                Ok(Some(Event::Delete(object))) => {
                    self.gone(&object.metadata.uid.unwrap_or_default());
                }
                Ok(None) => return,
                Err(_) if !self.kinds().contains(&kind) => return,
                Err(error) => {
                    let kind = &kind.resource.kind;
                    tracing::debug!(%error, kind, "watch failed; trying again");
                }
            }
        }
    }

    /// Waits until every kind has been listed once: before that, what is not here may be
    /// elsewhere. A kind that cannot be listed is not waited for long.
    pub(crate) async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // Either outcome ends the wait.
        let _ = tokio::time::timeout(LISTING, ready.wait_for(|ready| *ready)).await;
    }

    fn listed(&self, kind: &Kind) {
        let all = {
            let mut state = self.state();
            state.unlisted.remove(kind);
            state.unlisted.is_empty()
        };
        if all {
            self.ready.send_replace(true);
        }
    }

    fn seen(&self, kind: &Kind, metadata: ObjectMeta) {
        let Some(uid) = metadata.uid else { return };
        let owners = metadata.owner_references.unwrap_or_default();
        let finalizers = metadata.finalizers.unwrap_or_default();
        let deleting = metadata.deletion_timestamp.is_some();
        let finalizing = deleting && finalizers.iter().any(|name| waits_for_dependents(name));
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let item = Item {
            deleting,
            finalizing,
            kind: kind.clone(),
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            owners: owners.clone(),
        };
        let (touched, arrived) = {
            let mut state = self.state();
            let old = state.items.insert(uid.clone(), item);
            if let Some(old) = &old {
                state.unlink(&uid, old);
            } else {
                *state.populations.entry(namespace.clone()).or_default() += 1;
            }
            for owner in &owners {
                let dependents = state.dependents.entry(owner.uid.clone()).or_default();
                dependents.insert(uid.clone());
            }
            let mut touched = state.touched(&uid);
            // An owner that it has lost may have waited for just that.
            let lost = old.iter().flat_map(|old| &old.owners);
            let lost = lost.map(|owner| owner.uid.clone());
            touched.extend(lost.filter(|owner| state.finalizing(owner)));
            (touched, old.is_none())
        };
        if let Some((garbage, on_change)) = self.listeners.get() {
            touched.into_iter().for_each(|uid| garbage.add(uid));
            if arrived {
                on_change(&namespace);
            }
        }
    }

    /// Forgets an object; its dependents are worth a look, and owners that wait for it.
    pub(crate) fn gone(&self, uid: &str) {
        let (item, touched, emptied) = {
            let mut state = self.state();
            let Some(item) = state.items.remove(uid) else {
                return;
            };
            state.unlink(uid, &item);
            let emptied = state.depart(&item.namespace);
            let mut touched = state.dependents.get(uid).cloned().unwrap_or_default();
            let owners = item.owners.iter().map(|owner| owner.uid.clone());
            touched.extend(owners.filter(|owner| state.finalizing(owner)));
            (item, touched, emptied)
        };
        if let Some((garbage, on_change)) = self.listeners.get() {
            touched.into_iter().for_each(|uid| garbage.add(uid));
            if emptied {
                on_change(&item.namespace);
            }
        }
    }

    /// Has the garbage collector look at an object.
    pub(crate) fn look_at(&self, uid: String) {
        if let Some((garbage, _)) = self.listeners.get() {
            garbage.add(uid);
        }
    }

    /// Notes that the apiserver took a deletion, before the watch tells of it.
    pub(crate) fn deleted(&self, uid: &str) {
        if let Some(item) = self.state().items.get_mut(uid) {
            item.deleting = true;
        }
    }

    /// Whether an owner was asked for before, and was not there.
    pub(crate) fn absent(&self, namespace: &str, owner: &OwnerReference) -> bool {
        self.state().absent.contains(&reference(namespace, owner))
    }

    /// Remembers that an owner is not there.
    pub(crate) fn remember_absent(&self, namespace: &str, owner: &OwnerReference) {
        let mut state = self.state();
        if state.absent.len() >= REMEMBERED_ABSENCES {
            state.absent.clear();
        }
        state.absent.insert(reference(namespace, owner));
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

    /// How the last discovery went, if there was one.
    pub(crate) fn discovered(&self) -> Option<Result<(), String>> {
        self.state().discovered.clone()
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

/// The kind that defines others.
fn definitions() -> ApiResource {
    ApiResource {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
    }
}

fn waits_for_dependents(finalizer: &str) -> bool {
    matches!(finalizer, "foregroundDeletion" | "orphan")
}

fn reference(namespace: &str, owner: &OwnerReference) -> Reference {
    let kind = format!("{} {}", owner.api_version, owner.kind);
    (
        namespace.to_owned(),
        kind,
        owner.name.clone(),
        owner.uid.clone(),
    )
}

impl State {
    fn finalizing(&self, uid: &str) -> bool {
        self.items.get(uid).is_some_and(|item| item.finalizing)
    }

    /// What is worth a look when an object was seen: itself, if an owner of it is not known or it
    /// waits for its dependents; and owners that wait for theirs.
    fn touched(&self, uid: &str) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        let Some(item) = self.items.get(uid) else {
            return touched;
        };
        let ownerless = |owner: &OwnerReference| !self.items.contains_key(&owner.uid);
        if item.finalizing || (!item.deleting && item.owners.iter().any(ownerless)) {
            touched.insert(uid.to_owned());
        }
        let owners = item.owners.iter().map(|owner| owner.uid.clone());
        touched.extend(owners.filter(|owner| self.finalizing(owner)));
        touched
    }

    /// Counts an object out of its namespace; says whether that was the last.
    fn depart(&mut self, namespace: &str) -> bool {
        let Some(count) = self.populations.get_mut(namespace) else {
            return false;
        };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return false;
        }
        self.populations.remove(namespace);
        true
    }

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
