//! A container's own streams, through its shim.

use std::{io, time::Duration};

use runtimes::{Process, RuntimeError, Stdio, TerminalSize, log::Stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex},
    net::unix::OwnedWriteHalf,
    sync::mpsc,
};
use wk_shim::wire::{Frame, Streams};

use super::{
    Shim,
    connection::{Connection, Incoming},
};
use crate::console::own;

/// How much waits on its way. What waits beyond that waits in the shim.
const ROOM: usize = 64 << 10;
/// How much input goes in one frame.
const CHUNK: usize = 16 << 10;
/// A shim answers at once; one that does not is stopped.
const ANSWER: Duration = Duration::from_secs(10);

/// Joins a container's streams.
pub(super) async fn attach(shim: &Shim, stdio: Stdio) -> Result<Process, RuntimeError> {
    let asked = tokio::time::timeout(ANSWER, ask(shim, stdio)).await;
    let asked = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (connection, has) = asked.map_err(|source| RuntimeError::Unavailable {
        message: "cannot attach: the process that holds the container's streams does not answer"
            .to_owned(),
        source: Some(source.into()),
    })?;
    let (incoming, outgoing) = connection.split();
    let pair = |is: bool| is.then(|| duplex(ROOM)).unzip();
    let (stdin, input) = pair(has.stdin);
    let (stdout, output) = pair(has.stdout);
    let (stderr, errors) = pair(has.stderr);
    let (resize, sizes) = mpsc::channel(4);
    let shim = shim.clone();
    let carried = own(async move {
        let carry_in = carry_in(outgoing, input, sizes);
        let carry_out = carry_out(incoming, output, errors);
        let told = tokio::select! {
            told = carry_out => told,
            never = carry_in => match never {},
        };
        match told {
            Some(code) => Ok(code),
            None => without_end(&shim),
        }
    });
    Ok(Process {
        stdin: stdin.map(|stdin| Box::new(stdin) as Box<dyn AsyncWrite + Send + Unpin>),
        stdout: stdout.map(|stdout| Box::new(stdout) as Box<dyn AsyncRead + Send + Unpin>),
        stderr: stderr.map(|stderr| Box::new(stderr) as Box<dyn AsyncRead + Send + Unpin>),
        resize: has.tty.then_some(resize),
        exit: carried,
    })
}

/// Asks for streams: those that there are.
async fn ask(shim: &Shim, stdio: Stdio) -> io::Result<(Connection, Streams)> {
    let mut connection = Connection::open(&shim.dir).await?;
    let wanted = Streams {
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        tty: stdio.tty,
    };
    connection.say(&Frame::Attach(wanted)).await?;
    match connection.hear().await? {
        Some(Frame::Attached(has)) => Ok((connection, has)),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// Carries output to its readers until the container has ended: its exit code. `None`: the shim said nothing of an end.
async fn carry_out(
    mut incoming: Incoming,
    mut stdout: Option<DuplexStream>,
    mut stderr: Option<DuplexStream>,
) -> Option<i32> {
    loop {
        match incoming.hear().await {
            Ok(Some(Frame::Output(stream, bytes))) => {
                let to = match stream {
                    Stream::Stdout => &mut stdout,
                    Stream::Stderr => &mut stderr,
                };
                // Somebody who does not want it any more.
                if let Some(writer) = to
                    && writer.write_all(bytes).await.is_err()
                {
                    *to = None;
                }
            }
            Ok(Some(Frame::Ended(exit))) => return Some(exit.code),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Carries input, and the terminal's sizes, for as long as there are any. It does not end: the connection is to stay.
async fn carry_in(
    mut outgoing: OwnedWriteHalf,
    mut stdin: Option<DuplexStream>,
    mut sizes: mpsc::Receiver<TerminalSize>,
) -> std::convert::Infallible {
    let mut chunk = vec![0; CHUNK];
    let mut resizes = true;
    while stdin.is_some() || resizes {
        let read = async {
            match &mut stdin {
                Some(stdin) => stdin.read(&mut chunk).await,
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            read = read => match read {
                Ok(length @ 1..) => Frame::Input(&chunk[..length]).to_vec(),
                Ok(0) | Err(_) => {
                    stdin = None;
                    Frame::End.to_vec()
                }
            },
            size = sizes.recv(), if resizes => match size {
                Some(TerminalSize { width, height }) => {
                    Frame::Resize { columns: width, rows: height }.to_vec()
                }
                None => {
                    resizes = false;
                    continue;
                }
            },
        };
        if outgoing.write_all(&frame).await.is_err() {
            // The shim has ended, which the other direction tells.
            break;
        }
    }
    std::future::pending().await
}

/// The connection has ended, and the shim has not said why.
fn without_end(shim: &Shim) -> Result<i32, RuntimeError> {
    match shim.ended() {
        Ok(Some(ended)) => Ok(ended.code),
        _ => Err(RuntimeError::Unavailable {
            message: "detached: the output was not read, or the process that holds the container's streams was killed"
                .to_owned(),
            source: None,
        }),
    }
}
