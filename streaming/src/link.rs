//! What both protocols come to: streams of bytes over one connection, their queues, and when it has been silent
//! for too long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::spdy::FrameError;

/// Pieces that wait to be written, of all streams; then those who write wait.
pub(crate) const OUTGOING: usize = 8;
/// Pieces that wait to be read from one stream; then the connection is not read, as SPDY's clients expect whose
/// windows nobody keeps.
pub(crate) const INCOMING: usize = 4;
/// Bytes that are taken at once from a process or a pod.
const READ: usize = 16 * 1024;
/// Between signs of life to a client: one that is gone is noticed after two, though nothing is read from it.
pub(crate) const PING_PERIOD: Duration = Duration::from_secs(10);
/// How long a client may take to close once everything is said. Closing first could lose what it has not read yet.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// How a session failed. All but the client knows already: for a log.
#[derive(thiserror::Error, Debug)]
pub enum SessionError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    /// The client does not speak SPDY/3.1.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The client broke the rules of SPDY or of the channels.
    #[error("the client broke the protocol: {0}")]
    Protocol(&'static str),
    /// The client does not speak WebSocket.
    #[error("the WebSocket broke")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The client has not opened its streams.
    #[error("timed out waiting for client to create streams")]
    NoStreams,
    /// Nothing was sent or received for this long.
    #[error("nothing was sent or received for {} s", .0.as_secs())]
    Idle(Duration),
}

impl From<tokio_tungstenite::tungstenite::Error> for SessionError {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        SessionError::WebSocket(Box::new(error))
    }
}

/// What is written to a connection.
#[derive(Debug)]
pub(crate) enum Message {
    /// Takes a stream that the client has opened.
    Accept {
        stream: u32,
    },
    Data {
        stream: u32,
        bytes: Bytes,
    },
    /// Nothing follows on the stream.
    End {
        stream: u32,
    },
    /// Neither direction of the stream goes on.
    Reset {
        stream: u32,
        status: u32,
    },
    /// Nothing follows at all.
    Close,
}

/// What a client sends on one stream; ends with it.
pub(crate) type Input = mpsc::Receiver<Bytes>;

/// The connection, or the stream, has ended.
#[derive(Debug)]
pub(crate) struct Gone;

/// Writes to one stream.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    stream: u32,
    queue: mpsc::Sender<Message>,
    reset: CancellationToken,
}

impl Output {
    /// `reset` says that the client has ended the stream.
    pub(crate) fn new(
        stream: u32,
        queue: mpsc::Sender<Message>,
        reset: CancellationToken,
    ) -> Output {
        Output {
            stream,
            queue,
            reset,
        }
    }

    pub(crate) async fn accept(&self) -> Result<(), Gone> {
        self.say(Message::Accept {
            stream: self.stream,
        })
        .await
    }

    /// Waits until there is room.
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.say(Message::Data {
            stream: self.stream,
            bytes,
        })
        .await
    }

    pub(crate) async fn end(&self) -> Result<(), Gone> {
        self.say(Message::End {
            stream: self.stream,
        })
        .await
    }

    pub(crate) async fn reset(&self, status: u32) -> Result<(), Gone> {
        self.say(Message::Reset {
            stream: self.stream,
            status,
        })
        .await
    }

    /// Waits until the client has ended the stream.
    pub(crate) async fn was_reset(&self) {
        self.reset.cancelled().await;
    }

    async fn say(&self, message: Message) -> Result<(), Gone> {
        if self.reset.is_cancelled() {
            return Err(Gone);
        }
        self.queue.send(message).await.map_err(|_| Gone)
    }
}

/// Copies what is read to a stream, to the end of either. Fails when reading does.
pub(crate) async fn copy_out(
    from: &mut (impl AsyncRead + Unpin + ?Sized),
    to: &Output,
) -> std::io::Result<()> {
    let mut buffer = bytes::BytesMut::new();
    loop {
        buffer.reserve(READ);
        let mut room = (&mut *from).take(READ as u64);
        if room.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        if to.send(buffer.split().freeze()).await.is_err() {
            return Ok(());
        }
    }
}

/// Copies what a client sends, to the end of its stream. What cannot be written is thrown away, so that the
/// connection's other streams go on.
pub(crate) async fn copy_in(from: &mut Input, to: &mut (impl AsyncWrite + Unpin + ?Sized)) {
    while let Some(bytes) = from.recv().await {
        let written = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        if written.await.is_err() {
            return discard(from).await;
        }
    }
}

/// Throws away what a client sends.
pub(crate) async fn discard(from: &mut Input) {
    while from.recv().await.is_some() {}
}

/// When data last went either way.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Activity {
    pub(crate) fn new() -> Activity {
        Activity {
            start: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Data goes.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Returns once nothing has gone for `limit`. Pings are nothing.
    pub(crate) async fn idle(&self, limit: Duration) -> SessionError {
        loop {
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let until = last + limit;
            if until <= Instant::now() {
                return SessionError::Idle(limit);
            }
            tokio::time::sleep_until(until).await;
        }
    }
}
