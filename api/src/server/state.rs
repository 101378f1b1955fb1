//! What every request needs: the cache, the kinds that are served, and the bounds.

use std::sync::Arc;

use jiff::Timestamp;
use store::{Cache, Key, ResourceKey};
use tokio::sync::watch;

use super::{bounds::Bounds, joined::Joined};
use crate::{
    admission::{objects::Parsed, quota::ledger::Ledger, webhooks::Calls},
    auth::{authorizers::Authorizer, tokens::Tokens},
    catalog::Catalog,
    codec,
    custom::follow::Known,
    kinds::{Kind, Names},
    metrics::ApiMetrics,
    metrics_api::nodelets::Round,
    proxy::NodeProxy,
    schema::Schema,
    server::{Config, conversion::Conversion},
    verbs::watch::fan::Fans,
};

/// A kind with what the verbs need beside it.
pub(crate) struct Resource {
    pub(crate) kind: Arc<dyn Kind>,
    pub(crate) schema: Schema,
    pub(crate) key: ResourceKey,
    pub(crate) conversion: Conversion,
}

impl Resource {
    /// A kind with its schema, under its own key.
    pub(crate) fn new(kind: Arc<dyn Kind>) -> Self {
        Self {
            schema: kind.schema(),
            key: codec::resource_key(kind.as_ref()),
            conversion: match kind.conversion() {
                None => Conversion::None,
                Some(conversion) => Conversion::Builtin(conversion),
            },
            kind,
        }
    }

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

/// How far the start of an apiserver has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    Nothing,
    /// The default roles are there: components may ask.
    Roles,
    /// Everything is.
    Ready,
}

pub(crate) struct Server {
    pub(crate) cache: Cache,
    pub(crate) catalog: Arc<Catalog>,
    /// What the definitions of custom kinds define.
    pub(crate) known: Known,
    pub(crate) node_proxy: Arc<dyn NodeProxy>,
    pub(crate) authorizer: Authorizer,
    pub(crate) tokens: Tokens,
    pub(crate) quota: Ledger,
    pub(crate) webhooks: Calls,
    /// What admission reads again and again.
    pub(crate) parsed: Parsed,
    pub(crate) bounds: Bounds,
    pub(crate) metrics: ApiMetrics,
    /// What watches share.
    pub(crate) fans: Fans,
    /// What nodes and pods used a moment ago.
    pub(crate) usage: Round,
    /// Upgraded connections to nodes and pods.
    pub(crate) joined: Joined,
    /// Which of the objects that every cluster has are there.
    pub(crate) bootstrapped: watch::Sender<Stage>,
    pub(crate) config: Config,
}

impl Server {
    pub(crate) fn new(
        cache: Cache,
        catalog: Arc<Catalog>,
        node_proxy: Arc<dyn NodeProxy>,
        config: Config,
    ) -> Self {
        Self {
            authorizer: Authorizer::new(cache.clone()),
            cache,
            catalog,
            known: Known::default(),
            node_proxy,
            tokens: Tokens::new(&config.tokens),
            quota: Ledger::default(),
            webhooks: Calls::default(),
            parsed: Parsed::default(),
            bounds: Bounds::new(&config.limits),
            metrics: config.metrics.register(ApiMetrics::new),
            fans: Fans::default(),
            usage: Round::default(),
            joined: Joined::default(),
            bootstrapped: watch::Sender::new(Stage::Nothing),
            config,
        }
    }

    /// Finds the resource that is served now at a path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let found = self.catalog.served().find(group, version, plural);
        // A definition may have been established a moment ago; custom groups are domains.
        if found.is_none() && group.contains('.') && self.refresh() {
            return self.catalog.served().find(group, version, plural);
        }
        found
    }

    /// Finds the resource of a kind: `apps/v1` and `Deployment`.
    pub(crate) fn find_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let found = self.catalog.served().find_kind(api_version, kind);
        if found.is_none() && api_version.contains('.') && self.refresh() {
            return self.catalog.served().find_kind(api_version, kind);
        }
        found
    }

    /// Serves what the definitions of custom kinds say now; tells whether that is anything new.
    pub(crate) fn refresh(&self) -> bool {
        self.known.refresh(&self.cache, &self.catalog)
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
