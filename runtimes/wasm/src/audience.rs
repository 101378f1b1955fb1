//! Those who are attached to a container's output.
//!
//! Each gets all that is written from when it joined, through a pipe of its own. While one of them has no
//! room the guest's streams have none either, so nothing is lost; one that takes nothing for `PATIENCE`
//! is told so and let go, and the guest goes on.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtimes::{Stdio, log::Stream};

use crate::{
    pipe::{Reader, Writer, pipe},
    terminal,
};

/// How long a guest waits for somebody attached.
const PATIENCE: Duration = Duration::from_secs(10);

/// What those are told who are let go.
const NOTE: &str = "\n[detached: the output was not read for 10 s]\n";

/// Everybody attached to one container.
pub(crate) struct Audience {
    /// Output and errors are one stream.
    tty: bool,
    /// `None` once the container has ended.
    members: Mutex<Option<Vec<Member>>>,
}

struct Member {
    stdout: Option<Writer>,
    stderr: Option<Writer>,
}

/// The ends of one who is attached.
#[derive(Default)]
pub(crate) struct Seat {
    pub(crate) stdout: Option<Reader>,
    pub(crate) stderr: Option<Reader>,
    /// Where what somebody types is shown.
    pub(crate) echo: Option<Writer>,
}

impl Audience {
    pub(crate) fn new(tty: bool) -> Audience {
        Audience {
            tty,
            members: Mutex::new(Some(Vec::new())),
        }
    }

    pub(crate) fn tty(&self) -> bool {
        self.tty
    }

    /// Attaches somebody to the streams they want.
    pub(crate) fn join(&self, stdio: Stdio) -> Seat {
        let Some(members) = &mut *self.members() else {
            return Seat::default();
        };
        let (stdout, out) = stdio.stdout.then(|| pipe(self.tty)).unzip();
        let errors = stdio.stderr && !self.tty;
        let (stderr, err) = errors.then(|| pipe(false)).unzip();
        let echo = stdout.clone();
        members.push(Member { stdout, stderr });
        Seat {
            stdout: out,
            stderr: err,
            echo,
        }
    }

    /// Gives everybody what a guest wrote.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        let Some(members) = &mut *self.members() else {
            return;
        };
        if members.is_empty() {
            return;
        }
        members.retain(Member::is_there);
        let bytes = terminal::shown(self.tty, bytes);
        for member in members {
            if let Some(writer) = member.writer(stream, self.tty) {
                writer.push(&bytes);
            }
        }
    }

    /// How much can be written so that everybody has room for it; `None` if nobody bounds it.
    pub(crate) fn room(&self, stream: Stream) -> Option<usize> {
        let members = self.members();
        let writers = members.iter().flatten();
        let writers = writers.filter_map(|member| member.writer(stream, self.tty));
        writers.filter_map(Writer::room).min()
    }

    /// Waits until everybody has room, and lets those go who do not make any.
    pub(crate) async fn has_room(&self, stream: Stream) {
        loop {
            let Some(full) = self.full(stream) else {
                return;
            };
            if tokio::time::timeout(PATIENCE, full.has_room())
                .await
                .is_err()
            {
                full.push(&terminal::shown(self.tty, NOTE.as_bytes()));
                full.close();
            }
        }
    }

    fn full(&self, stream: Stream) -> Option<Writer> {
        let members = self.members();
        let writers = members.iter().flatten();
        let mut writers = writers.filter_map(|member| member.writer(stream, self.tty));
        writers.find(|writer| writer.room() == Some(0)).cloned()
    }

    /// Nothing more will be written.
    pub(crate) fn close(&self) {
        let members = self.members().take();
        for member in members.iter().flatten() {
            member
                .stdout
                .iter()
                .chain(&member.stderr)
                .for_each(Writer::close);
        }
    }

    fn members(&self) -> MutexGuard<'_, Option<Vec<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn writer(&self, stream: Stream, tty: bool) -> Option<&Writer> {
        match stream {
            Stream::Stderr if !tty => self.stderr.as_ref(),
            _ => self.stdout.as_ref(),
        }
    }

    fn is_there(&self) -> bool {
        let mut writers = self.stdout.iter().chain(&self.stderr);
        writers.any(|writer| writer.room().is_some())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const BOTH: Stdio = Stdio {
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    };

    async fn read(reader: Option<Reader>) -> String {
        let mut text = String::new();
        let mut reader = reader.unwrap();
        reader.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn everybody_gets_all_from_when_they_joined() {
        let audience = Audience::new(false);
        let one = audience.join(BOTH);
        audience.write(Stream::Stdout, b"a\n");
        let two = audience.join(BOTH);
        audience.write(Stream::Stdout, b"b\n");
        audience.write(Stream::Stderr, b"c\n");
        audience.close();
        assert_eq!(read(one.stdout).await, "a\nb\n");
        assert_eq!(read(two.stdout).await, "b\n");
        assert_eq!(read(two.stderr).await, "c\n");
    }

    #[tokio::test]
    async fn a_terminal_shows_both_streams_as_one() {
        let audience = Audience::new(true);
        let one = audience.join(BOTH);
        audience.write(Stream::Stdout, b"a\n");
        audience.write(Stream::Stderr, b"b");
        audience.close();
        assert!(one.stderr.is_none());
        assert_eq!(read(one.stdout).await, "a\r\nb");
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_reads_nothing_is_let_go_and_one_who_left_is_forgotten() {
        let audience = Audience::new(false);
        let slow = audience.join(BOTH);
        let gone = audience.join(BOTH);
        drop(gone);
        while audience.room(Stream::Stdout) > Some(0) {
            audience.write(Stream::Stdout, &[b'x'; 4096]);
        }
        audience.has_room(Stream::Stdout).await;
        assert_eq!(audience.room(Stream::Stdout), None);
        let text = read(slow.stdout).await;
        assert!(text.ends_with(NOTE), "{} bytes", text.len());
    }
}
