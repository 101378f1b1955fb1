//! The processes that others hold the streams of: second instances of a container's component, and the
//! container's own, attached to.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use runtimes::{ContainerState, Process, RuntimeError, Stdio};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    container::Container,
    executor::Executor,
    pipe::{Reader, Writer, pipe},
    terminal::Keyboard,
};

/// A process' own ends of its streams; what nobody holds the other end of is not there.
pub(crate) struct Streams {
    pub(crate) stdin: Option<Reader>,
    pub(crate) stdout: Option<Writer>,
    pub(crate) stderr: Option<Writer>,
}

/// Runs `work` with streams, on the threads of guests, until it ends, the container does, or the
/// [`Process`] is dropped. `work` answers an exit code.
pub(crate) fn start<F>(
    executor: &Executor,
    container: &Arc<Container>,
    stdio: Stdio,
    work: impl FnOnce(Streams) -> F,
) -> Process
where
    F: Future<Output = i32> + Send + 'static,
{
    let (stdin, own_stdin) = stdio.stdin.then(|| pipe(stdio.tty)).unzip();
    let (own_stdout, stdout) = stdio.stdout.then(|| pipe(stdio.tty)).unzip();
    let (own_stderr, stderr) = match stdio.tty {
        true => (own_stdout.clone(), None),
        false => stdio.stderr.then(|| pipe(false)).unzip(),
    };
    let interrupt = CancellationToken::new();
    let stdin = stdin.map(|input| -> Box<dyn AsyncWrite + Send + Unpin> {
        if stdio.tty {
            let screen = own_stdout.clone();
            Box::new(Keyboard::new(input, screen, interrupt.clone()))
        } else {
            Box::new(input)
        }
    });
    // The keyboard's own hold on the output does not keep it from ending.
    let outputs = [own_stdout.clone(), own_stderr.clone()];
    let work = work(Streams {
        stdin: own_stdin,
        stdout: own_stdout,
        stderr: own_stderr,
    });
    let container = container.clone();
    let task = executor.spawn(async move {
        let code = tokio::select! {
            code = container.meter.measure(work) => code,
            () = interrupt.cancelled() => 130,
            () = ended(&container) => 137,
        };
        outputs.iter().flatten().for_each(Writer::close);
        code
    });
    Process {
        stdin,
        stdout: readable(stdout),
        stderr: readable(stderr),
        resize: None,
        exit: Box::pin(exit_code(task)),
    }
}

async fn exit_code(task: AbortOnDropHandle<i32>) -> Result<i32, RuntimeError> {
    task.await.map_err(|source| RuntimeError::Unavailable {
        message: "the process was interrupted".to_owned(),
        source: Some(source.into()),
    })
}

/// Joins the container's own streams.
pub(crate) fn attach(container: &Arc<Container>, stdio: Stdio) -> Process {
    let seat = container.audience.join(stdio);
    let input = container.stdin.as_ref().filter(|_| stdio.stdin);
    let stdin = input.map(|(writer, _)| -> Box<dyn AsyncWrite + Send + Unpin> {
        let input = Input {
            writer: writer.clone(),
            once: container.spec.stdin_once,
        };
        if container.spec.tty {
            let interrupt = container.interrupt.clone();
            let keyboard = Keyboard::new(writer.clone(), seat.echo, interrupt);
            Box::new(Typed { keyboard, input })
        } else {
            Box::new(input)
        }
    });
    let container = container.clone();
    Process {
        stdin,
        stdout: readable(seat.stdout),
        stderr: readable(seat.stderr),
        resize: None,
        exit: Box::pin(async move {
            ended(&container).await;
            match &*container.state.borrow() {
                ContainerState::Exited(exit) => Ok(exit.code),
                _ => Err(RuntimeError::NotFound(container.spec.id.clone())),
            }
        }),
    }
}

async fn ended(container: &Container) {
    let mut state = container.state.subscribe();
    let exited = state.wait_for(|state| matches!(state, ContainerState::Exited(_)));
    // The sender is in the container, which is held here.
    let _ = exited.await;
}

fn readable(reader: Option<Reader>) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
    reader.map(|reader| Box::new(reader) as Box<dyn AsyncRead + Send + Unpin>)
}

/// Somebody's way into a container's input. The input goes on without them, unless it is theirs alone.
struct Input {
    writer: Writer,
    once: bool,
}

impl Input {
    fn leave(&self) {
        if self.once {
            self.writer.close();
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.leave();
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.leave();
        Poll::Ready(Ok(()))
    }
}

/// The same, typed at a terminal.
struct Typed {
    keyboard: Keyboard,
    input: Input,
}

impl AsyncWrite for Typed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.keyboard).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.keyboard).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.keyboard).poll_flush(context))?;
        self.input.leave();
        Poll::Ready(Ok(()))
    }
}
