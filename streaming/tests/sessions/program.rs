//! Processes in memory.

use std::future::Future;

use runtimes::{Process, RuntimeError, TerminalSize};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// The program's ends of its streams.
pub(crate) struct Streams {
    pub(crate) stdin: DuplexStream,
    pub(crate) stdout: DuplexStream,
    pub(crate) stderr: DuplexStream,
    pub(crate) sizes: mpsc::Receiver<TerminalSize>,
}

/// A process that is this program, with small pipes.
pub(crate) fn process<F>(program: impl FnOnce(Streams) -> F) -> Process
where
    F: Future<Output = i32> + Send + 'static,
{
    let (stdin, own_stdin) = duplex(1024);
    let (stdout, own_stdout) = duplex(1024);
    let (stderr, own_stderr) = duplex(1024);
    let (resize, sizes) = mpsc::channel(4);
    let exit = program(Streams {
        stdin: own_stdin,
        stdout: own_stdout,
        stderr: own_stderr,
        sizes,
    });
    Process {
        stdin: Some(Box::new(stdin)),
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
        resize: Some(resize),
        exit: Box::pin(async move { Ok::<_, RuntimeError>(exit.await) }),
    }
}

/// Copies its input to its output.
pub(crate) async fn cat(mut streams: Streams) -> i32 {
    let _ = tokio::io::copy(&mut streams.stdin, &mut streams.stdout).await;
    0
}
