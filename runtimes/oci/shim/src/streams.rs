//! A container's streams while it runs: from its output to the log and to those attached, and from them to its input.

mod input;

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::{Duration, Instant},
};

use runtimes_log::Stream;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
    termios::{Winsize, tcsetwinsize},
};
use wk_shim::{Exit, wire};

pub(crate) use self::input::Input;
use crate::{
    children::Children,
    client::{Client, PATIENCE},
    log::Log,
};

/// How much is read at once.
const CHUNK: usize = 32 << 10;

/// More connections wait until others have gone.
const MAX_CLIENTS: usize = 64;

/// What is read of a container's output once it has ended, if others go on writing there.
const LAST_WORDS: usize = 1 << 20;

/// A container's streams, and those who are connected.
pub(crate) struct Streams {
    /// Those that have not ended.
    pub(crate) outputs: Vec<(OwnedFd, Stream)>,
    pub(crate) input: Option<Input>,
    /// The same as the output and the input, if they are one.
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) log: Log,
    pub(crate) listener: UnixListener,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    ended: Option<Exit>,
}

/// What there is something to do for.
enum Ready {
    Children,
    Listener,
    Output(usize),
    Input,
    Client(usize),
}

impl Streams {
    pub(crate) fn new(log: Log, listener: UnixListener) -> Streams {
        Streams {
            outputs: Vec::new(),
            input: None,
            terminal: None,
            log,
            listener,
            clients: Vec::new(),
            buffer: vec![0; CHUNK],
            ended: None,
        }
    }

    /// Waits until something can be done, at most until `until`, and does it.
    pub(crate) fn turn(&mut self, children: &Children, until: Option<Instant>) -> io::Result<()> {
        let ready = self.wait(children, until)?;
        let mut gone = Vec::new();
        // From the last to the first, so that what is removed moves none of those to come.
        for (what, events) in ready.into_iter().rev() {
            match what {
                // The next turn begins with looking at them.
                Ready::Children => {}
                Ready::Listener => self.accept(),
                Ready::Output(index) => {
                    if !self.read_output(index) {
                        self.outputs.remove(index);
                    }
                }
                Ready::Input => {
                    if let Some(input) = &mut self.input
                        && !input.write()
                    {
                        self.input = None;
                    }
                }
                Ready::Client(index) => {
                    if !self.serve(index, events) {
                        gone.push(index);
                    }
                }
            }
        }
        gone.sort_unstable();
        for index in gone.into_iter().rev() {
            self.leave(index);
        }
        self.dismiss_those_who_do_not_read();
        Ok(())
    }

