//! A container's input, of which a bounded part waits until the container reads it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, write};

/// While this much waits, nobody who is attached is read from.
const ROOM: usize = 64 << 10;

/// What ends a line that somebody types, and an input that has nothing in its line.
const END_OF_TRANSMISSION: u8 = 4;

/// The open end of a container's input.
pub(crate) struct Input {
    file: OwnedFd,
    pending: Vec<u8>,
    /// A terminal, which cannot be closed: it is told the end as somebody at a keyboard would.
    tty: bool,
    /// It ends with the first who had it.
    once: bool,
    ends: bool,
}

impl Input {
    pub(crate) fn new(file: OwnedFd, tty: bool, once: bool) -> Input {
        Input {
            file,
            pending: Vec::new(),
            tty,
            once,
            ends: false,
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < ROOM
    }

    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.ends {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// Somebody who had it has left.
    pub(crate) fn left(&mut self) {
        if self.once && !self.ends {
            if self.tty {
                self.pending.push(END_OF_TRANSMISSION);
            }
            self.ends = true;
        }
    }

    /// Whether it is to be closed: nothing waits, and nothing comes.
    pub(crate) fn is_done(&self) -> bool {
        self.ends && self.pending.is_empty()
    }

    /// Writes what the container takes. `false`: it is to be closed.
    pub(crate) fn write(&mut self) -> bool {
        match write(&self.file, &self.pending) {
            Ok(length) => {
                self.pending.drain(..length);
                if self.pending.is_empty() {
                    self.pending = Vec::new();
                }
                !self.is_done()
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            // The container has closed it.
            Err(_) => false,
        }
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
