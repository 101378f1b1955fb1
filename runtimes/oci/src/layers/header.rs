//! The 512 bytes before an entry of an archive: names, numbers and kind where the format puts them.
//!
//! Reads what Go's `archive/tar` reads (builders of images use it): V7, ustar, and GNU's numbers beyond octal.

use super::sparse::Extent;

pub(super) const BLOCK: usize = 512;

/// A header block whose checksum is right.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    /// `None` for a block of zeros, which ends an archive.
    pub(super) fn parse(block: [u8; BLOCK]) -> Result<Option<Header>, String> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header(block);
        let sum = header.number("checksum", 148, 8)?;
        let blank = 8 * i128::from(b' ');
        let rest = || header.0[..148].iter().chain(&header.0[156..]);
        let unsigned: i128 = blank + rest().map(|byte| i128::from(*byte)).sum::<i128>();
        // Some old programs added signed bytes.
        let signed: i128 = blank
            + rest()
                .map(|byte| i128::from(byte.cast_signed()))
                .sum::<i128>();
        if sum != unsigned && sum != signed {
            return Err("the checksum of a header is wrong".to_owned());
        }
        Ok(Some(header))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        let prefix = until_nul(&self.0[345..500]);
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u32, String> {
        // Some programs put the file's type there too.
        let mode = self.number("mode", 100, 8)?;
        Ok(u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<u32, String> {
        owner("uid", self.number("uid", 108, 8)?)
    }

    pub(super) fn gid(&self) -> Result<u32, String> {
        owner("gid", self.number("gid", 116, 8)?)
    }

    pub(super) fn size(&self) -> Result<u64, String> {
        size(self.number("size", 124, 12)?)
    }

    pub(super) fn modified(&self) -> Result<i64, String> {
        let seconds = self.number("mtime", 136, 12)?;
        i64::try_from(seconds).map_err(|_| format!("{seconds} is no time"))
    }

    pub(super) fn device(&self) -> Result<(u32, u32), String> {
        let part = |name, at| {
            let number = self.number(name, at, 8)?;
            u32::try_from(number).map_err(|_| format!("{number} is no device number"))
        };
        Ok((part("devmajor", 329)?, part("devminor", 337)?))
    }

    /// The extents that a header of GNU's sparse kind has room for, the file's whole size, and whether blocks
    /// with more extents follow.
    pub(super) fn sparse(&self) -> Result<(Vec<Extent>, u64, bool), String> {
        let extents = extents(&self.0[386..482])?;
        let size = size(self.number("realsize", 483, 12)?)?;
        Ok((extents, size, self.0[482] != 0))
    }

    /// A number in octal, or in GNU's and star's form of big-endian bytes with the uppermost bit set.
    fn number(&self, name: &str, at: usize, length: usize) -> Result<i128, String> {
        number(&self.0[at..at + length])
            .ok_or_else(|| format!("the {name} of a header is no number"))
    }
}

/// A block of further extents, and whether another follows.
pub(super) fn more_extents(block: &[u8; BLOCK]) -> Result<(Vec<Extent>, bool), String> {
    Ok((extents(&block[..504])?, block[504] != 0))
}

fn extents(fields: &[u8]) -> Result<Vec<Extent>, String> {
    let parse = |pair: &[u8]| -> Option<Extent> {
        Some(Extent {
            offset: u64::try_from(number(&pair[..12])?).ok()?,
            length: u64::try_from(number(&pair[12..])?).ok()?,
        })
    };
    fields
        .chunks_exact(24)
        .take_while(|pair| pair[0] != 0)
        .map(|pair| parse(pair).ok_or_else(|| "an extent of a sparse file is no number".to_owned()))
        .collect()
}

fn number(field: &[u8]) -> Option<i128> {
    let first = field[0];
    if first & 0x80 != 0 {
        let sign = if first & 0x40 != 0 { -1 } else { 0 };
        let start = (sign << 6) | i128::from(first & 0x3f);
        let rest = field[1..].iter();
        return Some(rest.fold(start, |number, byte| (number << 8) | i128::from(*byte)));
    }
    let text = field.trim_ascii_start();
    let text = until_nul(text).trim_ascii_end();
    if text.is_empty() {
        return Some(0);
    }
    let text = std::str::from_utf8(text).ok()?;
    i128::from_str_radix(text, 8).ok()
}

/// Sizes are told as signed numbers by some formats.
pub(super) fn size(number: i128) -> Result<u64, String> {
    let most = i128::from(i64::MAX);
    match u64::try_from(number) {
        Ok(size) if number <= most => Ok(size),
        _ => Err(format!("{number} is no size")),
    }
}

/// The uppermost number stands for "as it is" in the kernel's calls.
pub(super) fn owner(name: &str, number: i128) -> Result<u32, String> {
    match u32::try_from(number) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(format!("{number} is no {name}")),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
