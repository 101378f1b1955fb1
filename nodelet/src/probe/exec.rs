//! `exec`: a command in the container. Used by lifecycle handlers too.

use std::time::Duration;

use runtimes::{Process, RuntimeError, Stdio};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use super::{Target, attempt::Outcome};

/// What is kept of a command's output; the rest is read and thrown away.
const LONGEST_OUTPUT: usize = 10 << 10;

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs the command; at its deadline it is killed.
pub(super) async fn probe(target: &Target, command: Vec<String>, limit: Duration) -> Outcome {
    let words = command.join(" ");
    match timeout(limit, run(target, command)).await {
        Ok(Ok(mut ended)) => {
            ended.stdout.append(&mut ended.stderr);
            ended.stdout.truncate(LONGEST_OUTPUT);
            let output = String::from_utf8_lossy(&ended.stdout).into_owned();
            if ended.code == 0 {
                Outcome::Success(output)
            } else {
                Outcome::Failure(output)
            }
        }
        Ok(Err(error)) => Outcome::unknown(error.to_string()),
        Err(_) => Outcome::Failure(format!(
            "command timed out: {words:?} timed out after {}",
            super::dial::go_seconds(limit)
        )),
    }
}

/// Runs a command to its end. Dropped, it ends the command.
pub(crate) async fn run(target: &Target, command: Vec<String>) -> Result<Ended, RuntimeError> {
    let stdio = Stdio {
        stdout: true,
        stderr: true,
        ..Stdio::default()
    };
    let Process {
        stdin: _,
        stdout,
        stderr,
        resize: _,
        exit,
    } = target.runtime.exec(&target.id, command, stdio).await?;
    let (stdout, stderr, code) = tokio::join!(read(stdout), read(stderr), exit);
    Ok(Ended {
        code: code?,
        stdout,
        stderr,
    })
}

/// The beginning of a stream, which is read to its end.
async fn read(stream: Option<Box<dyn AsyncRead + Send + Unpin>>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return kept;
    };
    let mut block = [0; 1_024];
    while let Ok(length @ 1..) = stream.read(&mut block).await {
        let room = LONGEST_OUTPUT - kept.len();
        kept.extend_from_slice(&block[..length.min(room)]);
    }
    kept
}
