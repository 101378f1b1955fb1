//! Programs of the fake runtime: enough of a shell to see what streams carry.
//!
//! `echo WORDS…` prints them, `fail WORDS…` prints them to stderr and ends with 1, `exit CODE` ends,
//! `cat` copies its input to its output, `sleep` runs until it is dropped, `size` prints every size its
//! terminal takes. Any other is not found (127).

use std::future::Future;

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex},
    sync::mpsc,
};

use crate::{Process, RuntimeError, Stdio, TerminalSize};

const BUFFER: usize = 64 * 1024;

/// The program's own ends of its streams; those that nobody holds the other end of lead nowhere.
struct Streams {
    stdin: Option<DuplexStream>,
    stdout: Option<DuplexStream>,
    stderr: Option<DuplexStream>,
    sizes: Option<mpsc::Receiver<TerminalSize>>,
}

/// Starts a program.
pub(super) fn exec(command: Vec<String>, stdio: Stdio) -> Process {
    process(
        stdio,
        |streams| async move { Ok(run(&command, streams).await) },
    )
}

/// Streams that stay silent until `exit` answers.
pub(super) fn attach(
    stdio: Stdio,
    exit: impl Future<Output = Result<i32, RuntimeError>> + Send + 'static,
) -> Process {
    process(stdio, |streams| async move {
        let code = exit.await;
        drop(streams);
        code
    })
}

fn process<F>(stdio: Stdio, program: impl FnOnce(Streams) -> F) -> Process
where
    F: Future<Output = Result<i32, RuntimeError>> + Send + 'static,
{
    let pipe = |wanted: bool| wanted.then(|| duplex(BUFFER)).unzip();
    let (stdin, own_stdin) = pipe(stdio.stdin);
    let (stdout, own_stdout) = pipe(stdio.stdout);
    let (stderr, own_stderr) = pipe(stdio.stderr && !stdio.tty);
    let (resize, sizes) = stdio.tty.then(|| mpsc::channel(8)).unzip();
    let exit = program(Streams {
        stdin: own_stdin,
        stdout: own_stdout,
        stderr: own_stderr,
        sizes,
    });
    Process {
        stdin: stdin.map(|stream| Box::new(stream) as Box<dyn AsyncWrite + Send + Unpin>),
        stdout: stdout.map(|stream| Box::new(stream) as Box<dyn AsyncRead + Send + Unpin>),
        stderr: stderr.map(|stream| Box::new(stream) as Box<dyn AsyncRead + Send + Unpin>),
        resize,
        exit: Box::pin(exit),
    }
}

/// Answers the exit code. Whoever held the other ends may have gone: what cannot be written is lost.
async fn run(command: &[String], mut streams: Streams) -> i32 {
    let words = command.iter().map(String::as_str).collect::<Vec<_>>();
    match words.as_slice() {
        ["echo", words @ ..] => {
            print(streams.stdout.as_mut(), &words.join(" ")).await;
            0
        }
        ["fail", words @ ..] => {
            print(streams.stderr.as_mut(), &words.join(" ")).await;
            1
        }
        ["exit", code] => code.parse().unwrap_or(2),
        ["cat"] => {
            if let (Some(input), Some(output)) = (&mut streams.stdin, &mut streams.stdout) {
                let _ = tokio::io::copy(input, output).await;
            }
            0
        }
        ["sleep"] => std::future::pending().await,
        ["size"] => {
            while let Some(size) = next_size(&mut streams.sizes).await {
                let text = format!("{}x{}", size.width, size.height);
                print(streams.stdout.as_mut(), &text).await;
            }
            0
        }
        [program, ..] => {
            print(streams.stderr.as_mut(), &format!("{program}: not found")).await;
            127
        }
        [] => 127,
    }
}

async fn print(stream: Option<&mut DuplexStream>, line: &str) {
    if let Some(stream) = stream {
        let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
    }
}

async fn next_size(sizes: &mut Option<mpsc::Receiver<TerminalSize>>) -> Option<TerminalSize> {
    sizes.as_mut()?.recv().await
}
