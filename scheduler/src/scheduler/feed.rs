//! What the watches say, taken into the snapshot and the queue.

use std::collections::HashSet;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, ResourceExt};
use tokio::time::Instant;
use tracing::{info, warn};

use super::State;
use crate::framework::Change;
use crate::node::Node;
use crate::pod::{self, Pod, Standing};
use crate::snapshot::NodeChange;
use crate::storage::{Claim, Class, Volume};

/// A watch that goes on for ever; its failures are told here and retried with back-off.
pub(super) fn events<K>(api: Api<K>, resource: &'static str) -> impl Stream<Item = Event<K>>
where
    K: kube::Resource
        + k8s_openapi::serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + 'static,
{
    watch(api, watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| {
            let event = event
                .inspect_err(|error| {
                    warn!(
                        resource,
                        error = error as &dyn std::error::Error,
                        "watch interrupted"
                    );
                })
                .ok();
            std::future::ready(event)
        })
}

/// How far a watch is with its list. Until all are complete once, nothing is decided.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) complete: bool,
    seen: HashSet<String>,
}

/// What an event says.
pub(super) enum Seen<K> {
    Nothing,
    Put(K),
    Gone(String),
    /// All that there is.
    Listed(HashSet<String>),
}

impl Listing {
    pub(super) fn see<K>(&mut self, event: Event<K>, key: impl Fn(&K) -> String) -> Seen<K> {
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
    pub(super) fn see_pod(&mut self, event: Event<core::Pod>) {
        match event {
            Event::Init => self.pods.seen.clear(),
            Event::InitApply(pod) => {
                self.pods.seen.extend(pod.metadata.uid.clone());
                self.put_pod(&pod);
            }
            Event::Apply(pod) => self.put_pod(&pod),
            Event::Delete(pod) => self.remove_pod(pod.metadata.uid.as_deref().unwrap_or_default()),
            Event::InitDone => {
                let seen = std::mem::take(&mut self.pods.seen);
                self.queue.retain(|uid| seen.contains(uid));
                let gone: Vec<_> = self
                    .snapshot
                    .pods()
                    .filter(|uid| !seen.contains(&***uid))
                    .cloned()
                    .collect();
                for uid in gone {
                    self.remove_pod(&uid);
                }
                self.pods.complete = true;
                info!(pods = seen.len(), "pods listed");
            }
        }
    }

    pub(super) fn put_pod(&mut self, object: &core::Pod) {
        let pod = Pod::from(object);
        match Standing::of(object, &self.config.scheduler_name) {
            Standing::Placed(node) => {
                self.queue.remove(&pod.uid);
                self.snapshot.place(&pod, &node);
            }
            Standing::Pending => self.queue.offer(pod, pod::reported(object)),
            Standing::Aside => {
                self.queue.remove(&pod.uid);
                if self.waiting.remove(&pod.uid).is_some() {
                    self.snapshot.storage.forget(&pod.uid);
                    self.remove_pod(&pod.uid);
                }
                // A pod that is being bound keeps its room until that has ended.
                if pod.node.is_some() || !self.snapshot.is_assumed(&pod.uid) {
                    self.remove_pod(&pod.uid);
                }
            }
        }
    }

    pub(super) fn remove_pod(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.waiting.remove(uid);
        self.snapshot.storage.forget(uid);
        if let Some(gone) = self.snapshot.remove(uid) {
            self.wake(&Change::PodRemoved(&gone));
        }
    }

    pub(super) fn see_node(&mut self, event: Event<core::Node>) {
        match event {
            Event::Init => self.nodes.seen.clear(),
            Event::InitApply(node) => {
                self.nodes.seen.extend(node.metadata.name.clone());
                self.put_node(&node);
            }
            Event::Apply(node) => self.put_node(&node),
            Event::Delete(node) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let gone = self.snapshot.candidate(name);
                let gone = gone.map(|gone| std::sync::Arc::clone(&gone.node));
                self.snapshot.remove_node(name);
                if let Some(gone) = gone {
                    self.wake(&Change::NodeRemoved(&gone));
                }
            }
            Event::InitDone => {
                let seen = std::mem::take(&mut self.nodes.seen);
                self.snapshot.retain_nodes(|name| seen.contains(name));
                self.nodes.complete = true;
                info!(nodes = seen.len(), "nodes listed");
            }
        }
    }

