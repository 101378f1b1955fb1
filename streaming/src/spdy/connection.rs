//! The server's end of a SPDY/3.1 connection.
//!
//! Gives the streams that the client opens, each with a bounded queue, to whoever accepts them. Kubernetes' clients
//! (moby/spdystream) neither keep nor send windows: what holds either side back is that the other does not read the
//! connection, and so it is here. Never opens a stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::{
    frame::{Decoder, Encoder, Frame, LONGEST_PIECE, reset},
    headers::Headers,
};
use crate::link::{
    Activity, INCOMING, Input, LINGER, Message, OUTGOING, Output, PING_PERIOD, SessionError,
};

/// Streams that are open at once; more are refused.
const MOST_STREAMS: usize = 256;
/// Streams that wait to be accepted; then the connection is not read.
const WAITING: usize = 16;
/// Answers (to pings, and refusals) that wait to be written; then the connection is not read.
const ANSWERS: usize = 16;
/// Bytes that are written at once.
const BATCH: usize = 64 * 1024;

/// A stream that the client has opened.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

/// An open stream.
struct Entry {
    /// `None` when the client has sent everything.
    input: Option<mpsc::Sender<bytes::Bytes>>,
    /// Everything is sent to the client.
    ended: bool,
    reset: CancellationToken,
}

#[derive(Clone, Default)]
struct Streams(Arc<Mutex<HashMap<u32, Entry>>>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more comes from the client.
    fn input_ended(&self, id: u32) {
        let mut streams = self.lock();
        if let Some(entry) = streams.get_mut(&id) {
            entry.input = None;
            if entry.ended {
                streams.remove(&id);
            }
        }
    }

    /// Nothing more goes to the client.
    fn output_ended(&self, id: u32) {
        let mut streams = self.lock();
        if let Some(entry) = streams.get_mut(&id) {
            entry.ended = true;
            if entry.input.is_none() {
                streams.remove(&id);
            }
        }
    }

    fn remove(&self, id: u32) {
        if let Some(entry) = self.lock().remove(&id) {
            entry.reset.cancel();
        }
    }

    fn open(&self, id: u32) -> bool {
        self.lock().get(&id).is_some_and(|entry| !entry.ended)
    }
}

/// Carries the streams while it runs.
pub(crate) struct Connection<Io> {
    io: Io,
    messages: mpsc::Receiver<Message>,
    /// For the outputs of new streams.
    queue: mpsc::Sender<Message>,
    accepted: mpsc::Sender<Stream>,
    idle: Duration,
}

/// A connection and, while it runs, the streams that its client opens. [`Message::Close`] in the queue ends it.
pub(crate) fn accept<Io>(
    io: Io,
    idle: Duration,
) -> (
    Connection<Io>,
    mpsc::Receiver<Stream>,
    mpsc::Sender<Message>,
) {
    let (queue, messages) = mpsc::channel(OUTGOING);
    let (accepted, streams) = mpsc::channel(WAITING);
    let connection = Connection {
        io,
        messages,
        queue: queue.clone(),
        accepted,
        idle,
    };
    (connection, streams, queue)
}

impl<Io: AsyncRead + AsyncWrite> Connection<Io> {
    /// Runs until the client closes, or it is told to close and the client has had time to.
    pub(crate) async fn run(self) -> Result<(), SessionError> {
        let (input, output) = tokio::io::split(self.io);
        let (answers, answered) = mpsc::channel(ANSWERS);
        let (streams, activity) = (Streams::default(), Activity::new());
        let mut reader = Reader {
            input,
            decoder: Decoder::new(),
            streams: streams.clone(),
            queue: self.queue,
            accepted: self.accepted,
            answers: answers.clone(),
            activity: activity.clone(),
            last: 0,
        };
        let mut writer = Writer {
            output,
            encoder: Encoder::new(),
            streams,
            messages: self.messages,
            answers: answered,
            activity: activity.clone(),
            pings: 0,
        };
        let outcome = {
            let mut reading = std::pin::pin!(reader.run());
            let mut writing = std::pin::pin!(writer.run());
            let written = tokio::select! {
                read = &mut reading => Err(read),
                written = &mut writing => Ok(written),
                error = activity.idle(self.idle) => return Err(error),
            };
            match written {
                Ok(written) => {
                    written?;
                    // What comes now is thrown away; the client closes when it has read everything.
                    tokio::time::timeout(LINGER, reading)
                        .await
                        .unwrap_or(Ok(()))
                }
                Err(Ok(())) => return Ok(()),
                Err(Err(error)) => {
                    let goodbye = Frame::GoAway {
                        last: 0,
                        status: reset::PROTOCOL_ERROR,
                    };
                    let say =
                        async { answers.send(goodbye).await.is_ok() && writing.await.is_ok() };
                    // The error is what matters; that the client hears of it is a courtesy.
                    let _ = tokio::time::timeout(LINGER, say).await;
                    Err(error)
                }
            }
        };
        // The client has everything, or has gone: there is nobody to tell that this failed.
        let _ = tokio::time::timeout(LINGER, writer.output.shutdown()).await;
        outcome
    }
}

struct Reader<Io> {
    input: ReadHalf<Io>,
    decoder: Decoder,
    streams: Streams,
    queue: mpsc::Sender<Message>,
    accepted: mpsc::Sender<Stream>,
    answers: mpsc::Sender<Frame>,
    activity: Activity,
    /// The newest stream.
    last: u32,
}

