//! What every controller is given: the client, the caches and the way to record Events.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ApiResource, DynamicObject};
use kube::core::{Selector, SelectorExt};
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;

use crate::Config;
use crate::cache::Cache;
use crate::events::Recorder;
use crate::node_lifecycle::Heartbeat;
use crate::pod;
use crate::replicaset::Expectations;
use crate::volume;

/// Shared by all controllers.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) recorder: Recorder,
    pub(crate) pods: Arc<Cache<Pod>>,
    /// As values: a template is copied whole, with fields that this version does not know.
    pub(crate) replicasets: Arc<Cache<DynamicObject>>,
    pub(crate) deployments: Arc<Cache<DynamicObject>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    pub(crate) leases: Arc<Cache<Lease>>,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) claims: Arc<Cache<PersistentVolumeClaim>>,
    pub(crate) volumes: Arc<Cache<PersistentVolume>>,
    pub(crate) classes: Arc<Cache<StorageClass>>,
    /// Pods that were asked for and have not been seen yet.
    pub(crate) expectations: Expectations,
    /// When each node was last heard of, by this process's clock.
    pub(crate) heartbeats: Mutex<HashMap<String, Heartbeat>>,
}

impl Context {
    pub(crate) fn new(client: Client, config: Config, recorder: Recorder) -> Arc<Self> {
        Arc::new(Self {
            client,
            config,
            recorder,
            pods: Cache::new(pod::INDEXES, pod::strip),
            replicasets: Cache::new(
                &[
                    ("owner", owner::<DynamicObject>),
                    ("orphans", orphan::<DynamicObject>),
                    ("namespace", namespace::<DynamicObject>),
                ],
                |_| (),
            ),
            deployments: Cache::new(&[("namespace", namespace::<DynamicObject>)], |_| ()),
            services: Cache::new(&[("namespace", namespace::<Service>)], |_| ()),
            slices: Cache::new(&[("service", crate::endpointslice::service_of)], |_| ()),
            budgets: Cache::new(&[("namespace", namespace::<PodDisruptionBudget>)], |_| ()),
            nodes: Cache::new(&[], |node: &mut Node| {
                if let Some(status) = &mut node.status {
                    status.images = None;
                }
            }),
            leases: Cache::new(&[], |_| ()),
            namespaces: Cache::new(&[], |_| ()),
            claims: Cache::new(
                &[
                    ("volume", volume::binding::by_volume),
                    ("unbound", volume::binding::unbound_of_class),
                ],
                |_| (),
            ),
            volumes: Cache::new(
                &[
                    ("free", volume::release::free_of_class),
                    ("claim", volume::release::by_claim),
                ],
                |_| (),
            ),
            classes: Cache::new(&[], |_| ()),
            expectations: Expectations::default(),
            heartbeats: Mutex::default(),
        })
    }

    /// Waits until every cache holds its first list.
    pub(crate) async fn ready(&self) {
        self.pods.ready().await;
        self.replicasets.ready().await;
        self.deployments.ready().await;
        self.services.ready().await;
        self.slices.ready().await;
        self.budgets.ready().await;
        self.nodes.ready().await;
        self.leases.ready().await;
        self.namespaces.ready().await;
        self.claims.ready().await;
        self.volumes.ready().await;
        self.classes.ready().await;
    }
}

pub(crate) fn replicaset_resource() -> ApiResource {
    ApiResource::erase::<ReplicaSet>(&())
}

pub(crate) fn deployment_resource() -> ApiResource {
    ApiResource::erase::<Deployment>(&())
}

/// The uid of the controller that an object belongs to, for an index.
pub(crate) fn owner<K: Resource>(object: &K) -> Vec<String> {
    object
        .owner_references()
        .iter()
        .filter(|o| o.controller == Some(true))
        .map(|o| o.uid.clone())
        .collect()
}

/// The namespace of an object that has no controller, for an index.
pub(crate) fn orphan<K: Resource>(object: &K) -> Vec<String> {
    if owner(object).is_empty() {
        namespace(object)
    } else {
        Vec::new()
    }
}

/// Whether `spec.selector` of an object selects these labels; one that selects all selects none.
pub(crate) fn selects(object: &DynamicObject, labels: &BTreeMap<String, String>) -> bool {
    let selector = object.data.pointer("/spec/selector");
    let selector = selector.and_then(|selector| LabelSelector::deserialize(selector).ok());
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| !selector.selects_all() && selector.matches(labels))
}

/// The namespace, for an index.
pub(crate) fn namespace<K: Resource>(object: &K) -> Vec<String> {
    object.namespace().into_iter().collect()
}
