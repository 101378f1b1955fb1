//! A container's life: its start, its end, what it is in between, and that it is forgotten.

use std::{
    fs, io,
    time::{Duration, SystemTime},
};

use runtimes::{ContainerId, ContainerState, Exit, RuntimeError};
use wk_shim::Identity;

use super::{Node, refused, unavailable};
use crate::{
    locks::Held,
    record::{Directory, End, Life, Reason, Record},
    runc::Known,
    shim::{self, Ended, Launch, Shim},
};

/// How long a container may take to be gone once it is killed.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// How long the end of a process that is gone may take to be known.
const END_DEADLINE: Duration = Duration::from_secs(30);
/// The exit code of what was ended by force.
const KILLED: i32 = 137;
/// The exit code of a start that failed, in Kubernetes' way.
const NOT_STARTED: i32 = 128;

impl Node {
    /// What a container is now. An end that is seen here for the first time is settled.
    pub(super) async fn state(
        &self,
        directory: &Directory,
        record: &Record,
    ) -> Result<ContainerState, RuntimeError> {
        match self.look(directory)? {
            Seen::Is(state) => Ok(state),
            Seen::HasEnded => {
                let held = self.locks.hold(directory.name()).await;
                let end = self.settle(directory, record, &held).await?;
                Ok(ContainerState::Exited(end.exit()))
            }
            // A start is under way, or was cut off.
            Seen::Starting(at) => match self.locks.try_hold(directory.name()) {
                None => Ok(ContainerState::Created),
                Some(_held) => {
                    let known = self.runc.known(directory.name()).await.map_err(refused)?;
                    if !known.has_run() {
                        return Ok(ContainerState::Created);
                    }
                    self.has_started(directory, at)?;
                    Ok(ContainerState::Running { started_at: at })
                }
            },
        }
    }

    /// What the files say.
    fn look(&self, directory: &Directory) -> Result<Seen, RuntimeError> {
        let life = directory.life().map_err(unavailable("read a container"))?;
        if let Some(end) = life.end {
            return Ok(Seen::Is(ContainerState::Exited(end.exit())));
        }
        let Some(started_at) = life.starting_at else {
            return Ok(Seen::Is(ContainerState::Created));
        };
        let ended = Shim::adopt(directory.path()).ended();
        if ended
            .map_err(unavailable("read a container's end"))?
            .is_some()
        {
            return Ok(Seen::HasEnded);
        }
        if !life.started {
            return Ok(Seen::Starting(started_at));
        }
        if is_alive(directory) {
            return Ok(Seen::Is(ContainerState::Running { started_at }));
        }
        Ok(Seen::HasEnded)
    }

    fn has_started(&self, directory: &Directory, at: SystemTime) -> Result<(), RuntimeError> {
        let life = Life {
            starting_at: Some(at),
            started: true,
            end: None,
        };
        self.write_life(directory, &life)
    }

    /// Writes how far a container got, and tells those who wait.
    fn write_life(&self, directory: &Directory, life: &Life) -> Result<(), RuntimeError> {
        let written = directory.write_life(life);
        self.locks.of(directory.name()).changed.notify_waiters();
        written.map_err(unavailable("write a container"))
    }

