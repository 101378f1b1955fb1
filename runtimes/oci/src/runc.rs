//! Calls of the `runc` program: each with a deadline, and not too many at once.
//!
//! Reads and writes runc's state directory, through runc. What goes wrong is told in runc's own words.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, sync::Semaphore};

/// How long runc may take for anything: it answers in milliseconds unless the host is in distress.
const DEADLINE: Duration = Duration::from_secs(60);
/// How many calls may be under way: what comes after waits.
const CALLS: usize = 16;

/// The runc of this host, with a state directory of our own.
#[derive(Debug)]
pub(crate) struct Runc {
    pub(crate) binary: PathBuf,
    pub(crate) root: PathBuf,
    calls: Semaphore,
}

/// What runc thinks of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    Created,
    Running,
    Ended,
    /// runc does not know it.
    Absent,
}

impl Known {
    /// Its process was let run, whether it still does or not.
    pub(crate) fn has_run(self) -> bool {
        matches!(self, Known::Running | Known::Ended)
    }
}

/// Why a call failed.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Failed {
    /// runc says so.
    #[error("{0}")]
    Words(String),
    /// runc could not be asked, or did not answer.
    #[error("{0}")]
    Silent(String),
}

impl Runc {
    pub(crate) fn new(binary: PathBuf, root: PathBuf) -> Runc {
        Runc {
            binary,
            root,
            calls: Semaphore::new(CALLS),
        }
    }

    /// Waits for the turn of a container that is to be made: as other calls, there are not too many at once.
    pub(crate) async fn turn(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.calls
            .acquire()
            .await
            .expect("the semaphore is never closed")
    }

    /// Starts the process of a container that was made.
    pub(crate) async fn start(&self, id: &str) -> Result<(), Failed> {
        self.call(["start", id]).await.map(drop)
    }

    /// Sends a signal to a container's first process.
    pub(crate) async fn signal(&self, id: &str, signal: &str) -> Result<(), Failed> {
        self.call(["kill", id, signal]).await.map(drop)
    }

    /// Kills all processes of a container.
    pub(crate) async fn kill(&self, id: &str) -> Result<(), Failed> {
        self.call(["kill", "--all", id, "KILL"]).await.map(drop)
    }

    /// Ends what still runs of a container and forgets it, with its control groups. `Ok` if there is none.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), Failed> {
        self.call(["delete", "--force", id]).await.map(drop)
    }

    /// What runc thinks of a container.
    pub(crate) async fn known(&self, id: &str) -> Result<Known, Failed> {
        let output = match self.call(["state", id]).await {
            Ok(output) => output,
            Err(Failed::Words(words)) if words.contains("does not exist") => {
                return Ok(Known::Absent);
            }
            Err(error) => return Err(error),
        };
        let state: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failed::Silent(format!("runc state {id}: {error}")))?;
        Ok(match state["status"].as_str() {
            Some("created" | "creating") => Known::Created,
            Some("running" | "paused") => Known::Running,
            _ => Known::Ended,
        })
    }

    async fn call<const N: usize>(&self, arguments: [&str; N]) -> Result<Output, Failed> {
        let _turn = self.turn().await;
        let named = arguments.join(" ");
        // Errors would come twice, on stderr and in the log.
        let options = [
            OsStr::new("--log"),
            OsStr::new("/dev/null"),
            OsStr::new("--root"),
            self.root.as_os_str(),
        ];
        let output = Command::new(&self.binary)
            .args(options)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(DEADLINE, output).await {
            Ok(output) => output.map_err(|error| {
                Failed::Silent(format!("{} cannot be run: {error}", self.binary.display()))
            })?,
            Err(_) => {
                let seconds = DEADLINE.as_secs();
                return Err(Failed::Silent(format!(
                    "runc {named} did not answer within {seconds} s"
                )));
            }
        };
        if output.status.success() {
            return Ok(output);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        match words.trim() {
            "" => Err(Failed::Silent(format!("runc {named}: {}", output.status))),
            words => Err(Failed::Words(words.to_owned())),
        }
    }
}

/// `runc://<version>`, by asking the program.
pub(crate) fn version(binary: &Path) -> Result<String, String> {
    let cannot = |why: &dyn std::fmt::Display| {
        format!(
            "containers need runc, and {} cannot be run: {why}",
            binary.display()
        )
    };
    let output = std::process::Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot(&error))?;
    if !output.status.success() {
        return Err(cannot(&output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| cannot(&"it does not say its version"))
}

/// Of `runc version 1.1.5+ds1`, `runc://1.1.5`.
fn parse_version(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let version = line.strip_prefix("runc version ")?;
    let version = version.split('+').next()?.trim();
    Some(format!("runc://{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_said_without_its_builders_marks() {
        let text = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n";
        assert_eq!(parse_version(text).as_deref(), Some("runc://1.1.5"));
        assert_eq!(
            parse_version("runc version 1.3.0-rc.1\n").as_deref(),
            Some("runc://1.3.0-rc.1")
        );
        assert_eq!(parse_version("crun version 1.8.1"), None);
    }

    #[test]
    fn what_is_no_runc_is_named() {
        let error = version(Path::new("/nowhere/runc")).unwrap_err();
        assert_eq!(
            error,
            "containers need runc, and /nowhere/runc cannot be run: No such file or directory (os error 2)"
        );
    }
}
