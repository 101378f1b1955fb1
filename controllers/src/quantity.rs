//! Reads quantities (`100m`, `1Gi`, `1e3`) as exact nanos, so that they can be compared.
//!
//! Pure. What is finer than a nano rounds up and what is too large saturates; the API server has
//! already refused what is malformed, so here such a text is `None`.

const NANOS: i128 = 1_000_000_000;

/// The amount in billionths.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let (sign, unsigned) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if integer.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let factor = factor(suffix)?;
    let mut amount: i128 = 0;
    for digit in integer.bytes().chain(fraction.bytes()) {
        amount = amount
            .saturating_mul(10)
            .saturating_add(i128::from(digit - b'0'));
    }
    let power = u32::try_from(fraction.len()).ok()?;
    let divisor = 10_i128.checked_pow(power).unwrap_or(i128::MAX);
    let scaled = amount.saturating_mul(factor);
    Some(sign * (scaled / divisor + (scaled % divisor).signum()))
}

/// The amount in thousandths, rounded up.
pub(crate) fn milli(text: &str) -> Option<i64> {
    let nanos = nanos(text)?;
    let milli = nanos.div_euclid(1_000_000) + i128::from(nanos.rem_euclid(1_000_000) != 0);
    Some(i64::try_from(milli).unwrap_or(if milli < 0 { i64::MIN } else { i64::MAX }))
}

/// Thousandths as a decimal quantity is written: `1500m`, `2`, `5M`.
pub(crate) fn from_milli(milli: i64) -> String {
    let (mut amount, mut suffixes) = (milli, ["m", "", "k", "M", "G", "T", "P"].iter());
    let mut suffix = suffixes.next().copied().unwrap_or_default();
    while amount != 0 && amount % 1000 == 0 {
        let Some(larger) = suffixes.next() else { break };
        (amount, suffix) = (amount / 1000, larger);
    }
    if amount == 0 {
        suffix = "";
    }
    format!("{amount}{suffix}")
}

/// Billionths in one of a suffix.
fn factor(suffix: &str) -> Option<i128> {
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANOS,
        "k" => NANOS * 1_000,
        "M" => NANOS * 1_000_000,
        "G" => NANOS * 1_000_000_000,
        "T" => NANOS * 1_000_000_000_000,
        "P" => NANOS * 1_000_000_000_000_000,
        "E" => NANOS * 1_000_000_000_000_000_000,
        "Ki" => NANOS << 10,
        "Mi" => NANOS << 20,
        "Gi" => NANOS << 30,
        "Ti" => NANOS << 40,
        "Pi" => NANOS << 50,
        "Ei" => NANOS << 60,
        suffix => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            match u32::try_from(exponent.saturating_add(9)) {
                Ok(power) => 10_i128.checked_pow(power).unwrap_or(i128::MAX),
                Err(_) => 1,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_rounded_up_and_written_short() {
        let cases = [
            ("1500u", 2, "2m"),
            ("1.5", 1500, "1500m"),
            ("0", 0, "0"),
            ("2Mi", 2_097_152_000, "2097152"),
            ("5000k", 5_000_000_000, "5M"),
            ("1e99", i64::MAX, "9223372036854775807m"),
        ];
        for (text, amount, short) in cases {
            assert_eq!(milli(text), Some(amount), "{text}");
            assert_eq!(from_milli(amount), short);
        }
    }

    #[test]
    fn quantities_compare_by_value() {
        assert_eq!(nanos("1Gi"), nanos("1024Mi"));
        assert_eq!(nanos("0.5"), nanos("500m"));
        assert_eq!(nanos("1e3"), nanos("1k"));
        assert!(nanos("1G") < nanos("1Gi"));
        assert!(nanos("1e99") > nanos("1Ei"));
        for text in ["", ".", "1 Gi", "1.2.3", "1Zi", "-"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
