//! The CRI log format: how a container's output is kept in its files.
//!
//! One entry a line: `<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`; `F` ends a line,
//! `P` is a part of one that goes on in the next entry. Source: the Kubernetes CRI logging document.
//!
//! A log that has grown to [`Rotation::max_bytes`] is rotated: `0.log` is renamed to `0.log.<time>`, and the next entry
//! begins a new `0.log`. Whoever appends renames, and nobody else: [`append`] does both, and one container's calls come one
//! at a time. A reader that holds a renamed file has all that will ever be in it as soon as there is a newer one; names of
//! renamed files sort by time ([`files`]).
//!
//! Needs nothing but `std`: the process that stays with a container writes logs too, and is to be small.

mod lines;
mod time;

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

pub use lines::{Lines, MAX_LINE};

/// How much of a container's output is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// A file that has reached this is renamed before the next entry.
    pub max_bytes: u64,
    /// Files of one attempt, with the one that is written; at least 1 is kept.
    pub max_files: usize,
}

impl Default for Rotation {
    /// Five files of 10 MiB, as in Kubernetes.
    fn default() -> Rotation {
        Rotation {
            max_bytes: 10 << 20,
            max_files: 5,
        }
    }
}

/// Appends whole entries to a log, which is rotated first if it is full.
///
/// # Errors
/// The file system's: the entries are lost, and the log ends with the one before them.
pub fn append(path: &Path, entries: &[u8], rotation: Rotation) -> io::Result<()> {
    let open = || File::options().append(true).create(true).open(path);
    let mut file = open()?;
    let mut length = file.metadata()?.len();
    if length >= rotation.max_bytes {
        rotate(path, rotation)?;
        file = open()?;
        length = 0;
    }
    file.write_all(entries).inspect_err(|_| {
        // A part of an entry would be read as the begin of the next. What cannot be cut off stays.
        let _ = file.set_len(length);
    })
}

/// Renames a full log and removes the oldest beyond the limit.
fn rotate(path: &Path, rotation: Rotation) -> io::Result<()> {
    // To the nanosecond: a flood fills several in a second.
    let mut renamed = path.as_os_str().to_owned();
    renamed.push(format!(".{}", time::compact(SystemTime::now())));
    std::fs::rename(path, PathBuf::from(renamed))?;
    let files = files(path)?;
    let surplus = (files.len() + 1).saturating_sub(rotation.max_files.max(1));
    for file in files.iter().take(surplus) {
        match std::fs::remove_file(file) {
            // A container that goes takes its logs along.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The files of a log, oldest first; the last is `path` itself, if it is there.
///
/// # Errors
/// The directory cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(Vec::new());
    };
    let mut renamed = Vec::new();
    let mut newest = None;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let file = entry.file_name();
        match file.to_str().and_then(|file| file.strip_prefix(name)) {
            Some("") => newest = Some(entry.path()),
            Some(rest) if rest.starts_with('.') => renamed.push(entry.path()),
            _ => {}
        }
    }
    renamed.sort();
    renamed.extend(newest);
    Ok(renamed)
}

/// Which of a container's outputs an entry is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// As the log file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Whether an entry ends its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    Full,
    Partial,
}

/// Appends one entry to `out`. `text` must hold no newline.
pub fn write_entry(out: &mut Vec<u8>, time: SystemTime, stream: Stream, tag: Tag, text: &[u8]) {
    write_entry_at(out, &time::rfc3339(time), stream, tag, text);
}

/// The same for a time that is text already: many entries have the same.
fn write_entry_at(out: &mut Vec<u8>, time: &str, stream: Stream, tag: Tag, text: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(match tag {
        Tag::Full => b" F ",
        Tag::Partial => b" P ",
    });
    out.extend_from_slice(text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(stream: Stream, tag: Tag, text: &str, want: Expect) {
        let mut out = Vec::new();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 6);
        write_entry(&mut out, time, stream, tag, text.as_bytes());
        want.assert_eq(&String::from_utf8_lossy(&out));
    }

    /// The files of a log and how long each is, after writing entries of these lengths.
    #[track_caller]
    fn rotates(rotation: Rotation, lengths: &[usize], want: &[u64]) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(directory.path().join("10.log"), "another").expect("write");
        for length in lengths {
            append(&path, &vec![b'x'; *length], rotation).expect("append");
        }
        let files = files(&path).expect("files");
        assert_eq!(files.last(), Some(&path));
        let sizes = files
            .iter()
            .map(|file| std::fs::metadata(file).expect("a file").len());
        assert_eq!(sizes.collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_full_log_is_renamed_and_the_oldest_goes() {
        let rotation = Rotation {
            max_bytes: 10,
            max_files: 3,
        };
        rotates(rotation, &[4, 4], &[8]);
        rotates(rotation, &[4, 4, 4, 4], &[12, 4]);
        rotates(rotation, &[11, 12, 13, 14, 15], &[13, 14, 15]);
        let only = Rotation {
            max_files: 1,
            ..rotation
        };
        rotates(only, &[11, 12], &[12]);
    }

    #[test]
    fn an_entry_is_time_stream_tag_text() {
        check(
            Stream::Stdout,
            Tag::Full,
            "hi there",
            expect![[r#"
                2023-11-14T22:13:20.000000006Z stdout F hi there
            "#]],
        );
        check(
            Stream::Stderr,
            Tag::Partial,
            "",
            expect![[r#"
                2023-11-14T22:13:20.000000006Z stderr P 
            "#]],
        );
    }
}
