//! Signals, and processes that have ended: runc, what it leaves behind, and orphans.
//!
//! All signals are held back, so that none ends this process; those that it starts get none of that. The one it
//! looks at is `SIGCHLD`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    process::Command,
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::process::{Pid, WaitOptions, WaitStatus, kill_process, set_child_subreaper, wait};

/// The processes whose parent this one is, or has become.
pub(crate) struct Children {
    signals: SignalFd,
    /// Those that have ended and whom nobody has asked for.
    ended: Vec<(Pid, i32)>,
}

impl Children {
    /// Holds all signals back, and becomes the parent of what its children leave behind.
    pub(crate) fn adopt() -> io::Result<Children> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        SigSet::all().thread_block()?;
        let mut looked_at = SigSet::empty();
        looked_at.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Children {
            signals: SignalFd::with_flags(&looked_at, flags)?,
            ended: Vec::new(),
        })
    }

    /// Starts a program, to which signals come.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Pid> {
        SigSet::empty().thread_set_mask()?;
        let child = command.spawn();
        SigSet::all().thread_block()?;
        Ok(Pid::from_child(&child?))
    }

    /// Takes note of all that have ended.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.ended.push((pid, code(status)));
        }
    }

    /// The exit code of one that has ended.
    pub(crate) fn code(&self, pid: Pid) -> Option<i32> {
        let ended = self.ended.iter().find(|(ended, _)| *ended == pid);
        ended.map(|(_, code)| *code)
    }

    /// Nobody will ask for those that have ended.
    pub(crate) fn forget(&mut self) {
        self.ended = Vec::new();
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// 128 + signal for one that was killed.
fn code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

/// Ends a child that has not been reaped, by force.
pub(crate) fn kill(pid: Pid) {
    // It has ended, then.
    let _ = kill_process(pid, rustix::process::Signal::KILL);
}