    pub(super) async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        self.find(id)?;
        let directory = self.containers.of(id);
        let _held = self.locks.hold(directory.name()).await;
        let (directory, record) = self.find(id)?;
        match self.look(&directory)? {
            Seen::Is(ContainerState::Created) => {}
            Seen::Is(_) | Seen::HasEnded => return Ok(()),
            Seen::Starting(at) => {
                if self.resume(directory.name()).await? {
                    return self.has_started(&directory, at);
                }
            }
        }
        let at = SystemTime::now();
        let starting = Life {
            starting_at: Some(at),
            ..Life::default()
        };
        self.write_life(&directory, &starting)?;
        match self.launch(&directory, &record).await {
            Ok(()) => self.has_started(&directory, at),
            Err(failed) => {
                self.runc.delete(directory.name()).await.map_err(refused)?;
                self.not_started(&directory, at, failed)
            }
        }
    }

    /// Takes a start up where a former process was cut off. `false`: it is to begin again.
    async fn resume(&self, name: &str) -> Result<bool, RuntimeError> {
        let known = self.runc.known(name).await.map_err(refused)?;
        if known == Known::Created {
            // The former process' own call may still come to its end; then this one is refused.
            if self.runc.start(name).await.is_ok() {
                return Ok(true);
            }
        }
        if self.runc.known(name).await.map_err(refused)?.has_run() {
            return Ok(true);
        }
        self.runc.delete(name).await.map_err(refused)?;
        Ok(false)
    }

    /// Makes the container's process and lets it run.
    async fn launch(&self, directory: &Directory, record: &Record) -> Result<(), NotStarted> {
        let launch = Launch {
            program: &self.program,
            dir: directory.path(),
            runc: &self.runc.binary,
            runc_root: &self.runc.root,
            id: directory.name(),
            log: &record.log,
            rotation: self.rotation,
            tty: record.tty,
            stdin: record.stdin,
            stdin_once: record.stdin_once,
            within: shim::start::RUN,
        };
        let _turn = self.runc.turn().await;
        shim::launch(&launch).await?;
        Ok(())
    }

    /// A container that cannot run has ended; one that the host could not start is as if it was not tried.
    fn not_started(
        &self,
        directory: &Directory,
        at: SystemTime,
        failed: NotStarted,
    ) -> Result<(), RuntimeError> {
        let message = match failed {
            NotStarted::Refused(words) => {
                format!("OCI runtime create failed: {words}")
            }
            NotStarted::Unknown(message) => {
                self.write_life(directory, &Life::default())?;
                return Err(RuntimeError::Unavailable {
                    message,
                    source: None,
                });
            }
        };
        let end = End {
            code: NOT_STARTED,
            reason: Reason::StartError,
            message: message.clone(),
            started_at: at,
            finished_at: SystemTime::now(),
        };
        self.end(directory, end)?;
        Err(RuntimeError::Invalid(message))
    }

    fn end(&self, directory: &Directory, end: End) -> Result<End, RuntimeError> {
        let life = Life {
            starting_at: Some(end.started_at),
            started: true,
            end: Some(end.clone()),
        };
        self.write_life(directory, &life)?;
        Ok(end)
    }

    /// Finds out how a container ended whose first process is gone, ends what is left of it, and writes that down.
    async fn settle(
        &self,
        directory: &Directory,
        record: &Record,
        _held: &Held,
    ) -> Result<End, RuntimeError> {
        let life = directory.life().map_err(unavailable("read a container"))?;
        if let Some(end) = life.end {
            return Ok(end);
        }
        let shim = Shim::adopt(directory.path());
        let ended = tokio::time::timeout(END_DEADLINE, shim.wait()).await;
        let Ok(ended) = ended else {
            return Err(RuntimeError::Unavailable {
                message: format!(
                    "container {} has ended, and its shim does not say how",
                    record.name
                ),
                source: None,
            });
        };
        // Before the group is gone.
        let oom_kills = self.cgroups.oom_kills(&record.cgroup);
        self.runc.delete(directory.name()).await.map_err(refused)?;
        let started_at = life.starting_at.unwrap_or(ended.finished_at);
        self.end(directory, end_of(ended, oom_kills, started_at))
    }

    pub(super) async fn wait_for(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        loop {
            let (directory, record) = self.find(id)?;
            let lock = self.locks.of(directory.name());
            let changed = lock.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on, so that nothing is missed between looking and waiting.
            changed.as_mut().enable();
            match self.state(&directory, &record).await? {
                ContainerState::Exited(exit) => return Ok(exit),
                ContainerState::Created => changed.await,
                ContainerState::Running { .. } => {
                    let shim = Shim::adopt(directory.path());
                    tokio::select! {
                        _ended = shim.wait() => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    pub(super) async fn stop_container(
        &self,
        id: &ContainerId,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        self.find(id)?;
        let directory = self.containers.of(id);
        let shim = {
            // A start that is under way comes to its end first.
            let held = self.locks.hold(directory.name()).await;
            let (directory, record) = self.find(id)?;
            match self.look(&directory)? {
                Seen::Is(ContainerState::Exited(_)) => return Ok(()),
                Seen::HasEnded => {
                    return self.settle(&directory, &record, &held).await.map(drop);
                }
                Seen::Is(ContainerState::Created) => {
                    return self.end(&directory, killed(SystemTime::now())).map(drop);
                }
                // Cut off: what it was to be, it never will.
                Seen::Starting(at) => {
                    let name = directory.name();
                    if !self.runc.known(name).await.map_err(refused)?.has_run() {
                        self.runc.delete(name).await.map_err(refused)?;
                        return self.end(&directory, killed(at)).map(drop);
                    }
                    self.has_started(&directory, at)?;
                }
                Seen::Is(ContainerState::Running { .. }) => {}
            }
            if !grace.is_zero() {
                // Refused if it ends by itself at this moment; that is looked at next.
                let signalled = self
                    .runc
                    .signal(directory.name(), &record.stop_signal)
                    .await;
                if let Err(error) = signalled {
                    tracing::debug!(container = %id, %error, "a container takes no signal");
                }
            }
            Shim::adopt(directory.path())
        };
        if tokio::time::timeout(grace, shim.wait()).await.is_err() {
            if let Err(error) = self.runc.kill(directory.name()).await {
                tracing::debug!(container = %id, %error, "a container takes no signal");
            }
            if tokio::time::timeout(KILL_DEADLINE, shim.wait())
                .await
                .is_err()
            {
                return Err(RuntimeError::Unavailable {
                    message: format!(
                        "container {id} does not end although it was killed {} s ago",
                        KILL_DEADLINE.as_secs()
                    ),
                    source: None,
                });
            }
        }
        match self.wait_for(id).await {
            // Removed meanwhile.
            Ok(_) | Err(RuntimeError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let directory = self.containers.of(id);
        let held = self.locks.hold(directory.name()).await;
        let record = directory
            .record()
            .map_err(unavailable("read a container"))?;
        let Some(record) = record else {
            self.forget(&directory).await?;
            return self.release(pod_of(id)).await;
        };
        let is_running = || {
            RuntimeError::Invalid(format!(
                "container {} is running: stop it first",
                record.name
            ))
        };
        match self.look(&directory)? {
            Seen::Is(ContainerState::Running { .. }) => return Err(is_running()),
            Seen::Starting(_) => {
                let name = directory.name();
                if self.runc.known(name).await.map_err(refused)?.has_run() {
                    return Err(is_running());
                }
                self.runc.delete(name).await.map_err(refused)?;
            }
            Seen::HasEnded => drop(self.settle(&directory, &record, &held).await?),
            Seen::Is(_) => {}
        }
        self.forget(&directory).await?;
        self.locks.of(directory.name()).changed.notify_waiters();
        self.release(pod_of(id)).await
    }

    /// Removes a container's directory, also a half-made one.
    pub(super) async fn forget(&self, directory: &Directory) -> Result<(), RuntimeError> {
        let removed = directory.remove_record();
        removed.map_err(unavailable("remove a container"))?;
        self.layers.remove(directory.path()).await
    }

    /// Gives back what a pod shares, with its last container.
    pub(super) async fn release(&self, uid: &str) -> Result<(), RuntimeError> {
        let held = self.locks.hold(uid).await;
        let has = self.containers.has_pod(uid);
        if has.map_err(unavailable("list containers"))? {
            return Ok(());
        }
        let (pods, pod) = (self.pods.clone(), uid.to_owned());
        let removed = held.blocking(move || pods.remove(&pod)).await;
        removed.map_err(unavailable("remove what a pod shared"))?;
        let removed = self.cgroups.remove_pod(uid).await;
        removed.map_err(unavailable("remove a pod's control groups"))
    }
}

/// What a container's files say of it.
enum Seen {
    Is(ContainerState),
    /// Its start has begun, and nothing says that it came to its end.
    Starting(SystemTime),
    /// Its first process is gone, which is not settled yet.
    HasEnded,
}

/// Why a container does not run.
enum NotStarted {
    /// It cannot, by runc's words.
    Refused(String),
    /// The host did not let it.
    Unknown(String),
}

impl From<shim::Failed> for NotStarted {
    fn from(failed: shim::Failed) -> NotStarted {
        let message = failed.message;
        if message.starts_with("runc run failed") {
            NotStarted::Refused(message)
        } else {
            NotStarted::Unknown(message)
        }
    }
}

/// The uid of a container's pod.
fn pod_of(id: &ContainerId) -> &str {
    id.0.split('/').next().unwrap_or_default()
}

fn is_alive(directory: &Directory) -> bool {
    let read = || -> io::Result<bool> {
        let identity: Identity =
            fs::read_to_string(directory.path().join(wk_shim::PID))?.parse()?;
        Ok(Identity::of(identity.pid)? == identity)
    };
    read().unwrap_or(false)
}

/// One that was stopped before it ran.
fn killed(started_at: SystemTime) -> End {
    End {
        code: KILLED,
        reason: Reason::Error,
        message: String::new(),
        started_at,
        finished_at: SystemTime::now(),
    }
}

fn end_of(ended: Ended, oom_kills: u64, started_at: SystemTime) -> End {
    let reason = match ended.code {
        0 => Reason::Completed,
        _ if oom_kills > 0 => Reason::OomKilled,
        _ => Reason::Error,
    };
    let message = if ended.known {
        String::new()
    } else {
        "the process that watched over the container was killed: nobody saw its exit code"
            .to_owned()
    };
    End {
        code: ended.code,
        reason,
        message,
        started_at,
        finished_at: ended.finished_at.max(started_at),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(code: i32, known: bool, oom_kills: u64, want: Expect) {
        let finished_at = SystemTime::UNIX_EPOCH;
        let ended = Ended {
            code,
            finished_at,
            known,
        };
        let exit = end_of(ended, oom_kills, finished_at).exit();
        want.assert_eq(format!("{} {} {}", exit.code, exit.reason, exit.message).trim_end());
    }

    #[test]
    fn an_end_has_a_reason() {
        check(0, true, 0, expect!["0 Completed"]);
        check(0, true, 1, expect!["0 Completed"]);
        check(3, true, 0, expect!["3 Error"]);
        check(137, true, 0, expect!["137 Error"]);
        check(137, true, 1, expect!["137 OOMKilled"]);
        check(1, true, 2, expect!["1 OOMKilled"]);
        check(
            137,
            false,
            0,
            expect![
                "137 Error the process that watched over the container was killed: nobody saw its exit code"
            ],
        );
    }
}
