//! Connections to endpoints and pods: HTTP/1.1, kept for the next request, or [`h2c`], shared by all of them.

mod h2c;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{body::Upload, upgrade};
use crate::task;

/// How long an endpoint may take to accept.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection is kept without a request: less than servers usually keep it.
const KEEP: Duration = Duration::from_secs(30);
/// Connections kept for one endpoint; more are closed after their request.
const KEPT: usize = 64;

/// How an endpoint speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaks {
    Http1,
    /// HTTP/2 in the clear, from the first byte.
    Http2,
}

/// Kept connections. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Pool {
    idle: Arc<Mutex<Idle>>,
    h2c: Arc<h2c::Connections>,
}

/// By endpoint, with the time since when.
type Idle = HashMap<SocketAddr, Vec<(Instant, Connection)>>;

struct Connection {
    sender: http1::SendRequest<Upload>,
    /// Ends with its last owner.
    task: AbortOnDropHandle<()>,
}

/// A connection that is in use; it is kept once its answer has ended.
pub(super) struct Lease {
    pool: Pool,
    address: SocketAddr,
    /// `None` where it is shared.
    connection: Option<Connection>,
    _shared: Option<h2c::Task>,
}

/// Why an endpoint has no answer.
pub(super) enum Broken {
    /// Nothing of the request was sent: another endpoint may have it.
    Unsent(Box<Request<Upload>>, String),
    /// It may have been acted on. On a connection that was kept, perhaps for too long, it most likely was not.
    Sent { kept: bool, cause: String },
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to an endpoint. The caller has the deadline.
    pub(super) async fn send(
        &self,
        address: SocketAddr,
        speaks: Speaks,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), Broken> {
        if speaks == Speaks::Http2 {
            let (response, task) = self.h2c.send(address, request).await?;
            let lease = Lease {
                pool: self.clone(),
                address,
                connection: None,
                _shared: Some(task),
            };
            return Ok((response, lease));
        }
        let kept = self.take(address).await;
        let (mut connection, kept) = match kept {
            Some(connection) => (connection, true),
            None => match connect(address).await {
                Ok(connection) => (connection, false),
                Err(cause) => return Err(Broken::Unsent(Box::new(request), cause)),
            },
        };
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                let lease = Lease {
                    pool: self.clone(),
                    address,
                    connection: Some(connection),
                    _shared: None,
                };
                Ok((response, lease))
            }
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    let cause = error.into_error().to_string();
                    Err(Broken::Unsent(Box::new(request), cause))
                }
                None => {
                    let cause = causes(&error.into_error());
                    Err(Broken::Sent { kept, cause })
                }
            },
        }
    }

    /// A kept connection that is still open.
    async fn take(&self, address: SocketAddr) -> Option<Connection> {
        loop {
            let (_, mut connection) = self.idle().get_mut(&address)?.pop()?;
            if connection.sender.is_closed() {
                continue;
            }
            // At once, unless its last answer has only just ended.
            if let Ok(Ok(())) = timeout(CONNECT, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    /// Closes what was kept for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle().retain(|_, kept| {
            kept.retain(|(since, connection)| {
                now.saturating_duration_since(*since) < KEEP && !connection.sender.is_closed()
            });
            !kept.is_empty()
        });
        self.h2c.sweep(now);
    }
}

/// Opens a connection.
async fn dial(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("connect to {address}: {error}")),
        Err(_) => return Err(format!("{address} does not accept")),
    };
    // Small requests leave at once; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    upgrade::keep_alive(&stream);
    Ok(stream)
}

async fn connect(address: SocketAddr) -> Result<Connection, String> {
    let stream = dial(address).await?;
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| causes(&error))?;
    let task = task::owned(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an endpoint broke");
        }
    });
    Ok(Connection { sender, task })
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl Lease {
    /// The answer has ended: the connection may have another request.
    pub(super) fn ended(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.pool.idle();
        let kept = idle.entry(self.address).or_default();
        if kept.len() < KEPT {
            kept.push((Instant::now(), connection));
        }
    }

    /// The connection's task, which an upgrade needs for as long as its tunnel lasts.
    pub(super) fn into_task(mut self) -> Option<AbortOnDropHandle<()>> {
        self.connection.take().map(|connection| connection.task)
    }
}
