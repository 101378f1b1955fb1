//! A bounded pipe between a guest and whoever holds the other end of one of its streams.
//!
//! Either end may be the guest's, which asks without waiting (`wasi:io/streams`), or the host's, which
//! polls. A full pipe makes its writer wait; a writer whose readers have gone is told so; a reader gets
//! all that was written before the end.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

use crate::terminal;

/// What a pipe holds before its writer waits.
const CAPACITY: usize = 64 << 10;

/// The end that is read. Clones read the same bytes once.
#[derive(Clone)]
pub(crate) struct Reader {
    end: Arc<ReadEnd>,
    terminal: bool,
}

/// The end that is written. It is the pipe's end once all clones are dropped, or one is closed.
#[derive(Clone)]
pub(crate) struct Writer {
    end: Arc<WriteEnd>,
    terminal: bool,
}

/// A new pipe; a guest that has an end of a terminal's is told that it is one.
pub(crate) fn pipe(terminal: bool) -> (Writer, Reader) {
    let shared = Arc::new(Shared::default());
    let reader = Reader {
        end: Arc::new(ReadEnd(shared.clone())),
        terminal,
    };
    let writer = Writer {
        end: Arc::new(WriteEnd(shared)),
        terminal,
    };
    (writer, reader)
}

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    ended: bool,
    abandoned: bool,
    readers: Vec<Waker>,
    writers: Vec<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ReadEnd(Arc<Shared>);

impl Drop for ReadEnd {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.abandoned = true;
        state.bytes = VecDeque::new();
        wake(&mut state.writers);
    }
}

struct WriteEnd(Arc<Shared>);

impl Drop for WriteEnd {
    fn drop(&mut self) {
        self.0.state().end();
    }
}

impl State {
    fn end(&mut self) {
        self.ended = true;
        wake(&mut self.readers);
        wake(&mut self.writers);
    }

    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.bytes.len())
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let size = most.min(self.bytes.len());
        let taken = self.bytes.drain(..size).collect();
        if self.bytes.is_empty() {
            self.bytes = VecDeque::new();
        }
        wake(&mut self.writers);
        taken
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        wake(&mut self.readers);
    }

    fn poll_readable(&mut self, context: &Context<'_>) -> Poll<()> {
        if !self.bytes.is_empty() || self.ended {
            return Poll::Ready(());
        }
        wait(&mut self.readers, context);
        Poll::Pending
    }

    fn poll_writable(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.room() > 0 || self.abandoned || self.ended {
            return Poll::Ready(());
        }
        wait(&mut self.writers, context);
        Poll::Pending
    }
}

fn wait(wakers: &mut Vec<Waker>, context: &Context<'_>) {
    let known = |waker: &Waker| waker.will_wake(context.waker());
    if !wakers.iter().any(known) {
        wakers.push(context.waker().clone());
    }
}

fn wake(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
        waker.wake();
    }
}

impl Reader {
    fn state(&self) -> MutexGuard<'_, State> {
        self.end.0.state()
    }
}

impl Writer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.end.0.state()
    }

    /// Makes what was written so far all there is.
    pub(crate) fn close(&self) {
        self.state().end();
    }

    /// Writes whether or not there is room: for those who ask `room` first.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut state = self.state();
        if !state.abandoned && !state.ended {
            state.put(bytes);
        }
    }

    /// How much may be written at once; `None` when nobody will read it.
    pub(crate) fn room(&self) -> Option<usize> {
        let state = self.state();
        (!state.abandoned && !state.ended).then(|| state.room())
    }

    /// Waits until there is room, or nobody who would make it.
    pub(crate) async fn has_room(&self) {
        std::future::poll_fn(|context| self.state().poll_writable(context)).await;
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        std::task::ready!(state.poll_readable(context));
        buffer.put_slice(&state.take(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        std::task::ready!(state.poll_writable(context));
        if state.abandoned || state.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let size = bytes.len().min(state.room());
        state.put(&bytes[..size]);
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| self.state().poll_readable(context)).await;
    }
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut state = self.state();
        if state.bytes.is_empty() && state.ended {
            return Err(StreamError::Closed);
        }
        Ok(state.take(size).into())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        self.has_room().await;
    }
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.room().ok_or(StreamError::Closed)?;
        self.push(&terminal::shown(self.terminal, &bytes));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.room().ok_or(StreamError::Closed)
    }
}

impl IsTerminal for Reader {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for Reader {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_full_pipe_makes_its_writer_wait_and_loses_nothing() {
        let (mut writer, mut reader) = pipe(false);
        let sent: Vec<u8> = (0..=255).cycle().take(3 * CAPACITY + 17).collect();
        let send = async {
            writer.write_all(&sent).await.unwrap();
            drop(writer);
        };
        let mut got = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut got);
        let (_, read) = tokio::join!(send, read);
        read.unwrap();
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn a_guest_is_told_what_there_is_and_when_it_ends() {
        let (writer, mut reader) = pipe(false);
        assert!(reader.read(9).unwrap().is_empty());
        writer.push(b"one");
        reader.ready().await;
        assert_eq!(&reader.read(2).unwrap()[..], b"on");
        writer.close();
        assert_eq!(&reader.read(9).unwrap()[..], b"e");
        assert!(matches!(reader.read(9), Err(StreamError::Closed)));
    }

    #[tokio::test]
    async fn a_guest_that_writes_to_nobody_is_told_so() {
        let (mut writer, reader) = pipe(false);
        let guest = writer.clone();
        drop(reader);
        assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
        drop(guest);
        let error = writer.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
