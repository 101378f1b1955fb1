//! A whole apiserver over the in-memory store, and requests written as text.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use api::{
    Apiserver, Config, Limits,
    auth::{Issuer, MASTERS, SigningKey, StaticToken, User},
    codec::Codec,
    kinds::Registry,
    proxy::{Answer, NodeProxy, NodeProxyError, NodeTarget},
};
use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use store::{
    Cache, CacheConfig, Commit, Expect, Group, MemoryStore, Op, ResourceKey, Store, Token,
};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Everything in these tests happens within this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// The admin's bearer token.
pub(crate) const TOKEN: &str = "admin-token";

/// The header of a user whom no binding names.
pub(crate) const JANE: (&str, &str) = ("authorization", "Bearer jane-token");
/// Who signs tokens.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// A nodelet that answers with what it was asked.
struct Echo;

#[async_trait]
impl NodeProxy for Echo {
    async fn request(
        &self,
        node: &NodeTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, NodeProxyError> {
        let text = format!("{}:{} {}", node.address, node.port, request.uri());
        Ok(Response::new(Body::from(text)))
    }

    async fn upgrade(
        &self,
        node: &NodeTarget,
        request: Request<Body>,
    ) -> Result<Answer, NodeProxyError> {
        self.request(node, request).await.map(Answer::Other)
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

pub(crate) struct Cluster {
    pub(crate) server: Apiserver,
    pub(crate) router: Router,
    pub(crate) store: Arc<MemoryStore>,
    /// Ends what [`Apiserver::run`] does.
    stop: CancellationToken,
    /// Aborted with the cluster.
    tasks: JoinSet<()>,
}

/// An answer, read whole.
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Code and message of a `Status`.
    pub(crate) fn failure(&self) -> String {
        let status = self.json();
        format!(
            "{} {}: {}",
            self.code.as_u16(),
            status["reason"].as_str().unwrap_or_default(),
            status["message"].as_str().unwrap_or_default()
        )
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        let values = self.headers.get_all(header::WARNING).iter();
        values.filter_map(|value| value.to_str().ok()).collect()
    }
}

pub(crate) fn config() -> Config {
    Config {
        service_range: "10.43.0.0/16".parse().expect("a range"),
        advertised: "192.0.2.1:6443".parse().expect("an address"),
        tokens: vec![
            StaticToken {
                token: TOKEN.to_owned(),
                user: User::new("wk-admin", &[MASTERS]),
            },
            StaticToken {
                token: "jane-token".to_owned(),
                user: User::new("jane", &["dev"]),
            },
        ],
        issuer: Issuer {
            url: ISSUER.to_owned(),
            key: SigningKey::read(&SigningKey::generate().expect("a key")).expect("it is read"),
        },
        limits: Limits::default(),
        metrics: metrics::Metrics::new(),
    }
}

impl Cluster {
    /// A cluster that is ready.
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        Self::start_over(config, CacheConfig::default()).await
    }

    /// A cluster with these nodelets.
    pub(crate) async fn start_among(nodelets: Arc<dyn NodeProxy>) -> Self {
        let store = Arc::new(MemoryStore::new());
        Self::serve_among(store, config(), CacheConfig::default(), nodelets).await
    }

    /// A cluster that remembers so little of the past that the store is asked for it.
    pub(crate) async fn start_forgetful() -> Self {
        let memory = CacheConfig {
            ring: 2,
            ..CacheConfig::default()
        };
        Self::start_over(config(), memory).await
    }

    /// Another apiserver over the same store.
    pub(crate) async fn start_beside(&self) -> Self {
        self.join(config()).await
    }

    /// The same with a configuration of its own.
    pub(crate) async fn join(&self, config: Config) -> Self {
        Self::serve(self.store.clone(), config, CacheConfig::default()).await
    }

    /// Puts an object into the store as if it had been written long ago.
    pub(crate) async fn plant(&self, group: &str, plural: &str, object: &Value) {
        let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = ResourceKey::new(group, plural).key(part("namespace"), part("name"));
        let put = Op::Put {
            key,
            expect: Expect::Absent,
            value: Bytes::from(object.to_string()),
        };
        let group = Group { ops: vec![put] };
        let commits = self
            .store
            .write(Token(rand::random()), &[group])
            .await
            .expect("it is written");
        assert!(matches!(commits[..], [Commit::Done(_)]), "{commits:?}");
    }

    async fn start_over(config: Config, memory: CacheConfig) -> Self {
        Self::serve(Arc::new(MemoryStore::new()), config, memory).await
    }

    /// Stops this apiserver in order.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        timeout(DEADLINE, self.tasks.join_next())
            .await
            .expect("it stops in time");
    }

