//! What is said on a shim's socket, and between a shim and who starts it.
//!
//! Both directions are frames: a byte that says which, the length of what follows (4 bytes, little-endian, at
//! most [`MAX_PAYLOAD`]), and that. On the socket in a container's directory ([`crate::SOCKET`]):
//!
//! | who    | frame           | payload                                     |
//! |--------|-----------------|---------------------------------------------|
//! | shim   | `V` version     | a byte; said first                          |
//! | client | `A` attach      | the streams it wants, a byte of bits        |
//! | shim   | `a` attached    | those it gets, and whether it is a terminal |
//! | shim   | `o`, `e` output | bytes of stdout or stderr                   |
//! | client | `I` input       | bytes                                       |
//! | client | `E` end         | of its input                                |
//! | client | `R` resize      | columns and rows, 2 bytes each              |
//! | client | `W` wait        |                                             |
//! | shim   | `X` ended       | an [`Exit`] as text; after all output       |
//!
//! A client that closes its connection has left. One that reads nothing is let go: the connection is closed
//! without an `X`. Between a shim and who starts it, on the connection that is its standard input:
//!
//! | who     | frame       | payload                                                             |
//! |---------|-------------|---------------------------------------------------------------------|
//! | starter | `P` process | none, with open files: the process, and its stdin, stdout and stderr |
//! | shim    | `S` started | with a terminal for `exec`, its other end                           |
//! | shim    | `F` failed  | runc's words, or the shim's own                                     |
//! | starter | `Q` abandon | the container is wanted no more, and is removed                     |
//! | shim    | `X` ended   | as above                                                            |

use runtimes_log::Stream;

use crate::Exit;

/// No frame's payload is longer.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// A frame's bytes before its payload.
pub const HEADER: usize = 5;

/// Which streams somebody has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Streams {
    fn bits(self) -> u8 {
        let bits = [self.stdin, self.stdout, self.stderr, self.tty];
        bits.iter()
            .rev()
            .fold(0, |all, bit| all << 1 | u8::from(*bit))
    }

    fn of(bits: u8) -> Streams {
        Streams {
            stdin: bits & 1 != 0,
            stdout: bits & 2 != 0,
            stderr: bits & 4 != 0,
            tty: bits & 8 != 0,
        }
    }
}

/// What is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    Version(u8),
    Attach(Streams),
    Attached(Streams),
    Output(Stream, &'a [u8]),
    Input(&'a [u8]),
    End,
    Resize { columns: u16, rows: u16 },
    Wait,
    Ended(Exit),
    Process,
    Started,
    Failed(&'a str),
    Abandon,
}

/// What was read is no frame of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a frame of the shim's protocol")
    }
}

impl std::error::Error for Broken {}

