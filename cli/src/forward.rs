//! One local connection and the one to a pod's port that it is for, over a WebSocket of two channels
//! (`v4.channel.k8s.io`): 0 carries bytes, 1 tells why there are none; each begins with the port's number.
//!
//! The protocol cannot say that one direction has ended. When the local side has, what the pod still sends is
//! passed on until it is silent for a moment.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::tungstenite::{Error, Message};

pub(crate) const PROTOCOL: &str = "v4.channel.k8s.io";
const DATA: u8 = 0;
const ERROR: u8 = 1;
/// The port's number that each channel begins with.
const PORT_BYTES: usize = 2;
/// Bytes that are read at once.
const READ: usize = 32 * 1024;
/// Between signs of life, so that a connection on which nothing happens is not taken for dead.
const PING: Duration = Duration::from_secs(30);
/// How long the pod may be silent once the local side has ended.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the server may take to close.
const LINGER: Duration = Duration::from_secs(2);

/// Passes bytes on both ways until the pod's side has ended. An error is the pod's, or the way's to it.
pub(crate) async fn join<S>(socket: S, local: impl AsyncRead + AsyncWrite) -> Result<()>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error>,
{
    let (mut sink, messages) = socket.split();
    let (from, to) = tokio::io::split(local);
    let (ended, silent) = tokio::sync::watch::channel(false);
    let joined = tokio::select! {
        joined = down(messages, to, silent) => joined,
        Err(error) = up(&mut sink, from, ended) => Err(error),
    };
    // The server knows already, or is gone.
    let _ = timeout(LINGER, sink.close()).await;
    joined
}

/// From here to the pod. Ends only if it fails.
async fn up(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    mut from: impl AsyncRead + Unpin,
    ended: tokio::sync::watch::Sender<bool>,
) -> Result<()> {
    let mut alive = interval_at(Instant::now() + PING, PING);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; READ + 1];
    buffer[0] = DATA;
    loop {
        let open = !*ended.borrow();
        let message = tokio::select! {
            read = from.read(&mut buffer[1..]), if open => match read {
                Ok(read @ 1..) => Message::Binary(Bytes::copy_from_slice(&buffer[..=read])),
                // One that broke sends no more, either.
                Ok(0) | Err(_) => {
                    ended.send_replace(true);
                    continue;
                }
            },
            _ = alive.tick() => Message::Ping(Bytes::new()),
        };
        sink.send(message).await.context("send to the pod")?;
    }
}

/// From the pod to here.
async fn down(
    mut messages: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut ended: tokio::sync::watch::Receiver<bool>,
) -> Result<()> {
    let mut skipped = [0; 2];
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = silence(&mut ended) => break,
        };
        let message = match message {
            Some(Ok(Message::Binary(message))) => message,
            Some(Ok(Message::Close(_))) | None => break,
            Some(Ok(_)) => continue,
            Some(Err(error)) => return Err(error).context("the connection to the pod broke"),
        };
        let Some((&channel @ (DATA | ERROR), mut bytes)) = message.split_first() else {
            continue;
        };
        let skip = &mut skipped[usize::from(channel)];
        let rest = bytes.len().min(PORT_BYTES - *skip);
        *skip += rest;
        bytes = &bytes[rest..];
        if channel == ERROR && !bytes.is_empty() {
            bail!("{}", String::from_utf8_lossy(bytes).trim());
        }
        // A local side that takes nothing any more needs nothing either.
        if !bytes.is_empty() && to.write_all(bytes).await.is_err() {
            return Ok(());
        }
    }
    // The same.
    let _ = to.shutdown().await;
    Ok(())
}

/// Returns once the local side has ended and a moment has passed.
async fn silence(ended: &mut tokio::sync::watch::Receiver<bool>) {
    if ended.wait_for(|ended| *ended).await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(SILENCE).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    use super::*;

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(1024);
        tokio::join!(
            WebSocketStream::from_raw_socket(ours, Role::Client, None),
            WebSocketStream::from_raw_socket(theirs, Role::Server, None)
        )
    }

    fn frame(bytes: &'static [u8]) -> Message {
        Message::Binary(Bytes::from_static(bytes))
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways_without_the_ports() {
        let (socket, mut pod) = pair().await;
        let (mut local, inner) = duplex(1024);
        let pod = async move {
            pod.send(frame(&[DATA, 80, 0])).await.unwrap();
            pod.send(frame(&[ERROR, 80, 0])).await.unwrap();
            let asked = pod.next().await.unwrap().unwrap();
            assert_eq!(asked, frame(b"\0hello"));
            pod.send(frame(b"\0world")).await.unwrap();
            // It is silent then.
            while let Some(Ok(_)) = pod.next().await {}
        };
        let local = async move {
            local.write_all(b"hello").await.unwrap();
            local.shutdown().await.unwrap();
            let mut answer = String::new();
            local.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (joined, (), answer) = tokio::join!(join(socket, inner), pod, local);
        joined.unwrap();
        assert_eq!(answer, "world");
    }

    #[tokio::test]
    async fn what_the_pod_says_is_wrong_is_an_error() {
        let (socket, mut pod) = pair().await;
        let (_local, inner) = duplex(1024);
        let pod = async move {
            pod.send(frame(b"\x01\x50\0connection refused"))
                .await
                .unwrap();
            while let Some(Ok(_)) = pod.next().await {}
        };
        let (joined, ()) = tokio::join!(join(socket, inner), pod);
        assert_eq!(joined.unwrap_err().to_string(), "connection refused");
    }
}
