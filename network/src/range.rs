//! An IPv4 range in CIDR form. Pure.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use anyhow::{Context, bail};

/// An IPv4 range: `10.64.0.0/18`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    base: Ipv4Addr,
    prefix: u8,
}

impl Range {
    /// Its first address.
    pub fn base(&self) -> Ipv4Addr {
        self.base
    }

    /// The number of leading bits that its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How many addresses it has.
    pub fn size(&self) -> u64 {
        1 << (32 - self.prefix)
    }

    /// Whether the address is one of its own.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some()
    }

    /// Whether every address of `other` is one of its own.
    pub fn covers(&self, other: &Range) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    /// The address `offset` places after the first; `None` beyond the end.
    pub fn nth(&self, offset: u32) -> Option<Ipv4Addr> {
        (u64::from(offset) < self.size()).then(|| Ipv4Addr::from(u32::from(self.base) + offset))
    }

    /// How many places after the first the address is; `None` if it is outside.
    pub fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        let offset = u32::from(address).checked_sub(u32::from(self.base))?;
        (u64::from(offset) < self.size()).then_some(offset)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Range {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let wanted = || format!("{text:?} is not an IPv4 range such as 10.64.0.0/18");
        let (base, prefix) = text.split_once('/').with_context(wanted)?;
        let base: Ipv4Addr = base.parse().with_context(wanted)?;
        let prefix: u8 = prefix.parse().with_context(wanted)?;
        if prefix == 0 || prefix > 32 {
            bail!("the prefix of {text:?} must be from 1 to 32");
        }
        let range = Self { base, prefix };
        if u64::from(u32::from(base)) % range.size() != 0 {
            bail!("{text:?} must start at the first address of its range");
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_reads_back_as_it_was_written() {
        for text in [
            "10.64.0.0/18",
            "10.43.0.0/16",
            "127.42.0.0/16",
            "1.2.3.4/32",
        ] {
            assert_eq!(range(text).to_string(), text);
        }
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        for text in [
            "",
            "10.64.0.0",
            "10.64.0.1/18",
            "10.64.0.0/33",
            "10.64.0.0/0",
            "fd00::/64",
            "a/8",
        ] {
            assert!(text.parse::<Range>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn offsets_and_addresses_agree() {
        let pods = range("10.64.64.0/18");
        assert_eq!(pods.nth(5), Some(Ipv4Addr::new(10, 64, 64, 5)));
        assert_eq!(pods.nth(16_384), None);
        assert_eq!(pods.offset(Ipv4Addr::new(10, 64, 127, 255)), Some(16_383));
        assert_eq!(pods.offset(Ipv4Addr::new(10, 64, 128, 0)), None);
        assert!(range("10.64.0.0/10").covers(&pods) && !pods.covers(&range("10.64.0.0/10")));
    }
}
