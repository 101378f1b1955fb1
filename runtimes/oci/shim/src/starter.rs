//! The connection to who started this process: its standard input.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::stdio::{dup2_stdin, stdin};
use wk_shim::{
    descriptors,
    wire::{Frame, HEADER},
};

/// Who started this process, and may be gone.
pub(crate) struct Starter {
    socket: UnixStream,
}

impl Starter {
    /// Takes the standard input; nobody else is to have it.
    pub(crate) fn from_stdin() -> io::Result<Starter> {
        let socket = stdin().try_clone_to_owned()?;
        dup2_stdin(File::open("/dev/null")?)?;
        Ok(Starter {
            socket: UnixStream::from(socket),
        })
    }

    pub(crate) fn say(&self, frame: &Frame<'_>) -> io::Result<()> {
        (&self.socket).write_all(&frame.to_vec())
    }

    /// Says something, and hands an open file over with it.
    pub(crate) fn give(&self, frame: &Frame<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
        descriptors::send(&self.socket, &frame.to_vec(), &[file])
    }

    /// Waits for a frame without payload; an error if the starter is gone.
    pub(crate) fn expect(&self, frame: &Frame<'_>) -> io::Result<()> {
        let mut header = [0; HEADER];
        (&self.socket).read_exact(&mut header)?;
        match Frame::read(&header) {
            Ok(Some((said, _))) if said == *frame => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Waits for a process to run: the open files that come with it.
    pub(crate) fn process(&self) -> io::Result<Vec<OwnedFd>> {
        let mut header = [0; HEADER];
        let (length, files) = descriptors::receive(&self.socket, &mut header)?;
        match Frame::read(&header[..length]) {
            Ok(Some((Frame::Process, _))) => Ok(files),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl AsFd for Starter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
