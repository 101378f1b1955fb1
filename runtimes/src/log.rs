//! The CRI log format: how a container's output is kept in its file.
//!
//! One entry a line: `<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <text>`; `F` ends a line,
//! `P` is a part of one that goes on in the next entry. Source: the Kubernetes CRI logging document.
//! Pure but for the time it is given.

use std::time::SystemTime;

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
    out.extend_from_slice(rfc3339(time).as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(match tag {
        Tag::Full => b" F ",
        Tag::Partial => b" P ",
    });
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// `2026-01-02T03:04:05.000000006Z`: nine digits of a second always, so that entries sort as text.
fn rfc3339(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
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
