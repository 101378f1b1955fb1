//! Frames of SPDY/3.1, and how they are read and written. Pure: bytes in, frames out.
//!
//! A data frame is given in pieces, as its bytes come: its length costs nothing. A control frame is short, or it
//! is refused. A frame that cannot be read ends the connection: the compression of headers is lost with it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{Compressor, Decompressor, Headers};

/// Bytes of a control frame, behind its first eight.
const LONGEST_CONTROL: usize = 16 * 1024;
/// Bytes of one piece of a data frame.
pub(crate) const LONGEST_PIECE: usize = 32 * 1024;
/// Bytes of a data frame that is written.
const LONGEST_DATA: usize = (1 << 24) - 1;
const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
const ID: u32 = 0x7fff_ffff;

/// Why a stream is reset.
pub(crate) mod reset {
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const INVALID_STREAM: u32 = 2;
    pub(crate) const REFUSED_STREAM: u32 = 3;
}

/// A frame. Stream ids are 1 to 2³¹ − 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        stream: u32,
        associated: u32,
        priority: u8,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// Ends a stream in both directions.
    RstStream { stream: u32, status: u32 },
    /// Ids and values; nothing here acts on them.
    Settings(Vec<(u32, u32)>),
    /// Answered with the same id by who did not choose it: clients choose odd ones.
    Ping(u32),
    /// No more streams are taken.
    GoAway { last: u32, status: u32 },
    /// More headers of a stream.
    Headers {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// More may be sent. Kubernetes' clients neither send nor heed it.
    WindowUpdate { stream: u32, delta: u32 },
    /// Bytes of a stream: a whole frame, or a piece of one of which the last alone has `fin`.
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
}

/// What came is not SPDY/3.1.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum FrameError {
    #[error("SPDY version {0} is not supported: 3 is")]
    Version(u16),
    #[error("a SPDY control frame of {0} bytes is longer than {LONGEST_CONTROL}")]
    TooLong(usize),
    #[error("a SPDY frame cannot be read: {0}")]
    Malformed(&'static str),
    #[error("the headers of a SPDY frame cannot be decompressed")]
    Compression,
}

/// The rest of a data frame.
struct Rest {
    stream: u32,
    fin: bool,
    length: usize,
}

/// Reads frames.
pub struct Decoder {
    headers: Decompressor,
    data: Option<Rest>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// For a connection's start.
    pub fn new() -> Decoder {
        Decoder {
            headers: Decompressor::new(),
            data: None,
        }
    }

    /// Takes the next frame, or the next piece of one, out of `input`; `None` needs more bytes.
    ///
    /// # Errors
    /// What came is not SPDY/3.1; nothing after it can be read.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(rest) = &mut self.data {
                let length = rest.length.min(LONGEST_PIECE).min(input.len());
                if length == 0 && rest.length > 0 {
                    return Ok(None);
                }
                rest.length -= length;
                let last = rest.length == 0;
                let frame = Frame::Data {
                    stream: rest.stream,
                    fin: rest.fin && last,
                    bytes: input.split_to(length).freeze(),
                };
                if last {
                    self.data = None;
                }
                return Ok(Some(frame));
            }
            let Some((mut head, _)) = input.split_at_checked(8) else {
                return Ok(None);
            };
            let first = head.get_u32();
            let second = head.get_u32();
            let flags = (second >> 24) as u8;
            let length = usize::try_from(second & 0x00ff_ffff).expect("24 bits fit");
            if first & !ID == 0 {
                self.data = Some(Rest {
                    stream: id(first)?,
                    fin: flags & FIN != 0,
                    length,
                });
                input.advance(8);
                continue;
            }
            let version = (first >> 16 & 0x7fff) as u16;
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if length > LONGEST_CONTROL {
                return Err(FrameError::TooLong(length));
            }
            if input.len() < 8 + length {
                return Ok(None);
            }
            input.advance(8);
            let body = input.split_to(length);
            if let Some(frame) = self.control(first as u16, flags, &body)? {
                return Ok(Some(frame));
            }
        }
    }

    /// `None` is a kind of frame that may be ignored.
    fn control(
        &mut self,
        kind: u16,
        flags: u8,
        mut body: &[u8],
    ) -> Result<Option<Frame>, FrameError> {
        let body = &mut body;
        let fin = flags & FIN != 0;
        let frame = match kind {
            1 => {
                let stream = id(number(body)?)?;
                let associated = number(body)? & ID;
                let priority = byte(body)? >> 5;
                byte(body)?;
                Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional: flags & UNIDIRECTIONAL != 0,
                    headers: self.headers.decompress(std::mem::take(body))?,
                }
            }
            2 => Frame::SynReply {
                stream: id(number(body)?)?,
                fin,
                headers: self.headers.decompress(std::mem::take(body))?,
            },
            3 => Frame::RstStream {
                stream: id(number(body)?)?,
                status: number(body)?,
            },
            4 => {
                let count = number(body)?;
                let entry = |body: &mut &[u8]| Ok((number(body)? & 0x00ff_ffff, number(body)?));
                // Each takes eight bytes of a short frame: a false count ends soon.
                let entries = (0..count)
                    .map(|_| entry(body))
                    .collect::<Result<_, FrameError>>()?;
                Frame::Settings(entries)
            }
            6 => Frame::Ping(number(body)?),
            7 => Frame::GoAway {
                last: number(body)? & ID,
                status: number(body)?,
            },
            8 => Frame::Headers {
                stream: id(number(body)?)?,
                fin,
                headers: self.headers.decompress(std::mem::take(body))?,
            },
            9 => Frame::WindowUpdate {
                stream: number(body)? & ID,
                delta: number(body)? & ID,
            },
            _ => return Ok(None),
        };
        if body.is_empty() {
            Ok(Some(frame))
        } else {
            Err(FrameError::Malformed("it is longer than its kind"))
        }
    }
}

