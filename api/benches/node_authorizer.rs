//! What the Node authorizer costs beside 5,000 nodes with 50,000 pods: to make the graph, to keep it, to ask it.
//!
//! Every pod names its account, the CA's ConfigMap of its namespace, a Secret of its own and one that ten share.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use api::{
    Apiserver, Config, Limits,
    auth::{Attributes, Issuer, SigningKey, User, authorizer::Resource},
    codec::Codec,
    kinds::Registry,
    proxy::{Answer, NodeProxy, NodeProxyError, NodeTarget},
};
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use store::{Cache, CacheConfig, Expect, Group, MemoryStore, Op, ResourceKey};
use tokio::net::TcpStream;

const NODES: usize = 5_000;
const PODS: usize = 50_000;
const NAMES: usize = 4;
/// Pods that are written at once.
const BATCH: usize = 1_000;
const QUESTIONS: usize = 1_000_000;

/// No nodelet is asked anything.
struct Nobody;

#[async_trait]
impl NodeProxy for Nobody {
    async fn request(
        &self,
        _node: &NodeTarget,
        _request: Request<Body>,
    ) -> Result<Response<Body>, NodeProxyError> {
        Ok(Response::default())
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

fn namespace(number: usize) -> String {
    format!("team-{}", number % 100)
}

/// A pod as the store has it, some 2 KB of it; `round` is a change of its status.
fn pod(number: usize, round: usize) -> Bytes {
    let mount =
        |name: &str| json!({"name": name, "mountPath": format!("/{name}"), "readOnly": true});
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("web-{number}"), "namespace": namespace(number), "uid": number.to_string(),
            "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9"},
        },
        "spec": {
            "nodeName": format!("node-{}", number % NODES), "serviceAccountName": "default",
            "restartPolicy": "Always", "schedulerName": "default-scheduler", "dnsPolicy": "ClusterFirst",
            "containers": [{
                "name": "web", "image": "registry.example.org/web:1", "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": format!("own-{number}"), "key": "word"}}}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
                "volumeMounts": [mount("token"), mount("shared")],
            }],
            "volumes": [
                {"name": "shared", "secret": {"secretName": format!("shared-{}", number / 1_000), "defaultMode": 420}},
                {"name": "token", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                ]}},
            ],
        },
        "status": {
            "phase": "Running", "podIP": "10.64.0.4", "observedGeneration": round,
            "conditions": (0..5).map(|condition| json!({
                "type": format!("Condition{condition}"), "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
            })).collect::<Vec<_>>(),
        },
    });
    object.to_string().into()
}

/// Writes pods; their revisions.
async fn write(cache: &Cache, numbers: std::ops::Range<usize>, round: usize) {
    let resource = ResourceKey::new("", "pods");
    let ops = numbers.map(|number| {
        let key = resource.key(&namespace(number), &format!("web-{number}"));
        let there = cache.get(&key).map(|item| item.revision);
        let expect = there.map_or(Expect::Absent, Expect::At);
        let value = pod(number, round);
        Op::Put { key, expect, value }
    });
    let ops = ops.collect();
    cache.write(Group { ops }).await.expect("it is written");
}

/// Bytes that this process has in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn secret<'a>(namespace: &'a str, name: &'a str) -> Attributes<'a> {
    Attributes::resource(
        "get",
        Resource {
            resource: "secrets",
            namespace,
            name,
            ..Resource::default()
        },
    )
}

#[tokio::main]
async fn main() {
    let registry = Arc::new(Registry::builtin());
    let codec = Arc::new(Codec::new(&registry));
    let config = CacheConfig::default();
    let store = Arc::new(MemoryStore::new());
    let (cache, feed) = Cache::start(store, codec, config).await.expect("a cache");
    let mut feeding = tokio::task::JoinSet::new();
    feeding.spawn(feed);
    for first in (0..PODS).step_by(BATCH) {
        write(&cache, first..first + BATCH, 0).await;
    }
    let key = SigningKey::generate().and_then(|key| SigningKey::read(&key));
    let config = Config {
        service_range: "10.43.0.0/16".parse().expect("a range"),
        advertised: "192.0.2.1:6443".parse().expect("an address"),
        tokens: Vec::new(),
        issuer: Issuer {
            url: "https://kubernetes.default.svc".to_owned(),
            key: key.expect("a key"),
        },
        limits: Limits::default(),
        metrics: metrics::Metrics::new(),
    };

    let (before, start) = (resident(), Instant::now());
    let server = Apiserver::new(cache.clone(), registry, Arc::new(Nobody), config);
    let (made, bytes) = (start.elapsed(), resident().saturating_sub(before));
    println!(
        "{NODES} nodes, {PODS} pods, {} edges: made in {made:.0?} with the apiserver, {:.1} MB, {} bytes an edge",
        PODS * NAMES,
        bytes as f64 / 1e6,
        bytes / (PODS * NAMES)
    );

    let user = User::node("node-7");
    let (namespace, name) = (namespace(7), "own-7");
    let start = Instant::now();
    for _ in 0..QUESTIONS {
        assert!(server.decide(&user, &secret(&namespace, name)).allowed);
    }
    println!(
        "a question that is answered yes: {:.0?}",
        start.elapsed() / QUESTIONS as u32
    );
    let start = Instant::now();
    for _ in 0..QUESTIONS {
        assert!(!server.decide(&user, &secret(&namespace, "own-8")).allowed);
    }
    println!(
        "a question that is answered no: {:.0?}",
        start.elapsed() / QUESTIONS as u32
    );

    let mut taken = std::time::Duration::ZERO;
    for round in 1..=10 {
        write(&cache, 0..BATCH, round).await;
        let start = Instant::now();
        assert!(server.decide(&user, &secret(&namespace, name)).allowed);
        taken += start.elapsed();
    }
    println!(
        "a change of a pod's status: {:.1?}",
        taken / (10 * BATCH) as u32
    );
}
