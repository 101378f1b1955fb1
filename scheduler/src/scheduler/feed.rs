//! What the watches say, taken into the snapshot and the queue.
//!
//! Each watch has a task that decodes and digests; their changes come through one bounded channel, and a watch waits while
//! it is full.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::State;
use super::owners::{self, Keyed};
use crate::budgets::Budget;
use crate::config::Config;
use crate::framework::Change;
use crate::node::Node;
use crate::owners::OwnerKind;
use crate::pod::{self, Labels, Pod, Standing};
use crate::selector::Selector;
use crate::snapshot::{NodeChange, Placement};
use crate::storage::{Claim, Class, Volume};

/// Changes that wait to be taken in.
const WAITING: usize = 4096;

/// The watches.
pub(super) struct Feeds {
    pub(super) tasks: JoinSet<()>,
    pub(super) changes: mpsc::Receiver<Fed>,
}

/// A change of one kind.
pub(super) enum Fed {
    Pod(Event<SeenPod>),
    Node(Event<Node>),
    Claim(Event<Claim>),
    Volume(Event<Volume>),
    Class(Event<(String, Class)>),
    Namespace(Event<(String, Labels)>),
    Service(Event<Keyed<Labels>>),
    Owner(OwnerKind, Event<Keyed<Selector>>),
    Budget(Event<Keyed<Budget>>),
}

/// What is read of a pod.
pub(super) struct SeenPod {
    pod: Pod,
    standing: Standing,
    /// The message of its condition, if it was not placed.
    reported: Option<String>,
}

impl SeenPod {
    pub(super) fn new(object: &core::Pod, ours: impl Fn(&str) -> bool) -> Self {
        Self {
            pod: Pod::from(object),
            standing: Standing::of(object, ours),
            reported: pod::reported(object).map(str::to_owned),
        }
    }
}

impl Feeds {
    pub(super) fn start(client: &Client, config: &Config) -> Self {
        let (sender, changes) = mpsc::channel(WAITING);
        let mut feeds = Self {
            tasks: JoinSet::new(),
            changes,
        };
        let profiles = config.profiles.iter();
        let ours: HashSet<_> = profiles.map(|profile| Arc::clone(&profile.name)).collect();
        let seen_pod = move |object| SeenPod::new(&object, |scheduler| ours.contains(scheduler));
        feeds.follow(client, "pods", &sender, seen_pod, Fed::Pod);
        let node = |object: core::Node| Node::from(&object);
        feeds.follow(client, "nodes", &sender, node, Fed::Node);
        let claim = |object: core::PersistentVolumeClaim| Claim::from(&object);
        feeds.follow(client, "persistentvolumeclaims", &sender, claim, Fed::Claim);
        let volume = |object: core::PersistentVolume| Volume::from(&object);
        feeds.follow(client, "persistentvolumes", &sender, volume, Fed::Volume);
        let class = |object: StorageClass| (object.name_any(), Class::from(&object));
        feeds.follow(client, "storageclasses", &sender, class, Fed::Class);
        let namespace = |object: core::Namespace| (object.name_any(), object.labels().clone());
        feeds.follow(client, "namespaces", &sender, namespace, Fed::Namespace);
        feeds.follow_owners(client, &sender);
        feeds.follow_budgets(client, &sender);
        feeds
    }

