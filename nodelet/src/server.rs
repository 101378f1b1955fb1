//! The nodelet's own HTTP server: `/containerLogs/…`, `/pods`, `/stats/summary`, `/metrics`, `/metrics/probes`,
//! `/metrics/resource` and `/healthz`.
//!
//! [`serve`] is mutual TLS: besides what the given configuration verifies, the peer's certificate must be the
//! apiserver's (common name [`API_SERVER`]) or an administrator's. Never changes anything.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use jiff::Timestamp;
use runtimes::log::Stream;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use serde::Deserialize;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    config::Config,
    host,
    inotify::Changes,
    logs::{self, Follow, Selection},
    pods::Pods,
    probe::counts::Counts,
    usage::{Usage, resource, summary},
};

/// The common name of the apiserver's client certificate.
pub const API_SERVER: &str = "system:apiserver";
/// Members may read as well.
const ADMINISTRATORS: &str = "system:masters";
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long connections may take to end when the nodelet stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections beyond this wait to be accepted.
const CONNECTIONS: usize = 1_024;

#[derive(Clone)]
struct Shared {
    config: Arc<Config>,
    pods: Pods,
    usage: Usage,
    probes: Counts,
    changes: Changes,
}

pub(crate) fn router(
    config: Arc<Config>,
    pods: Pods,
    usage: Usage,
    probes: Counts,
    changes: Changes,
) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(list_pods))
        .route("/metrics", get(tell_metrics))
        .route("/metrics/probes", get(tell_probe_metrics))
        .route("/metrics/resource", get(tell_resource_metrics))
        .route("/stats/summary", get(tell_summary))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(container_logs),
        )
        .with_state(Shared {
            config,
            pods,
            usage,
            probes,
            changes,
        })
}

async fn tell_metrics(State(shared): State<Shared>) -> Response {
    let headers = [(header::CONTENT_TYPE, metrics::text::CONTENT_TYPE)];
    (headers, shared.config.metrics.text()).into_response()
}

async fn tell_resource_metrics(State(shared): State<Shared>) -> Response {
    let headers = [(header::CONTENT_TYPE, metrics::text::CONTENT_TYPE)];
    (headers, resource::text(&shared.usage.now())).into_response()
}

async fn tell_probe_metrics(State(shared): State<Shared>) -> Response {
    let headers = [(header::CONTENT_TYPE, metrics::text::CONTENT_TYPE)];
    (headers, shared.probes.text()).into_response()
}

async fn tell_summary(State(shared): State<Shared>) -> Response {
    let config = &shared.config;
    let host = summary::Host {
        now: Timestamp::now(),
        started: host::started().and_then(|second| Timestamp::from_second(second).ok()),
        available_bytes: host::memory().1,
        disk: host::disk(&config.state_dir),
        threads: host::threads(),
        swap: host::swap(),
    };
    Json(summary::of(&config.node_name, host, &shared.usage.now())).into_response()
}

async fn list_pods(State(shared): State<Shared>) -> Response {
    let items = shared.pods.list();
    let items: Vec<_> = items.iter().map(|pod| &**pod).collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
        .into_response()
}

/// The query of `/containerLogs`, as `PodLogOptions` names its fields.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct LogQuery {
    follow: Option<Switch>,
    previous: Option<Switch>,
    timestamps: Option<Switch>,
    tail_lines: Option<u64>,
    since_seconds: Option<u64>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<u64>,
    /// `Stdout`, `Stderr` or `All`.
    stream: Option<String>,
}

/// A boolean as Go's clients write one: `?follow`, `true`, `1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Switch(bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Switch, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" | "1" | "t" | "true" | "True" => Ok(Switch(true)),
            "0" | "f" | "false" | "False" => Ok(Switch(false)),
            other => Err(serde::de::Error::custom(format!(
                "{other:?} is neither true nor false"
            ))),
        }
    }
}

async fn container_logs(
    State(shared): State<Shared>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let refuse = |code, message: String| (code, message).into_response();
    let Some((pod, views)) = shared.pods.find(&namespace, &name) else {
        return refuse(
            StatusCode::NOT_FOUND,
            format!("pod \"{namespace}/{name}\" not found on this node"),
        );
    };
    let view = views
        .borrow()
        .iter()
        .find(|view| *view.name == *container)
        .cloned();
    let Some(view) = view else {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("container {container} is not valid for pod {name}"),
        );
    };
    let on = |switch: Option<Switch>| switch.is_some_and(|switch| switch.0);
    let attempt = if on(query.previous) {
        view.ended
    } else {
        view.attempt
    };
    let Some(attempt) = attempt else {
        let message = if on(query.previous) {
            format!("previous terminated container {container:?} in pod {name:?} not found")
        } else {
            let reason = view.waiting.unwrap_or("ContainerCreating");
            format!("container {container:?} in pod {name:?} is waiting to start: {reason}")
        };
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    let ago = query
        .since_seconds
        .map(|seconds| Timestamp::now() - Duration::from_secs(seconds.min(u64::from(u32::MAX))));
    let selection = Selection {
        tail: query.tail_lines,
        since: query.since_time.or(ago),
        timestamps: on(query.timestamps),
        limit: query.limit_bytes,
        stream: match query.stream.as_deref() {
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            _ => None,
        },
    };
    let path = logs::file(&shared.config.log_dir, &pod, &container, attempt);
    let follows = on(query.follow) && !on(query.previous);
    let follow = follows.then(|| Follow::new(&shared.changes, &path, views, &container, attempt));
    match logs::read(&path, selection, follow).await {
        Ok(stream) => (
            [(header::CONTENT_TYPE, "text/plain")],
            Body::from_stream(stream),
        )
            .into_response(),
        Err(error) => {
            warn!(%error, path = %path.display(), "read a log");
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "cannot read the log".to_owned(),
            )
        }
    }
}

/// A configuration for [`serve`]: the nodelet's certificate, and the authority that client certificates must come from.
///
/// # Errors
/// Says what is wrong with a certificate or the key.
pub fn tls(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in client_authorities {
        roots.add(authority)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves `router` (see [`Handle::router`](crate::Handle::router)) until `stop`, then gives connections 5 s to end.
///
/// `config` must verify client certificates, as [`tls`] makes it do: a peer without one is turned away.
///
/// # Errors
/// The listener's own failure.
pub async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    router: Router,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                let (socket, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors, or the peer is gone already: the listener itself is well.
                        warn!(%error, "accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
                connections.spawn(async move {
                    let stream = match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(socket)).await {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => return debug!(%error, %peer, "TLS handshake"),
                        Err(_) => return debug!(%peer, "TLS handshake took too long"),
                    };
                    if !stream.get_ref().1.peer_certificates().is_some_and(may_read) {
                        return warn!(%peer, "refused a peer that is not the apiserver");
                    }
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
                    if let Err(error) = watcher.watch(connection.into_owned()).await {
                        debug!(%error, %peer, "serve a connection");
                    }
                });
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        debug!(open = connections.len(), "connections did not end in time");
    }
    connections.shutdown().await;
    Ok(())
}

/// Whether the peer is the apiserver or an administrator. The chain is verified already.
fn may_read(chain: &[CertificateDer<'_>]) -> bool {
    let Some(leaf) = chain.first() else {
        return false;
    };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else {
        return false;
    };
    let subject = certificate.subject();
    let names = subject
        .iter_common_name()
        .any(|name| name.as_str() == Ok(API_SERVER));
    names
        || subject
            .iter_organization()
            .any(|name| name.as_str() == Ok(ADMINISTRATORS))
}
