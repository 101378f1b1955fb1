//! Where the last lines of a log begin: read backwards, so that a long log costs no more than a short one.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use super::Entry;

/// Read at a time.
const BLOCK: u64 = 64 << 10;
/// What of an entry is looked at: a time, a stream and a tag.
const HEAD: usize = 64;

/// The file and the place in it where the last `lines` lines begin. Parts of a line (`P`) are no lines of their own.
pub(super) fn start(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    // What has been met of the end of the log is one line already, though nothing has ended it.
    let mut count = Count {
        lines: 0,
        wanted: lines,
        open: false,
    };
    for (index, path) in files.iter().enumerate().rev() {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // Rotated away: what is left begins after it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((index + 1, 0)),
            Err(error) => return Err(error),
        };
        if let Some(place) = backwards(&mut file, &mut count)? {
            return Ok((index, place));
        }
    }
    Ok((0, 0))
}

struct Count {
    lines: u64,
    wanted: u64,
    /// Something comes after the entry that is looked at.
    open: bool,
}

impl Count {
    /// Takes the entry before; true if the wanted lines begin after it.
    fn take(&mut self, head: &[u8]) -> bool {
        let full = Entry::parse(head).is_none_or(|entry| entry.full);
        let ends_line = full || !self.open;
        if ends_line {
            if self.lines == self.wanted {
                return true;
            }
            self.lines += 1;
        }
        self.open = true;
        false
    }
}

/// Looks at a file's entries from its end on; answers where the wanted lines begin, if they begin in it.
fn backwards(file: &mut File, count: &mut Count) -> io::Result<Option<u64>> {
    let mut begin = file.metadata()?.len();
    // The end of the entry that is being looked for, and its first bytes as far as they are read.
    let mut end = begin;
    let mut head: Vec<u8> = Vec::new();
    let mut block = Vec::new();
    let mut first = true;
    while begin > 0 {
        let from = begin.saturating_sub(BLOCK);
        block.resize(usize::try_from(begin - from).unwrap_or_default(), 0);
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut block)?;
        let mut after = block.len();
        for at in (0..block.len()).rev().filter(|at| block[*at] == b'\n') {
            let next = from + at as u64 + 1;
            // The newline that ends the last entry begins no other.
            if !(std::mem::take(&mut first) && next == end) {
                let mut start = block[at + 1..after].to_vec();
                start.extend_from_slice(&head);
                start.truncate(HEAD);
                if count.take(&start) {
                    return Ok(Some(end));
                }
            }
            end = next;
            after = at + 1;
            head.clear();
        }
        first = false;
        let mut start = block[..after].to_vec();
        start.extend_from_slice(&head);
        start.truncate(HEAD);
        head = start;
        begin = from;
    }
    // The first entry of the file.
    if end > 0 && count.take(&head) {
        return Ok(Some(end));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Files of entries; each letter is one: `f` ends a line, `p` does not, `L` is long and ends one.
    fn write(files: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut paths = Vec::new();
        for (index, entries) in files.iter().enumerate() {
            let mut text = String::new();
            for entry in entries.chars() {
                let (tag, length) = match entry {
                    'p' => ('P', 3),
                    'L' => ('F', 100_000),
                    _ => ('F', 3),
                };
                let words = "x".repeat(length);
                text += &format!("2026-01-01T00:00:01.000000001Z stdout {tag} {words}\n");
            }
            let path = directory.path().join(index.to_string());
            std::fs::write(&path, text).expect("write");
            paths.push(path);
        }
        (directory, paths)
    }

    /// The entries from the start on.
    fn rest(files: &[&str], lines: u64) -> String {
        let (_directory, paths) = write(files);
        let (index, place) = start(&paths, lines).expect("a start");
        let mut rest = String::new();
        for (at, entries) in files.iter().enumerate().skip(index) {
            let mut position = 0;
            for entry in entries.chars() {
                if at > index || position >= place {
                    rest.push(entry);
                }
                position += 40 + if entry == 'L' { 100_000 } else { 3 } + 1;
            }
            assert!(at > index || place <= position);
        }
        rest
    }

    #[track_caller]
    fn check(files: &[&str], lines: u64, expected: &str) {
        assert_eq!(
            rest(files, lines),
            expected,
            "the last {lines} of {files:?}"
        );
    }

    #[test]
    fn the_last_lines_are_counted_over_files_and_parts() {
        check(&["fff"], 0, "");
        check(&["fff"], 2, "ff");
        check(&["fff"], 9, "fff");
        check(&["fppf"], 1, "ppf");
        check(&["fppf", "fpp"], 1, "pp");
        check(&["fppf", "fpp"], 2, "fpp");
        check(&["fp", "pf"], 1, "ppf");
        check(&["fLf", "", "L"], 3, "LfL");
        check(&[], 3, "");
    }

    proptest! {
        #[test]
        fn the_last_lines_are_what_a_reader_from_the_start_would_find(
            files in proptest::collection::vec("[fp]{0,6}", 1..4),
            lines in 0u64..8,
        ) {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let all = files.concat();
            let mut ends: Vec<usize> = all.match_indices('f').map(|(at, _)| at + 1).collect();
            if all.ends_with('p') {
                ends.push(all.len());
            }
            let skipped = ends.len().saturating_sub(lines as usize);
            let from = skipped.checked_sub(1).map_or(0, |last| ends[last]);
            prop_assert_eq!(rest(&files, lines), &all[from..]);
        }
    }
}
