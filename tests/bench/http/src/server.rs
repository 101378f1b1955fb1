//! The apiserver that is measured: the whole of it, with and without TLS, on one core.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use api::{
    Apiserver, Config, Limits,
    auth::{Issuer, MASTERS, SigningKey, StaticToken, User},
    codec::Codec,
    kinds::Registry,
    proxy::{Answer, NodeProxy, NodeProxyError, NodeTarget},
};
use async_trait::async_trait;
use axum::{Router, body::Body};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use store::{Cache, CacheConfig, Expect, Group, Op, ResourceKey, Store, Token};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    PODS,
    child::{self, Core},
    objects,
};

/// There are no nodes.
struct Nowhere;

#[async_trait]
impl NodeProxy for Nowhere {
    async fn request(
        &self,
        node: &NodeTarget,
        _: http::Request<Body>,
    ) -> Result<http::Response<Body>, NodeProxyError> {
        Err(NodeProxyError::Unreachable {
            node: node.name.clone(),
            source: None,
        })
    }

    async fn upgrade(
        &self,
        node: &NodeTarget,
        _: http::Request<Body>,
    ) -> Result<Answer, NodeProxyError> {
        Err(NodeProxyError::Unreachable {
            node: node.name.clone(),
            source: None,
        })
    }

    async fn dial(&self, _: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        Err(std::io::ErrorKind::HostUnreachable.into())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    child::pin(Core::Server)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")
}

/// Serves until it is killed.
pub(crate) fn run(database: &str, certificate: &Path) -> Result<()> {
    runtime()?.block_on(serve(database, certificate))
}

async fn open(database: &str) -> Result<Arc<dyn Store>> {
    if database.starts_with("postgres") {
        let store = store_postgres::connect(database).await.context("connect")?;
        return Ok(Arc::new(store));
    }
    let store = store_sqlite::open(Path::new(database)).await;
    Ok(Arc::new(store.context("open the database")?))
}

async fn serve(database: &str, certificate: &Path) -> Result<()> {
    let metrics = metrics::Metrics::new();
    let store = open(database).await?;
    let store: Arc<dyn Store> =
        Arc::new(metrics.register(|registry| api::metrics::Measured::new(store, registry)));
    let registry = Arc::new(Registry::builtin());
    let codec = Arc::new(Codec::new(&registry));
    let (cache, feed) = Cache::start(store, codec, CacheConfig::default())
        .await
        .context("read the store")?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { feed.await.context("follow the store") });

    let plain = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
    let tls = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
    let address = |listener: &TcpListener| listener.local_addr().context("read the address");
    let (plain_address, tls_address): (SocketAddr, SocketAddr) = (address(&plain)?, address(&tls)?);
    let limits = Limits::default();
    let config = Config {
        service_range: "10.43.0.0/16".parse().context("read a range")?,
        advertised: tls_address,
        tokens: vec![StaticToken {
            token: objects::TOKEN.to_owned(),
            user: User::new("bench", &[MASTERS]),
        }],
        issuer: Issuer {
            url: "https://kubernetes.default.svc.cluster.local".to_owned(),
            key: SigningKey::read(&SigningKey::generate()?)?,
        },
        limits: limits.clone(),
        metrics,
    };
    let server = Apiserver::new(cache, registry, Arc::new(Nowhere), config);
    let (stop, own) = (CancellationToken::new(), server.clone());
    let stopped = stop.clone();
    tasks.spawn(async move {
        own.run(stopped).await;
        Ok(())
    });
    let (router, identity) = (server.router(), identity(certificate)?);
    tasks.spawn(async move {
        api::serve::run(tls, identity, router, &limits, stop)
            .await
            .context("serve with TLS")
    });
    tasks.spawn(serve_plain(plain, server.router()));
    server.ready().await;
    println!("{plain_address} {tls_address}");
    match tasks.join_next().await {
        Some(ended) => ended.context("run a task")?,
        None => Ok(()),
    }
}

/// A certificate of its own making, left where the clients find it.
fn identity(certificate: &Path) -> Result<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .context("make a certificate")?;
    let der = made.cert.der().clone();
    std::fs::write(certificate, &der).context("write the certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("use the key: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("configure TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![der], key)
        .context("configure TLS")
}

async fn serve_plain(listener: TcpListener, router: Router) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        while connections.try_join_next().is_some() {}
        stream.set_nodelay(true).context("set an option")?;
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            // A client that goes away ends its connection with an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Writes pods of a size into a database, as a server would have stored them.
pub(crate) fn fill(directory: &Path, bytes: usize) -> Result<()> {
    runtime()?.block_on(async {
        let store = open(&directory.display().to_string()).await?;
        let pods = ResourceKey::new("", "pods");
        for (token, start) in (0..PODS).step_by(500).enumerate() {
            let groups: Vec<Group> = (start..start + 500)
                .map(|index| {
                    let name = format!("pod-{index:05}");
                    let mut pod = objects::pod(&name, bytes + 600);
                    pod["spec"]["nodeName"] = format!("node-{}", index % 100).into();
                    pod["status"]["phase"] = "Running".into();
                    Group {
                        ops: vec![Op::Put {
                            key: pods.key("default", &name),
                            expect: Expect::Absent,
                            value: pod.to_string().into(),
                        }],
                    }
                })
                .collect();
            let token = Token(token as u64 + 1);
            store.write(token, &groups).await.context("write pods")?;
        }
        Ok(())
    })
}
