//! Name/value blocks of SPDY/3.1, and their compression: one zlib stream for each direction of a connection,
//! flushed after every block.

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{dictionary::DICTIONARY, frame::FrameError};

/// Bytes of one block once it is decompressed.
const LONGEST_BLOCK: usize = 16 * 1024;
/// Headers of one block.
const MOST_HEADERS: usize = 64;

/// The headers of a stream, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Headers of these names (in lower case) and values.
    pub fn new<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Headers {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Headers(headers.into_iter().map(owned).collect())
    }

    /// The value of a header; its name is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    fn parse(mut block: &[u8]) -> Result<Headers, FrameError> {
        let count = number(&mut block)?;
        if count > MOST_HEADERS {
            return Err(FrameError::Malformed("too many headers"));
        }
        let mut headers = Headers::default();
        for _ in 0..count {
            let name = text(&mut block)?;
            let value = text(&mut block)?;
            if name.is_empty() || name.chars().any(char::is_uppercase) {
                return Err(FrameError::Malformed(
                    "a header's name is not in lower case",
                ));
            }
            if headers.get(&name).is_some() {
                return Err(FrameError::Malformed("a header comes twice"));
            }
            headers.0.push((name, value));
        }
        if block.is_empty() {
            Ok(headers)
        } else {
            Err(FrameError::Malformed("bytes after the headers"))
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.0.len());
        for (name, value) in &self.0 {
            for text in [name, value] {
                put(out, text.len());
                out.put_slice(text.as_bytes());
            }
        }
    }
}

fn put(out: &mut Vec<u8>, number: usize) {
    out.put_u32(u32::try_from(number).expect("headers are shorter than 4 GiB"));
}

fn number(block: &mut &[u8]) -> Result<usize, FrameError> {
    let number = block
        .try_get_u32()
        .map_err(|_| FrameError::Malformed("headers are cut off"))?;
    // 32 bits fit wherever this runs; if not, the number is too large for any block.
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

fn text(block: &mut &[u8]) -> Result<String, FrameError> {
    let length = number(block)?;
    let (text, rest) = block
        .split_at_checked(length)
        .ok_or(FrameError::Malformed("headers are cut off"))?;
    *block = rest;
    let text = std::str::from_utf8(text);
    Ok(text
        .map_err(|_| FrameError::Malformed("a header is not text"))?
        .to_owned())
}

/// Compresses the blocks of one direction.
pub(super) struct Compressor(Compress);

impl Compressor {
    pub(super) fn new() -> Compressor {
        let mut stream = Compress::new(Compression::fast(), true);
        stream
            .set_dictionary(&DICTIONARY)
            .expect("a new zlib stream takes a dictionary");
        Compressor(stream)
    }

    pub(super) fn compress(&mut self, headers: &Headers) -> Vec<u8> {
        let mut block = Vec::new();
        headers.write(&mut block);
        let mut rest = &block[..];
        let mut out = Vec::with_capacity(256);
        loop {
            if out.len() == out.capacity() {
                out.reserve(256);
            }
            let before = self.0.total_in();
            let status = self.0.compress_vec(rest, &mut out, FlushCompress::Sync);
            status.expect("a zlib stream takes any input");
            rest = &rest[progress(before, self.0.total_in())..];
            // A flush is complete when there is room left behind it.
            if rest.is_empty() && out.len() < out.capacity() {
                return out;
            }
        }
    }
}

/// Decompresses the blocks of one direction.
pub(super) struct Decompressor(Decompress);

impl Decompressor {
    pub(super) fn new() -> Decompressor {
        Decompressor(Decompress::new(true))
    }

    pub(super) fn decompress(&mut self, mut input: &[u8]) -> Result<Headers, FrameError> {
        let mut block = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            let before = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(input, &mut chunk, FlushDecompress::Sync);
            let taken = progress(before.0, self.0.total_in());
            let made = progress(before.1, self.0.total_out());
            input = &input[taken..];
            block.extend_from_slice(&chunk[..made]);
            if block.len() > LONGEST_BLOCK {
                return Err(FrameError::Malformed("headers are too long"));
            }
            match status {
                Ok(Status::StreamEnd) => return Err(FrameError::Compression),
                Ok(_) if taken == 0 && made == 0 => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(&DICTIONARY);
                    set.map_err(|_| FrameError::Compression)?;
                }
                Err(_) => return Err(FrameError::Compression),
            }
        }
        if !input.is_empty() {
            return Err(FrameError::Compression);
        }
        Headers::parse(&block)
    }
}

fn progress(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("no more than the buffer holds")
}
