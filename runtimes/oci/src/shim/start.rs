//! Starting a shim: `runc run` through it, and its words if that fails.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use runtimes::log::Rotation;
use serde_json::Value;
use tokio::process::{Child, Command};
use wk_shim::wire::Frame;

use super::{Shim, connection::Connection};

/// How long `runc run` may take, hooks and slow disks included.
pub(crate) const RUN: Duration = Duration::from_secs(120);
/// How long a shim that has failed may take to end.
const END: Duration = Duration::from_secs(30);
/// How often starting is tried again while another thread's child still has the program open for writing.
const TRIES: u32 = 50;

/// A container that is to run.
pub(crate) struct Launch<'a> {
    /// The shim, as [`super::program::install`] put it there.
    pub(crate) program: &'a Path,
    /// The container's own: runc's bundle.
    pub(crate) dir: &'a Path,
    pub(crate) runc: &'a Path,
    pub(crate) runc_root: &'a Path,
    pub(crate) id: &'a str,
    pub(crate) log: &'a Path,
    pub(crate) rotation: Rotation,
    /// As the bundle's `config.json` has it.
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    /// How long runc may take: [`RUN`].
    pub(crate) within: Duration,
}

/// Why there is no container, in runc's words or the shim's.
#[derive(thiserror::Error, Debug)]
#[error("{message}")]
pub(crate) struct Failed {
    pub(crate) message: String,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed {
            message: format!("the container's shim: {error}"),
        }
    }
}

/// Starts a shim, which runs the container and stays with it. Returns when the container runs.
///
/// Failed, it leaves nothing behind: the shim removes what it has made and ends. Dropped, the container may run.
///
/// # Errors
/// runc's words: the bundle cannot run as it is.
pub(crate) async fn launch(launch: &Launch<'_>) -> Result<Shim, Failed> {
    let mut command = command(launch.program, "watch", launch.dir);
    command.arg("--runc").arg(launch.runc);
    command.arg("--root").arg(launch.runc_root);
    command.args(["--id", launch.id]);
    command.arg("--log").arg(launch.log);
    let Rotation {
        max_bytes,
        max_files,
    } = launch.rotation;
    command.args(["--max-bytes", &max_bytes.to_string()]);
    command.args(["--max-files", &max_files.to_string()]);
    for (name, is) in [
        ("--tty", launch.tty),
        ("--stdin", launch.stdin),
        ("--stdin-once", launch.stdin_once),
    ] {
        if is {
            command.arg(name);
        }
    }
    let (mut shim, mut connection) = start(command).await?;
    let runs = match tokio::time::timeout(launch.within, runs(&mut connection)).await {
        Ok(runs) => runs,
        Err(_) => {
            // One that has gone needs not be told.
            let _ = connection.say(&Frame::Abandon).await;
            let message = format!("runc run did not end within {} s", launch.within.as_secs());
            Err(Failed { message })
        }
    };
    drop(connection);
    if runs.is_err() {
        // What it is about to remove is gone when this returns.
        let _ = tokio::time::timeout(END, shim.wait()).await;
    }
    runs.map(|()| Shim::adopt(launch.dir))
}

async fn runs(connection: &mut Connection) -> Result<(), Failed> {
    match connection.hear().await? {
        Some(Frame::Started) => Ok(()),
        Some(Frame::Failed(raw)) => Err(Failed {
            message: words(raw),
        }),
        _ => Err(Failed {
            message: "the container's shim ended before the container ran".to_owned(),
        }),
    }
}

/// The shim's program with a task, to run in a container's directory.
pub(crate) fn command(program: &Path, task: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(task).current_dir(dir);
    // What it hands on to runc, which looks for programs it needs.
    command.env_clear();
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts a shim, and the connection to it. The shim ends by itself; whoever drops it need not wait.
pub(crate) async fn start(mut command: Command) -> io::Result<(Child, Connection)> {
    let mut tries = 0;
    loop {
        let (connection, theirs) = Connection::pair()?;
        match command.stdin(Stdio::from(theirs)).spawn() {
            Ok(child) => {
                // Its end of the connection is the shim's alone.
                command.stdin(Stdio::null());
                return Ok((child, connection));
            }
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => {
                let program = PathBuf::from(command.as_std().get_program());
                let message = format!("cannot run {}: {error}", program.display());
                return Err(io::Error::new(error.kind(), message));
            }
        }
    }
}

/// What runc means: its log's last line, as JSON, without what only a log needs. Anything else is as it is.
pub(crate) fn words(raw: &str) -> String {
    let parsed = serde_json::from_str::<Value>(raw).ok();
    let message = parsed.as_ref().and_then(|line| line["msg"].as_str());
    message.unwrap_or(raw).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_words_are_its_message() {
        let raw = r#"{"level":"error","msg":"runc run failed: exec: \"nope\": not found\n","time":"2026-01-02"}"#;
        assert_eq!(words(raw), "runc run failed: exec: \"nope\": not found");
        assert_eq!(words("cannot run runc"), "cannot run runc");
    }
}
