//! Containers' logs: where they are, and reading them.
//!
//! The runtimes write them in CRI format (`<time> <stream> <F|P> <text>`), one file an attempt; this module reads and
//! never writes. A log that is followed is looked at again every [`FOLLOW_PERIOD`] for as long as the caller listens
//! and the container runs.

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, stream};
use jiff::Timestamp;
use runtimes::PodRef;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

/// Between looks at a followed log's end.
const FOLLOW_PERIOD: Duration = Duration::from_millis(50);
/// Read, and sent, at a time.
const CHUNK: usize = 64 << 10;
/// A line longer than this is sent in parts.
const LONGEST_LINE: usize = 1 << 20;

/// The directory of a pod's logs.
pub(crate) fn pod_directory(log_dir: &Path, pod: &PodRef) -> PathBuf {
    log_dir.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
}

/// The log of one attempt of one container.
pub(crate) fn file(log_dir: &Path, pod: &PodRef, container: &str, attempt: u32) -> PathBuf {
    pod_directory(log_dir, pod)
        .join(container)
        .join(format!("{attempt}.log"))
}

/// The newest attempt of a container that left a log in its directory.
pub(crate) fn newest_attempt(directory: &Path) -> Option<u32> {
    let files = std::fs::read_dir(directory).ok()?.flatten();
    let attempt = |file: std::fs::DirEntry| {
        let name = file.file_name();
        let (attempt, _) = name.to_str()?.split_once(".log")?;
        attempt.parse().ok()
    };
    files.filter_map(attempt).max()
}

/// Says whether a container may still write.
pub(crate) type Running = Box<dyn FnMut() -> bool + Send>;

/// What of a log is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Selection {
    /// At most that many lines from the end.
    pub(crate) tail: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    /// Puts its time before each line.
    pub(crate) timestamps: bool,
    /// At most that many bytes.
    pub(crate) limit: Option<u64>,
}

/// Reads a log from where the selection begins. `running` says whether more may come: while it does, the end of the
/// file is waited at; pass a function that answers false to read what is there.
pub(crate) async fn read(
    path: &Path,
    selection: Selection,
    running: Running,
) -> std::io::Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>> {
    let mut file = File::open(path).await?;
    if let Some(lines) = selection.tail {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let reader = Reader {
        file,
        selection,
        running,
        pending: Vec::new(),
        left: selection.limit,
        last: false,
    };
    Ok(stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|chunk| (chunk, reader)))
    }))
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let mut end = file.metadata().await?.len();
    if lines == 0 {
        return Ok(end);
    }
    // The newline that ends the last line begins no other.
    let (mut newlines, mut first) = (0, true);
    let mut block = vec![0; CHUNK];
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let length = usize::try_from(end - begin).unwrap_or(CHUNK);
        file.seek(SeekFrom::Start(begin)).await?;
        file.read_exact(&mut block[..length]).await?;
        for at in (0..length).rev() {
            if block[at] == b'\n' && !std::mem::take(&mut first) {
                newlines += 1;
                if newlines == lines {
                    return Ok(begin + at as u64 + 1);
                }
            }
            first = false;
        }
        end = begin;
    }
    Ok(0)
}

struct Reader {
    file: File,
    selection: Selection,
    running: Running,
    /// A line that is not complete.
    pending: Vec<u8>,
    left: Option<u64>,
    /// The container has ended: what is in the file now is all.
    last: bool,
}

impl Reader {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut block = vec![0; CHUNK];
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            let length = self.file.read(&mut block).await?;
            if length == 0 {
                if self.last {
                    return Ok(None);
                }
                // Looked at once more after the container ended: it may have written in between.
                self.last = !(self.running)();
                if !self.last {
                    tokio::time::sleep(FOLLOW_PERIOD).await;
                }
                continue;
            }
            self.pending.extend_from_slice(&block[..length]);
            let mut out = self.lines();
            if let Some(left) = &mut self.left {
                out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= out.len() as u64;
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }

    /// Takes the complete lines out of `pending`.
    fn lines(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut from = 0;
        while let Some(length) = self.pending[from..].iter().position(|byte| *byte == b'\n') {
            line(&self.pending[from..from + length], self.selection, &mut out);
            from += length + 1;
        }
        if self.pending.len() - from > LONGEST_LINE {
            out.extend_from_slice(&self.pending[from..]);
            from = self.pending.len();
        }
        self.pending.drain(..from);
        out
    }
}

/// Writes what the caller sees of one line of the file.
fn line(line: &[u8], selection: Selection, out: &mut Vec<u8>) {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (Some(time), Some(_stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let text = parts.next().unwrap_or_default();
    if let Some(since) = selection.since {
        let time = std::str::from_utf8(time)
            .ok()
            .and_then(|time| time.parse::<Timestamp>().ok());
        if time.is_none_or(|time| time < since) {
            return;
        }
    }
    if selection.timestamps {
        out.extend_from_slice(time);
        out.push(b' ');
    }
    out.extend_from_slice(text);
    if tag != b"P" {
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures::TryStreamExt;

    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000001Z stdout F one\n\
        2026-01-01T00:00:02Z stderr P tw\n\
        2026-01-01T00:00:02Z stderr F o\n\
        2026-01-01T00:00:03Z stdout F three\n";

    #[track_caller]
    fn check(selection: Selection, expected: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(LOG.as_bytes()).expect("write");
        let text = runtime.block_on(async {
            let stream = read(file.path(), selection, Box::new(|| false))
                .await
                .expect("open");
            stream
                .try_collect::<Vec<Bytes>>()
                .await
                .expect("read")
                .concat()
        });
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_log_is_read_as_the_container_wrote_it() {
        check(Selection::default(), "one\ntwo\nthree\n");
    }

    #[test]
    fn the_tail_begins_that_many_lines_before_the_end() {
        let tail = |lines| Selection {
            tail: Some(lines),
            ..Selection::default()
        };
        check(tail(0), "");
        check(tail(1), "three\n");
        check(tail(3), "two\nthree\n");
        check(tail(4), "one\ntwo\nthree\n");
        check(tail(99), "one\ntwo\nthree\n");
    }

    #[test]
    fn lines_before_the_wanted_time_are_left_out() {
        let since = "2026-01-01T00:00:02Z".parse().ok();
        check(
            Selection {
                since,
                ..Selection::default()
            },
            "two\nthree\n",
        );
    }

    #[test]
    fn times_are_shown_when_asked_for_and_bytes_are_limited() {
        let selection = Selection {
            timestamps: true,
            tail: Some(1),
            ..Selection::default()
        };
        check(selection, "2026-01-01T00:00:03Z three\n");
        check(
            Selection {
                limit: Some(5),
                ..Selection::default()
            },
            "one\nt",
        );
    }

    #[tokio::test]
    async fn a_followed_log_ends_when_the_container_has_ended_and_everything_is_read() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(LOG.as_bytes()).expect("write");
        let (running, is_running) = tokio::sync::watch::channel(true);
        let stream = read(
            file.path(),
            Selection::default(),
            Box::new(move || *is_running.borrow()),
        )
        .await
        .expect("open");
        let mut stream = Box::pin(stream);
        assert_eq!(
            stream.try_next().await.expect("read").as_deref(),
            Some(&b"one\ntwo\nthree\n"[..])
        );
        file.write_all(b"2026-01-01T00:00:04Z stdout F four\n")
            .expect("write");
        assert_eq!(
            stream.try_next().await.expect("read").as_deref(),
            Some(&b"four\n"[..])
        );
        running.send_replace(false);
        assert_eq!(stream.try_next().await.expect("read"), None);
    }
}
