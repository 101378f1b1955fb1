//! From what a process writes to entries: a line each, or parts of one that is too long.

use std::time::SystemTime;

use crate::{Stream, Tag, time::rfc3339, write_entry, write_entry_at};

/// A line longer than this is kept in parts, as containerd does.
pub const MAX_LINE: usize = 16 << 10;

/// What follows the last newline of one stream.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    rest: Vec<u8>,
}

impl Lines {
    /// The lines of a stream of which nothing was written yet.
    pub fn new(stream: Stream) -> Lines {
        Lines {
            stream,
            rest: Vec::new(),
        }
    }

    /// Adds what was written at `now`; entries that it completes are appended to `entries`.
    pub fn push(&mut self, now: SystemTime, mut bytes: &[u8], entries: &mut Vec<u8>) {
        let now = rfc3339(now);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.add(&now, &bytes[..end], entries);
            write_entry_at(entries, &now, self.stream, Tag::Full, &self.rest);
            self.rest.clear();
            bytes = &bytes[end + 1..];
        }
        self.add(&now, bytes, entries);
        if self.rest.is_empty() {
            // Most processes write whole lines and then nothing for long.
            self.rest = Vec::new();
        }
    }

    /// The stream has ended: what is left of it is a line.
    pub fn finish(&mut self, now: SystemTime, entries: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            write_entry(entries, now, self.stream, Tag::Full, &self.rest);
            self.rest = Vec::new();
        }
    }

    /// Adds to the line; what is too long for one entry becomes partial ones.
    fn add(&mut self, now: &str, mut text: &[u8], entries: &mut Vec<u8>) {
        while self.rest.len() + text.len() > MAX_LINE {
            let (part, more) = text.split_at(MAX_LINE - self.rest.len());
            self.rest.extend_from_slice(part);
            write_entry_at(entries, now, self.stream, Tag::Partial, &self.rest);
            self.rest.clear();
            text = more;
        }
        self.rest.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Writes each text, ends the stream, and shows the entries without times, long texts as lengths.
    #[track_caller]
    fn check(texts: &[&str], want: Expect) {
        let mut lines = Lines::new(Stream::Stdout);
        let mut entries = Vec::new();
        for text in texts {
            lines.push(SystemTime::UNIX_EPOCH, text.as_bytes(), &mut entries);
        }
        lines.finish(SystemTime::UNIX_EPOCH, &mut entries);
        let mut got = String::new();
        for line in String::from_utf8(entries).unwrap().lines() {
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
    fn a_line_is_an_entry_when_it_is_whole() {
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
