//! One HTTP/1.1 request over a connection of its own, which its answer may upgrade.
//!
//! Owns the tasks that drive the connection: they end with the answer's body. Never retries.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use hyper::{
    body::{Bytes, Frame, Incoming, SizeHint},
    client::conn::http1 as client,
    server::conn::http1 as server,
    upgrade::Upgraded,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::timeout,
};

/// Bytes that a connection within the process holds for a side that does not read.
const IN_PROCESS: usize = 64 * 1024;

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// 101: the connection speaks another protocol now; what the other side has sent of it already is in it.
    Upgraded(Response<Upgraded>),
    /// Anything else; the body streams.
    Other(Response<Body>),
}

/// No answer came.
#[derive(thiserror::Error, Debug)]
pub enum ExchangeError {
    /// Not in time.
    #[error("the answer took too long")]
    Late,
    /// The connection broke, or what came is no HTTP.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// Sends a request, and answers once the headers of its answer are there: within `deadline`.
///
/// # Errors
/// As [`ExchangeError`] says.
pub async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
    deadline: Duration,
) -> Result<Answer, ExchangeError> {
    exchange(stream, request, deadline, JoinSet::new()).await
}

/// The same with a router of this process on the other side.
///
/// # Errors
/// As [`ExchangeError`] says.
pub async fn send_in_process(
    router: Router,
    request: Request<Body>,
    deadline: Duration,
) -> Result<Answer, ExchangeError> {
    let (ours, theirs) = tokio::io::duplex(IN_PROCESS);
    let mut drivers = JoinSet::new();
    drivers.spawn(async move {
        let service = TowerToHyperService::new(router);
        let connection = server::Builder::new().serve_connection(TokioIo::new(theirs), service);
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection within the process broke");
        }
    });
    exchange(ours, request, deadline, drivers).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
    deadline: Duration,
    mut drivers: JoinSet<()>,
) -> Result<Answer, ExchangeError> {
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    drivers.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a backend broke");
        }
    });
    let answered = timeout(deadline, sender.send_request(request)).await;
    let mut response = answered.map_err(|_| ExchangeError::Late)??;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = async {
            let upgraded = hyper::upgrade::on(&mut response).await?;
            // Both sides have let go of HTTP when these end; before, the other side would lose its half.
            while drivers.join_next().await.is_some() {}
            Ok::<_, hyper::Error>(upgraded)
        };
        let upgraded = timeout(deadline, upgraded).await;
        let upgraded = upgraded.map_err(|_| ExchangeError::Late)??;
        return Ok(Answer::Upgraded(response.map(|_| upgraded)));
    }
    Ok(Answer::Other(response.map(|body| {
        Body::new(Driven {
            body,
            _sender: sender,
            _drivers: drivers,
        })
    })))
}

/// A body that keeps the connection it comes from alive.
struct Driven {
    body: Incoming,
    _sender: client::SendRequest<Body>,
    _drivers: JoinSet<()>,
}

impl hyper::body::Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
