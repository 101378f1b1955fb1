//! Port-forward: connections to a pod's ports behind pairs of streams.
//!
//! Over SPDY the client opens a pair for each connection: `error` and `data`, with the port and a request id in
//! their headers. Over channels the request names the ports and there is one connection to each: channels 2n and
//! 2n + 1, each beginning with the port's number. Follows the kubelet
//! (`k8s.io/kubelet/pkg/cri/streaming/portforward`).

mod pairs;

use std::{future::Future, io, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};
use tracing::debug;

use crate::{
    Negotiated,
    link::{Input, Message, Output, SessionError, copy_in, copy_out},
    negotiate::{Codec, Transport},
    remote_command::carry,
    spdy::{self, Stream},
    websocket::{channels::Channels, tunnel::Tunnel},
};
use pairs::Pairs;

/// How long a pod may take to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Ports of one request.
const MOST_PORTS: usize = 64;

/// A session of port-forward.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortForward {
    /// The pod's name and uid, for messages.
    pub pod: String,
    pub uid: String,
    /// The ports of the request; see [`Negotiated::ports_in_request`].
    pub ports: Vec<u16>,
    /// How long the session may be silent.
    pub idle: Duration,
}

/// The streams of one connection.
struct Pair {
    port: u16,
    input: Input,
    data: Output,
    error: Output,
}

/// The ports that a request for channels names, from the values of its `port` parameters.
///
/// # Errors
/// In the kubelet's words.
pub fn parse_ports<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    for value in values {
        if value.is_empty() {
            return Err("query parameter \"port\" cannot be empty".to_owned());
        }
        for port in value.split(',') {
            ports.push(pairs::parse_port(port)?);
        }
    }
    if ports.is_empty() {
        return Err("query parameter \"port\" is required".to_owned());
    }
    if ports.len() > MOST_PORTS {
        return Err(format!(
            "at most {MOST_PORTS} ports can be forwarded at once"
        ));
    }
    Ok(ports)
}

impl PortForward {
    /// Serves an upgraded connection to its end. `connect` opens a connection to a port of the pod.
    ///
    /// # Errors
    /// The client broke off or broke the protocol.
    pub async fn serve<Io, Connecting, Socket>(
        self,
        io: Io,
        negotiated: &Negotiated,
        connect: impl Fn(u16) -> Connecting,
    ) -> Result<(), SessionError>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
        Connecting: Future<Output = io::Result<Socket>>,
        Socket: AsyncRead + AsyncWrite,
    {
        match negotiated.transport {
            Transport::Spdy => self.over_spdy(io, connect).await,
            Transport::Tunnel => self.over_spdy(Tunnel::new(io).await, connect).await,
            Transport::Channels(codec) => self.over_channels(io, codec, connect).await,
        }
    }

    async fn over_spdy<Io, Connecting, Socket>(
        self,
        io: Io,
        connect: impl Fn(u16) -> Connecting,
    ) -> Result<(), SessionError>
    where
        Io: AsyncRead + AsyncWrite,
        Connecting: Future<Output = io::Result<Socket>>,
        Socket: AsyncRead + AsyncWrite,
    {
        let (connection, opened, _queue) = spdy::accept(io, self.idle);
        carry(connection.run(), self.pair_up(opened, connect)).await
    }

    /// Forwards every pair that comes, until the connection ends. There are no more of them than the connection
    /// has streams.
    async fn pair_up<Connecting, Socket>(
        &self,
        mut opened: mpsc::Receiver<Stream>,
        connect: impl Fn(u16) -> Connecting,
    ) -> Result<(), SessionError>
    where
        Connecting: Future<Output = io::Result<Socket>>,
        Socket: AsyncRead + AsyncWrite,
    {
        let mut pairs = Pairs::default();
        let mut forwarded = FuturesUnordered::new();
        loop {
            tokio::select! {
                opened = opened.recv() => {
                    // The connection has ended, and whoever carries it sees that.
                    let Some(stream) = opened else { return Ok(()) };
                    if let Some(pair) = pairs.add(stream).await {
                        forwarded.push(self.forward(pair, &connect));
                    }
                }
                half = pairs.expired() => half.end().await,
                Some(()) = forwarded.next() => {}
            }
        }
    }

    async fn over_channels<Io, Connecting, Socket>(
        self,
        io: Io,
        codec: Codec,
        connect: impl Fn(u16) -> Connecting,
    ) -> Result<(), SessionError>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
        Connecting: Future<Output = io::Result<Socket>>,
        Socket: AsyncRead + AsyncWrite,
    {
        let mut channels = Channels::new(io, codec, false, self.idle);
        let mut pairs = Vec::new();
        for (number, port) in (0..).zip(self.ports.iter().take(MOST_PORTS)) {
            pairs.push(Pair {
                port: *port,
                input: channels.input(2 * number),
                data: channels.output(2 * number),
                error: channels.output(2 * number + 1),
            });
        }
        let queue = channels.queue();
        let session = async {
            let forward = |pair: Pair| async {
                let number = Bytes::copy_from_slice(&pair.port.to_le_bytes());
                for output in [&pair.data, &pair.error] {
                    // If the connection is gone already, carrying it has ended.
                    let _ = output.send(number.clone()).await;
                }
                self.forward(pair, &connect).await;
            };
            futures::future::join_all(pairs.into_iter().map(forward)).await;
            let _ = queue.send(Message::Close).await;
            Ok(())
        };
        carry(channels.run(), session).await
    }

    /// Connects, and copies until the pod has said everything or the client is gone.
    async fn forward<Connecting, Socket>(&self, pair: Pair, connect: &impl Fn(u16) -> Connecting)
    where
        Connecting: Future<Output = io::Result<Socket>>,
        Socket: AsyncRead + AsyncWrite,
    {
        let Pair {
            port,
            mut input,
            data,
            error,
        } = pair;
        let copied = async {
            let socket = match tokio::time::timeout(CONNECT, connect(port)).await {
                Ok(socket) => socket.map_err(|error| self.refused(port, &error))?,
                Err(_) => return Err(self.refused(port, &io::ErrorKind::TimedOut.into())),
            };
            let (mut from, mut to) = tokio::io::split(socket);
            let upstream = async {
                copy_in(&mut input, &mut to).await;
                // The pod may have closed before.
                let _ = to.shutdown().await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                copied = copy_out(&mut from, &data) => {
                    if let Err(error) = copied {
                        // A client closes everything on an error: a pod that resets one connection is none.
                        debug!(%error, port, pod = self.pod, "read from a pod");
                    }
                }
                () = upstream => unreachable!("it has no end"),
            }
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = copied => outcome,
            () = data.was_reset() => Ok(()),
        };
        // None of these matters once the connection has ended.
        if let Err(message) = outcome {
            let _ = error.send(message.into()).await;
        }
        let _ = data.end().await;
        let _ = error.end().await;
    }

    fn refused(&self, port: u16, error: &io::Error) -> String {
        let PortForward { pod, uid, .. } = self;
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::TimedOut => "connection timed out".to_owned(),
            _ => error.to_string(),
        };
        format!(
            "error forwarding port {port} to pod {pod}, uid {uid}: failed to connect to localhost:{port} inside the pod: {why}"
        )
    }
}
