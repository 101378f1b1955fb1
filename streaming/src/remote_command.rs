//! Exec and attach: a process behind a client's streams, and how its end is told.
//!
//! Follows the kubelet (`k8s.io/kubelet/pkg/cri/streaming/remotecommand`): the process is started once the client
//! has opened its streams, and what keeps it from starting is told on the error stream.

mod resize;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use runtimes::{Process, RuntimeError, Stdio};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::{
    Negotiated,
    link::{Input, Message, Output, SessionError, copy_in, copy_out, discard},
    negotiate::Transport,
    spdy::{self, Stream},
    status::Status,
    websocket::{channels::Channels, tunnel::Tunnel},
};

/// How long a client may take to open its streams.
const CREATION: Duration = Duration::from_secs(30);
/// The channels of a WebSocket.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// What is done with the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verb {
    /// It is the client's own: the end of the client's input is the end of its input, its exit code is told.
    Exec { command: Vec<String> },
    /// It goes on after the client; the end of the client's input is the end of its input only if `stdin_once`.
    Attach { stdin_once: bool },
}

/// A session of exec or attach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteCommand {
    pub verb: Verb,
    /// The streams that the request asks for. With a terminal there is no stderr.
    pub stdio: Stdio,
    /// How long the session may be silent.
    pub idle: Duration,
}

/// A client's streams: those that it asked for.
struct Streams {
    stdin: Option<Input>,
    resize: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    error: Output,
    /// The directions of streams that nothing is written to.
    unused: Vec<Output>,
}

