//! Clients of both protocols, as small as the tests allow.

use std::collections::BTreeMap;

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use http::Request;
use streaming::{
    Negotiated, Purpose, negotiate,
    spdy::{Decoder, Encoder, Frame, Headers},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

/// Bytes on the way, each way: small, so that whoever does not read is noticed soon.
pub(crate) const ON_THE_WAY: usize = 4 * 1024;

pub(crate) fn wire() -> (DuplexStream, DuplexStream) {
    duplex(ON_THE_WAY)
}

/// What the server agrees to when a client asks for `protocol` alone.
pub(crate) fn spdy(purpose: Purpose, protocol: &str) -> Negotiated {
    let request = Request::builder()
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", protocol);
    negotiate(&request.body(()).unwrap().into_parts().0, purpose).unwrap()
}

/// What the server agrees to when a client asks for `protocol` alone, over WebSocket.
pub(crate) fn websocket(purpose: Purpose, protocol: &str) -> Negotiated {
    let request = Request::builder()
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol);
    negotiate(&request.body(()).unwrap().into_parts().0, purpose).unwrap()
}

/// A SPDY/3.1 client.
pub(crate) struct Spdy<Io = DuplexStream> {
    pub(crate) io: Io,
    encoder: Encoder,
    decoder: Decoder,
    input: BytesMut,
}

impl<Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Spdy<Io> {
    pub(crate) fn new(io: Io) -> Self {
        Spdy {
            io,
            encoder: Encoder::new(),
            decoder: Decoder::new(),
            input: BytesMut::new(),
        }
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        self.encoder.encode(&frame, &mut out);
        self.io.write_all(&out).await.unwrap();
    }

    pub(crate) async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        self.send(Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: Headers::new(headers.iter().copied()),
        })
        .await;
    }

    pub(crate) async fn data(&mut self, stream: u32, bytes: &'static str, fin: bool) {
        self.send(Frame::Data {
            stream,
            fin,
            bytes: bytes.into(),
        })
        .await;
    }

    /// The next frame; `None` when the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).unwrap() {
                return Some(frame);
            }
            if self.io.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// One line for each frame until one that `last` knows, or the end; data of a stream is joined, and streams
    /// are in order.
    pub(crate) async fn until(&mut self, last: impl Fn(&Frame) -> bool) -> String {
        let (mut lines, mut streams) = (Vec::new(), BTreeMap::<u32, (Vec<u8>, bool)>::new());
        while let Some(frame) = self.next().await {
            let done = last(&frame);
            match frame {
                Frame::Data { stream, fin, bytes } => {
                    let (text, ended) = streams.entry(stream).or_default();
                    text.extend_from_slice(&bytes);
                    *ended |= fin;
                }
                Frame::SynReply { stream, .. } => lines.push(format!("{stream} accepted")),
                Frame::RstStream { stream, status } => {
                    lines.push(format!("{stream} reset {status}"));
                }
                // Its own signs of life come when they come.
                Frame::Ping(id) if id.is_multiple_of(2) && !done => {}
                Frame::GoAway { status, .. } => lines.push(format!("goodbye {status}")),
                frame => lines.push(format!("{frame:?}")),
            }
            if done {
                break;
            }
        }
        for (stream, (text, ended)) in streams {
            let end = if ended { "." } else { "" };
            lines.push(format!(
                "{stream} {:?}{end}",
                String::from_utf8_lossy(&text)
            ));
        }
        lines.join("\n")
    }

    /// Everything until the server says goodbye.
    pub(crate) async fn rest(&mut self) -> String {
        self.until(|frame| matches!(frame, Frame::GoAway { .. }))
            .await
    }
}

/// A client of the channel protocols.
pub(crate) struct Channels(pub(crate) WebSocketStream<DuplexStream>);

impl Channels {
    pub(crate) async fn new(io: DuplexStream) -> Channels {
        Channels(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// One line for each message until the server closes, and how it does.
    pub(crate) async fn rest(&mut self) -> String {
        let mut lines = Vec::new();
        while let Some(message) = self.0.next().await {
            let Ok(message) = message else {
                lines.push("broken".to_owned());
                break;
            };
            match message {
                Message::Binary(bytes) => {
                    let text = String::from_utf8_lossy(&bytes[1..]);
                    lines.push(format!("{} {text:?}", bytes[0]));
                }
                Message::Text(text) => lines.push(text.to_string()),
                Message::Close(close) => {
                    let code = close.map(|close| u16::from(close.code));
                    lines.push(format!("closed {}", code.unwrap_or_default()));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        lines.join("\n")
    }
}
