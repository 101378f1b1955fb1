//! A guest's stdout and stderr: line by line into its container's log, as they are to those attached.
//!
//! The log is opened for each write and never held, so a pod at rest holds no file; it is rotated as
//! [`runtimes::log`] says. A log that cannot be written loses lines; the guest is never told. One that writes
//! more than [`Pace`] allows waits, and nothing of what it writes is lost.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use runtimes::log::{self, Lines, Rotation, Stream, Tag, write_entry};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::audience::Audience;

/// How much a guest may write in one call.
const PERMIT: usize = 64 << 10;

/// How fast a container's log may grow for long, in bytes a second, and how much may come at once.
const PACE: f64 = 2_097_152.0;
const BURST: f64 = 8_388_608.0;

/// How much a container may write now.
struct Pace {
    /// Bytes; less than none once more was written than there was room for.
    left: f64,
    at: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace {
            left: BURST,
            at: Instant::now(),
        }
    }

    /// Counts what was written.
    fn spend(&mut self, bytes: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * PACE).min(BURST) - bytes as f64;
        self.at = now;
    }

    /// How long until something may be written.
    fn wait(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        Duration::from_secs_f64(((1.0 - self.left) / PACE - passed).max(0.0))
    }
}

/// A container's log file.
pub(crate) struct Log {
    path: PathBuf,
    /// Held while appending, so that entries of concurrent requests don't mix and one of them rotates.
    turn: Mutex<Pace>,
}

impl Log {
    pub(crate) fn new(path: PathBuf) -> Log {
        Log {
            path,
            turn: Mutex::new(Pace::new()),
        }
    }

    /// How long a guest that wants to write has to wait.
    fn wait(&self) -> Duration {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.wait(Instant::now())
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
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.spend(entries.len(), Instant::now());
        if let Err(error) = log::append(&self.path, entries, Rotation::default()) {
            tracing::debug!(%error, path = %self.path.display(), "container log not written");
        }
    }
}

/// One output of one instance. Clones share what is not yet a whole line; it is written when the last
/// of them is dropped.
#[derive(Clone)]
pub(crate) struct Output {
    log: Arc<Log>,
    line: Arc<Mutex<Line>>,
    audience: Arc<Audience>,
    stream: Stream,
}

struct Line {
    log: Arc<Log>,
    lines: Lines,
}

impl Output {
    pub(crate) fn new(log: Arc<Log>, audience: Arc<Audience>, stream: Stream) -> Output {
        let line = Line {
            log: log.clone(),
            // A terminal has one stream.
            lines: Lines::new(if audience.tty() {
                Stream::Stdout
            } else {
                stream
            }),
        };
        Output {
            log,
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
    fn write(&mut self, bytes: &[u8]) {
        let mut entries = Vec::new();
        self.lines.push(SystemTime::now(), bytes, &mut entries);
        if !entries.is_empty() {
            self.log.append(&entries);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut entries = Vec::new();
        self.lines.finish(SystemTime::now(), &mut entries);
        if !entries.is_empty() {
            self.log.append(&entries);
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
        tokio::time::sleep(self.log.wait()).await;
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
        if !self.log.wait().is_zero() {
            return Ok(0);
        }
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

    /// Writes each text, closes the stream, and shows the log without times.
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
            got += line.split_once(' ').unwrap().1;
            got += "\n";
        }
        want.assert_eq(&got);
    }

    #[test]
    fn lines_are_written_and_what_is_left_at_the_end() {
        check(
            &["a", "b\nc", "\n\nd"],
            expect![[r#"
                stdout F ab
                stdout F c
                stdout F 
                stdout F d
            "#]],
        );
    }

    #[test]
    fn a_flood_waits_and_goes_on_at_its_pace() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace {
            left: BURST,
            at: start,
        };
        pace.spend(8 << 20, start);
        assert!(!pace.wait(start).is_zero());
        assert!(pace.wait(after(1)).is_zero());
        pace.spend(4 << 20, after(1));
        assert!(!pace.wait(after(1_990)).is_zero());
        assert!(pace.wait(after(2_010)).is_zero());
        pace.spend(0, after(3_600_000));
        assert!(pace.left <= BURST);
    }
}
