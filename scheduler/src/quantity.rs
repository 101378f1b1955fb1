//! Reads quantities (`100m`, `1Gi`, `1e3`) as exact nanos.
//!
//! What is finer than a nano rounds up and what is too large saturates; the API server has already
//! refused what is malformed, so here such a text is `None`.

const NANOS: i128 = 1_000_000_000;

/// The amount in thousandths, rounded away from zero.
pub(crate) fn millis(text: &str) -> Option<i64> {
    nanos(text).map(|nanos| whole(nanos, NANOS / 1000))
}

/// The amount in units, rounded away from zero.
pub(crate) fn units(text: &str) -> Option<i64> {
    nanos(text).map(|nanos| whole(nanos, NANOS))
}

fn whole(nanos: i128, unit: i128) -> i64 {
    let rounded = nanos / unit + (nanos % unit).signum();
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

fn nanos(text: &str) -> Option<i128> {
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
    let (factor, exponent) = interpret(suffix)?;
    let mut digits: i128 = 0;
    for digit in integer.bytes().chain(fraction.bytes()) {
        digits = digits
            .saturating_mul(10)
            .saturating_add(i128::from(digit - b'0'));
    }
    if digits == 0 {
        return Some(0);
    }
    let power = i64::from(exponent) + 9 - i64::try_from(fraction.len()).ok()?;
    let scaled = digits.saturating_mul(factor);
    let ten = u32::try_from(power.unsigned_abs())
        .ok()
        .and_then(|power| 10_i128.checked_pow(power))
        .unwrap_or(i128::MAX);
    Some(
        sign * if power >= 0 {
            scaled.saturating_mul(ten)
        } else {
            scaled / ten + (scaled % ten).signum()
        },
    )
}

/// A factor and a power of ten.
fn interpret(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        suffix => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        let outcome = match (millis(text), units(text)) {
            (Some(millis), Some(units)) => format!("{millis}m {units}"),
            _ => "none".to_owned(),
        };
        expected.assert_eq(&outcome);
    }

    #[test]
    fn quantities_are_read_exactly_and_rounded_up() {
        check("100m", expect!["100m 1"]);
        check("0.5", expect!["500m 1"]);
        check("2", expect!["2000m 2"]);
        check("1500u", expect!["2m 1"]);
        check("1Gi", expect!["1073741824000m 1073741824"]);
        check("1.5Gi", expect!["1610612736000m 1610612736"]);
        check("1e3", expect!["1000000m 1000"]);
        check("1e-99", expect!["1m 1"]);
        check("-5", expect!["-5000m -5"]);
        check("0Mi", expect!["0m 0"]);
        check("1e99", expect!["9223372036854775807m 9223372036854775807"]);
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in ["", ".", "abc", "1 Gi", "1.2.3", "1Zi", "e3", "-"] {
            check(text, expect!["none"]);
        }
    }
}
