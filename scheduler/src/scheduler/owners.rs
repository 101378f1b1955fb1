//! What the watches of Services and of owners of pods say, taken into the snapshot.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::mpsc;

use super::State;
use super::feed::{Fed, Feeds, Listing, Seen};
use crate::owners::OwnerKind;
use crate::pod::Labels;
use crate::selector::Selector;

/// `namespace/name` of an object, and what is read of it.
pub(super) type Keyed<T> = (Arc<str>, T);

/// How far these watches are with their lists.
#[derive(Default)]
pub(super) struct Listings {
    services: Listing,
    replica_sets: Listing,
    replication_controllers: Listing,
    stateful_sets: Listing,
}

impl Listings {
    pub(super) fn are_complete(&self) -> bool {
        let all = [
            &self.services,
            &self.replica_sets,
            &self.replication_controllers,
            &self.stateful_sets,
        ];
        all.iter().all(|listing| listing.complete)
    }

    fn of(&mut self, kind: OwnerKind) -> &mut Listing {
        match kind {
            OwnerKind::ReplicaSet => &mut self.replica_sets,
            OwnerKind::ReplicationController => &mut self.replication_controllers,
            OwnerKind::StatefulSet => &mut self.stateful_sets,
        }
    }
}

impl Feeds {
    /// Watches of what selects pods.
    pub(super) fn follow_owners(&mut self, client: &Client, changes: &mpsc::Sender<Fed>) {
        let service = |object: Service| {
            let selector = object.spec.as_ref();
            let selector = selector.and_then(|spec| spec.selector.clone());
            (key(&object), selector.unwrap_or_default())
        };
        self.follow(client, "services", changes, service, Fed::Service);
        let set = |object: ReplicaSet| {
            let selector = object.spec.as_ref().map(|spec| &spec.selector);
            (key(&object), Selector::parse(selector))
        };
        let owner = |event| Fed::Owner(OwnerKind::ReplicaSet, event);
        self.follow(client, "replicasets", changes, set, owner);
        let set = |object: StatefulSet| {
            let selector = object.spec.as_ref().map(|spec| &spec.selector);
            (key(&object), Selector::parse(selector))
        };
        let owner = |event| Fed::Owner(OwnerKind::StatefulSet, event);
        self.follow(client, "statefulsets", changes, set, owner);
        let controller = |object: ReplicationController| {
            let selector = object.spec.as_ref();
            let selector = Selector::parse(Some(&LabelSelector {
                match_labels: selector.and_then(|spec| spec.selector.clone()),
                match_expressions: None,
            }));
            (key(&object), selector)
        };
        let owner = |event| Fed::Owner(OwnerKind::ReplicationController, event);
        self.follow(client, "replicationcontrollers", changes, controller, owner);
    }
}

fn key<K: Resource>(object: &K) -> Arc<str> {
    let namespace = object.namespace().unwrap_or_default();
    format!("{namespace}/{}", object.name_any()).into()
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or_default()
}

impl State {
    pub(super) fn see_service(&mut self, event: Event<Keyed<Labels>>) {
        let owners = &mut self.snapshot.owners;
        let listing = &mut self.listings.owners.services;
        match listing.see(event, |(key, _)| Arc::clone(key)) {
            Seen::Nothing => {}
            Seen::Put((key, selector)) => {
                let (namespace, name) = split(&key);
                owners.put_service(namespace, name, selector);
            }
            Seen::Gone(key) => {
                let (namespace, name) = split(&key);
                owners.remove_service(namespace, name);
            }
            Seen::Listed(all) => owners.retain_services(|namespace, name| {
                all.contains(format!("{namespace}/{name}").as_str())
            }),
        }
    }

    pub(super) fn see_owner(&mut self, kind: OwnerKind, event: Event<Keyed<Selector>>) {
        let owners = &mut self.snapshot.owners;
        let listing = self.listings.owners.of(kind);
        match listing.see(event, |(key, _)| Arc::clone(key)) {
            Seen::Nothing => {}
            Seen::Put((key, selector)) => {
                let (namespace, name) = split(&key);
                owners.put(kind, namespace, name, selector);
            }
            Seen::Gone(key) => {
                let (namespace, name) = split(&key);
                owners.remove(kind, namespace, name);
            }
            Seen::Listed(all) => owners.retain(kind, |namespace, name| {
                all.contains(format!("{namespace}/{name}").as_str())
            }),
        }
    }
}
