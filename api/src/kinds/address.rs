//! IP addresses and ranges of them, as fields hold them, and the sentences that say what they must be.

use std::{net::IpAddr, str::FromStr};

use crate::field::{FieldErrors, Path};

const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// What is wrong with an address that is a name: it must be written as everybody writes it.
pub(crate) fn name_problems(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => vec![ADDRESS.to_owned()],
        Ok(address) if address.to_string() != text => {
            vec![format!(
                "must be in canonical form ({:?})",
                address.to_string()
            )]
        }
        Ok(_) => Vec::new(),
    }
}

/// Reports text that is no address.
pub(crate) fn validate(path: &Path, text: &str, errors: &mut FieldErrors) {
    if text.parse::<IpAddr>().is_err() {
        errors.invalid(path, text, ADDRESS);
    }
}

/// A range: an address in it, and how many bits of it all its addresses share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    address: IpAddr,
    pub(crate) bits: u8,
}

impl FromStr for Range {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let digits = bits.bytes().all(|byte| byte.is_ascii_digit());
        let padded = bits.len() > 1 && bits.starts_with('0');
        let bits: u8 = bits.parse().map_err(|_| ())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if !digits || padded || bits > most {
            return Err(());
        }
        Ok(Self { address, bits })
    }
}

impl Range {
    /// Reads a range and reports text that is none.
    pub(crate) fn validate(path: &Path, text: &str, errors: &mut FieldErrors) -> Option<Self> {
        let range = text.parse().ok();
        if range.is_none() {
            errors.invalid(path, text, RANGE);
        }
        range
    }

    pub(crate) fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// The range with its lowest address, as everybody writes it.
    pub(crate) fn canonical(self) -> String {
        let lowest = match self.address {
            IpAddr::V4(_) => {
                let bits = (self.number() & self.mask()) >> 96;
                IpAddr::V4(u32::try_from(bits).unwrap_or_default().into())
            }
            IpAddr::V6(_) => IpAddr::V6((self.number() & self.mask()).into()),
        };
        format!("{lowest}/{}", self.bits)
    }

    /// True if every address of the other is in this one too.
    pub(crate) fn contains(self, other: Self) -> bool {
        self.is_ipv4() == other.is_ipv4()
            && self.bits <= other.bits
            && (self.number() ^ other.number()) & self.mask() == 0
    }

    /// The address as the highest bits of a number.
    fn number(self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => address.into(),
        }
    }

    fn mask(self) -> u128 {
        u128::MAX
            .checked_shl(128 - u32::from(self.bits))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn range(text: &str) -> Range {
        text.parse().expect("a range")
    }

    #[test]
    fn a_range_holds_the_smaller_ones_in_it() {
        assert!(range("10.0.0.0/8").contains(range("10.1.0.0/16")));
        assert!(range("0.0.0.0/0").contains(range("10.1.0.0/16")));
        assert!(range("fd00::/8").contains(range("fd00:1::/32")));
        assert!(!range("10.0.0.0/8").contains(range("11.0.0.0/16")));
        assert!(!range("10.0.0.0/8").contains(range("0.0.0.0/0")));
        assert!(!range("::/0").contains(range("10.0.0.0/8")));
    }

    #[test]
    fn a_range_is_known_by_its_lowest_address() {
        assert_eq!(range("10.1.2.3/8").canonical(), "10.0.0.0/8");
        assert_eq!(range("fd00::1/64").canonical(), "fd00::/64");
        for wrong in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "a/8",
            "::/129",
            "/8",
        ] {
            assert_eq!(wrong.parse::<Range>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_an_address_as_everybody_writes_it() {
        assert!(name_problems("fd00::1").is_empty());
        assert_eq!(
            name_problems("FD00::1"),
            [r#"must be in canonical form ("fd00::1")"#]
        );
        assert_eq!(name_problems("1.2.3"), [ADDRESS]);
    }
}
