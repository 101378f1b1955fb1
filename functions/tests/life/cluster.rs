//! An apiserver over the in-memory store with the controller of Functions beside it, nodes and gateways played by the
//! test, and requests that fail when a test wants it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use api::{
    Apiserver, Config, Limits,
    auth::{Issuer, MASTERS, SigningKey, User},
    codec::Codec,
    kinds::Registry,
    proxy::{Answer, NodeProxy, NodeProxyError, NodeTarget},
};
use async_trait::async_trait;
use axum::{Extension, body::Body, response::IntoResponse};
use functions::{Address, Call, Deliver, Demand, Functions, Gateways, Key, Sample};
use http::{Method, Request, Response, StatusCode};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use store::{CacheConfig, MemoryStore};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};

/// Everything in these tests happens within this.
const DEADLINE: Duration = Duration::from_secs(60);

/// No node is asked for anything.
struct NoNodes;

#[async_trait]
impl NodeProxy for NoNodes {
    async fn request(
        &self,
        _node: &NodeTarget,
        _request: Request<Body>,
    ) -> Result<Response<Body>, NodeProxyError> {
        Ok(Response::new(Body::empty()))
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

/// What gateways count and are sent.
#[derive(Default)]
pub(crate) struct Gateway {
    pub(crate) samples: Mutex<Vec<(Key, Sample)>>,
    pub(crate) calls: Mutex<Vec<Call>>,
    /// So many calls are answered with 503.
    pub(crate) refuses: AtomicU32,
}

/// The demand of the only gateway.
struct Only(Arc<Gateway>);

#[async_trait]
impl Demand for Only {
    async fn gateways(&self) -> anyhow::Result<Vec<Arc<dyn functions::Gateway>>> {
        Ok(vec![self.0.clone()])
    }
}

#[async_trait]
impl functions::Gateway for Gateway {
    fn node(&self) -> &str {
        "node"
    }

    async fn demand(&self) -> anyhow::Result<Vec<(Key, Sample)>> {
        Ok(self.samples.lock().expect("nobody panics with it").clone())
    }
}

#[async_trait]
impl Deliver for Gateway {
    async fn deliver(&self, _function: &Key, call: &Call) -> anyhow::Result<u16> {
        self.calls
            .lock()
            .expect("nobody panics with it")
            .push(call.clone());
        let less = |left: u32| left.checked_sub(1);
        let refused = self
            .refuses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        Ok(if refused.is_ok() { 503 } else { 200 })
    }
}

pub(crate) struct Cluster {
    pub(crate) admin: kube::Client,
    pub(crate) gateway: Arc<Gateway>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// How many percent of the controller's requests fail, half of them after they took effect.
    faults: Arc<AtomicU32>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn config() -> Config {
    Config {
        service_range: "10.43.0.0/16".parse().expect("a range"),
        advertised: "192.0.2.1:6443".parse().expect("an address"),
        tokens: Vec::new(),
        issuer: Issuer {
            url: "https://kubernetes.default.svc".to_owned(),
            key: SigningKey::read(&SigningKey::generate().expect("a key")).expect("it is read"),
        },
        limits: Limits::default(),
        metrics: metrics::Metrics::new(),
    }
}

/// A client whose requests fail now and then; watches and reads of lists do not.
fn faulty(server: &Apiserver, faults: Arc<AtomicU32>, seed: u64) -> kube::Client {
    let router = Extension(User::functions()).layer(server.router());
    let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let writes = request.method() != Method::GET;
        let percent = faults.load(Ordering::SeqCst);
        let happens = || {
            writes
                && rng
                    .lock()
                    .expect("nobody panics with it")
                    .random_range(0..100)
                    < percent
        };
        let (before, after) = (happens(), happens());
        let router = router.clone();
        async move {
            let lost = || (StatusCode::SERVICE_UNAVAILABLE, "lost").into_response();
            if before {
                return Ok::<_, Infallible>(lost());
            }
            let answer = router.oneshot(request).await?.into_response();
            Ok(if after { lost() } else { answer })
        }
    });
    kube::Client::new(service, "default")
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(0, 0).await
    }

