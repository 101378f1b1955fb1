//! Frames over a Unix socket: to a shim that runs, and to one that was just started.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::net,
    },
    path::Path,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use wk_shim::{
    SOCKET, VERSION, descriptors,
    wire::{Frame, HEADER, payload_length},
};

/// A shim answers at once; one that does not is stopped.
const GREETING: Duration = Duration::from_secs(10);

/// One end of a connection.
pub(crate) struct Connection {
    socket: UnixStream,
    payload: Vec<u8>,
}

impl Connection {
    /// Connects to the shim of the container in this directory.
    pub(crate) async fn open(dir: &Path) -> io::Result<Connection> {
        // A socket's path is short; the way through an open directory is.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(dir, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let mut connection = Connection {
            socket: UnixStream::connect(path).await?,
            payload: Vec::new(),
        };
        let greeting = tokio::time::timeout(GREETING, connection.hear()).await;
        match greeting.map_err(|_| io::ErrorKind::TimedOut)?? {
            Some(Frame::Version(VERSION)) => Ok(connection),
            Some(Frame::Version(other)) => Err(io::Error::other(format!(
                "the container's shim speaks version {other}, and this is version {VERSION}"
            ))),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// A connection, and its other end for a process that is to be started.
    pub(crate) fn pair() -> io::Result<(Connection, OwnedFd)> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let connection = Connection {
            socket: UnixStream::from_std(ours)?,
            payload: Vec::new(),
        };
        Ok((connection, theirs.into()))
    }

    pub(crate) async fn say(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        self.socket.write_all(&frame.to_vec()).await
    }

    /// The next frame; `None` at the end. Not to be cancelled if another is to be heard.
    pub(crate) async fn hear(&mut self) -> io::Result<Option<Frame<'_>>> {
        read(&mut self.socket, &mut self.payload).await
    }

    /// Says something, and hands open files over with it.
    pub(crate) async fn give(
        &mut self,
        frame: &Frame<'_>,
        files: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let socket = &self.socket;
        let send = || descriptors::send(socket.as_fd(), &frame.to_vec(), files);
        socket.async_io(Interest::WRITABLE, send).await
    }

    /// The next frame, and the open files that come with it.
    pub(crate) async fn take(&mut self) -> io::Result<(Option<Frame<'_>>, Vec<OwnedFd>)> {
        let mut header = [0; HEADER];
        let socket = &self.socket;
        let receive = || descriptors::receive(socket.as_fd(), &mut header);
        let (length, files) = socket.async_io(Interest::READABLE, receive).await?;
        if length == 0 {
            return Ok((None, files));
        }
        self.socket.read_exact(&mut header[length..]).await?;
        let frame = read_payload(&mut self.socket, header, &mut self.payload).await?;
        Ok((Some(frame), files))
    }

    /// The two directions, to be used at once.
    pub(crate) fn split(self) -> (Incoming, OwnedWriteHalf) {
        let (socket, outgoing) = self.socket.into_split();
        let incoming = Incoming {
            socket,
            payload: self.payload,
        };
        (incoming, outgoing)
    }
}

/// What comes from a connection.
pub(crate) struct Incoming {
    socket: OwnedReadHalf,
    payload: Vec<u8>,
}

impl Incoming {
    /// As [`Connection::hear`].
    pub(crate) async fn hear(&mut self) -> io::Result<Option<Frame<'_>>> {
        read(&mut self.socket, &mut self.payload).await
    }
}

async fn read<'a>(
    socket: &mut (impl AsyncRead + Unpin),
    payload: &'a mut Vec<u8>,
) -> io::Result<Option<Frame<'a>>> {
    let mut header = [0; HEADER];
    let length = socket.read(&mut header).await?;
    if length == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut header[length..]).await?;
    read_payload(socket, header, payload).await.map(Some)
}

async fn read_payload<'a>(
    socket: &mut (impl AsyncRead + Unpin),
    header: [u8; HEADER],
    payload: &'a mut Vec<u8>,
) -> io::Result<Frame<'a>> {
    let broken = |broken| io::Error::new(io::ErrorKind::InvalidData, broken);
    payload.resize(payload_length(&header).map_err(broken)?, 0);
    socket.read_exact(payload).await?;
    Frame::parse(header[0], payload).map_err(broken)
}
