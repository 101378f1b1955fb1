//! A process in a container and its streams, over a WebSocket whose messages begin with a channel's number
//! (`v5.channel.k8s.io`; `v4` has no end of input).
//!
//! Reads and writes at the same time, so that neither waits for the other. Never retries.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{
    api::WebSocket,
    query,
    session::{Exit, Session},
    terminal::{self, Size, Sizes},
};

const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Between signs of life, so that a connection on which nothing happens is not taken for dead.
const PING: Duration = Duration::from_secs(30);
/// How long the server may take to close once it has told the end.
const LINGER: Duration = Duration::from_secs(5);

/// Which streams are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// Takes what comes on one stream.
pub(crate) type Take<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Our ends of the streams.
pub(crate) struct Streams<'a> {
    /// Ends with its sender.
    pub(crate) stdin: Option<mpsc::Receiver<Bytes>>,
    pub(crate) sizes: Option<Sizes>,
    pub(crate) stdout: &'a mut Take<'a>,
    pub(crate) stderr: &'a mut Take<'a>,
}

/// What is asked for, as a path: `verb` is `exec` or `attach`.
pub(crate) fn path(
    namespace: &str,
    pod: &str,
    verb: &str,
    container: &str,
    wanted: Wanted,
    command: &[String],
) -> String {
    let flag = |on: bool| if on { "true" } else { "" };
    let mut parameters = vec![
        ("container", container),
        ("stdin", flag(wanted.stdin)),
        ("stdout", flag(wanted.stdout)),
        ("stderr", flag(wanted.stderr && !wanted.tty)),
        ("tty", flag(wanted.tty)),
    ];
    parameters.extend(command.iter().map(|word| ("command", word.as_str())));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/{verb}");
    query::with_empty(&path, &parameters, &["command"])
}

/// Joins our terminal's streams to a process until it ends; answers its exit code.
pub(crate) async fn interact(session: &Session, path: &str, wanted: Wanted) -> Result<i32> {
    let (socket, closes) = open(session, path).await?;
    let raw = match wanted.tty {
        true => terminal::raw()?,
        false => None,
    };
    let streams = Streams {
        stdin: wanted.stdin.then(terminal::input),
        sizes: wanted.tty.then(Sizes::follow).transpose()?,
        stdout: &mut |bytes| session.bytes(bytes),
        stderr: &mut |bytes| {
            session.note_bytes(bytes);
            Ok(())
        },
    };
    let ended = tokio::select! {
        ended = run(socket, closes, streams) => ended,
        () = terminal::told_to_stop() => Err(Exit { code: 143, message: "terminated".to_owned() }.into()),
    };
    drop(raw);
    ended
}

/// Opens a connection; tells whether the end of input can be sent.
pub(crate) async fn open(session: &Session, path: &str) -> Result<(WebSocket, bool)> {
    let (socket, protocol) = session.api().await?.websocket(path, PROTOCOLS).await?;
    Ok((socket, protocol.starts_with("v5")))
}

/// Passes the streams on until the process has ended; answers its exit code.
pub(crate) async fn run<S>(socket: S, closes: bool, streams: Streams<'_>) -> Result<i32>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error>,
{
    let (mut sink, messages) = socket.split();
    let Streams {
        stdin,
        sizes,
        stdout,
        stderr,
    } = streams;
    let ended = tokio::select! {
        ended = receive(messages, stdout, stderr) => ended,
        Err(error) = send(&mut sink, closes, stdin, sizes) => Err(error),
    };
    // The server knows already, or is gone.
    let _ = timeout(LINGER, sink.close()).await;
    ended
}

async fn send(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    closes: bool,
    mut stdin: Option<mpsc::Receiver<Bytes>>,
    mut sizes: Option<Sizes>,
) -> Result<()> {
    let mut alive = interval_at(Instant::now() + PING, PING);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            bytes = async { stdin.as_mut()?.recv().await }, if stdin.is_some() => match bytes {
                Some(bytes) => frame(STDIN, &bytes),
                None => {
                    stdin = None;
                    if !closes {
                        continue;
                    }
                    frame(CLOSE, &[STDIN])
                }
            },
            Some(size) = async { sizes.as_mut()?.next().await }, if sizes.is_some() => {
                frame(RESIZE, resize(size).as_bytes())
            }
            _ = alive.tick() => Message::Ping(Bytes::new()),
        };
        sink.send(message).await.context("send to the container")?;
    }
}

