//! What the parts of this crate share: the client, the caches, the routes and the way to record Events.

use std::sync::Arc;

use function_kinds::{FUNCTION_LABEL, Function, FunctionRevision, REVISION_LABEL};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, Service},
    networking::v1::Ingress,
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    runtime::watcher,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    cache::{Cache, Listener, function_of},
    controller::routes::{Kind, Routes},
    events::Events,
    key::Key,
    queue::Queue,
    triggers::{self, TriggerKey},
};

/// What discovery says of the kinds that are read as values.
pub(crate) struct Kinds {
    pub(crate) functions: ApiResource,
    pub(crate) revisions: ApiResource,
    pub(crate) services: ApiResource,
    pub(crate) sets: ApiResource,
    pods: ApiResource,
    ingresses: ApiResource,
}

/// Shared by everything in this crate.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) kinds: Kinds,
    pub(crate) functions: Arc<Cache>,
    pub(crate) revisions: Arc<Cache>,
    pub(crate) services: Arc<Cache>,
    pub(crate) sets: Arc<Cache>,
    pub(crate) pods: Arc<Cache>,
    ingresses: Arc<Cache>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) events: Events,
    /// Functions that want to be worked on.
    pub(crate) queue: Queue<Key>,
    /// Triggers that want to be looked at.
    pub(crate) triggers: Queue<TriggerKey>,
}

fn resource<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

impl Context {
    pub(crate) fn new(client: Client, config: Config) -> Arc<Self> {
        let (queue, triggers) = (Queue::new("functions"), Queue::new("function-triggers"));
        let routes = Arc::new(Routes::default());
        let by_label = || vec![wakes_its_function(&queue)];
        let functions = Cache::new(vec![
            wakes_itself(&queue),
            wakes_its_triggers(&triggers),
            routed(Kind::Function, &routes, &queue),
        ]);
        Arc::new(Self {
            events: Events::new(client.clone()),
            client,
            config,
            kinds: Kinds {
                functions: resource::<Function>(),
                revisions: resource::<FunctionRevision>(),
                services: resource::<Service>(),
                sets: resource::<ReplicaSet>(),
                pods: resource::<Pod>(),
                ingresses: resource::<Ingress>(),
            },
            functions,
            revisions: Cache::new(by_label()),
            services: Cache::new(by_label()),
            sets: Cache::new(by_label()),
            pods: Cache::new(by_label()),
            ingresses: Cache::new(vec![routed(Kind::Ingress, &routes, &queue)]),
            routes,
            queue,
            triggers,
        })
    }

    /// Starts the one watch of each kind.
    pub(crate) fn watch(&self, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        let all = watcher::Config::default();
        let labelled = |label: &str| watcher::Config::default().labels(label);
        for (cache, kind, config) in [
            (&self.functions, &self.kinds.functions, all.clone()),
            (&self.revisions, &self.kinds.revisions, all.clone()),
            (&self.ingresses, &self.kinds.ingresses, all),
            (
                &self.services,
                &self.kinds.services,
                labelled(FUNCTION_LABEL),
            ),
            (&self.sets, &self.kinds.sets, labelled(REVISION_LABEL)),
            (&self.pods, &self.kinds.pods, labelled(REVISION_LABEL)),
        ] {
            let (cache, stop) = (cache.clone(), stop.clone());
            let api = Api::all_with(self.client.clone(), kind);
            tasks.spawn(async move { cache.run(api, config, stop).await });
        }
    }

    /// Waits until every cache holds its first list.
    pub(crate) async fn ready(&self) {
        for cache in [
            &self.functions,
            &self.revisions,
            &self.ingresses,
            &self.services,
            &self.sets,
            &self.pods,
        ] {
            cache.ready().await;
        }
    }
}

/// Every change of a Function wakes it.
fn wakes_itself(queue: &Queue<Key>) -> Listener {
    let queue = queue.clone();
    Box::new(move |old, new| {
        if let Some(object) = new.or(old) {
            queue.add(Key::of(object));
        }
    })
}

/// Every change of a Function wakes its triggers.
fn wakes_its_triggers(queue: &Queue<TriggerKey>) -> Listener {
    let queue = queue.clone();
    Box::new(move |_, new| {
        for trigger in new.map(triggers::keys).unwrap_or_default() {
            queue.add(trigger);
        }
    })
}

/// Every change of an object wakes the Function that it is for.
fn wakes_its_function(queue: &Queue<Key>) -> Listener {
    let queue = queue.clone();
    Box::new(move |old, new| {
        for function in [old, new].into_iter().flatten().filter_map(function_of) {
            queue.add(function);
        }
    })
}

/// Every change of routes is taken in, and wakes the Functions that share some.
fn routed(kind: Kind, routes: &Arc<Routes>, queue: &Queue<Key>) -> Listener {
    let (routes, queue) = (routes.clone(), queue.clone());
    Box::new(move |old: Option<&DynamicObject>, new| {
        for function in routes.change(kind, old, new) {
            queue.add(function);
        }
    })
}
