//! A process' terminal: runc makes it and hands its other end over, on a socket it is told of.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::Duration,
};

use wk_shim::descriptors;

/// Between connecting and sending, runc does nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where runc is to bring a terminal.
pub(crate) struct Console {
    listener: UnixListener,
    path: String,
}

impl Console {
    /// `path` is relative: the working directory's may be too long for a socket's.
    pub(crate) fn open(path: String) -> io::Result<Console> {
        // A former one's, which did not come to its end.
        let _ = fs::remove_file(&path);
        Ok(Console {
            listener: UnixListener::bind(&path)?,
            path,
        })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The terminal that runc brings.
    pub(crate) fn receive(&self) -> io::Result<OwnedFd> {
        let (socket, _) = self.listener.accept()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut name = [0; 256];
        let (_, files) = descriptors::receive(&socket, &mut name)?;
        let file = files.into_iter().next();
        file.ok_or_else(|| io::Error::other("runc brought no terminal"))
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