fn frame(channel: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

fn resize(size: Size) -> String {
    json!({"Width": size.width, "Height": size.height}).to_string()
}

/// Until the server closes, or a moment after it has told the end.
async fn receive(
    mut messages: impl Stream<Item = Result<Message, Error>> + Unpin,
    stdout: &mut Take<'_>,
    stderr: &mut Take<'_>,
) -> Result<i32> {
    let mut ended = None;
    loop {
        let next = match &ended {
            None => messages.next().await,
            Some(_) => timeout(LINGER, messages.next()).await.unwrap_or(None),
        };
        let message = match next {
            Some(Ok(Message::Binary(message))) => message,
            Some(Ok(Message::Close(_))) | None => break,
            Some(Ok(_)) => continue,
            Some(Err(_)) if ended.is_some() => break,
            Some(Err(error)) => return Err(error).context("the connection to the container broke"),
        };
        match message.split_first() {
            Some((&STDOUT, bytes)) => stdout(bytes)?,
            Some((&STDERR, bytes)) => stderr(bytes)?,
            Some((&STATUS, bytes)) if !bytes.is_empty() => ended = Some(exit_code(bytes)),
            _ => {}
        }
    }
    ended.unwrap_or_else(|| Err(anyhow!("the connection ended before the command did")))
}

/// What a `Status` says of a process' end.
fn exit_code(status: &[u8]) -> Result<i32> {
    let status: Value = serde_json::from_slice(status).context("read how the command ended")?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let mut causes = status["details"]["causes"].as_array().into_iter().flatten();
    let code = causes.find(|cause| cause["reason"] == "ExitCode");
    let code = code.and_then(|cause| cause["message"].as_str()?.parse().ok());
    match code {
        Some(code) if status["reason"] == "NonZeroExitCode" => Ok(code),
        _ => bail!(
            "{}",
            status["message"].as_str().unwrap_or("the command failed")
        ),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use tokio::io::{DuplexStream, duplex};
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    use super::*;

    #[track_caller]
    fn check_end(status: &str, expected: Expect) {
        expected.assert_eq(&match exit_code(status.as_bytes()) {
            Ok(code) => code.to_string(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn a_status_tells_how_the_command_ended() {
        check_end(r#"{"status":"Success"}"#, expect!["0"]);
        check_end(
            r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#,
            expect!["7"],
        );
        check_end(
            r#"{"status":"Failure","reason":"InternalError","message":"no such program"}"#,
            expect!["no such program"],
        );
    }

    #[test]
    fn a_path_has_the_streams_and_every_word_of_the_command() {
        let wanted = Wanted {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: true,
        };
        let words = ["sh", "", "a b"].map(str::to_owned);
        assert_eq!(
            path("default", "web", "exec", "a", wanted, &words),
            "/api/v1/namespaces/default/pods/web/exec?container=a&stdin=true&stdout=true&tty=true&command=sh&command=&command=a%20b"
        );
    }

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(1024);
        tokio::join!(
            WebSocketStream::from_raw_socket(ours, Role::Client, None),
            WebSocketStream::from_raw_socket(theirs, Role::Server, None)
        )
    }

    #[tokio::test]
    async fn input_goes_out_while_output_comes_in_and_its_end_is_told() {
        let (ours, mut theirs) = pair().await;
        let (input, stdin) = mpsc::channel(1);
        let typing = async move {
            for _ in 0..100 {
                input.send(Bytes::from_static(&[b'x'; 1000])).await.unwrap();
            }
        };
        let server = async move {
            // What is not read yet keeps nobody from writing.
            for _ in 0..100 {
                theirs.send(frame(STDOUT, &[b'y'; 1000])).await.unwrap();
            }
            let mut read = 0;
            loop {
                match theirs.next().await.unwrap().unwrap() {
                    Message::Binary(bytes) if bytes[..] == [CLOSE, STDIN] => break,
                    Message::Binary(bytes) => read += bytes.len() - 1,
                    other => panic!("{other:?}"),
                }
            }
            theirs.send(frame(STDERR, b"oops")).await.unwrap();
            theirs
                .send(frame(STATUS, br#"{"status":"Success"}"#))
                .await
                .unwrap();
            theirs.close(None).await.unwrap();
            read
        };
        let (mut out, mut err) = (0, Vec::new());
        let streams = Streams {
            stdin: Some(stdin),
            sizes: None,
            stdout: &mut |bytes| {
                out += bytes.len();
                Ok(())
            },
            stderr: &mut |bytes| {
                err.extend_from_slice(bytes);
                Ok(())
            },
        };
        let (code, (), read) = tokio::join!(run(ours, true, streams), typing, server);
        assert_eq!(code.unwrap(), 0);
        assert_eq!(
            (read, out, err.as_slice()),
            (100_000, 100_000, &b"oops"[..])
        );
    }

    #[tokio::test]
    async fn a_connection_that_ends_early_is_an_error() {
        let (ours, mut theirs) = pair().await;
        let streams = Streams {
            stdin: None,
            sizes: None,
            stdout: &mut |_| Ok(()),
            stderr: &mut |_| Ok(()),
        };
        let server = async {
            theirs.close(None).await.unwrap();
            while theirs.next().await.is_some() {}
        };
        let (ended, ()) = tokio::join!(run(ours, true, streams), server);
        assert_eq!(
            ended.unwrap_err().to_string(),
            "the connection ended before the command did"
        );
    }
}