impl<Io: AsyncRead + AsyncWrite> Reader<Io> {
    /// Until the client closes.
    async fn run(&mut self) -> Result<(), SessionError> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = self.decoder.decode(&mut buffer)? {
                self.take(frame).await?;
            }
            buffer.reserve(LONGEST_PIECE);
            if self.input.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), SessionError> {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                headers,
                ..
            } => self.open(stream, fin, headers).await?,
            Frame::Data { stream, fin, bytes } => {
                self.activity.touch();
                let known = self
                    .streams
                    .lock()
                    .get(&stream)
                    .map(|entry| entry.input.clone());
                if known.is_none() && stream > self.last {
                    self.answer(Frame::RstStream {
                        stream,
                        status: reset::INVALID_STREAM,
                    })
                    .await;
                }
                if let Some(Some(input)) = known
                    && !bytes.is_empty()
                {
                    // Nobody reads it any more: thrown away.
                    let _ = input.send(bytes).await;
                }
                if fin {
                    self.streams.input_ended(stream);
                }
            }
            Frame::Headers {
                stream, fin: true, ..
            } => self.streams.input_ended(stream),
            Frame::RstStream { stream, .. } => self.streams.remove(stream),
            Frame::Ping(id) if !id.is_multiple_of(2) => self.answer(Frame::Ping(id)).await,
            // Answers to our own pings, and what Kubernetes' clients do not send or mean nothing by. After GOAWAY
            // the client closes by itself.
            Frame::Ping(_)
            | Frame::GoAway { .. }
            | Frame::SynReply { .. }
            | Frame::Headers { .. }
            | Frame::Settings(_)
            | Frame::WindowUpdate { .. } => {}
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, fin: bool, headers: Headers) -> Result<(), SessionError> {
        if id.is_multiple_of(2) || id <= self.last {
            return Err(SessionError::Protocol(
                "a stream's id is not odd and higher than the last",
            ));
        }
        self.last = id;
        let (sender, input) = mpsc::channel(INCOMING);
        let token = CancellationToken::new();
        let entry = Entry {
            input: (!fin).then_some(sender),
            ended: false,
            reset: token.clone(),
        };
        let full = {
            let mut streams = self.streams.lock();
            let full = streams.len() >= MOST_STREAMS;
            if !full {
                streams.insert(id, entry);
            }
            full
        };
        let stream = Stream {
            id,
            headers,
            input,
            output: Output::new(id, self.queue.clone(), token),
        };
        if full || self.accepted.send(stream).await.is_err() {
            self.streams.remove(id);
            self.answer(Frame::RstStream {
                stream: id,
                status: reset::REFUSED_STREAM,
            })
            .await;
        }
        Ok(())
    }

    async fn answer(&mut self, frame: Frame) {
        // Nothing is written any more: the connection is about to end.
        let _ = self.answers.send(frame).await;
    }
}

struct Writer<Io> {
    output: WriteHalf<Io>,
    encoder: Encoder,
    streams: Streams,
    messages: mpsc::Receiver<Message>,
    answers: mpsc::Receiver<Frame>,
    activity: Activity,
    /// The last ping's id: even.
    pings: u32,
}

impl<Io: AsyncRead + AsyncWrite> Writer<Io> {
    /// Until it is told to close.
    async fn run(&mut self) -> std::io::Result<()> {
        let mut batch = BytesMut::new();
        let mut ticks = tokio::time::interval(PING_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.reset();
        let mut open = true;
        while open {
            tokio::select! {
                biased;
                Some(answer) = self.answers.recv() => open = self.answer(&answer, &mut batch),
                Some(message) = self.messages.recv() => open = self.message(message, &mut batch),
                _ = ticks.tick() => {
                    self.pings = self.pings.wrapping_add(2);
                    self.encoder.encode(&Frame::Ping(self.pings), &mut batch);
                }
            }
            while open && batch.len() < BATCH {
                if let Ok(answer) = self.answers.try_recv() {
                    open = self.answer(&answer, &mut batch);
                } else if let Ok(message) = self.messages.try_recv() {
                    open = self.message(message, &mut batch);
                } else {
                    break;
                }
            }
            self.output.write_all(&batch).await?;
            self.output.flush().await?;
            batch.clear();
        }
        Ok(())
    }

    /// Whether anything may follow.
    fn answer(&mut self, frame: &Frame, batch: &mut BytesMut) -> bool {
        self.encoder.encode(frame, batch);
        !matches!(frame, Frame::GoAway { .. })
    }

    /// Whether anything may follow.
    fn message(&mut self, message: Message, batch: &mut BytesMut) -> bool {
        let frame = match message {
            Message::Close => {
                let frame = Frame::GoAway { last: 0, status: 0 };
                self.encoder.encode(&frame, batch);
                return false;
            }
            Message::Reset { stream, status } => {
                self.streams.remove(stream);
                Frame::RstStream { stream, status }
            }
            // The client has reset it, or it has ended.
            Message::Accept { stream } | Message::Data { stream, .. } | Message::End { stream }
                if !self.streams.open(stream) =>
            {
                return true;
            }
            Message::Accept { stream } => Frame::SynReply {
                stream,
                fin: false,
                headers: Headers::default(),
            },
            Message::Data { stream, bytes } => {
                self.activity.touch();
                Frame::Data {
                    stream,
                    fin: false,
                    bytes,
                }
            }
            Message::End { stream } => {
                self.streams.output_ended(stream);
                Frame::Data {
                    stream,
                    fin: true,
                    bytes: bytes::Bytes::new(),
                }
            }
        };
        self.encoder.encode(&frame, batch);
        true
    }
}
