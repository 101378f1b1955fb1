//! Between bodies, which are asynchronous, and archives, whose readers and writers block.
//!
//! Each side waits for the other: no more than a few chunks are held.

use std::{
    future::Future,
    io::{self, Read, Write},
};

use axum::body::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

/// Chunks that wait for the other side; then it is waited for.
const CHUNKS: usize = 16;
/// A written chunk is so long.
const CHUNK: usize = 64 << 10;

type Chunk = io::Result<Bytes>;

/// A body as something to read, and what feeds it: to be polled beside the reading.
pub(super) fn reader<E: std::fmt::Display>(
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> (Reader, impl Future<Output = ()>) {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let feed = async move {
        while let Some(chunk) = body.next().await {
            let chunk = chunk
                .map(Some)
                .map_err(|error| io::Error::other(error.to_string()));
            if sender.send(chunk).await.is_err() {
                break;
            }
        }
        // The reader may have had enough.
        let _ = sender.send(Ok(None)).await;
    };
    let reader = Reader {
        chunks,
        rest: Bytes::new(),
        ended: false,
    };
    (reader, feed)
}

/// Reads what a body has; a body that breaks off is an error.
pub(super) struct Reader {
    chunks: mpsc::Receiver<io::Result<Option<Bytes>>>,
    rest: Bytes,
    ended: bool,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Ok(Some(chunk))) => self.rest = chunk,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let size = buffer.len().min(self.rest.len());
        buffer[..size].copy_from_slice(&self.rest.split_to(size));
        Ok(size)
    }
}

/// Something to write to, and where that comes out.
pub(super) fn writer() -> (Writer, Out) {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let writer = Writer {
        sender: sender.clone(),
        buffer: Vec::with_capacity(CHUNK),
    };
    (writer, Out { sender, chunks })
}

/// The other end of a [`Writer`].
pub(super) struct Out {
    /// For what goes wrong beside the writing.
    pub(super) sender: mpsc::Sender<Chunk>,
    pub(super) chunks: mpsc::Receiver<Chunk>,
}

/// Collects chunks; the last with `flush`.
pub(super) struct Writer {
    sender: mpsc::Sender<Chunk>,
    buffer: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.sender.blocking_send(Ok(chunk.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What comes out while `work` is done, which has the other end; dropped with it.
pub(super) fn with(
    chunks: mpsc::Receiver<Chunk>,
    work: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Chunk> + Send {
    let chunks = stream::unfold(chunks, |mut chunks| async move {
        chunks.recv().await.map(|chunk| (chunk, chunks))
    });
    let work = stream::once(work).filter_map(|()| async { None });
    stream::select(chunks, work)
}
