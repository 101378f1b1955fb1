//! Reads a layer's archive entry by entry, as a stream.
//!
//! What Go's `archive/tar` takes is taken here, the same way, for images are built and unpacked with it everywhere:
//! GNU's and PAX' long names, PAX' owners, times, sizes and extended attributes, sparse files of every version;
//! global PAX headers are passed over. The `tar` crate's reader keeps extended headers of any size in memory
//! and gives PAX' sparse files as they lie in the archive, so it is used for tests only.
//!
//! Never holds more of an archive than one extended header; never touches a file system.

use std::io::BufRead;

use rustix::fs::Timespec;

use super::{
    failure::{Failure, shown},
    header::{self, BLOCK, Header},
    pax::Pax,
    sparse::{self, Extent, Version},
};

/// No extended header (PAX records, a long name, a list of extents) above this size is read.
const EXTENDED_BYTES: u64 = 1 << 20;

/// One entry, with everything that extended headers say of it.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is in the archive: trust nothing of it.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(Contents),
    Directory,
    /// A further name of a file of this layer.
    Link(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
    Character(u32, u32),
    Block(u32, u32),
}

/// Which of a file's bytes are in the archive; the others are holes.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) size: u64,
    pub(super) extents: Vec<Extent>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    /// The twelve lower bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Timespec,
}

