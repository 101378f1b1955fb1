//! Containers' logs: where they are, and reading them.
//!
//! - [`tail`]: where the last lines begin.
//! - [`reader`]: the lines somebody wants, one file after the other, and those that are yet to come.
//!
//! The runtimes write them in CRI format (`<time> <stream> <F|P> <text>`), one log an attempt, and rotate them
//! ([`runtimes::log`]); this module reads, and removes what nobody can ask for any more.

mod reader;
mod tail;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use runtimes::PodRef;

pub(crate) use reader::{Follow, read};

/// The log of a first attempt, in its directory.
pub(crate) const FIRST: &str = "0.log";

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

/// Removes all files of one attempt's log.
pub(crate) fn remove(log: &Path) -> std::io::Result<()> {
    for file in runtimes::log::files(log)? {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

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
    /// One of the two outputs only.
    pub(crate) stream: Option<runtimes::log::Stream>,
}

/// One entry of a log file, without its newline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    /// It ends its line.
    full: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None` if it is not written as an entry is.
    fn parse(line: &'a [u8]) -> Option<Entry<'a>> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Entry {
            time,
            stream,
            full: tag != b"P",
            text: parts.next().unwrap_or_default(),
        })
    }
}
