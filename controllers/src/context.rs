//! What every controller is given: the client, the caches and the way to record Events.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::{ApiResource, DynamicObject};
use kube::core::{Selector, SelectorExt};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::cache::{Cache, IndexFn};
use crate::chart_release;
use crate::endpointslice;
use crate::events::Recorder;
use crate::pod;
use crate::scale::Scales;
use crate::volume;

/// Shared by all controllers. Kinds with a pod template are values: a template is copied whole, with fields
/// that this version does not know.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) recorder: Recorder,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) replication_controllers: Arc<Cache<DynamicObject>>,
    pub(crate) replicasets: Arc<Cache<DynamicObject>>,
    pub(crate) deployments: Arc<Cache<DynamicObject>>,
    pub(crate) statefulsets: Arc<Cache<DynamicObject>>,
    pub(crate) daemonsets: Arc<Cache<DynamicObject>>,
    pub(crate) revisions: Arc<Cache<DynamicObject>>,
    pub(crate) jobs: Arc<Cache<DynamicObject>>,
    pub(crate) cronjobs: Arc<Cache<DynamicObject>>,
    pub(crate) chart_releases: Arc<Cache<DynamicObject>>,
    pub(crate) autoscalers: Arc<Cache<HorizontalPodAutoscaler>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) endpoints: Arc<Cache<Endpoints>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    pub(crate) leases: Arc<Cache<Lease>>,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) claims: Arc<Cache<PersistentVolumeClaim>>,
    pub(crate) volumes: Arc<Cache<PersistentVolume>>,
    pub(crate) classes: Arc<Cache<StorageClass>>,
    /// Which kinds can be scaled.
    pub(crate) scales: Scales,
}

/// Indexes of a kind that owns others or is owned.
const OWNED: &[(&str, IndexFn<DynamicObject>)] = &[
    ("owner", owner::<DynamicObject>),
    ("orphans", orphan::<DynamicObject>),
    ("namespace", namespace::<DynamicObject>),
];
/// Those of a kind that nobody owns.
const BY_NAMESPACE: &[(&str, IndexFn<DynamicObject>)] =
    &[("namespace", namespace::<DynamicObject>)];

impl Context {
    pub(crate) fn new(client: Client, config: Config, recorder: Recorder) -> Arc<Self> {
        Arc::new(Self {
            client,
            config,
            recorder,
            pods: Cache::new(pod::INDEXES, pod::strip),
            replication_controllers: Cache::new(BY_NAMESPACE, |_| ()),
            replicasets: Cache::new(OWNED, |_| ()),
            deployments: Cache::new(BY_NAMESPACE, |_| ()),
            statefulsets: Cache::new(BY_NAMESPACE, |_| ()),
            daemonsets: Cache::new(BY_NAMESPACE, |_| ()),
            revisions: Cache::new(OWNED, |_| ()),
            jobs: Cache::new(OWNED, |_| ()),
            cronjobs: Cache::new(BY_NAMESPACE, |_| ()),
            chart_releases: Cache::new(BY_NAMESPACE, |_| ()),
            autoscalers: Cache::new(
                &[("namespace", namespace::<HorizontalPodAutoscaler>)],
                |_| (),
            ),
            services: Cache::new(&[("namespace", namespace::<Service>)], |_| ()),
            endpoints: Cache::new(&[("namespace", namespace::<Endpoints>)], |_| ()),
            slices: Cache::new(
                &[
                    ("service", endpointslice::service_of),
                    ("mirror", endpointslice::mirror_of),
                ],
                |_| (),
            ),
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
            scales: Scales::default(),
        })
    }

    /// Starts the one watch of each kind.
    pub(crate) fn watch(self: &Arc<Self>, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        macro_rules! watch {
            ($cache:ident, $api:expr) => {{
                let (cache, api, stop) = (self.$cache.clone(), $api, stop.clone());
                tasks.spawn(async move { cache.run(api, watcher::Config::default(), stop).await });
            }};
        }
        macro_rules! values {
            ($cache:ident, $kind:ty) => {
                watch!(
                    $cache,
                    Api::all_with(self.client.clone(), &resource::<$kind>())
                )
            };
        }
        let client = || self.client.clone();
        watch!(pods, Api::all(client()));
        values!(replication_controllers, ReplicationController);
        values!(replicasets, ReplicaSet);
        values!(deployments, Deployment);
        values!(statefulsets, StatefulSet);
        values!(daemonsets, DaemonSet);
        values!(revisions, ControllerRevision);
        values!(jobs, Job);
        values!(cronjobs, CronJob);
        watch!(
            chart_releases,
            Api::all_with(client(), &chart_release::resource())
        );
        watch!(autoscalers, Api::all(client()));
        watch!(services, Api::all(client()));
        watch!(endpoints, Api::all(client()));
        watch!(slices, Api::all(client()));
        watch!(budgets, Api::all(client()));
        watch!(nodes, Api::all(client()));
        watch!(leases, Api::namespaced(client(), "kube-node-lease"));
        watch!(namespaces, Api::all(client()));
        watch!(claims, Api::all(client()));
        watch!(volumes, Api::all(client()));
        watch!(classes, Api::all(client()));
    }

    /// Waits until every cache holds its first list.
    pub(crate) async fn ready(&self) {
        self.pods.ready().await;
        self.replication_controllers.ready().await;
        self.replicasets.ready().await;
        self.deployments.ready().await;
        self.statefulsets.ready().await;
        self.daemonsets.ready().await;
        self.revisions.ready().await;
        self.jobs.ready().await;
        self.cronjobs.ready().await;
        self.chart_releases.ready().await;
        self.autoscalers.ready().await;
        self.services.ready().await;
        self.endpoints.ready().await;
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

/// What discovery says of a kind, for an [`Api`] of values.
pub(crate) fn resource<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// The controller that an object belongs to.
pub(crate) fn controller(object: &impl Resource) -> Option<&OwnerReference> {
    let mut owners = object.owner_references().iter();
    owners.find(|owner| owner.controller == Some(true))
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

/// `spec.selector` of an object: labels and expressions, or the mere map of a ReplicationController.
pub(crate) fn selector(object: &DynamicObject) -> Option<Selector> {
    let selector = object.data.pointer("/spec/selector")?;
    match BTreeMap::<String, String>::deserialize(selector) {
        Ok(labels) => Some(labels.into_iter().collect()),
        Err(_) => LabelSelector::deserialize(selector)
            .ok()
            .and_then(|selector| Selector::try_from(selector).ok()),
    }
}

/// Whether `spec.selector` of an object selects these labels; one that selects all selects none.
pub(crate) fn selects(object: &DynamicObject, labels: &BTreeMap<String, String>) -> bool {
    selector(object).is_some_and(|selector| !selector.selects_all() && selector.matches(labels))
}

/// The namespace, for an index.
pub(crate) fn namespace<K: Resource>(object: &K) -> Vec<String> {
    object.namespace().into_iter().collect()
}
