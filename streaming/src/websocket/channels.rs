//! The channel protocols: a message's first byte says which stream the rest belongs to.
//!
//! In `base64.channel.k8s.io` the byte is a digit and the rest is base64, in text messages. From v5 on a message of
//! 255 and a channel ends what the client sends on it; before, nothing does. All streams are there from the start.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message as Frame,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    link::{
        Activity, INCOMING, Input, LINGER, Message, OUTGOING, Output, PING_PERIOD, SessionError,
    },
    negotiate::Codec,
};

/// Ends a channel.
const END: u8 = 255;
/// Bytes of one piece of what a client sends.
const PIECE: usize = 32 * 1024;

/// Between the last message and the closing. Clients that wait for their socket and then read one message of what
/// TLS has decrypted (Python's) would not see the last ones if they came together with the closing.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// Carries the channels while it runs.
pub(crate) struct Channels<Io> {
    io: Io,
    codec: Codec,
    /// Whether the client may end a channel.
    ends: bool,
    inputs: Vec<Option<mpsc::Sender<Bytes>>>,
    messages: mpsc::Receiver<Message>,
    queue: mpsc::Sender<Message>,
    idle: Duration,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Channels<Io> {
    pub(crate) fn new(io: Io, codec: Codec, ends: bool, idle: Duration) -> Channels<Io> {
        let (queue, messages) = mpsc::channel(OUTGOING);
        Channels {
            io,
            codec,
            ends,
            inputs: Vec::new(),
            messages,
            queue,
            idle,
        }
    }

    /// What the client sends on a channel; nobody may read another than these.
    pub(crate) fn input(&mut self, channel: u8) -> Input {
        let (sender, input) = mpsc::channel(INCOMING);
        let channel = usize::from(channel);
        if self.inputs.len() <= channel {
            self.inputs.resize(channel + 1, None);
        }
        self.inputs[channel] = Some(sender);
        input
    }

    /// Writes to a channel.
    pub(crate) fn output(&self, channel: u8) -> Output {
        // No client can end the other direction.
        Output::new(
            u32::from(channel),
            self.queue.clone(),
            CancellationToken::new(),
        )
    }

    /// Where [`Message::Close`] ends it.
    pub(crate) fn queue(&self) -> mpsc::Sender<Message> {
        self.queue.clone()
    }

    /// Runs until the client closes, or it is told to close and the client has had time to.
    pub(crate) async fn run(self) -> Result<(), SessionError> {
        let activity = Activity::new();
        let (sink, stream) = super::server(self.io).await.split();
        let reading = Reader {
            stream,
            codec: self.codec,
            ends: self.ends,
            inputs: self.inputs,
            activity: activity.clone(),
        };
        let writing = Writer {
            sink,
            codec: self.codec,
            messages: self.messages,
            activity: activity.clone(),
        };
        let mut reading = std::pin::pin!(reading.run());
        tokio::select! {
            read = &mut reading => return read,
            written = writing.run() => written?,
            error = activity.idle(self.idle) => return Err(error),
        }
        tokio::time::timeout(LINGER, reading)
            .await
            .unwrap_or(Ok(()))
    }
}

struct Reader<Io> {
    stream: SplitStream<WebSocketStream<Io>>,
    codec: Codec,
    ends: bool,
    inputs: Vec<Option<mpsc::Sender<Bytes>>>,
    activity: Activity,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Reader<Io> {
    /// Until the client closes.
    async fn run(mut self) -> Result<(), SessionError> {
        while let Some(frame) = self.stream.next().await {
            let message = match frame {
                Ok(Frame::Binary(message)) => message,
                Ok(Frame::Text(message)) => message.into(),
                // Both are answered when more is read.
                Ok(Frame::Ping(_) | Frame::Close(_)) => continue,
                Ok(Frame::Pong(_) | Frame::Frame(_)) => continue,
                Err(Error::Capacity(_)) => {
                    return Err(SessionError::Protocol("a message is too long"));
                }
                Err(error) => return Err(error.into()),
            };
            self.activity.touch();
            if let Some((channel, rest)) = message.split_first() {
                self.take(*channel, message.slice_ref(rest)).await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, channel: u8, rest: Bytes) -> Result<(), SessionError> {
        let (channel, mut rest) = match self.codec {
            Codec::Binary if channel == END && self.ends => {
                let [channel] = rest[..] else {
                    return Err(SessionError::Protocol(
                        "a message that ends a channel has two bytes",
                    ));
                };
                if let Some(input) = self.inputs.get_mut(usize::from(channel)) {
                    *input = None;
                }
                return Ok(());
            }
            Codec::Binary => (channel, rest),
            Codec::Base64 => {
                let bytes = STANDARD.decode(&rest[..]);
                let bytes = bytes.map_err(|_| SessionError::Protocol("a message is not base64"))?;
                (channel.wrapping_sub(b'0'), bytes.into())
            }
        };
        // What nobody reads is thrown away, as the kubelet does.
        if let Some(Some(input)) = self.inputs.get(usize::from(channel)) {
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE));
                if input.send(piece).await.is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

struct Writer<Io> {
    sink: SplitSink<WebSocketStream<Io>, Frame>,
    codec: Codec,
    messages: mpsc::Receiver<Message>,
    activity: Activity,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Writer<Io> {
    /// Until it is told to close.
    async fn run(mut self) -> Result<(), Error> {
        let mut ticks = tokio::time::interval(PING_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            let mut message = tokio::select! {
                Some(message) = self.messages.recv() => Some(message),
                _ = ticks.tick() => {
                    self.sink.feed(Frame::Ping(Bytes::new())).await?;
                    None
                }
            };
            while let Some(next) = message {
                match next {
                    Message::Data { stream, bytes } => {
                        self.activity.touch();
                        self.sink.feed(frame(self.codec, stream, &bytes)).await?;
                    }
                    Message::Close => return self.close().await,
                    // There are no words for these.
                    Message::Accept { .. } | Message::End { .. } | Message::Reset { .. } => {}
                }
                message = self.messages.try_recv().ok();
            }
            self.sink.flush().await?;
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.sink.flush().await?;
        tokio::time::sleep(LAST_WORDS).await;
        let close = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        self.sink.send(Frame::Close(Some(close))).await
    }
}

fn frame(codec: Codec, channel: u32, bytes: &[u8]) -> Frame {
    let channel = u8::try_from(channel).expect("channels are made from bytes");
    match codec {
        Codec::Binary => {
            let mut message = BytesMut::with_capacity(1 + bytes.len());
            message.put_u8(channel);
            message.put_slice(bytes);
            Frame::Binary(message.freeze())
        }
        Codec::Base64 => {
            let mut message = char::from(b'0'.wrapping_add(channel)).to_string();
            STANDARD.encode_string(bytes, &mut message);
            Frame::text(message)
        }
    }
}