    pub(crate) async fn start_with(percent: u32, seed: u64) -> Self {
        let registry = Arc::new(Registry::builtin());
        let codec = Arc::new(Codec::new(&registry));
        let memory = Arc::new(MemoryStore::new());
        let (cache, feed) = store::Cache::start(memory, codec, CacheConfig::default())
            .await
            .expect("the store reads");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            feed.await.expect("the cache runs");
        });
        let server = Apiserver::new(cache, registry, Arc::new(NoNodes), config());
        let stop = CancellationToken::new();
        tasks.spawn(server.clone().run(stop.clone()));
        server.ready().await;
        let (gateway, faults) = (
            Arc::new(Gateway::default()),
            Arc::new(AtomicU32::new(percent)),
        );
        let functions = Functions::new(
            faulty(&server, faults.clone(), seed),
            functions::Config {
                address: Address {
                    domain: "localhost".to_owned(),
                    port: Some(8080),
                },
                workers: 4,
            },
            Gateways {
                demand: Some(Arc::new(Only(gateway.clone()))),
                deliver: Some(gateway.clone()),
            },
        );
        let ending = stop.clone();
        tasks.spawn(async move {
            functions.run(ending).await.expect("no part of it panics");
        });
        Self {
            admin: server.client(User::new("admin", &[MASTERS])),
            gateway,
            stop,
            tasks,
            faults,
        }
    }

    /// From now on every request is answered.
    pub(crate) fn heal(&self) {
        self.faults.store(0, Ordering::SeqCst);
    }

    /// Stops everything in order.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        self.tasks.shutdown().await;
    }

    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, version, plural) = match kind {
            "Function" => ("functions.wk.dev", "v1", "functions"),
            "FunctionRevision" => ("functions.wk.dev", "v1", "functionrevisions"),
            "ReplicaSet" => ("apps", "v1", "replicasets"),
            "ResourceQuota" => ("", "v1", "resourcequotas"),
            "Service" => ("", "v1", "services"),
            "Event" => ("", "v1", "events"),
            "Pod" => ("", "v1", "pods"),
            other => panic!("{other}"),
        };
        let api_version = match group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::namespaced_with(self.admin.clone(), "default", &resource)
    }

    pub(crate) async fn create(&self, kind: &str, name: &str, spec: Value) -> Result<(), String> {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let object = serde_json::from_value(object).expect("an object");
        let made = self.api(kind).create(&PostParams::default(), &object).await;
        made.map(drop).map_err(|error| match error {
            kube::Error::Api(status) => status.message,
            other => other.to_string(),
        })
    }

    pub(crate) async fn patch(&self, kind: &str, name: &str, spec: Value) {
        let patch = json!({ "spec": spec });
        let patched = self
            .api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.expect("it is patched");
    }

    /// Says of a revision what a node would.
    pub(crate) async fn node_says(&self, revision: &str, mut entry: Value) {
        entry["name"] = "node".into();
        let patch = json!({"status": {"nodes": [entry]}});
        let (params, patch) = (PatchParams::default(), Patch::Strategic(&patch));
        let api = self.api("FunctionRevision");
        api.patch_status(revision, &params, &patch)
            .await
            .expect("it is patched");
    }

    pub(crate) async fn list(&self, kind: &str) -> Vec<Value> {
        let list = self.api(kind).list(&kube::api::ListParams::default()).await;
        let items = list.expect("it is listed").items.into_iter();
        items
            .map(|item| serde_json::to_value(item).expect("JSON"))
            .collect()
    }

    /// Waits until an object is as is wanted.
    #[track_caller]
    pub(crate) fn until(
        &self,
        kind: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let (api, kind, name) = (self.api(kind), kind.to_owned(), name.to_owned());
        let place = std::panic::Location::caller();
        async move {
            let mut last = Value::Null;
            let seen = tokio::time::timeout(DEADLINE, async {
                loop {
                    let found = api.get_opt(&name).await.expect("it is read");
                    last = serde_json::to_value(found).expect("JSON");
                    if wanted(&last) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            seen.await
                .unwrap_or_else(|_| panic!("{place}: {kind} {name} is {last:#}"));
            last
        }
    }
}

/// The status of a condition, with its reason where it is not true.
pub(crate) fn condition(object: &Value, type_: &str) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == type_);
    let text = |field: &str| found.map_or("", |found| found[field].as_str().unwrap_or_default());
    match text("status") {
        "True" => "True".to_owned(),
        other => format!("{other} {}", text("reason")),
    }
}

/// `NAME=PERCENT,…`
pub(crate) fn traffic(object: &Value) -> String {
    let shares = object["status"]["traffic"].as_array().into_iter().flatten();
    let shares = shares.map(|share| {
        format!(
            "{}={}",
            share["revision"].as_str().unwrap_or_default(),
            share["percent"]
        )
    });
    shares.collect::<Vec<_>>().join(",")
}