    /// A watch that goes on for ever; its failures are told here and retried with back-off.
    pub(super) fn follow<K, T>(
        &mut self,
        client: &Client,
        resource: &'static str,
        changes: &mpsc::Sender<Fed>,
        digest: impl Fn(K) -> T + Send + 'static,
        fed: impl Fn(Event<T>) -> Fed + Send + 'static,
    ) where
        K: kube::Resource<DynamicType = ()>
            + k8s_openapi::serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug
            + Send
            + 'static,
        T: Send + 'static,
    {
        let (api, changes) = (Api::<K>::all(client.clone()), changes.clone());
        self.tasks.spawn(async move {
            let events = watch(api, watcher::Config::default()).default_backoff();
            tokio::pin!(events);
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(Event::Init) => Event::Init,
                    Ok(Event::InitApply(object)) => Event::InitApply(digest(object)),
                    Ok(Event::InitDone) => Event::InitDone,
                    Ok(Event::Apply(object)) => Event::Apply(digest(object)),
                    Ok(Event::Delete(object)) => Event::Delete(digest(object)),
                    Err(error) => {
                        warn!(
                            resource,
                            error = &error as &dyn std::error::Error,
                            "watch interrupted"
                        );
                        continue;
                    }
                };
                if changes.send(fed(event)).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// How far the watches are with their lists.
#[derive(Default)]
pub(super) struct Listings {
    pods: Listing,
    nodes: Listing,
    pub(super) claims: Listing,
    pub(super) volumes: Listing,
    pub(super) classes: Listing,
    namespaces: Listing,
    pub(super) owners: owners::Listings,
    pub(super) budgets: Listing,
}

impl Listings {
    /// Until all are complete once, nothing is decided.
    pub(super) fn are_complete(&self) -> bool {
        let Self {
            pods,
            nodes,
            claims,
            volumes,
            classes,
            namespaces,
            owners,
            budgets,
        } = self;
        [pods, nodes, claims, volumes, classes, namespaces]
            .iter()
            .all(|listing| listing.complete)
            && owners.are_complete()
            && budgets.complete
    }
}

/// How far a watch is with its list.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) complete: bool,
    seen: HashSet<Arc<str>>,
}

/// What an event says.
pub(super) enum Seen<T> {
    Nothing,
    Put(T),
    Gone(Arc<str>),
    /// All that there is.
    Listed(HashSet<Arc<str>>),
}

impl Listing {
    pub(super) fn see<T>(&mut self, event: Event<T>, key: impl Fn(&T) -> Arc<str>) -> Seen<T> {
        match event {
            Event::Init => {
                self.seen.clear();
                Seen::Nothing
            }
            Event::InitApply(object) => {
                self.seen.insert(key(&object));
                Seen::Put(object)
            }
            Event::Apply(object) => Seen::Put(object),
            Event::Delete(object) => Seen::Gone(key(&object)),
            Event::InitDone => {
                self.complete = true;
                Seen::Listed(std::mem::take(&mut self.seen))
            }
        }
    }
}

impl State {
    /// Takes in a change.
    pub(super) fn see(&mut self, change: Fed) {
        match change {
            Fed::Pod(event) => self.see_pod(event),
            Fed::Node(event) => self.see_node(event),
            Fed::Claim(event) => self.see_claim(event),
            Fed::Volume(event) => self.see_volume(event),
            Fed::Class(event) => self.see_class(event),
            Fed::Namespace(event) => self.see_namespace(event),
            Fed::Service(event) => self.see_service(event),
            Fed::Owner(kind, event) => self.see_owner(kind, event),
            Fed::Budget(event) => self.see_budget(event),
        }
    }

    fn see_pod(&mut self, event: Event<SeenPod>) {
        let key = |seen: &SeenPod| Arc::clone(&seen.pod.uid);
        match self.listings.pods.see(event, key) {
            Seen::Nothing => {}
            Seen::Put(seen) => self.put_pod(seen),
            Seen::Gone(uid) => self.remove_pod(&uid),
            Seen::Listed(all) => {
                let known = self.snapshot.pods().chain(self.queue.pods());
                let gone = known.filter(|uid| !all.contains(*uid));
                let gone: Vec<_> = gone.cloned().collect();
                for uid in gone {
                    self.remove_pod(&uid);
                }
                info!(pods = all.len(), "pods listed");
            }
        }
    }

    fn put_pod(&mut self, seen: SeenPod) {
        let SeenPod {
            pod,
            standing,
            reported,
        } = seen;
        match standing {
            Standing::Placed(node) => {
                self.queue.remove(&pod.uid);
                let nominated = self.snapshot.denominate(&pod.uid);
                self.placed(&pod, &node);
                if let Some(before) = nominated.filter(|before| before.node != node) {
                    self.left(&before);
                }
            }
            Standing::Pending => self.offer(pod, reported.as_deref()),
            Standing::Aside => {
                self.queue.remove(&pod.uid);
                self.denominate(&pod.uid);
                // A pod that is being bound keeps its room until that has ended.
                let bound = self.snapshot.is_assumed(&pod.uid) && !self.waiting.has(&pod.uid);
                if pod.node.is_some() || !bound {
                    self.remove_pod(&pod.uid);
                }
            }
        }
    }

    /// Notes that a pod is on a node, and what that changes for those that wait.
    fn placed(&mut self, pod: &Pod, node: &Arc<str>) {
        let old = self.snapshot.placed(&pod.uid).cloned();
        self.snapshot.place(pod, node);
        let Some(new) = self.snapshot.placed(&pod.uid).cloned() else {
            return;
        };
        let (queue, now) = (&mut self.queue, Instant::now());
        match old {
            None => queue.wake(&Change::PodPlaced(&new), now),
            Some(old) if !Arc::ptr_eq(&old, &new) => {
                let node = self.snapshot.candidate(node);
                let change = Change::PodChanged {
                    old: &old,
                    new: &new,
                    node,
                };
                queue.wake(&change, now);
            }
            Some(_) => {}
        }
    }

    fn offer(&mut self, pod: Pod, reported: Option<&str>) {
        let let_in = self
            .profile(&pod)
            .is_some_and(|profile| profile.lets_in(&pod));
        let before = self.queue.pod(&pod.uid);
        let had = before.is_some_and(|before| before.nominated.is_some());
        match &pod.nominated {
            // It has its room already, wherever that is.
            Some(_) if self.snapshot.is_assumed(&pod.uid) => {}
            Some(node) => self.nominate(&pod, node),
            // Said by us and not seen yet, or taken back by somebody.
            None if had => self.denominate(&pod.uid),
            None => {}
        }
        self.queue.offer(pod, let_in, reported, Instant::now());
    }

    fn remove_pod(&mut self, uid: &str) {
        if let Some(pod) = self.queue.pod(uid).cloned() {
            self.unreserve(&pod);
        }
        self.queue.remove(uid);
        self.denominate(uid);
        self.attempts.remove(uid);
        if let Some(waiting) = self.waiting.remove(uid) {
            self.unreserve(&waiting.pod);
        }
        if let Some(gone) = self.snapshot.take(uid) {
            self.left(&gone);
        }
    }

    /// Looks again at the pods that a pod kept away that left its node.
    pub(super) fn left(&mut self, gone: &Placement) {
        let change = Change::PodRemoved {
            pod: &gone.pod,
            node: self.snapshot.candidate(&gone.node),
        };
        self.queue.wake(&change, Instant::now());
    }

    fn see_node(&mut self, event: Event<Node>) {
        match self
            .listings
            .nodes
            .see(event, |node| Arc::clone(&node.name))
        {
            Seen::Nothing => {}
            Seen::Put(node) => self.put_node(node),
            Seen::Gone(name) => {
                if let Some(gone) = self.snapshot.remove_node(&name) {
                    let change = Change::NodeRemoved(&gone);
                    self.queue.wake(&change, Instant::now());
                }
            }
            Seen::Listed(all) => {
                self.snapshot.retain_nodes(|name| all.contains(name));
                info!(nodes = all.len(), "nodes listed");
            }
        }
    }

    fn put_node(&mut self, node: Node) {
        let name = Arc::clone(&node.name);
        let change = self.snapshot.put_node(node);
        let Some(new) = self.snapshot.node(&name) else {
            return;
        };
        let (queue, now) = (&mut self.queue, Instant::now());
        match change {
            NodeChange::Added => queue.wake(&Change::NodeAdded(new), now),
            NodeChange::Changed(old) => queue.wake(&Change::NodeChanged { old: &old, new }, now),
            NodeChange::Same => {}
        }
    }

    fn see_namespace(&mut self, event: Event<(String, Labels)>) {
        let namespaces = &mut self.listings.namespaces;
        match namespaces.see(event, |(name, _)| name.as_str().into()) {
            Seen::Nothing => {}
            Seen::Put((name, labels)) => {
                if self.snapshot.put_namespace(&name, labels) {
                    self.queue.wake(&Change::Namespace, Instant::now());
                }
            }
            Seen::Gone(name) => self.snapshot.remove_namespace(&name),
            Seen::Listed(all) => self.snapshot.retain_namespaces(|name| all.contains(name)),
        }
    }
}
