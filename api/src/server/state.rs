//! What every request needs: the cache, the kinds with their schemas, and the bounds.

use std::sync::Arc;

use jiff::Timestamp;
use store::{Cache, Key, ResourceKey};
use tokio::sync::watch;

use super::bounds::Bounds;
use crate::{
    auth::{Authorizer, tokens::Tokens},
    kinds::{Kind, Names, Registry},
    metrics::ApiMetrics,
    proxy::NodeProxy,
    schema::{self, Schema},
    server::Config,
};

/// A kind with what the verbs need beside it.
pub(crate) struct Resource {
    pub(crate) kind: Arc<dyn Kind>,
    pub(crate) schema: Schema,
    pub(crate) key: ResourceKey,
}

impl Resource {
    pub(crate) fn names(&self) -> &Names {
        self.kind.names()
    }

    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        self.names().api_version()
    }

    pub(crate) fn object_key(&self, namespace: &str, name: &str) -> Key {
        self.key.key(namespace, name)
    }
}

pub(crate) struct Server {
    pub(crate) cache: Cache,
    /// One for each kind of the registry, in its order.
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) node_proxy: Arc<dyn NodeProxy>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) tokens: Tokens,
    pub(crate) bounds: Bounds,
    pub(crate) metrics: ApiMetrics,
    /// Set once the objects that every cluster has are there.
    pub(crate) bootstrapped: watch::Sender<bool>,
    pub(crate) config: Config,
}

impl Server {
    pub(crate) fn new(
        cache: Cache,
        registry: Arc<Registry>,
        node_proxy: Arc<dyn NodeProxy>,
        authorizer: Arc<dyn Authorizer>,
        config: Config,
    ) -> Self {
        let resources = registry.all().iter().map(|kind| {
            let names = kind.names();
            let schema = schema::builtin(names.definition)
                .expect("every built-in kind has a definition in the structural schema");
            let resource = Resource {
                kind: kind.clone(),
                schema,
                key: ResourceKey::new(names.group, names.plural),
            };
            Arc::new(resource)
        });
        Self {
            resources: resources.collect(),
            cache,
            node_proxy,
            authorizer,
            tokens: Tokens::new(&config.tokens),
            bounds: Bounds::new(&config.limits),
            metrics: config.metrics.register(ApiMetrics::new),
            bootstrapped: watch::Sender::new(false),
            config,
        }
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|resource| {
            let names = resource.names();
            names.plural == plural && names.group == group && names.version == version
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
