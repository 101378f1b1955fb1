//! Endpoints that speak HTTP/2 in the clear from the first byte (`appProtocol: kubernetes.io/h2c`, gRPC servers for most):
//! one connection each, which their requests share.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response, Uri, Version, header::HOST, uri::Scheme};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Broken, KEEP, Upload, causes, dial};
use crate::task;

/// A connection with requests is asked for a sign of life this often, and has as long to give it.
const ALIVE: Duration = Duration::from_secs(20);
/// Bytes that an answer may be ahead of its client.
const WINDOW: u32 = 256 * 1024;
/// Bytes of an answer's headers.
const HEADER_BYTES: u32 = 64 * 1024;

/// What a connection lives by: it ends with the last owner.
pub(super) type Task = Arc<AbortOnDropHandle<()>>;

#[derive(Clone)]
struct Connection {
    sender: http2::SendRequest<Upload>,
    task: Task,
    used: Instant,
}

/// The connections, by endpoint.
#[derive(Default)]
pub(super) struct Connections(Mutex<HashMap<SocketAddr, Connection>>);

impl Connections {
    fn known(&self) -> MutexGuard<'_, HashMap<SocketAddr, Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request. The caller has the deadline.
    pub(super) async fn send(
        &self,
        address: SocketAddr,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Task), Broken> {
        let (mut connection, kept) = match self.open(address) {
            Some(connection) => (connection, true),
            None => match connect(address).await {
                Ok(connection) => {
                    self.known().insert(address, connection.clone());
                    (connection, false)
                }
                Err(cause) => return Err(Broken::Unsent(Box::new(request), cause)),
            },
        };
        in_absolute_form(&mut request, address);
        match connection.sender.try_send_request(request).await {
            Ok(mut response) => {
                *response.version_mut() = Version::HTTP_11;
                Ok((response, connection.task))
            }
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    let cause = causes(&error.into_error());
                    Err(Broken::Unsent(Box::new(request), cause))
                }
                None => {
                    let cause = causes(&error.into_error());
                    Err(Broken::Sent { kept, cause })
                }
            },
        }
    }

    fn open(&self, address: SocketAddr) -> Option<Connection> {
        let mut known = self.known();
        let connection = known.get_mut(&address)?;
        connection.used = Instant::now();
        (!connection.sender.is_closed()).then(|| connection.clone())
    }

    /// Forgets those that are closed, and those that nobody has used for long.
    pub(super) fn sweep(&self, now: Instant) {
        self.known().retain(|_, connection| {
            let lately = now.saturating_duration_since(connection.used) < KEEP;
            let in_use = Arc::strong_count(&connection.task) > 1;
            (lately || in_use) && !connection.sender.is_closed()
        });
    }
}

async fn connect(address: SocketAddr) -> Result<Connection, String> {
    let stream = dial(address).await?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(ALIVE))
        .keep_alive_timeout(ALIVE)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(16 * WINDOW);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| causes(&error))?;
    let task = task::owned(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an endpoint broke");
        }
    });
    Ok(Connection {
        sender,
        task: Arc::new(task),
        used: Instant::now(),
    })
}

/// The form that HTTP/2 has: the host in the target. What has it already stays so.
fn in_absolute_form(request: &mut Request<Upload>, address: SocketAddr) {
    *request.version_mut() = Version::HTTP_2;
    if request.uri().authority().is_some() {
        return;
    }
    let host = request.headers_mut().remove(HOST);
    let named = host.as_ref().and_then(|host| host.to_str().ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let own = || address.to_string().parse().ok();
    parts.authority = named.and_then(|host| host.parse().ok()).or_else(own);
    parts.scheme = Some(Scheme::HTTP);
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}
