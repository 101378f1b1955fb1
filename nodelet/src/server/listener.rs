//! Mutual TLS for the nodelet's server: besides what the given configuration verifies, the peer's certificate must be
//! the apiserver's (common name [`API_SERVER`]) or an administrator's.
//!
//! A connection that is upgraded is no longer counted here: the session behind it has its own bounds.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The common name of the apiserver's client certificate.
pub const API_SERVER: &str = "system:apiserver";
/// Members may read as well.
const ADMINISTRATORS: &str = "system:masters";
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long connections may take to end when the nodelet stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections beyond this wait to be accepted.
const CONNECTIONS: usize = 1_024;

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
                // What is typed in a session is passed on at once; a socket that refuses the option still works.
                let _ = socket.set_nodelay(true);
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
                    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router));
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
