//! Commands that run beside a container's own process: `runc exec`, through a shim of their own that ends with them.
//!
//! The command has the very pipes that are read here; a terminal comes from runc by way of the shim. The
//! connection to the shim is the hold on the command: it ends when this process lets go of it, or ends itself.

use std::{
    fs::File,
    io::{self, Cursor},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use oci_spec::runtime as oci;
use runtimes::{Process, RuntimeError, Stdio};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, sink},
    net::unix::pipe,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use wk_shim::wire::Frame;

use crate::{
    console::{Input, Output, Terminal, own},
    shim::{
        connection::Connection,
        start::{command, start, words},
    },
};

/// How long `runc exec` may take to start a command.
const START: Duration = Duration::from_secs(60);

/// Where a command is to run.
pub(crate) struct Exec<'a> {
    /// The shim, as [`crate::shim::program::install`] put it there.
    pub(crate) program: &'a Path,
    /// The container's own directory.
    pub(crate) dir: &'a Path,
    pub(crate) runc: &'a Path,
    pub(crate) runc_root: &'a Path,
    pub(crate) id: &'a str,
}

/// Runs a process in a container. Its `terminal` is set as `stdio` says. Returns when it runs, or when it
/// is clear that it cannot: a command that is not there is a process that says so and exits with 127.
///
/// # Errors
/// [`RuntimeError::Unavailable`]: no command can be started in this container.
pub(crate) async fn exec(
    call: &Exec<'_>,
    process: &oci::Process,
    stdio: Stdio,
) -> Result<Process, RuntimeError> {
    let started = tokio::time::timeout(START, run(call, process, stdio)).await;
    let started = started.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match started.map_err(|source| unavailable("cannot run a command in the container", source))? {
        Ok(process) => Ok(process),
        Err(words) => refused(&words, stdio),
    }
}

fn unavailable(message: &str, source: io::Error) -> RuntimeError {
    RuntimeError::Unavailable {
        message: message.to_owned(),
        source: Some(source.into()),
    }
}

/// A command that could not be started, as a user of a shell knows it: it says why, and exits with 126 or 127.
fn refused(words: &str, stdio: Stdio) -> Result<Process, RuntimeError> {
    let message = format!("OCI runtime exec failed: {words}");
    // What runc calls so is the command's fault; anything else the container's or the host's.
    if !words.contains("unable to start container process") {
        return Err(RuntimeError::Unavailable {
            message,
            source: None,
        });
    }
    let missing = ["executable file not found", "no such file or directory"];
    let code = if missing.iter().any(|text| words.contains(text)) {
        127
    } else {
        126
    };
    let end = if stdio.tty { "\r\n" } else { "\n" };
    let text = |is: bool| {
        let reader = Cursor::new(format!("{message}{end}").into_bytes());
        is.then(|| Box::new(reader) as Box<dyn AsyncRead + Send + Unpin>)
    };
    let separate = stdio.stderr && !stdio.tty;
    Ok(Process {
        stdin: stdio
            .stdin
            .then(|| Box::new(sink()) as Box<dyn AsyncWrite + Send + Unpin>),
        stdout: match separate {
            true => stdio.stdout.then(|| Box::new(tokio::io::empty()) as _),
            false => text(stdio.stdout),
        },
        stderr: text(separate),
        resize: None,
        exit: Box::pin(async move { Ok(code) }),
    })
}

