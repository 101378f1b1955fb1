//! A client's upgraded connection and the one to the node or pod that it is for: what one side sends goes to
//! the other as it is, half-closes too, until both have ended, one of them breaks, nothing came for too
//! long, the time is over, or the server stops.
//!
//! Never reads what is sent.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::Limits;
use crate::verbs::call::Call;

/// Bytes on their way in each direction; a side that does not read makes the other wait.
const BUFFER: usize = 16 * 1024;

/// The joined connections of a server; they end with it.
#[derive(Default)]
pub(crate) struct Joined(Mutex<JoinSet<()>>);

/// What a joined connection takes up, given back when it ends.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Vec<Box<dyn Send>>>>);

/// Keeps `thing` for as long as an answer lasts: until its body is dropped or, if its connection was joined,
/// until that ends.
pub(crate) fn hold(response: Response, thing: impl Send + 'static) -> Response {
    if let Some(Held(things)) = response.extensions().get::<Held>() {
        let mut things = things.lock().unwrap_or_else(PoisonError::into_inner);
        things.push(Box::new(thing));
        drop(things);
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &thing;
            frame
        }))
    })
}

/// Joins the client's connection, which is upgraded once it has been answered, to an upgraded one; makes the
/// client's answer of the other side's.
pub(crate) fn join(call: &Call, client: OnUpgrade, answer: http::Response<Upgraded>) -> Response {
    let (mut parts, backend) = answer.into_parts();
    let held = Held::default();
    parts.extensions.clear();
    parts.extensions.insert(held.clone());
    let stop = call.draining.clone();
    let limits = call.server.config.limits.clone();
    let session = async move {
        let _held = held;
        let joined = async {
            let client = client.await.map_err(io::Error::other)?;
            copy(TokioIo::new(client), TokioIo::new(backend), &limits).await
        };
        if let Some(Err(error)) = stop.run_until_cancelled(joined).await {
            tracing::debug!(%error, "a joined connection broke");
        }
    };
    let tasks = &call.server.joined.0;
    let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    while tasks.try_join_next().is_some() {}
    tasks.spawn(session);
    Response::from_parts(parts, Body::empty())
}

/// Passes bytes on in both directions, within the bounds.
async fn copy(
    client: impl AsyncRead + AsyncWrite + Unpin,
    mut backend: impl AsyncRead + AsyncWrite + Unpin,
    limits: &Limits,
) -> io::Result<()> {
    let seen = Seen(Arc::new(Mutex::new(Instant::now())));
    let mut client = Watched {
        inner: client,
        seen: seen.clone(),
    };
    let copying = copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER);
    let bounded = timeout(limits.session, copying);
    tokio::select! {
        copied = bounded => match copied {
            Ok(copied) => copied.map(drop),
            Err(_) => Err(io::Error::other("it lasted too long")),
        },
        () = seen.silence(limits.idle) => Err(io::Error::other("nothing came for too long")),
    }
}

/// When something was last sent in either direction.
#[derive(Clone)]
struct Seen(Arc<Mutex<Instant>>);

impl Seen {
    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns once nothing was sent for so long.
    async fn silence(&self, idle: Duration) {
        loop {
            let until = self.last() + idle;
            sleep_until(until).await;
            if self.last() + idle <= until {
                return;
            }
        }
    }
}

/// A connection that notes when bytes pass.
struct Watched<S> {
    inner: S,
    seen: Seen,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = pin!(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.seen.now();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.inner).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.seen.now();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn limits(idle: u64, session: u64) -> Limits {
        Limits {
            idle: Duration::from_secs(idle),
            session: Duration::from_secs(session),
            ..Limits::default()
        }
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let ((mut client, ours), (theirs, mut backend)) = (duplex(8), duplex(8));
        let limits = limits(60, 60);
        let sides = async {
            client.write_all(b"a longer question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let backend = async {
            let mut question = String::new();
            backend.read_to_string(&mut question).await.unwrap();
            backend.write_all(b"the answer").await.unwrap();
            drop(backend);
            question
        };
        let (copied, answer, question) = tokio::join!(copy(ours, theirs, &limits), sides, backend);
        copied.unwrap();
        assert_eq!(
            (question.as_str(), answer.as_str()),
            ("a longer question", "the answer")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_silent_is_cut_and_what_speaks_is_not_before_its_time() {
        let ((_client, ours), (theirs, _backend)) = (duplex(8), duplex(8));
        let begun = Instant::now();
        let error = copy(ours, theirs, &limits(10, 60)).await.unwrap_err();
        assert_eq!(error.to_string(), "nothing came for too long");
        assert_eq!(begun.elapsed().as_secs(), 10);

        let ((mut client, ours), (theirs, mut backend)) = (duplex(8), duplex(8));
        let begun = Instant::now();
        let limits = limits(10, 60);
        let copied = copy(ours, theirs, &limits);
        let speaking = async {
            loop {
                tokio::time::sleep(Duration::from_secs(9)).await;
                if backend.write_all(b"!").await.is_err() || client.read_u8().await.is_err() {
                    return;
                }
            }
        };
        let (copied, ()) = tokio::join!(copied, speaking);
        assert_eq!(copied.unwrap_err().to_string(), "it lasted too long");
        assert_eq!(begun.elapsed().as_secs(), 63);
    }
}