impl<'a> Frame<'a> {
    /// Appends the frame; of a payload that is too long, the begin.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (kind, payload): (u8, &[u8]) = match self {
            Frame::Version(version) => (b'V', &[*version]),
            Frame::Attach(streams) => (b'A', &[streams.bits()]),
            Frame::Attached(streams) => (b'a', &[streams.bits()]),
            Frame::Output(Stream::Stdout, bytes) => (b'o', bytes),
            Frame::Output(Stream::Stderr, bytes) => (b'e', bytes),
            Frame::Input(bytes) => (b'I', bytes),
            Frame::End => (b'E', &[]),
            Frame::Resize { columns, rows } => {
                let [a, b] = columns.to_le_bytes();
                let [c, d] = rows.to_le_bytes();
                (b'R', &[a, b, c, d])
            }
            Frame::Wait => (b'W', &[]),
            Frame::Ended(exit) => (b'X', &exit.to_string().into_bytes()),
            Frame::Process => (b'P', &[]),
            Frame::Started => (b'S', &[]),
            Frame::Failed(message) => (b'F', message.as_bytes()),
            Frame::Abandon => (b'Q', &[]),
        };
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        out.push(kind);
        let length = u32::try_from(payload.len()).expect("a payload is at most 64 KiB");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(payload);
    }

    /// The frame alone.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The frame that `bytes` begin with and how long it is; `None` until it is whole.
    ///
    /// # Errors
    /// It is no frame, and nothing after it can be read.
    pub fn read(bytes: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, Broken> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = payload_length(header)?;
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        Ok(Some((Frame::parse(header[0], payload)?, HEADER + length)))
    }

    /// The frame of a kind with this payload.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(kind: u8, payload: &'a [u8]) -> Result<Frame<'a>, Broken> {
        Ok(match (kind, payload) {
            (b'V', [version, ..]) => Frame::Version(*version),
            (b'A', [bits]) => Frame::Attach(Streams::of(*bits)),
            (b'a', [bits]) => Frame::Attached(Streams::of(*bits)),
            (b'o', bytes) => Frame::Output(Stream::Stdout, bytes),
            (b'e', bytes) => Frame::Output(Stream::Stderr, bytes),
            (b'I', bytes) => Frame::Input(bytes),
            (b'E', []) => Frame::End,
            (b'R', &[a, b, c, d]) => Frame::Resize {
                columns: u16::from_le_bytes([a, b]),
                rows: u16::from_le_bytes([c, d]),
            },
            (b'W', []) => Frame::Wait,
            (b'X', text) => Frame::Ended(utf8(text)?.parse().map_err(|_| Broken)?),
            (b'P', []) => Frame::Process,
            (b'S', []) => Frame::Started,
            (b'F', text) => Frame::Failed(utf8(text)?),
            (b'Q', []) => Frame::Abandon,
            _ => return Err(Broken),
        })
    }
}

/// How long the payload is that follows a header.
///
/// # Errors
/// Longer than any is.
pub fn payload_length(header: &[u8; HEADER]) -> Result<usize, Broken> {
    let [_, length @ ..] = header;
    usize::try_from(u32::from_le_bytes(*length))
        .ok()
        .filter(|length| *length <= MAX_PAYLOAD)
        .ok_or(Broken)
}

fn utf8(text: &[u8]) -> Result<&str, Broken> {
    std::str::from_utf8(text).map_err(|_| Broken)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let streams = Streams {
            stdin: true,
            stderr: true,
            ..Streams::default()
        };
        let exit = Exit {
            code: 42,
            at: SystemTime::UNIX_EPOCH,
        };
        let (columns, rows) = (300, 24);
        for frame in [
            Frame::Version(1),
            Frame::Attach(streams),
            Frame::Attached(Streams {
                tty: true,
                ..streams
            }),
            Frame::Output(Stream::Stdout, b"out"),
            Frame::Output(Stream::Stderr, b""),
            Frame::Input(b"in\n"),
            Frame::End,
            Frame::Resize { columns, rows },
            Frame::Wait,
            Frame::Ended(exit),
            Frame::Process,
            Frame::Started,
            Frame::Failed("no"),
            Frame::Abandon,
        ] {
            let mut bytes = frame.to_vec();
            for length in 0..bytes.len() {
                assert_eq!(Frame::read(&bytes[..length]), Ok(None));
            }
            let length = bytes.len();
            bytes.push(b'?');
            assert_eq!(Frame::read(&bytes), Ok(Some((frame, length))));
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [
            b"?\0\0\0\0".as_slice(),
            b"I\xff\xff\xff\xff",
            b"R\x01\0\0\0\0",
            b"X\x01\0\0\0x",
        ] {
            assert_eq!(Frame::read(bytes), Err(Broken));
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(bytes: Vec<u8>, kind in "[VAaoeIERWXPSFK]", payload: Vec<u8>) {
            let mut framed = kind.into_bytes();
            framed.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
            framed.extend_from_slice(&payload);
            for bytes in [bytes, framed] {
                if let Ok(Some((frame, length))) = Frame::read(&bytes) {
                    let written = frame.to_vec();
                    proptest::prop_assert_eq!(Frame::read(&written), Ok(Some((frame, written.len()))));
                    proptest::prop_assert!(length <= bytes.len());
                }
            }
        }
    }
}
