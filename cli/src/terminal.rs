//! Our own terminal: raw while a remote one is shown in it, its size, and what is typed.
//!
//! A terminal that was made raw is restored when its [`Raw`] is dropped, whatever happens.
#![expect(
    unsafe_code,
    reason = "a terminal's size is asked for by ioctl, which has no safe form in nix"
)]

use std::{
    io::{self, IsTerminal as _, Read as _},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use nix::{
    libc,
    sys::termios::{self, SetArg, Termios},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Bytes that are read from the input at once.
const READ: usize = 32 * 1024;
/// Pieces of input that wait to be sent; then the input is not read.
const WAITING: usize = 4;

/// True if somebody types the input.
pub(crate) fn is_typed() -> bool {
    io::stdin().is_terminal()
}

/// A terminal's size in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// Our terminal passes every key on, until this is dropped.
pub(crate) struct Raw {
    before: Termios,
}

/// Makes our terminal raw; `None` if the input is none.
pub(crate) fn raw() -> Result<Option<Raw>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let before = termios::tcgetattr(&stdin).context("read the terminal's settings")?;
    let mut raw = before.clone();
    termios::cfmakeraw(&mut raw);
    termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &raw).context("make the terminal raw")?;
    Ok(Some(Raw { before }))
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// The size of the terminal that output goes to, if it goes to one.
fn size() -> Option<Size> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request writes one winsize, to a place of that type which outlives the call.
    let answer = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (answer == 0 && size.ws_col > 0 && size.ws_row > 0).then_some(Size {
        width: size.ws_col,
        height: size.ws_row,
    })
}

/// The terminal's size, and what it becomes.
pub(crate) struct Sizes {
    changes: Signal,
    told: Option<Size>,
}

impl Sizes {
    pub(crate) fn follow() -> Result<Self> {
        let changes = signal(SignalKind::window_change()).context("follow the terminal's size")?;
        Ok(Self {
            changes,
            told: None,
        })
    }

    /// The size, if it was not told yet; otherwise the next one.
    pub(crate) async fn next(&mut self) -> Option<Size> {
        loop {
            let now = size();
            if now.is_some() && now != self.told {
                self.told = now;
                return now;
            }
            self.changes.recv().await?;
        }
    }
}

/// What comes on our input, until its end. It is read by a thread that lives as long as the process: nothing
/// else can leave a read that waits for a key.
pub(crate) fn input() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; READ];
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            if sender
                .blocking_send(Bytes::copy_from_slice(&buffer[..read]))
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// Returns when somebody ends this process in order: the terminal is to be restored first.
pub(crate) async fn told_to_stop() {
    let signals = [SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut terminate), Ok(mut hangup)] = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
