//! Files with holes: which bytes of them an archive has.
//!
//! GNU tar tells it in four ways: in headers of their own kind (`header`), and in PAX records of versions 0.0,
//! 0.1 and 1.0, of which the last keeps the list before the file's data.

/// A run of bytes that is in the archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What PAX records say of a sparse file.
#[derive(Default, Debug)]
pub(super) struct Records {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Of 0.0 and 0.1.
    pub(super) extents: Vec<Extent>,
    /// An offset of 0.0 whose length is still to come.
    pub(super) offset: Option<u64>,
}

/// Where a sparse file's list of extents is.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Version {
    /// In the records.
    Zero,
    /// Before the data.
    One,
}

impl Records {
    /// `None`: the file is whole.
    pub(super) fn version(&self) -> Result<Option<Version>, String> {
        match (self.major, self.minor) {
            (Some(1), Some(0)) => Ok(Some(Version::One)),
            (Some(0), Some(0 | 1)) => Ok(Some(Version::Zero)),
            (None, None) if !self.extents.is_empty() => Ok(Some(Version::Zero)),
            (None, None) => Ok(None),
            (major, minor) => Err(format!(
                "a sparse file of version {}.{}",
                major.unwrap_or(0),
                minor.unwrap_or(0)
            )),
        }
    }

    /// The list of 0.1: offsets and lengths in turn, with commas between them.
    pub(super) fn set_map(&mut self, text: &[u8]) -> Option<()> {
        let numbers: Option<Vec<u64>> = text.split(|byte| *byte == b',').map(decimal).collect();
        self.extents = pairs(&numbers?)?;
        Some(())
    }
}

/// How many numbers follow the first of a 1.0 list, which is the number of extents.
pub(super) fn parse_count(line: &[u8], most: u64) -> Result<u64, String> {
    match decimal(line) {
        Some(count) if count <= most => Ok(2 * count),
        Some(count) => Err(format!(
            "a sparse file of {count} extents: at most {most} are read"
        )),
        None => Err("a sparse file's list of extents has no number".to_owned()),
    }
}

/// Offsets and lengths in turn.
pub(super) fn pairs(numbers: &[u64]) -> Option<Vec<Extent>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    let extent = |&[offset, length]: &[u64; 2]| Extent { offset, length };
    rest.is_empty().then(|| pairs.iter().map(extent).collect())
}

/// Extents follow each other, stay in the file, and are together what the archive has of it.
pub(super) fn validate(extents: &[Extent], size: u64, stored: u64) -> Result<(), String> {
    let mut end = 0;
    let mut total = 0;
    for extent in extents {
        let next = extent.offset.checked_add(extent.length);
        match next {
            Some(next) if extent.offset >= end && next <= size => end = next,
            _ => {
                return Err("the extents of a sparse file overlap, or are outside of it".to_owned());
            }
        }
        total += extent.length;
    }
    if total != stored {
        return Err(format!(
            "a sparse file has {stored} bytes of data, but extents of {total}"
        ));
    }
    Ok(())
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = digits.then_some(text)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}
