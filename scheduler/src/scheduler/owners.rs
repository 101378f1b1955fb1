//! What the watches of Services and of owners of pods say, taken into the snapshot.

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource, ResourceExt};

use super::State;
use super::feed::{Listing, Seen, events};
use crate::owners::OwnerKind;
use crate::selector::Selector;

/// An event of one of these kinds.
pub(super) enum OwnerEvent {
    Service(Event<Service>),
    ReplicaSet(Event<ReplicaSet>),
    ReplicationController(Event<ReplicationController>),
    StatefulSet(Event<StatefulSet>),
}

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
}

/// Watches that go on for ever.
pub(super) fn owner_events(client: &Client) -> impl Stream<Item = OwnerEvent> + use<> {
    let services = events(Api::<Service>::all(client.clone()), "services");
    let sets = events(Api::<ReplicaSet>::all(client.clone()), "replicasets");
    let controllers = Api::<ReplicationController>::all(client.clone());
    let controllers = events(controllers, "replicationcontrollers");
    let stateful = events(Api::<StatefulSet>::all(client.clone()), "statefulsets");
    stream::select(
        stream::select(
            services.map(OwnerEvent::Service),
            sets.map(OwnerEvent::ReplicaSet),
        ),
        stream::select(
            controllers.map(OwnerEvent::ReplicationController),
            stateful.map(OwnerEvent::StatefulSet),
        ),
    )
}

/// `namespace/name`
fn key<K: Resource>(object: &K) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{namespace}/{}", object.name_any())
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or_default()
}

impl State {
    pub(super) fn see_owner(&mut self, event: OwnerEvent) {
        match event {
            OwnerEvent::Service(event) => self.see_service(event),
            OwnerEvent::ReplicaSet(event) => {
                let seen = self.owners.replica_sets.see(event, key);
                self.see_set(OwnerKind::ReplicaSet, seen, |set| {
                    let selector = set.spec.as_ref().map(|spec| &spec.selector);
                    Selector::parse(selector)
                });
            }
            OwnerEvent::StatefulSet(event) => {
                let seen = self.owners.stateful_sets.see(event, key);
                self.see_set(OwnerKind::StatefulSet, seen, |set| {
                    let selector = set.spec.as_ref().map(|spec| &spec.selector);
                    Selector::parse(selector)
                });
            }
            OwnerEvent::ReplicationController(event) => {
                let seen = self.owners.replication_controllers.see(event, key);
                self.see_set(OwnerKind::ReplicationController, seen, |controller| {
                    let selector = controller.spec.as_ref();
                    let labels = selector.and_then(|spec| spec.selector.clone());
                    Selector::parse(Some(&LabelSelector {
                        match_labels: labels,
                        match_expressions: None,
                    }))
                });
            }
        }
    }

    fn see_service(&mut self, event: Event<Service>) {
        let owners = &mut self.snapshot.owners;
        match self.owners.services.see(event, key) {
            Seen::Nothing => {}
            Seen::Put(service) => {
                let selector = service.spec.as_ref();
                let selector = selector.and_then(|spec| spec.selector.clone());
                let key = key(&service);
                let (namespace, name) = split(&key);
                owners.put_service(namespace, name, selector.unwrap_or_default());
            }
            Seen::Gone(key) => {
                let (namespace, name) = split(&key);
                owners.remove_service(namespace, name);
            }
            Seen::Listed(all) => owners
                .retain_services(|namespace, name| all.contains(&format!("{namespace}/{name}"))),
        }
    }

    fn see_set<K: Resource>(
        &mut self,
        kind: OwnerKind,
        seen: Seen<K>,
        selector: impl Fn(&K) -> Selector,
    ) {
        let owners = &mut self.snapshot.owners;
        match seen {
            Seen::Nothing => {}
            Seen::Put(owner) => {
                let key = key(&owner);
                let (namespace, name) = split(&key);
                owners.put(kind, namespace, name, selector(&owner));
            }
            Seen::Gone(key) => {
                let (namespace, name) = split(&key);
                owners.remove(kind, namespace, name);
            }
            Seen::Listed(all) => owners.retain(kind, |namespace, name| {
                all.contains(&format!("{namespace}/{name}"))
            }),
        }
    }
}
