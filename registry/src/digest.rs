//! Digests: what content is named by. Pure.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256, Sha512};

/// `sha256:…` or `sha512:…`, in lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// What everybody uses.
    Sha256([u8; 32]),
    /// What the specification allows beside it.
    Sha512([u8; 64]),
}

/// A text is no digest.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{0:?} is no digest: sha256: and 64, or sha512: and 128 lower-case hexadecimal digits")]
pub struct InvalidDigest(pub String);

impl Digest {
    /// The sha256 of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::Sha256(Sha256::digest(bytes).into())
    }

    /// `sha256`
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Sha512(_) => "sha512",
        }
    }

    /// The digits.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let mut text = String::with_capacity(2 * self.bytes().len());
        for byte in self.bytes() {
            write!(text, "{byte:02x}").expect("a String takes whatever is written to it");
        }
        text
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        let parsed = match text.split_once(':') {
            Some(("sha256", hex)) => parse(hex).map(Digest::Sha256),
            Some(("sha512", hex)) => parse(hex).map(Digest::Sha512),
            _ => None,
        };
        parsed.ok_or_else(|| InvalidDigest(text.chars().take(200).collect()))
    }
}

fn parse<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let hex = hex.as_bytes();
    let mut bytes = [0; N];
    if hex.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Takes the digest of what passes.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Of the same algorithm as `digest`.
    pub(crate) fn like(digest: &Digest) -> Hasher {
        match digest {
            Digest::Sha256(_) => Hasher::sha256(),
            Digest::Sha512(_) => Hasher::Sha512(Box::default()),
        }
    }

    pub(crate) fn sha256() -> Hasher {
        Hasher::Sha256(Sha256::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Hasher::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let sha512 = format!("sha512:{}", "0f".repeat(64));
        for text in [Digest::of(b"").to_string(), sha512] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        let long = format!("sha256:{}", "0".repeat(66));
        let md5 = format!("md5:{}", "0".repeat(32));
        for wrong in ["", "sha256:", "sha256", &upper, &long, &md5, "sha256:../.."] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
