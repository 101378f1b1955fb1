//! As much of DER as private keys are written in.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]` and `[1]`, explicit.
pub(super) const CONTEXT_0: u8 = 0xA0;
pub(super) const CONTEXT_1: u8 = 0xA1;

/// A value with its tag and length.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - skipped) as u8);
        out.extend_from_slice(&bytes[skipped..]);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A number that is not negative.
pub(super) fn write_unsigned(big_endian: &[u8]) -> Vec<u8> {
    let skipped = big_endian.iter().take_while(|byte| **byte == 0).count();
    let digits = &big_endian[skipped..];
    match digits.first() {
        None => write(INTEGER, &[&[0]]),
        Some(0x80..) => write(INTEGER, &[&[0], digits]),
        Some(_) => write(INTEGER, &[digits]),
    }
}

/// The value of that tag at the start, and what follows it; `None`: there is no such value.
pub(super) fn read(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let long = usize::from(first & 0x7F);
    let (length, rest) = if *first < 0x80 {
        (long, rest)
    } else if (1..=4).contains(&long) {
        let (size, rest) = rest.split_at_checked(long)?;
        let length = size
            .iter()
            .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        (length, rest)
    } else {
        return None;
    };
    rest.split_at_checked(length)
}
