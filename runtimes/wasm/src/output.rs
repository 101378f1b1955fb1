//! A guest's stdout and stderr: line by line into its container's log, as they are to those attached.
//!
//! The log is opened for each write and never held: rotating it is renaming it, and a pod at rest holds
//! no file. A log that cannot be written loses lines; the guest is never told
//! and never waits for it.

use std::{
    io::Write as _,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use runtimes::log::{Stream, Tag, write_entry};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::audience::Audience;

/// A line longer than this is kept in parts, as containerd does.
const MAX_LINE: usize = 16 << 10;

/// How much a guest may write in one call.
const PERMIT: usize = 64 << 10;

/// A container's log file.
pub(crate) struct Log {
    path: PathBuf,
    /// Held while appending, so that entries of concurrent requests don't mix.
    turn: Mutex<()>,
}

impl Log {
    pub(crate) fn new(path: PathBuf) -> Log {
        Log {
            path,
            turn: Mutex::new(()),
        }
    }

    /// Appends a line of our own about the container to its stderr.
    pub(crate) fn note(&self, text: &str) {
        let mut entries = Vec::new();
        for line in text.lines() {
            let now = SystemTime::now();
            write_entry(
                &mut entries,
                now,
                Stream::Stderr,
                Tag::Full,
                line.as_bytes(),
            );
        }
        self.append(&entries);
    }

    fn append(&self, entries: &[u8]) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut options = std::fs::File::options();
        let file = options.append(true).create(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(entries));
        if let Err(error) = written {
            tracing::debug!(%error, path = %self.path.display(), "container log not written");
        }
    }
}

/// One output of one instance. Clones share what is not yet a whole line; it is written when the last
/// of them is dropped.
#[derive(Clone)]
pub(crate) struct Output {
    line: Arc<Mutex<Line>>,
    audience: Arc<Audience>,
    stream: Stream,
}

struct Line {
    log: Arc<Log>,
    stream: Stream,
    /// What follows the last newline.
    rest: Vec<u8>,
}

impl Output {
    pub(crate) fn new(log: Arc<Log>, audience: Arc<Audience>, stream: Stream) -> Output {
        let line = Line {
            log,
            // A terminal has one stream.
            stream: if audience.tty() {
                Stream::Stdout
            } else {
                stream
            },
            rest: Vec::new(),
        };
        Output {
            line: Arc::new(Mutex::new(line)),
            audience,
            stream,
        }
    }

    fn write(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.write(bytes);
        self.audience.write(self.stream, bytes);
    }
}

impl Line {
    fn write(&mut self, mut bytes: &[u8]) {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.push(&mut entries, now, &bytes[..end]);
            write_entry(&mut entries, now, self.stream, Tag::Full, &self.rest);
            self.rest.clear();
            bytes = &bytes[end + 1..];
        }
        self.push(&mut entries, now, bytes);
        if self.rest.is_empty() {
            // Most guests write whole lines and then nothing for long.
            self.rest = Vec::new();
        }
        if !entries.is_empty() {
            self.log.append(&entries);
        }
    }

    /// Adds to the line; what is too long for one entry becomes partial ones.
    fn push(&mut self, entries: &mut Vec<u8>, now: SystemTime, mut text: &[u8]) {
        while self.rest.len() + text.len() > MAX_LINE {
            let (part, more) = text.split_at(MAX_LINE - self.rest.len());
            self.rest.extend_from_slice(part);
            write_entry(entries, now, self.stream, Tag::Partial, &self.rest);
            self.rest.clear();
            text = more;
        }
        self.rest.extend_from_slice(text);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            let mut entry = Vec::new();
            let now = SystemTime::now();
            write_entry(&mut entry, now, self.stream, Tag::Full, &self.rest);
            self.log.append(&entry);
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.audience.tty()
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.audience.has_room(self.stream).await;
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Output::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let room = self.audience.room(self.stream);
        Ok(room.map_or(PERMIT, |room| room.min(PERMIT)))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Output::write(&self, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Writes each text, closes the stream, and shows the log without times, long texts as lengths.
    #[track_caller]
    fn check(texts: &[&str], want: Expect) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let output = Output::new(
            Arc::new(Log::new(path.clone())),
            Arc::new(Audience::new(false)),
            Stream::Stdout,
        );
        for text in texts {
            output.write(text.as_bytes());
        }
        drop(output);
        let mut got = String::new();
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let entry = line.split_once(' ').unwrap().1;
            let (head, text) = entry.split_at(9);
            if text.len() > 80 {
                got += &format!("{head}({} bytes)\n", text.len());
            } else {
                got += &format!("{head}{text}\n");
            }
        }
        want.assert_eq(&got);
    }

    #[test]
    fn a_line_is_written_when_it_is_whole() {
        check(
            &["a", "b\nc", "\n\nd\n"],
            expect![[r#"
                stdout F ab
                stdout F c
                stdout F 
                stdout F d
            "#]],
        );
    }

    #[test]
    fn what_is_left_at_the_end_is_a_line() {
        check(
            &["bye"],
            expect![[r#"
                stdout F bye
            "#]],
        );
    }

    #[test]
    fn a_long_line_is_kept_in_parts() {
        let long = "x".repeat(MAX_LINE + 100);
        check(
            &[&long, "\nnext\n"],
            expect![[r#"
                stdout P (16384 bytes)
                stdout F (100 bytes)
                stdout F next
            "#]],
        );
    }
}
