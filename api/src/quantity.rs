//! Quantities: `100m`, `1Gi`, `1e3`, `0.5`.
//!
//! A number of nanos, exact, and the family of suffixes it was written with. Kubernetes' rules:
//! finer than a nano rounds away from zero, binary quantities end at 2^63-1, and the canonical form
//! has no fraction and the largest suffix that fits (`0.5` is `500m`, `1024Mi` is `1Gi`).
//! Decimal quantities end near 10^29; Kubernetes goes on.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;

/// An amount of something. Compares by value: `1000m` equals `1`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// `n u m k M G T P E`
    Decimal,
    /// `Ki Mi Gi Ti Pi Ei`
    Binary,
    /// `e3`
    Exponent,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is malformed or out of range.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Billionths, written in decimal.
    pub fn from_nanos(nanos: u64) -> Self {
        Self {
            nanos: nanos.into(),
            format: Format::Decimal,
        }
    }

    /// Whole ones, written in powers of 1024.
    pub fn from_bytes(bytes: u64) -> Self {
        Self {
            nanos: i128::from(bytes) * NANOS,
            format: Format::Binary,
        }
    }

    /// The amount in billionths.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn millis(&self) -> i128 {
        divide(self.nanos, NANOS / 1000)
    }

    /// The amount, rounded away from zero.
    pub fn value(&self) -> i128 {
        divide(self.nanos, NANOS)
    }

    /// So many times this. Beyond what can be held it ends there.
    #[must_use]
    pub fn times(self, number: u32) -> Self {
        Self {
            nanos: self.nanos.saturating_mul(number.into()),
            format: self.format,
        }
    }

    /// The sum, written as this one is, or as the other if this one is nothing. Beyond what can be
    /// held it ends there.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format: if self.nanos == 0 { other } else { self }.format,
        }
    }

    /// The difference, written as [`Self::plus`] writes the sum.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self {
            nanos: other.nanos.saturating_neg(),
            ..other
        })
    }

    /// A whole number.
    pub fn whole(number: u32) -> Self {
        Self {
            nanos: i128::from(number) * NANOS,
            format: Format::Decimal,
        }
    }

    /// True if there is no fraction.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANOS == 0
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if !number.contains(|c: char| c.is_ascii_digit()) || !is_suffix(suffix) {
            return Err(QuantityError::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (format, factor, exponent) = interpret(suffix)?;
        let nanos = scale(whole, fraction, factor, exponent)?;
        let nanos = match format {
            Format::Binary => nanos.min(i128::from(i64::MAX) * NANOS),
            Format::Decimal | Format::Exponent => nanos,
        };
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// The suffix as the regular expression has it; whether it exists is another question.
fn is_suffix(text: &str) -> bool {
    let rest = text.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The family, a factor, and a power of ten.
fn interpret(suffix: &str) -> Result<(Format, i128, i64), QuantityError> {
    let decimal = |exponent| Ok((Format::Decimal, 1, exponent));
    let binary = |bits: u32| Ok((Format::Binary, 1 << bits, 0));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        suffix => suffix
            .strip_prefix(['e', 'E'])
            .and_then(|exponent| exponent.parse().ok())
            .map(|exponent| (Format::Exponent, 1, exponent))
            .ok_or(QuantityError::Suffix),
    }
}

/// `whole.fraction` times a factor and a power of ten, in nanos; what is finer rounds up.
fn scale(whole: &str, fraction: &str, factor: i128, exponent: i64) -> Result<i128, QuantityError> {
    /// More digits of a fraction than this cannot matter: they are below a nano, even for `Ei`.
    const FINEST: usize = 27;
    let (kept, dropped) = fraction.split_at_checked(FINEST).unwrap_or((fraction, ""));
    let kept = kept.trim_end_matches('0');
    let digits = whole
        .bytes()
        .chain(kept.bytes())
        .map(|byte| i128::from(byte - b'0'));
    let mut number: i128 = 0;
    for digit in digits {
        let next = number
            .checked_mul(10)
            .and_then(|number| number.checked_add(digit));
        number = next.ok_or(QuantityError::Numeric)?;
    }
    let rest = i128::from(dropped.bytes().any(|digit| digit != b'0'));
    if number == 0 {
        return Ok(rest);
    }
    let digits = i64::try_from(kept.len()).map_err(|_| QuantityError::Numeric)?;
    let power = exponent.saturating_add(9).saturating_sub(digits);
    let number = number.checked_mul(factor).ok_or(QuantityError::Numeric)?;
    let ten = |power: i64| {
        u32::try_from(power)
            .ok()
            .and_then(|power| 10_i128.checked_pow(power))
    };
    if power >= 0 {
        ten(power)
            .and_then(|ten| number.checked_mul(ten))
            .ok_or(QuantityError::Numeric)
    } else {
        // A divisor beyond the range leaves less than a nano.
        Ok(power
            .checked_neg()
            .and_then(ten)
            .map_or(1, |ten| divide(number, ten)))
    }
}

/// Divides, rounding away from zero.
fn divide(number: i128, by: i128) -> i128 {
    number / by + (number % by).signum()
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANOS;
        match self.format {
            Format::Binary if !small && self.is_whole() => binary(self.nanos / NANOS, f),
            Format::Exponent => decimal(self.nanos, false, f),
            Format::Decimal | Format::Binary => decimal(self.nanos, true, f),
        }
    }
}

fn binary(mut number: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().peekable();
    let mut suffix = suffixes.next().copied().unwrap_or_default();
    while number % 1024 == 0 {
        let Some(next) = suffixes.next() else { break };
        number /= 1024;
        suffix = next;
    }
    write!(f, "{number}{suffix}")
}

/// With a suffix where there is one, else as a power of ten; always a multiple of three.
fn decimal(nanos: i128, suffixed: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut number, mut exponent) = (nanos, -9);
    while number % 1000 == 0 {
        number /= 1000;
        exponent += 3;
    }
    let suffix = match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        0 => "",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => return write!(f, "{number}e{exponent}"),
    };
    if suffixed || exponent == 0 {
        write!(f, "{number}{suffix}")
    } else {
        write!(f, "{number}e{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Expect) {
        let outcome = text
            .parse::<Quantity>()
            .map(|quantity| quantity.to_string());
        expected.assert_eq(&outcome.unwrap_or_else(|error| error.to_string()));
    }

    #[test]
    fn the_canonical_form_has_no_fraction_and_the_largest_suffix() {
        check("100m", &expect!["100m"]);
        check("0.5", &expect!["500m"]);
        check("1000m", &expect!["1"]);
        check("1500", &expect!["1500"]);
        check("1000", &expect!["1k"]);
        check("1.5Gi", &expect!["1536Mi"]);
        check("1024Mi", &expect!["1Gi"]);
        check("512Ki", &expect!["512Ki"]);
        check("0.5Ki", &expect!["512"]);
        check("0.1Gi", &expect!["107374182400m"]);
        check("1e3", &expect!["1e3"]);
        check("12E2", &expect!["1200"]);
        check("1E", &expect!["1E"]);
        check("1000E", &expect!["1e21"]);
        check("-5", &expect!["-5"]);
        check("+5", &expect!["5"]);
        check("0Mi", &expect!["0"]);
        check(".5", &expect!["500m"]);
        check("1.", &expect!["1"]);
    }

    #[test]
    fn finer_than_a_nano_rounds_away_from_zero() {
        check("0.1n", &expect!["1n"]);
        check("1.0000000001", &expect!["1000000001n"]);
        check("-0.1n", &expect!["-1n"]);
        check("0.0000000000000000000000000000000000000001", &expect!["1n"]);
        check("1e-99", &expect!["1e-9"]);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        let format = expect![[
            r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ]];
        for text in ["", "abc", "1 Gi", "1.2.3", ".", "1Gi!", "--1", "1m5x"] {
            check(text, &format);
        }
        check("1Zi", &format);
        check("1KM", &expect!["unable to parse quantity's suffix"]);
        check("1ee3", &expect!["unable to parse quantity's suffix"]);
        check("1e99", &expect!["unable to parse numeric part of quantity"]);
    }

    #[test]
    fn binary_quantities_end_at_the_largest_integer() {
        check("100Ei", &expect!["9223372036854775807"]);
    }

    #[test]
    fn quantities_compare_by_value() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(quantity("1000m"), quantity("1"));
        assert!(quantity("1Gi") > quantity("1G"));
        assert!(quantity("-1") < quantity("0"));
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("1500u").millis(), 2);
    }

    proptest! {
        #[test]
        fn the_canonical_form_reads_back_as_itself(
            text in r"[+-]?[0-9]{1,12}(\.[0-9]{0,12})?([numkMGTPE]|[KMGTPE]i|e[0-9])?",
        ) {
            let Ok(first) = text.parse::<Quantity>() else { return Ok(()); };
            let again: Quantity = first.to_string().parse().unwrap();
            prop_assert_eq!(first, again);
            prop_assert_eq!(first.to_string(), again.to_string());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