fn number(body: &mut &[u8]) -> Result<u32, FrameError> {
    body.try_get_u32()
        .map_err(|_| FrameError::Malformed("it is cut off"))
}

fn byte(body: &mut &[u8]) -> Result<u8, FrameError> {
    body.try_get_u8()
        .map_err(|_| FrameError::Malformed("it is cut off"))
}

fn id(number: u32) -> Result<u32, FrameError> {
    match number & ID {
        0 => Err(FrameError::Malformed("its stream is 0")),
        id => Ok(id),
    }
}

/// Writes frames.
pub struct Encoder(Compressor);

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

impl Encoder {
    /// For a connection's start.
    pub fn new() -> Encoder {
        Encoder(Compressor::new())
    }

    /// Appends a frame; data that is too long for one becomes several.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                let block = self.0.compress(headers);
                let flags = (u8::from(*fin) * FIN) | (u8::from(*unidirectional) * UNIDIRECTIONAL);
                control(out, 1, flags, 10 + block.len());
                out.put_u32(*stream);
                out.put_u32(*associated);
                out.put_u8(priority << 5);
                out.put_u8(0);
                out.put_slice(&block);
            }
            Frame::SynReply {
                stream,
                fin,
                headers,
            } => self.block(2, *stream, *fin, headers, out),
            Frame::RstStream { stream, status } => pair(out, 3, *stream, *status),
            Frame::Settings(entries) => {
                control(out, 4, 0, 4 + 8 * entries.len());
                out.put_u32(u32::try_from(entries.len()).expect("few settings"));
                for (id, value) in entries {
                    out.put_u32(*id);
                    out.put_u32(*value);
                }
            }
            Frame::Ping(id) => {
                control(out, 6, 0, 4);
                out.put_u32(*id);
            }
            Frame::GoAway { last, status } => pair(out, 7, *last, *status),
            Frame::Headers {
                stream,
                fin,
                headers,
            } => self.block(8, *stream, *fin, headers, out),
            Frame::WindowUpdate { stream, delta } => pair(out, 9, *stream, *delta),
            Frame::Data { stream, fin, bytes } => data(out, *stream, *fin, bytes),
        }
    }

    fn block(&mut self, kind: u16, stream: u32, fin: bool, headers: &Headers, out: &mut BytesMut) {
        let block = self.0.compress(headers);
        control(out, kind, u8::from(fin) * FIN, 4 + block.len());
        out.put_u32(stream);
        out.put_slice(&block);
    }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    head(out, flags, length);
}

fn head(out: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).expect("frames are shorter than 16 MiB");
    out.put_u32(u32::from(flags) << 24 | length);
}

fn pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    control(out, kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
}

fn data(out: &mut BytesMut, stream: u32, fin: bool, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let (part, after) = rest.split_at(rest.len().min(LONGEST_DATA));
        rest = after;
        out.put_u32(stream);
        head(out, u8::from(fin && rest.is_empty()) * FIN, part.len());
        out.put_slice(part);
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "frame/tests.rs"]
mod tests;