pub(super) struct Archive<R> {
    stream: R,
    /// Of the entry's data, and the zeros that fill its last block.
    data: u64,
    padding: u64,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<R: BufRead> Archive<R> {
    pub(super) fn new(stream: R) -> Archive<R> {
        Archive {
            stream,
            data: 0,
            padding: 0,
        }
    }

    /// The next entry; what is left of the one before is passed over. `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Failure> {
        let mut extended = Extended::default();
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else {
                return match extended {
                    Extended {
                        name: None,
                        link: None,
                        pax: None,
                    } => Ok(None),
                    _ => Err(Failure::broken("it ends after an extended header")),
                };
            };
            let size = header.size().map_err(Failure::broken)?;
            match header.kind() {
                b'L' => extended.name = Some(self.long_name(size)?),
                b'K' => extended.link = Some(self.long_name(size)?),
                b'x' | b'X' => {
                    let records = self.extended_header(size)?;
                    extended.pax = Some(Pax::parse(&records).map_err(Failure::broken)?);
                }
                b'g' => self.begin(size),
                _ => return self.entry(&header, size, extended).map(Some),
            }
        }
    }

    /// Gives a file's bytes, run by run, with the offset of each.
    pub(super) fn read_contents(
        &mut self,
        contents: &Contents,
        mut write: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for extent in &contents.extents {
            let mut offset = extent.offset;
            let end = extent.offset + extent.length;
            while offset < end {
                let bytes = fill(&mut self.stream)?;
                if bytes.is_empty() {
                    return Err(ends_early());
                }
                let length = bytes
                    .len()
                    .min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                write(offset, &bytes[..length])?;
                self.stream.consume(length);
                self.data -= length as u64;
                offset += length as u64;
            }
        }
        Ok(())
    }

    /// Reads the stream to its very end, which is after the archive's.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        loop {
            let length = fill(&mut self.stream)?.len();
            if length == 0 {
                return Ok(());
            }
            self.stream.consume(length);
        }
    }

    fn entry(&mut self, header: &Header, size: u64, extended: Extended) -> Result<Entry, Failure> {
        let pax = extended.pax.unwrap_or_default();
        let mut size = pax.size.unwrap_or(size);
        let kind = header.kind();
        // Whatever the size says, no data follow these.
        if matches!(kind, b'1'..=b'6') {
            size = 0;
        }
        self.begin(size);
        let plain_name = extended.name.or(pax.path);
        let mut name = plain_name.unwrap_or_else(|| header.name());
        let link = || extended.link.or(pax.link).unwrap_or_else(|| header.link());
        let of_entry = |name: &[u8], message: String| {
            Failure::broken(format!("its entry {}: {message}", shown(name)))
        };
        let device = || header.device().map_err(|message| of_entry(&name, message));
        let kind = match kind {
            b'\0' if name.ends_with(b"/") => Kind::Directory,
            b'S' => Kind::File(self.old_sparse(header)?),
            b'\0' | b'0' | b'7' => {
                let version = pax.sparse.version();
                let version = version.map_err(|message| of_entry(&name, message))?;
                match version {
                    None => Kind::File(Contents::whole(size)),
                    Some(version) => {
                        if let Some(sparse_name) = pax.sparse.name {
                            name = sparse_name;
                        }
                        let whole = pax.sparse.size;
                        let whole = whole.ok_or_else(|| {
                            of_entry(&name, "a sparse file without a size".into())
                        })?;
                        let extents = match version {
                            Version::Zero => pax.sparse.extents,
                            Version::One => self.extents_before_data()?,
                        };
                        Kind::File(self.sparse(extents, whole)?)
                    }
                }
            }
            b'1' => Kind::Link(link()),
            b'2' => Kind::Symlink(link()),
            b'3' => device().map(|(major, minor)| Kind::Character(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::Block(major, minor))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(Failure::Image(format!(
                    "its entry {} is of kind {:?}, which no layer may have",
                    shown(&name),
                    char::from(other)
                )));
            }
        };
        let attributes = || -> Result<Attributes, String> {
            let modified = match pax.modified {
                Some(modified) => modified,
                None => Timespec {
                    tv_sec: header.modified()?,
                    tv_nsec: 0,
                },
            };
            Ok(Attributes {
                mode: header.mode()?,
                uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
                gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
                modified,
            })
        };
        let attributes = attributes().map_err(|message| of_entry(&name, message))?;
        Ok(Entry {
            name,
            kind,
            attributes,
            xattrs: pax.xattrs.into_iter().collect(),
        })
    }

    /// GNU's own kind: extents in the header, and in blocks between it and the data.
    fn old_sparse(&mut self, header: &Header) -> Result<Contents, Failure> {
        let (mut extents, size, mut more) = header.sparse().map_err(Failure::broken)?;
        let mut blocks = 0;
        while more {
            blocks += 1;
            check_extended(blocks * BLOCK as u64)?;
            let block = self.block()?.ok_or_else(ends_early)?;
            let (further, another) = header::more_extents(&block).map_err(Failure::broken)?;
            extents.extend(further);
            more = another;
        }
        self.sparse(extents, size)
    }

    fn sparse(&self, extents: Vec<Extent>, size: u64) -> Result<Contents, Failure> {
        sparse::validate(&extents, size, self.data).map_err(Failure::broken)?;
        Ok(Contents { size, extents })
    }

    /// The list of a sparse file of version 1.0: a number a line, in whole blocks of the entry's data.
    fn extents_before_data(&mut self) -> Result<Vec<Extent>, Failure> {
        let mut numbers = Vec::new();
        let mut line = Vec::new();
        let mut expected = None;
        let mut read = 0;
        while expected.is_none_or(|expected| (numbers.len() as u64) < expected) {
            read += BLOCK as u64;
            check_extended(read)?;
            let left = self.data.checked_sub(BLOCK as u64);
            self.data = left.ok_or_else(ends_early)?;
            let block = self.block()?.ok_or_else(ends_early)?;
            for byte in block {
                if expected.is_some_and(|expected| numbers.len() as u64 == expected) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                match expected {
                    None => {
                        let count = sparse::parse_count(&line, EXTENDED_BYTES / 4);
                        expected = Some(count.map_err(Failure::broken)?);
                    }
                    Some(_) => numbers.push(sparse::decimal(&line).ok_or_else(|| {
                        Failure::broken("an extent of a sparse file is no number")
                    })?),
                }
                line.clear();
            }
        }
        let odd = || Failure::broken("an extent of a sparse file has no length");
        sparse::pairs(&numbers).ok_or_else(odd)
    }

    fn begin(&mut self, size: u64) {
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Failure> {
        let mut name = self.extended_header(size)?;
        name.truncate(
            name.iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len()),
        );
        Ok(name)
    }

    fn extended_header(&mut self, size: u64) -> Result<Vec<u8>, Failure> {
        check_extended(size)?;
        self.begin(size);
        let contents = Contents::whole(size);
        let mut bytes = Vec::new();
        self.read_contents(&contents, |_, run| {
            bytes.extend_from_slice(run);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// The next header; `None` at the end of the archive: a block of zeros, or the end of the stream.
    fn header(&mut self) -> Result<Option<Header>, Failure> {
        match self.block()? {
            Some(block) => Header::parse(block).map_err(Failure::broken),
            None => Ok(None),
        }
    }

    /// The next block; `None` if the stream has ended before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            let bytes = fill(&mut self.stream)?;
            if bytes.is_empty() {
                return if at == 0 { Ok(None) } else { Err(ends_early()) };
            }
            let length = bytes.len().min(BLOCK - at);
            block[at..at + length].copy_from_slice(&bytes[..length]);
            self.stream.consume(length);
            at += length;
        }
        Ok(Some(block))
    }

    fn pass_over(&mut self) -> Result<(), Failure> {
        let mut left = self.data + self.padding;
        (self.data, self.padding) = (0, 0);
        while left > 0 {
            let available = fill(&mut self.stream)?.len();
            if available == 0 {
                return Err(ends_early());
            }
            let length = available.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.stream.consume(length);
            left -= length as u64;
        }
        Ok(())
    }
}

impl Contents {
    fn whole(size: u64) -> Contents {
        Contents {
            size,
            extents: vec![Extent {
                offset: 0,
                length: size,
            }],
        }
    }

    /// Whether some of the file is no data: its end has to be set.
    pub(super) fn has_holes(&self) -> bool {
        let stored: u64 = self.extents.iter().map(|extent| extent.length).sum();
        stored != self.size
    }
}

fn fill<R: BufRead>(stream: &mut R) -> Result<&[u8], Failure> {
    stream.fill_buf().map_err(Failure::broken)
}

fn check_extended(size: u64) -> Result<(), Failure> {
    if size <= EXTENDED_BYTES {
        return Ok(());
    }
    Err(Failure::Image(format!(
        "an extended header of {size} bytes: at most {EXTENDED_BYTES} are read"
    )))
}

fn ends_early() -> Failure {
    Failure::broken("it ends in the middle of an entry")
}
