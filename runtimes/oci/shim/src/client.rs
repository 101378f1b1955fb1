//! Somebody connected to a container's socket.
//!
//! What they are to get waits for them up to a bound. While one of them has no room nothing is read from the
//! container, so that whoever reads at all loses nothing; one that takes nothing for [`PATIENCE`] is told so
//! and let go, and the container goes on.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use runtimes_log::Stream;
use wk_shim::{
    Exit, VERSION,
    wire::{Frame, MAX_PAYLOAD, Streams},
};

/// How much waits for one client.
const ROOM: usize = 256 << 10;

/// How long a container waits for somebody attached, as a component does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What those are told who are let go.
const NOTE: &str = "[detached: the output was not read for 10 s]";

/// One connection.
pub(crate) struct Client {
    socket: UnixStream,
    /// What was read and is no whole frame yet.
    inbox: Vec<u8>,
    /// What is to be written, and how much of it was.
    outbox: Vec<u8>,
    written: usize,
    /// When something was last taken, or there was nothing to take.
    progress: Instant,
    /// What it is attached to.
    streams: Streams,
    /// It is to be told how the container ended.
    waits: bool,
    /// Nothing more is read from it, and nothing more said to it.
    dismissed: bool,
}

impl Client {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Client> {
        socket.set_nonblocking(true)?;
        let mut client = Client {
            socket,
            inbox: Vec::new(),
            outbox: Vec::new(),
            written: 0,
            progress: Instant::now(),
            streams: Streams::default(),
            waits: false,
            dismissed: false,
        };
        client.say(&Frame::Version(VERSION));
        Ok(client)
    }

    pub(crate) fn streams(&self) -> Streams {
        self.streams
    }

    /// Gives it streams; it is told which.
    pub(crate) fn attach(&mut self, streams: Streams) {
        self.streams = streams;
        self.waits = true;
        self.say(&Frame::Attached(streams));
    }

    /// Tells it the end when that comes.
    pub(crate) fn wait(&mut self) {
        self.waits = true;
    }

    /// Its input has ended; the output goes on.
    pub(crate) fn ends_input(&mut self) {
        self.streams.stdin = false;
    }

    /// It takes nothing more; what it said is still read.
    pub(crate) fn ends_output(&mut self) {
        self.streams.stdout = false;
        self.streams.stderr = false;
        self.waits = false;
        self.outbox = Vec::new();
        self.written = 0;
    }

    /// Whether it is read from.
    pub(crate) fn speaks(&self) -> bool {
        !self.dismissed
    }

    /// Reads what it says. `Ok(false)`: it has left.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.socket.read(buffer) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.inbox.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            Err(error) if transient(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// What it has said, to be looked at frame by frame.
    pub(crate) fn take_inbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }

    /// What is left of [`Client::take_inbox`].
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.inbox = rest.to_vec();
    }

    /// Gives it output, if it is attached to that.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.streams.stdout,
            Stream::Stderr => self.streams.stderr,
        };
        if wanted {
            for part in bytes.chunks(MAX_PAYLOAD) {
                self.say(&Frame::Output(stream, part));
            }
        }
    }

    /// Tells it the container's end, if it is to know.
    pub(crate) fn ended(&mut self, exit: Exit) {
        if self.waits {
            self.waits = false;
            self.say(&Frame::Ended(exit));
        }
    }

    fn say(&mut self, frame: &Frame<'_>) {
        if self.dismissed {
            return;
        }
        if !self.has_output() {
            self.progress = Instant::now();
        }
        frame.write(&mut self.outbox);
    }

    pub(crate) fn has_output(&self) -> bool {
        self.written < self.outbox.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.dismissed || self.outbox.len() - self.written < ROOM
    }

    /// When it has been waited for long enough, if anybody waits for it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let is_waited_for = self.dismissed || !self.has_room();
        is_waited_for.then(|| self.progress + PATIENCE)
    }

    /// Whether it takes what it is told.
    pub(crate) fn listens(&self, now: Instant) -> bool {
        self.has_output() && now < self.progress + PATIENCE
    }

    /// Lets it go: once it has taken what waits for it, or the next time. `false`: this is the next time.
    pub(crate) fn dismiss(&mut self) -> bool {
        if self.dismissed {
            return false;
        }
        let (stream, end) = match self.streams {
            Streams { tty: true, .. } => (Stream::Stdout, "\r\n"),
            Streams { stdout: true, .. } => (Stream::Stdout, "\n"),
            _ => (Stream::Stderr, "\n"),
        };
        self.output(stream, format!("{end}{NOTE}{end}").as_bytes());
        self.dismissed = true;
        self.progress = Instant::now();
        true
    }

    /// Writes what it takes. `Ok(false)`: there is nothing more to do for it.
    pub(crate) fn write(&mut self) -> io::Result<bool> {
        while self.has_output() {
            match self.socket.write(&self.outbox[self.written..]) {
                Ok(length) => {
                    self.written += length;
                    self.progress = Instant::now();
                }
                Err(error) if transient(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        self.outbox = Vec::new();
        self.written = 0;
        Ok(!self.dismissed)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether it is worth trying again later.
pub(crate) fn transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
