//! The small process that stays with a container, seen from this one: starting it, asking it, and what is to be done
//! without it.
//!
//! - [`program`]: the program itself, which is a part of this one and is put on the disk.
//! - [`start`]: starting it, and what runc said if that failed.
//! - [`connection`]: its socket.
//! - [`attach`]: a container's own streams.
//! - [`fate`]: how a container ends that has lost its shim.
//!
//! The shim outlives this process: everything here works as well for one that a former process has started.
//! Reads and writes nothing in a container's directory but what [`wk_shim`] names.

mod attach;
pub(crate) mod connection;
mod fate;
pub(crate) mod program;
pub(crate) mod start;

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use runtimes::{Process, RuntimeError, Stdio};
use wk_shim::{EXIT, Exit, Identity, PID, wire::Frame};

pub(crate) use start::{Failed, Launch, launch};

use crate::shim::connection::Connection;

/// How often a shim is asked that is there and cannot answer.
const AGAIN: Duration = Duration::from_secs(1);

/// A container's shim, which may have ended.
#[derive(Clone, Debug)]
pub(crate) struct Shim {
    dir: PathBuf,
}

/// How a container's own process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    /// 0–255; 128 + signal if it was killed.
    pub(crate) code: i32,
    pub(crate) finished_at: SystemTime,
    /// Otherwise the shim had ended before, and nobody saw the code.
    pub(crate) known: bool,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Ended {
        Ended {
            code: exit.code,
            finished_at: exit.at,
            known: true,
        }
    }
}

impl Shim {
    /// The shim of the container in this directory, whoever started it.
    pub(crate) fn adopt(dir: &Path) -> Shim {
        Shim {
            dir: dir.to_owned(),
        }
    }

    /// The container's first process, if it is there: its number may be another's by now.
    pub(crate) fn running(&self) -> Option<i32> {
        let known = self.identity().ok()?;
        let there = Identity::of(known.pid).ok()?;
        (there == known).then_some(known.pid)
    }

    fn identity(&self) -> io::Result<Identity> {
        std::fs::read_to_string(self.dir.join(PID))?.parse()
    }

    /// How the container ended, as the shim wrote it down; its log is complete then.
    ///
    /// # Errors
    /// What is written there cannot be read.
    pub(crate) fn ended(&self) -> io::Result<Option<Ended>> {
        let text = match std::fs::read_to_string(self.dir.join(EXIT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let exit = text.parse::<Exit>();
        let exit = exit.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Some(exit.into()))
    }

    /// Waits until the container has ended. If the shim ends before, until nobody can doubt that the container has.
    pub(crate) async fn wait(&self) -> Ended {
        loop {
            if let Ok(Some(ended)) = self.ended() {
                return ended;
            }
            match self.told().await {
                Ok(Some(exit)) => return exit.into(),
                // It ended while it was asked: either it has written the end down, or there is none to ask now.
                Ok(None) => {}
                Err(error) if has_gone(&error) => break,
                // It is there, and cannot be asked: what it writes down is waited for.
                Err(error) => {
                    tracing::debug!(%error, dir = %self.dir.display(), "a shim does not answer");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        // Between looking and asking it may have come to its end.
        if let Ok(Some(ended)) = self.ended() {
            return ended;
        }
        tracing::warn!(dir = %self.dir.display(), "a container's shim has gone: its output is lost from now on");
        loop {
            match self.identity() {
                Ok(identity) => return fate::wait(Some(identity)).await,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return fate::wait(None).await;
                }
                // Not to be read now: that is no end.
                Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, dir = %self.dir.display(), "read a container's first process");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(_) => return fate::wait(None).await,
            }
        }
    }

    /// Asks the shim, which answers when the container has ended. `None`: it ended itself.
    async fn told(&self) -> io::Result<Option<Exit>> {
        let mut connection = Connection::open(&self.dir).await?;
        if connection.say(&Frame::Wait).await.is_err() {
            return Ok(None);
        }
        loop {
            match connection.hear().await {
                Ok(Some(Frame::Ended(exit))) => return Ok(Some(exit)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    /// Joins the container's own streams, from now on: those that it has.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`]: the shim has gone, and the streams with it.
    pub(crate) async fn attach(&self, stdio: Stdio) -> Result<Process, RuntimeError> {
        attach::attach(self, stdio).await
    }
}

/// Whether nobody listens on a shim's socket any more.
fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}
