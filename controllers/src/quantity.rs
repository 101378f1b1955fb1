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
