//! Streams that wait for the other of their pair.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::Pair;
use crate::spdy::{Stream, reset};

/// How long a pair may be incomplete.
const CREATION: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Error,
    Data,
}

/// One of a pair.
pub(super) struct Half {
    kind: Kind,
    port: u16,
    stream: Stream,
    since: Instant,
}

/// Incomplete pairs, by request id; there are no more of them than a connection has streams.
#[derive(Default)]
pub(super) struct Pairs {
    halves: HashMap<String, Half>,
}

impl Pairs {
    /// Accepts a stream, or refuses it; the pair that it completes.
    pub(super) async fn add(&mut self, stream: Stream) -> Option<Pair> {
        let Some((kind, port, id)) = read(&stream) else {
            let _ = stream.output.reset(reset::PROTOCOL_ERROR).await;
            return None;
        };
        stream.output.accept().await.ok()?;
        match self.halves.remove(&id) {
            None => {
                let half = Half {
                    kind,
                    port,
                    stream,
                    since: Instant::now(),
                };
                self.halves.insert(id, half);
                None
            }
            Some(half) if half.kind == kind => {
                let name = if kind == Kind::Error { "error" } else { "data" };
                let message = format!(
                    "error processing stream for request {id}: {name} stream already assigned"
                );
                let error = (kind == Kind::Error).then(|| half.stream.output.clone());
                self.halves.insert(id, half);
                if let Some(error) = error {
                    let _ = error.send(message.into()).await;
                }
                let _ = stream.output.reset(reset::PROTOCOL_ERROR).await;
                None
            }
            Some(half) => {
                let port = if kind == Kind::Data { port } else { half.port };
                let (data, error) = match kind {
                    Kind::Data => (stream, half.stream),
                    Kind::Error => (half.stream, stream),
                };
                Some(Pair {
                    port,
                    input: data.input,
                    data: data.output,
                    error: error.output,
                })
            }
        }
    }

    /// Waits until a pair has been incomplete for too long; what there is of it.
    pub(super) async fn expired(&mut self) -> Half {
        let oldest = self.halves.iter().min_by_key(|(_, half)| half.since);
        let Some((id, since)) = oldest.map(|(id, half)| (id.clone(), half.since)) else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(since + CREATION).await;
        self.halves
            .remove(&id)
            .expect("nobody else removes it meanwhile")
    }
}

impl Half {
    /// Ends it: the other has not come in time.
    pub(super) async fn end(self) {
        let Half { kind, stream, .. } = self;
        // None of these matters once the connection has ended.
        if kind == Kind::Error {
            let message = format!("(stream={}) timed out waiting for streams", stream.id);
            let _ = stream.output.send(message.into()).await;
        }
        let _ = stream.output.end().await;
    }
}

/// What a stream is for, as its headers say; `None` if they do not.
fn read(stream: &Stream) -> Option<(Kind, u16, String)> {
    let kind = match stream.headers.get("streamtype")? {
        "error" => Kind::Error,
        "data" => Kind::Data,
        _ => return None,
    };
    let port = parse_port(stream.headers.get("port")?).ok()?;
    let id = match stream.headers.get("requestid") {
        Some(id) if !id.is_empty() => id.to_owned(),
        // Old clients open the two right after each other, error first, and say no id.
        _ if kind == Kind::Error => stream.id.to_string(),
        _ => stream.id.saturating_sub(2).to_string(),
    };
    Some((kind, port, id))
}

/// A port, 1 to 65535.
pub(super) fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err(format!("port {text:?} must be > 0")),
        Ok(port) => Ok(port),
        Err(error) => Err(format!("unable to parse {text:?} as a port: {error}")),
    }
}