/// Starts the command; an inner error is runc's words.
async fn run(
    call: &Exec<'_>,
    process: &oci::Process,
    stdio: Stdio,
) -> io::Result<Result<Process, String>> {
    let mut command = command(call.program, "exec", call.dir);
    command.arg("--runc").arg(call.runc);
    command.arg("--root").arg(call.runc_root);
    command.args(["--id", call.id]);
    if stdio.tty {
        command.arg("--tty");
    }
    let pipes = Pipes::open(stdio)?;
    let mut process = process.clone();
    process.set_terminal(Some(stdio.tty));
    let described = describe(&process)?;
    let (shim, mut connection) = start(command).await?;
    let mut files = vec![described.as_fd()];
    files.extend(pipes.theirs.iter().map(OwnedFd::as_fd));
    connection.give(&Frame::Process, &files).await?;
    let Pipes { ours, theirs } = pipes;
    // They are the command's alone, so that its end is theirs.
    drop(theirs);
    let (answer, mut files) = connection.take().await?;
    match answer {
        Some(Frame::Started) => {}
        Some(Frame::Failed(raw)) => return Ok(Err(words(raw))),
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    let ended = CancellationToken::new();
    let terminal = files.pop().map(Terminal::new).transpose()?;
    let (resize, sizes) = mpsc::channel(4);
    let (stdin, stdout, stderr) = match &terminal {
        Some(terminal) => on_terminal(terminal, stdio, &ended),
        None => ours.boxed(&ended)?,
    };
    let resize = terminal.as_ref().map(|_| resize);
    let exit = own(async move {
        let _ended = ended.drop_guard();
        let code = tokio::select! {
            code = told(connection) => code,
            never = resized(terminal, sizes) => match never {},
        };
        // Held until here, so that the shim is waited for by its parent.
        drop(shim);
        code
    });
    Ok(Ok(Process {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    }))
}

/// The shim's last words.
async fn told(mut connection: Connection) -> Result<i32, RuntimeError> {
    match connection.hear().await {
        Ok(Some(Frame::Ended(exit))) => Ok(exit.code),
        Ok(_) => Err(RuntimeError::Unavailable {
            message: "the command was interrupted: the process that stays with it has gone"
                .to_owned(),
            source: None,
        }),
        Err(source) => Err(unavailable("the command was interrupted", source)),
    }
}

/// Gives a terminal its sizes, for as long as there are any. It does not end.
async fn resized(
    terminal: Option<Terminal>,
    mut sizes: mpsc::Receiver<runtimes::TerminalSize>,
) -> std::convert::Infallible {
    while let Some(terminal) = &terminal
        && let Some(size) = sizes.recv().await
    {
        terminal.resize(size);
    }
    drop(terminal);
    std::future::pending().await
}

type Streams = (
    Option<Box<dyn AsyncWrite + Send + Unpin>>,
    Option<Box<dyn AsyncRead + Send + Unpin>>,
    Option<Box<dyn AsyncRead + Send + Unpin>>,
);

fn on_terminal(terminal: &Terminal, stdio: Stdio, ended: &CancellationToken) -> Streams {
    let output = || Output::new(terminal.clone(), ended.clone());
    (
        stdio
            .stdin
            .then(|| Box::new(Input::new(terminal.clone())) as _),
        stdio.stdout.then(|| Box::new(output()) as _),
        None,
    )
}

/// A process, as runc reads it, in a file that is nowhere.
fn describe(process: &oci::Process) -> io::Result<OwnedFd> {
    let file = memfd_create("process.json", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    serde_json::to_writer(&mut file, process)?;
    Ok(file.into())
}

/// A command's streams, both ends.
struct Pipes {
    ours: Ours,
    /// stdin, stdout, stderr; none for a command on a terminal.
    theirs: Vec<OwnedFd>,
}

#[derive(Default)]
struct Ours {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Pipes {
    fn open(stdio: Stdio) -> io::Result<Pipes> {
        let mut ours = Ours::default();
        let mut theirs = Vec::new();
        if stdio.tty {
            return Ok(Pipes { ours, theirs });
        }
        let null = || File::options().read(true).write(true).open("/dev/null");
        if stdio.stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            theirs.push(read);
            ours.stdin = Some(write);
        } else {
            theirs.push(null()?.into());
        }
        for (wanted, ours) in [
            (stdio.stdout, &mut ours.stdout),
            (stdio.stderr, &mut ours.stderr),
        ] {
            if wanted {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                theirs.push(write);
                *ours = Some(read);
            } else {
                theirs.push(null()?.into());
            }
        }
        Ok(Pipes { ours, theirs })
    }
}

impl Ours {
    fn boxed(self, ended: &CancellationToken) -> io::Result<Streams> {
        let reader = |file: OwnedFd| -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
            let reader = pipe::Receiver::from_owned_fd(file)?;
            Ok(Box::new(Output::new(reader, ended.clone())))
        };
        let stdin = self.stdin.map(pipe::Sender::from_owned_fd).transpose()?;
        Ok((
            stdin.map(|stdin| Box::new(Input::new(stdin)) as _),
            self.stdout.map(reader).transpose()?,
            self.stderr.map(reader).transpose()?,
        ))
    }
}
