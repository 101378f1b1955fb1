//! The apiserver as one value: its configuration, its router, and clients of it in this process.
//!
//! Reading order:
//! - [`state`]: what every request needs.
//! - [`written`] with [`gzip`]: how answers are written, whoever made them.
//! - [`observe`]: what is counted of them, and `/metrics`.
//! - [`gate`]: authentication, then [`bounds`]: how much at once, and for how long.
//! - [`path`]: which resource a path is about.
//! - [`resources`]: from a path to the verb that answers.
//! - [`health`]: `/healthz`, `/livez`, `/readyz`. [`oidc`]: the keys that verify tokens.

pub(crate) mod bounds;
pub(crate) mod conversion;
mod gate;
pub(crate) mod gzip;
pub(crate) mod health;
pub(crate) mod joined;
pub(crate) mod observe;
mod oidc;
pub(crate) mod path;
pub(crate) mod resources;
mod room;
pub(crate) mod state;
pub(crate) mod written;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::Request, middleware};
use http::{Extensions, HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use metrics::{Metrics, rest_client::RestClient};
use store::Cache;
use tokio_util::sync::CancellationToken;
use tower::Layer;

use crate::{
    admission::{ServiceRange, quota::ledger},
    auth::{Attributes, Decision, Issuer, StaticToken, User, authenticate},
    bootstrap,
    catalog::Catalog,
    custom, discovery,
    error::Error,
    expiry,
    kinds::Registry,
    openapi,
    proxy::NodeProxy,
    verbs::watch,
};
use state::{Server, Stage};

/// Bounds on what requests may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that only read answered at once, of components, of nodes and of everybody else each; more wait
    /// for a quarter of the time that an answer may take, then get 429.
    pub reading: usize,
    /// Other requests answered at once, likewise.
    pub mutating: usize,
    /// Watches, logs and connections to pods open at once; they count for nothing else.
    pub streams: usize,
    /// Bytes of a request's body; more is 413.
    pub body_bytes: usize,
    /// How long an answer may take before it is 504, if the client's `timeout` asks for no less;
    /// watches, logs and connections are excepted.
    pub request: Duration,
    /// How long a client that takes nothing of its answer is waited for.
    pub stalled: Duration,
    /// How long a connection to a pod may be silent before it is cut, and
    pub idle: Duration,
    /// how long it may last.
    pub session: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reading: 400,
            mutating: 200,
            streams: 20_000,
            body_bytes: 3 * 1024 * 1024,
            request: Duration::from_secs(60),
            stalled: Duration::from_secs(120),
            idle: Duration::from_secs(4 * 60 * 60),
            session: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// How an apiserver behaves. Plain data.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Services get their addresses; the first is the `kubernetes` Service's.
    pub service_range: ServiceRange,
    /// Where pods and nodes reach this apiserver: the `kubernetes` Service's endpoint.
    pub advertised: SocketAddr,
    /// Bearer tokens and their holders.
    pub tokens: Vec<StaticToken>,
    /// Signs and reads the tokens of ServiceAccounts.
    pub issuer: Issuer,
    pub limits: Limits,
    /// Where its metrics go, and what `/metrics` tells.
    pub metrics: Metrics,
}

/// The apiserver. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Apiserver {
    server: Arc<Server>,
    /// Discovery and OpenAPI, shared by every router.
    documents: Router,
    /// What the clients in this process ask.
    rest_client: RestClient,
}

impl Apiserver {
    /// An apiserver over a running cache; logs are fetched through `node_proxy`.
    ///
    /// The cache must decode with [`crate::codec::Codec`] of the same registry.
    pub fn new(
        cache: Cache,
        registry: Arc<Registry>,
        node_proxy: Arc<dyn NodeProxy>,
        config: Config,
    ) -> Self {
        let catalog = Catalog::new(&registry);
        let metrics = config.metrics.clone();
        let documents = discovery::router(catalog.clone()).merge(openapi::router(catalog.clone()));
        let server = Arc::new(Server::new(cache, catalog, node_proxy, config));
        server.refresh();
        metrics.register(|registry| observe::collect(registry, &server));
        let rest_client = metrics.register(RestClient::new);
        Self {
            server,
            documents,
            rest_client,
        }
    }

    /// Everything it serves. A request's identity is a [`User`] extension or a bearer token.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(health::router())
            .merge(oidc::router())
            .merge(observe::router())
            .fallback(resources::serve)
            .with_state(self.server.clone())
            .merge(self.documents.clone())
            .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
            .layer(middleware::from_fn_with_state(
                self.server.clone(),
                gate::admit,
            ))
            .layer(middleware::from_fn_with_state(
                self.server.clone(),
                observe::observe,
            ))
            .layer(middleware::from_fn(written::write))
    }

    /// Who sends a request that is answered beside this API: by its connection's [`User`] extension, or a bearer
    /// token; `None` if nobody knows.
    pub async fn identify(&self, extensions: &Extensions, token: Option<&str>) -> Option<User> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
            headers.insert(header::AUTHORIZATION, value);
        }
        authenticate::user(&self.server, extensions, &headers).await
    }

    /// Whether a user may do something.
    pub fn decide(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        self.server.authorizer.decide(user, asked)
    }

    /// A client in this process with an identity of its own; no socket is involved. Its watches tell objects without
    /// `managedFields`.
    /// Must be called inside a Tokio runtime.
    pub fn client(&self, user: User) -> kube::Client {
        let bare = middleware::map_request(|mut request: Request| async move {
            request
                .headers_mut()
                .insert(watch::BARE, HeaderValue::from_static("true"));
            request
        });
        let service = self.router().layer(Extension(user)).layer(bare);
        kube::Client::new(self.rest_client.layer(service), "default")
    }

    /// Returns once the default roles are there, without which only members of `system:masters` may do
    /// anything; [`Apiserver::run`] makes them.
    pub async fn authorizing(&self) {
        self.reach(Stage::Roles).await;
    }

    /// Returns once the objects that every cluster has are there; [`Apiserver::run`] makes them.
    pub async fn ready(&self) {
        self.reach(Stage::Ready).await;
    }

    async fn reach(&self, wanted: Stage) {
        let mut bootstrapped = self.server.bootstrapped.subscribe();
        // The sender lives as long as `self`.
        let _ = bootstrapped.wait_for(|stage| *stage >= wanted).await;
    }

    /// Keeps the objects that every cluster has as they must be, serves what definitions define, and
    /// removes Events whose time is over, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let client = self.client(User::apiserver());
        tokio::join!(
            bootstrap::run(client.clone(), &self.server, stop.clone()),
            custom::follow::run(&self.server, stop.clone()),
            custom::controller::run(client.clone(), &self.server, stop.clone()),
            expiry::run(client, &self.server, stop.clone()),
            self.server.authorizer.run(stop.clone()),
            ledger::run(&self.server, stop),
        );
    }

    /// Removes the Events whose hour is over at `now`, a bounded number of them, oldest first;
    /// answers how many. [`Apiserver::run`] does it every minute.
    pub async fn expire_events(&self, now: Timestamp) -> usize {
        expiry::sweep(&self.client(User::apiserver()), &self.server, now).await
    }
}
