//! Streams of processes: terminals as readers and writers, inputs that can be ended, outputs that end with their process.

use std::{
    future::Future,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use runtimes::{RuntimeError, TerminalSize};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    termios::{Winsize, tcsetwinsize},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How long others may go on writing to the output of a process that has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// What ends a terminal's input, typed at the begin of a line.
const END_OF_TRANSMISSION: u8 = 4;

/// Runs `work` beside its owner, for as long as the answer is waited for.
pub(crate) fn own(
    work: impl Future<Output = Result<i32, RuntimeError>> + Send + 'static,
) -> BoxFuture<'static, Result<i32, RuntimeError>> {
    #[expect(clippy::disallowed_methods, reason = "the handle owns the task")]
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    Box::pin(async move {
        task.await.map_err(|source| RuntimeError::Unavailable {
            message: "the process was interrupted".to_owned(),
            source: Some(source.into()),
        })?
    })
}

/// The outer end of a process' terminal. Clones are the same.
#[derive(Clone)]
pub(crate) struct Terminal {
    file: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    pub(crate) fn new(file: OwnedFd) -> io::Result<Terminal> {
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "what takes its place is unsafe code; an owned file stays open"
        )]
        let file = AsyncFd::new(file)?;
        Ok(Terminal {
            file: Arc::new(file),
        })
    }

    pub(crate) fn resize(&self, size: TerminalSize) {
        // One that nobody has open any more needs none.
        let _ = tcsetwinsize(
            self.file.get_ref(),
            Winsize {
                ws_row: size.height,
                ws_col: size.width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        );
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.file.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            let read = guard.try_io(|file| Ok(rustix::io::read(file.get_ref(), space)?));
            match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // Nobody has the inner end open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.file.poll_write_ready(context))?;
            match guard.try_io(|file| Ok(rustix::io::write(file.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal is not closed: the process is told the end as somebody at a keyboard would.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(context, &[END_OF_TRANSMISSION])
            .map_ok(|_| ())
    }
}

/// An input that is closed when it is shut down, not only when it is dropped.
pub(crate) struct Input<W>(Option<W>);

impl<W> Input<W> {
    pub(crate) fn new(writer: W) -> Input<W> {
        Input(Some(writer))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Input<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(writer) => Pin::new(writer).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Some(writer) => Pin::new(writer).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(writer) = &mut self.0 {
            ready!(Pin::new(writer).poll_shutdown(context))?;
        }
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// An output that ends soon after its process, though a process that this one has started may still have it open.
pub(crate) struct Output<R> {
    reader: R,
    end: BoxFuture<'static, ()>,
}

impl<R> Output<R> {
    /// `ended` is cancelled when the process has ended.
    pub(crate) fn new(reader: R, ended: CancellationToken) -> Output<R> {
        let end = async move {
            ended.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        Output {
            reader,
            end: Box::pin(end),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Output<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.reader).poll_read(context, buffer) {
            // Nothing read is the end.
            Poll::Pending => self.end.as_mut().poll(context).map(Ok),
            read => read,
        }
    }
}