    fn wait(
        &self,
        children: &Children,
        until: Option<Instant>,
    ) -> io::Result<Vec<(Ready, PollFlags)>> {
        let mut what = vec![Ready::Children];
        let mut files = vec![PollFd::new(children, PollFlags::IN)];
        if self.clients.len() < MAX_CLIENTS {
            what.push(Ready::Listener);
            files.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        if self.clients.iter().all(Client::has_room) {
            for (index, (file, _)) in self.outputs.iter().enumerate() {
                what.push(Ready::Output(index));
                files.push(PollFd::new(file, PollFlags::IN));
            }
        }
        if let Some(input) = self.input.as_ref().filter(|input| input.is_pending()) {
            what.push(Ready::Input);
            files.push(PollFd::new(input, PollFlags::OUT));
        }
        let reads = self.input.as_ref().is_none_or(Input::has_room);
        for (index, client) in self.clients.iter().enumerate() {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, reads && client.speaks());
            events.set(PollFlags::OUT, client.has_output());
            // Asked for nothing, the system would still tell that a client has left, again and again.
            if !events.is_empty() {
                what.push(Ready::Client(index));
                files.push(PollFd::new(client, events));
            }
        }
        let deadlines = self.clients.iter().filter_map(Client::deadline);
        let timeout = deadlines.chain(until).min().map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            // Up to the next millisecond: one that is left over would be waited for in vain.
            timespec(left + Duration::from_millis(1))
        });
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events: Vec<_> = files.iter().map(PollFd::revents).collect();
        let ready = what.into_iter().zip(events);
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    fn accept(&mut self) {
        let Ok((socket, _)) = self.listener.accept() else {
            return;
        };
        if let Ok(client) = Client::new(socket) {
            self.clients.push(client);
        }
    }

    /// Reads once from an output. `false`: it has ended.
    fn read_output(&mut self, index: usize) -> bool {
        let (file, stream) = &self.outputs[index];
        let stream = *stream;
        match read(file, &mut self.buffer) {
            Ok(0) => false,
            Ok(length) => {
                let bytes = &self.buffer[..length];
                self.log.write(stream, bytes);
                for client in &mut self.clients {
                    client.output(stream, bytes);
                }
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            // Of a terminal, that nobody has it open any more.
            Err(_) => false,
        }
    }

    /// Reads what is there of the outputs, though somebody may have no room for it, and ends them.
    pub(crate) fn end_outputs(&mut self) {
        for (file, stream) in std::mem::take(&mut self.outputs) {
            let mut left = LAST_WORDS;
            while left > 0 {
                let Ok(length @ 1..) = read(&file, &mut self.buffer) else {
                    break;
                };
                let bytes = &self.buffer[..length];
                self.log.write(stream, bytes);
                for client in &mut self.clients {
                    client.output(stream, bytes);
                }
                left = left.saturating_sub(length);
            }
        }
        self.log.finish();
    }

    /// `false`: the client has left, or is to.
    fn serve(&mut self, index: usize, events: PollFlags) -> bool {
        let client = &mut self.clients[index];
        let away = PollFlags::HUP | PollFlags::ERR;
        if events.intersects(PollFlags::OUT | away) && client.has_output() {
            match client.write() {
                Ok(true) => {}
                Ok(false) => return false,
                // What it said before it left is still to be read.
                Err(_) if client.speaks() => client.ends_output(),
                Err(_) => return false,
            }
        }
        if !client.speaks() || !events.intersects(PollFlags::IN | away) {
            return true;
        }
        if !self.input.as_ref().is_none_or(Input::has_room) {
            return true;
        }
        match client.read(&mut self.buffer) {
            Ok(true) => self.listen(index),
            Ok(false) | Err(_) => false,
        }
    }

    /// Does what a client has said. `false`: it is not to be understood.
    fn listen(&mut self, index: usize) -> bool {
        let said = self.clients[index].take_inbox();
        let mut rest = said.as_slice();
        loop {
            match wire::Frame::read(rest) {
                Ok(Some((frame, length))) => {
                    if !self.obey(index, &frame) {
                        return false;
                    }
                    rest = &rest[length..];
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        self.clients[index].keep(rest);
        true
    }

    fn obey(&mut self, index: usize, frame: &wire::Frame<'_>) -> bool {
        let client = &mut self.clients[index];
        match frame {
            wire::Frame::Attach(wanted) => {
                let tty = self.terminal.is_some();
                client.attach(wire::Streams {
                    stdin: wanted.stdin && self.input.is_some(),
                    stdout: wanted.stdout,
                    stderr: wanted.stderr && !tty,
                    tty,
                });
                if let Some(exit) = self.ended {
                    client.ended(exit);
                }
            }
            wire::Frame::Wait => {
                client.wait();
                if let Some(exit) = self.ended {
                    client.ended(exit);
                }
            }
            wire::Frame::Input(bytes) => {
                if let Some(input) = self.input.as_mut().filter(|_| client.streams().stdin) {
                    input.push(bytes);
                }
            }
            wire::Frame::End => self.end_input(index),
            wire::Frame::Resize { columns, rows } => {
                if let Some(terminal) = &self.terminal {
                    // A terminal that nobody has open any more needs no size.
                    let _ = tcsetwinsize(terminal, size(*columns, *rows));
                }
            }
            _ => return false,
        }
        true
    }

    /// A client gives no more input, and the container gets none if it was for one client only.
    fn end_input(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.streams().stdin {
            client.ends_input();
            if let Some(input) = &mut self.input {
                input.left();
            }
        }
        if self.input.as_ref().is_some_and(Input::is_done) {
            self.input = None;
        }
    }

    fn leave(&mut self, index: usize) {
        self.end_input(index);
        self.clients.remove(index);
    }

    fn dismiss_those_who_do_not_read(&mut self) {
        let now = Instant::now();
        for index in (0..self.clients.len()).rev() {
            let client = &mut self.clients[index];
            let is_late = client.deadline().is_some_and(|deadline| deadline <= now);
            if is_late && !client.dismiss() {
                self.leave(index);
            }
        }
    }

    /// Tells everybody the container's end, and those who come later.
    pub(crate) fn tell(&mut self, exit: Exit) {
        self.ended = Some(exit);
        self.input = None;
        for client in &mut self.clients {
            client.ended(exit);
        }
    }

    /// Whether somebody is still to be told something, and takes it.
    pub(crate) fn is_heard(&self) -> bool {
        let now = Instant::now();
        self.clients.iter().any(|client| client.listens(now))
    }
}

/// How long those are waited for who are told of the end.
pub(crate) const FAREWELL: Duration = PATIENCE;

pub(crate) fn timespec(duration: Duration) -> Timespec {
    duration.try_into().unwrap_or(Timespec {
        tv_sec: 3600,
        tv_nsec: 0,
    })
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Makes reading from and writing to a file return at once.
pub(crate) fn set_nonblocking(file: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(())
}