impl RemoteCommand {
    /// Serves an upgraded connection to its end. `start` is awaited once the client has opened its streams; the
    /// process is dropped when the client goes.
    ///
    /// # Errors
    /// The client broke off or broke the protocol.
    pub async fn serve<Io>(
        mut self,
        io: Io,
        negotiated: &Negotiated,
        start: impl Future<Output = Result<Process, RuntimeError>>,
    ) -> Result<(), SessionError>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        self.stdio.stderr &= !self.stdio.tty;
        let version = negotiated.version;
        match negotiated.transport {
            Transport::Spdy => self.over_spdy(io, version, start).await,
            Transport::Tunnel => self.over_spdy(Tunnel::new(io).await, version, start).await,
            Transport::Channels(codec) => {
                let channels = Channels::new(io, codec, version >= 5, self.idle);
                self.over_channels(channels, version, start).await
            }
        }
    }

    async fn over_spdy<Io>(
        self,
        io: Io,
        version: u8,
        start: impl Future<Output = Result<Process, RuntimeError>>,
    ) -> Result<(), SessionError>
    where
        Io: AsyncRead + AsyncWrite,
    {
        let (connection, mut opened, queue) = spdy::accept(io, self.idle);
        let session = async move {
            let collected =
                tokio::time::timeout(CREATION, self.collect(version, &mut opened)).await;
            let streams = collected.ok().flatten().ok_or(SessionError::NoStreams)?;
            // Others are refused.
            drop(opened);
            self.run(streams, version, start).await;
            close(&queue).await;
            Ok(())
        };
        carry(connection.run(), session).await
    }

    /// Takes the streams of the request; `None` if the connection ends before.
    async fn collect(&self, version: u8, opened: &mut mpsc::Receiver<Stream>) -> Option<Streams> {
        let resizes = self.stdio.tty && version >= 3;
        let wanted = [
            ("error", true),
            ("stdin", self.stdio.stdin),
            ("stdout", self.stdio.stdout),
            ("stderr", self.stdio.stderr),
            ("resize", resizes),
        ];
        let mut found: [Option<Stream>; 5] = Default::default();
        while wanted
            .iter()
            .zip(&found)
            .any(|((_, wanted), found)| *wanted && found.is_none())
        {
            let stream = opened.recv().await?;
            let kind = stream.headers.get("streamtype").unwrap_or_default();
            let place = wanted
                .iter()
                .position(|(name, wanted)| *wanted && *name == kind);
            match place {
                Some(place) if found[place].is_none() => {
                    stream.output.accept().await.ok()?;
                    found[place] = Some(stream);
                }
                _ => stream
                    .output
                    .reset(spdy::reset::REFUSED_STREAM)
                    .await
                    .ok()?,
            }
        }
        let [error, stdin, stdout, stderr, resize] = found;
        let (stdin, unused_stdin) = stdin.map(|stream| (stream.input, stream.output)).unzip();
        let (resize, unused_resize) = resize.map(|stream| (stream.input, stream.output)).unzip();
        Some(Streams {
            stdin,
            resize,
            stdout: stdout.map(|stream| stream.output),
            stderr: stderr.map(|stream| stream.output),
            error: error?.output,
            unused: [unused_stdin, unused_resize]
                .into_iter()
                .flatten()
                .collect(),
        })
    }

    async fn over_channels<Io>(
        self,
        mut channels: Channels<Io>,
        version: u8,
        start: impl Future<Output = Result<Process, RuntimeError>>,
    ) -> Result<(), SessionError>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let Stdio {
            stdin,
            stdout,
            stderr,
            ..
        } = self.stdio;
        let streams = Streams {
            stdin: stdin.then(|| channels.input(STDIN)),
            resize: self.stdio.tty.then(|| channels.input(RESIZE)),
            stdout: stdout.then(|| channels.output(STDOUT)),
            stderr: stderr.then(|| channels.output(STDERR)),
            error: channels.output(ERROR),
            unused: Vec::new(),
        };
        let queue = channels.queue();
        let session = async move {
            let first = streams.stdout.as_ref().or(streams.stderr.as_ref());
            // An empty message says that the connection is there, as the kubelet's does. If it is gone already,
            // carrying it has ended.
            let _ = first.unwrap_or(&streams.error).send(Bytes::new()).await;
            self.run(streams, version, start).await;
            close(&queue).await;
            Ok(())
        };
        carry(channels.run(), session).await
    }

    /// Runs the process to its end and tells it. Fails to write only when the connection has ended.
    async fn run(
        &self,
        mut streams: Streams,
        version: u8,
        start: impl Future<Output = Result<Process, RuntimeError>>,
    ) {
        let ended = match start.await {
            Ok(process) => self.pump(process, &mut streams).await,
            Err(error) => Err(error),
        };
        let status = match (&self.verb, ended) {
            (Verb::Exec { command }, Ok(code)) if code != 0 => Status::exit(command, code),
            (_, Ok(_)) => Status::success(),
            (Verb::Exec { .. }, Err(error)) => {
                Status::internal(format!("error executing command in container: {error}"))
            }
            (Verb::Attach { .. }, Err(error)) => {
                Status::internal(format!("error attaching to container: {error}"))
            }
        };
        let bytes = if version >= 4 {
            status.json()
        } else {
            status.text().to_owned().into_bytes()
        };
        if !bytes.is_empty() {
            let _ = streams.error.send(bytes.into()).await;
        }
        let outputs = [streams.stdout, streams.stderr, Some(streams.error)];
        for output in outputs.into_iter().flatten().chain(streams.unused) {
            let _ = output.end().await;
        }
    }

    /// Carries everything between the process and the client until the process has ended and its output is sent.
    async fn pump(&self, process: Process, streams: &mut Streams) -> Result<i32, RuntimeError> {
        let Process {
            stdin,
            stdout,
            stderr,
            resize,
            exit,
        } = process;
        let ends = match self.verb {
            Verb::Exec { .. } => true,
            Verb::Attach { stdin_once } => stdin_once,
        };
        let output = async {
            let all = futures::join!(
                exit,
                give(stdout, streams.stdout.as_ref()),
                give(stderr, streams.stderr.as_ref()),
            );
            all.0
        };
        let input = async {
            futures::join!(
                take(streams.stdin.as_mut(), stdin, ends),
                resize::carry(streams.resize.as_mut(), resize),
            );
            std::future::pending::<()>().await;
        };
        tokio::select! {
            code = output => code,
            () = input => unreachable!("it has no end"),
        }
    }
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Gives a process' output to the client; what it does not want is read all the same, so that the process goes on.
async fn give(from: Option<Reader>, to: Option<&Output>) {
    let Some(mut from) = from else { return };
    if let Some(to) = to
        && copy_out(&mut from, to).await.is_err()
    {
        return;
    }
    // What cannot be read is the process' end, which its exit tells.
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

/// Gives a client's input to the process. Without one, it is thrown away.
async fn take(from: Option<&mut Input>, to: Option<Writer>, ends: bool) {
    let Some(from) = from else {
        // The process waits for no input of somebody who gives none.
        return;
    };
    let Some(mut to) = to else {
        return discard(from).await;
    };
    copy_in(from, &mut to).await;
    if ends {
        // It has ended already.
        let _ = to.shutdown().await;
    }
}

async fn close(queue: &mpsc::Sender<Message>) {
    // It has ended already.
    let _ = queue.send(Message::Close).await;
}

/// Carries a connection until its session has said everything, and the client has heard it.
pub(crate) async fn carry(
    connection: impl Future<Output = Result<(), SessionError>>,
    session: impl Future<Output = Result<(), SessionError>>,
) -> Result<(), SessionError> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        said = session => said?,
    }
    connection.await
}
