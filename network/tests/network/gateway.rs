//! The gateway on real sockets, with a fake of what runs components.

mod clients;
mod containers;
mod functions;
mod hostile;
mod ingresses;
mod pods;
mod streams;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use network::gateway::{Config, Gateway, Handle, Listeners, Pem, Sign};
use runtimes::{Body, Invoke, RevisionRef, ServeError};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::rootless;

type Answer = Result<Response<Body>, ServeError>;

/// Answers by what it was made with.
struct Fake<F>(F);

#[async_trait]
impl<F> Invoke for Fake<F>
where
    F: Fn(RevisionRef, Request<Body>) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
{
    async fn invoke(&self, revision: &RevisionRef, request: Request<Body>) -> Answer {
        (self.0)(revision.clone(), request).await
    }
}

/// A CA that lasts as long as a test.
pub(crate) struct TestCa {
    pub(crate) certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: rcgen::Issuer::new(parameters, key),
        }
    }
}

impl Sign for TestCa {
    fn sign(&self, name: &str) -> anyhow::Result<Pem> {
        let key = rcgen::KeyPair::generate()?;
        let parameters = rcgen::CertificateParams::new([name.to_owned()])?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Pem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

pub(crate) struct Running {
    pub(crate) node: rootless::Running,
    pub(crate) gateway: Handle,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) ca: Arc<TestCa>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
}

/// Starts a gateway whose components answer so.
pub(crate) async fn start<F, R>(answer: F) -> Running
where
    F: Fn(RevisionRef, Request<Body>) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    start_with(|_| {}, answer).await
}

pub(crate) async fn start_with<F, R>(configure: impl FnOnce(&mut Config), answer: F) -> Running
where
    F: Fn(RevisionRef, Request<Body>) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let node = rootless::start().await;
    let class = json!({"spec": {"controller": "wk.dev/gateway"}});
    node.cluster.put("ingressclasses", "", "wk", class);
    let mut config = Config::new("rootless", "localhost");
    configure(&mut config);
    let mut listeners = Listeners::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let plain = listeners.open(any).await.unwrap();
    let tls = listeners.open_tls(any).await.unwrap();
    let ca = Arc::new(TestCa::new());
    let fake = Fake(move |revision, request| Box::pin(answer(revision, request)) as BoxFuture<_>);
    let (gateway, task) = Gateway::new(
        config,
        node.cluster.client(),
        &node.handle,
        Arc::new(fake),
        ca.clone(),
        listeners,
    );
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(stop.clone()));
    gateway.listed().await;
    Running {
        node,
        gateway,
        plain,
        tls,
        ca,
        stop,
        tasks,
    }
}

impl Running {
    /// Makes a Function of namespace `default` with revisions and their percentages, and waits until it is served.
    pub(crate) async fn function(&self, name: &str, spec: Value, shares: &[(&str, u8)]) {
        for (revision, _) in shares {
            let labels = json!({"functions.wk.dev/function": name});
            let runtime = spec
                .get("runtimeClassName")
                .cloned()
                .unwrap_or(json!("wasm"));
            let object = json!({
                "metadata": {"labels": labels}, "spec": spec, "status": {"runtime": runtime},
            });
            let revisions = "functionrevisions";
            self.node
                .cluster
                .put(revisions, "default", revision, object);
        }
        let traffic: Vec<Value> = shares
            .iter()
            .map(|(revision, percent)| json!({"revision": revision, "percent": percent, "tag": revision}))
            .collect();
        let object = json!({"spec": spec, "status": {"traffic": traffic}});
        self.node.cluster.put("functions", "default", name, object);
        self.known(&format!("{name}.default.localhost")).await;
    }

    /// Waits until a host is somebody's.
    pub(crate) async fn known(&self, host: &str) {
        let seen = || async { clients::send(self.plain, host, "OPTIONS", "/", "").await };
        let known = |seen: &clients::Seen| !seen.body.contains("nothing is served for host");
        crate::sockets::eventually(seen, known).await;
    }
}

pub(crate) fn text(text: impl Into<String>) -> Body {
    Full::new(Bytes::from(text.into()))
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn ok(words: impl Into<String>) -> Answer {
    Ok(Response::new(text(words)))
}

/// Long enough on a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