    pub(super) fn see_claim(&mut self, event: Event<core::PersistentVolumeClaim>) {
        let key = |claim: &core::PersistentVolumeClaim| {
            format!(
                "{}/{}",
                claim.namespace().unwrap_or_default(),
                claim.name_any()
            )
        };
        let storage = &mut self.snapshot.storage;
        let changed = match self.claims.see(event, key) {
            Seen::Nothing => false,
            Seen::Put(claim) => storage.put_claim(Claim::from(&claim)),
            Seen::Gone(key) => {
                storage.remove_claim(&key);
                true
            }
            Seen::Listed(all) => {
                storage.retain_claims(|key| all.contains(key));
                true
            }
        };
        self.stir(changed);
    }

    pub(super) fn see_volume(&mut self, event: Event<core::PersistentVolume>) {
        let storage = &mut self.snapshot.storage;
        let changed = match self.volumes.see(event, ResourceExt::name_any) {
            Seen::Nothing => false,
            Seen::Put(volume) => storage.put_volume(Volume::from(&volume)),
            Seen::Gone(name) => {
                storage.remove_volume(&name);
                true
            }
            Seen::Listed(all) => {
                storage.retain_volumes(|name| all.contains(name));
                true
            }
        };
        self.stir(changed);
    }

    pub(super) fn see_class(&mut self, event: Event<StorageClass>) {
        let storage = &mut self.snapshot.storage;
        let changed = match self.classes.see(event, ResourceExt::name_any) {
            Seen::Nothing => false,
            Seen::Put(class) => storage.put_class(class.name_any(), Class::from(&class)),
            Seen::Gone(name) => {
                storage.remove_class(&name);
                true
            }
            Seen::Listed(all) => {
                storage.retain_classes(|name| all.contains(name));
                true
            }
        };
        self.stir(changed);
    }

    /// After a change of storage: pods that wait for it, and those that none helped, are looked at again.
    pub(super) fn stir(&mut self, changed: bool) {
        if changed {
            self.stirred = true;
            self.wake(&Change::Storage);
        }
    }

    pub(super) fn put_node(&mut self, object: &core::Node) {
        let node = Node::from(object);
        let name = std::sync::Arc::clone(&node.name);
        let change = self.snapshot.put_node(node);
        let Some(candidate) = self.snapshot.candidate(&name) else {
            return;
        };
        let new = std::sync::Arc::clone(&candidate.node);
        match change {
            NodeChange::Added => self.wake(&Change::NodeAdded(&new)),
            NodeChange::Changed(old) => self.wake(&Change::NodeChanged {
                old: &old,
                new: &new,
            }),
            NodeChange::Same => {}
        }
    }

    pub(super) fn see_namespace(&mut self, event: Event<core::Namespace>) {
        match self.namespaces.see(event, ResourceExt::name_any) {
            Seen::Nothing => {}
            Seen::Put(namespace) => {
                let (name, labels) = (namespace.name_any(), namespace.labels().clone());
                if self.snapshot.put_namespace(&name, labels) {
                    self.wake(&Change::Namespace(&name));
                }
            }
            Seen::Gone(name) => self.snapshot.remove_namespace(&name),
            Seen::Listed(all) => self.snapshot.retain_namespaces(|name| all.contains(name)),
        }
    }

    /// Looks again at the pods that a change may help.
    pub(super) fn wake(&mut self, change: &Change<'_>) {
        let plugins = &self.profile.plugins;
        self.queue.wake(
            |pod, rejected_by| {
                // A pod that no plugin objected to had no node at all.
                rejected_by.is_empty()
                    || plugins.iter().any(|plugin| {
                        rejected_by.contains(plugin.name()) && plugin.may_help(change, pod)
                    })
            },
            Instant::now(),
        );
    }
}
