//! The TLS listener: HTTP/1.1 and HTTP/2 with upgrades, client certificates, limits and a drain.
//!
//! Puts two extensions into every request: the [`User`](crate::auth::User) of a verified client
//! certificate, if there is one, and [`Draining`]. Never decides what a user may do.

mod patient;

use std::{io, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{Limits, auth::certificate};
use patient::Patient;

/// Connections open at once; more wait in the kernel's accept queue.
const CONNECTIONS: usize = 8192;
/// A client that has not finished its handshake or its headers by then is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long answers in progress may take once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a listener that cannot accept (no file descriptors left) rests before it tries again.
const REST: Duration = Duration::from_millis(50);
/// Streams that one HTTP/2 connection may have open.
const STREAMS: u32 = 250;
/// Bytes of an HTTP/2 request's headers: room for long tokens.
const HEADERS: u32 = 64 * 1024;
/// Header lines of an HTTP/1.1 request.
const HEADER_LINES: usize = 100;
/// Bytes that an HTTP/2 stream holds for its client.
const STREAM_BUFFER: usize = 128 * 1024;
/// An idle HTTP/2 connection is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Cancelled when the server stops: streams that would never end by themselves end then.
#[derive(Clone, Debug)]
pub struct Draining(pub CancellationToken);

/// Serves until `stop`, then lets answers in progress end (10 s at most) and cuts off the rest. A client
/// that takes nothing of its answers for [`Limits::stalled`] is cut off too.
pub async fn run(
    listener: TcpListener,
    mut tls: ServerConfig,
    router: Router,
    limits: &Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    if tls.alpn_protocols.is_empty() {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let router = router.layer(Extension(Draining(stop.clone())));
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = Connection {
                    acceptor: acceptor.clone(),
                    router: router.clone(),
                    stop: stop.clone(),
                    stalled: limits.stalled,
                    _permit: permit,
                };
                connections.spawn(connection.run(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(REST).await;
            }
        }
    }
    drop(listener);
    // Whatever is left when the deadline passes is aborted with the set.
    let drained = timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "connections cut off");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Router,
    stop: CancellationToken,
    stalled: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Small answers leave at once; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let stream = match timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let user = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| certificate::user(chain.first()?));
        let router = match user {
            Some(user) => self.router.layer(Extension(user)),
            None => self.router,
        };
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .max_headers(HEADER_LINES)
            .header_read_timeout(HANDSHAKE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS)
            .max_send_buf_size(STREAM_BUFFER)
            .keep_alive_interval(KEEP_ALIVE);
        let stream = TokioIo::new(Patient::new(stream, self.stalled));
        let connection =
            builder.serve_connection_with_upgrades(stream, TowerToHyperService::new(router));
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    }
}