    async fn serve(store: Arc<MemoryStore>, config: Config, memory: CacheConfig) -> Self {
        Self::serve_among(store, config, memory, Arc::new(Echo)).await
    }

    async fn serve_among(
        store: Arc<MemoryStore>,
        config: Config,
        memory: CacheConfig,
        nodelets: Arc<dyn NodeProxy>,
    ) -> Self {
        let registry = Arc::new(Registry::builtin());
        let codec = Arc::new(Codec::new(&registry));
        let (cache, feed) = Cache::start(store.clone(), codec, memory)
            .await
            .expect("the cache starts");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            feed.await.expect("the cache runs");
        });
        let server = Apiserver::new(cache, registry, nodelets, config);
        let stop = CancellationToken::new();
        tasks.spawn(server.clone().run(stop.clone()));
        let cluster = Self {
            router: server.router(),
            server,
            store,
            stop,
            tasks,
        };
        timeout(DEADLINE, async {
            while cluster.send("GET /readyz", "").await.code != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the cluster gets ready");
        cluster
    }

    /// Sends `line` (`GET /path`) as the admin, JSON with JSON.
    pub(crate) async fn send(&self, line: &str, body: &str) -> Reply {
        self.send_with(line, body, &[]).await
    }

    /// The same with headers, which take the place of the usual ones.
    pub(crate) async fn send_with(
        &self,
        line: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let response = timeout(DEADLINE, self.open(line, body, headers))
            .await
            .expect("an answer in time");
        read(response).await
    }

    /// Sends a request and leaves the answer's body to be read.
    pub(crate) async fn open(
        &self,
        line: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Response<Body> {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let mut request = Request::builder().method(method).uri(path);
        let default = [
            ("authorization", format!("Bearer {TOKEN}")),
            ("content-type", content_type(method).to_owned()),
        ];
        for (name, value) in &default {
            if !headers.iter().any(|(given, _)| given == name) {
                request = request.header(*name, value);
            }
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Body::from(body.to_owned()))
            .expect("a request");
        self.pass(request).await
    }

    /// Passes a request on as it is.
    pub(crate) async fn pass(&self, request: Request<Body>) -> Response<Body> {
        self.router
            .clone()
            .oneshot(request)
            .await
            .expect("a router always answers")
    }

    /// Forgets the history up to now.
    pub(crate) async fn compact(&self) {
        let now = self.store.revision().await.expect("a revision");
        self.store.compact(now).await.expect("it is forgotten");
    }

    /// Sends and says the failure.
    pub(crate) async fn failure(&self, line: &str, body: &str) -> String {
        self.send(line, body).await.failure()
    }

    /// Sends what must succeed.
    pub(crate) async fn ok(&self, line: &str, body: &str) -> Value {
        let reply = self.send(line, body).await;
        assert!(reply.code.is_success(), "{line}: {}", reply.text);
        reply.json()
    }
}

fn content_type(method: &str) -> &'static str {
    match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    }
}

pub(crate) async fn read(response: Response<Body>) -> Reply {
    let (parts, body) = response.into_parts();
    let body = timeout(DEADLINE, body.collect())
        .await
        .expect("a body in time")
        .expect("a body");
    Reply {
        code: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.to_bytes().to_vec()).expect("text"),
    }
}

/// A pod of one container.
pub(crate) fn pod(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"{name}"}}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#
    )
}

/// A ConfigMap.
pub(crate) fn config_map(name: &str, value: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"v":"{value}"}}}},"data":{{"v":"{value}"}}}}"#
    )
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
