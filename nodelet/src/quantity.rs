//! Kubernetes quantities (`500m`, `64Mi`, `1e3`) as whole numbers.
//!
//! Follows `k8s.io/apimachinery/pkg/api/resource`: rounds up, as limits and divisors do there.

/// Parses a quantity into billionths; `None` if it is not one or does not fit.
pub(crate) fn parse_nanos(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut numerator = mantissa.checked_mul(multiplier(suffix)?)?;
    let shift = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    numerator = numerator.checked_add(shift - 1)? / shift;
    Some(if text.starts_with('-') {
        -numerator
    } else {
        numerator
    })
}

/// Billionths in one of `suffix`.
fn multiplier(suffix: &str) -> Option<i128> {
    const NANO: i128 = 1_000_000_000;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANO,
        "k" => NANO * 1_000,
        "M" => NANO * 1_000_000,
        "G" => NANO * 1_000_000_000,
        "T" => NANO * 1_000_000_000_000,
        "P" => NANO * 1_000_000_000_000_000,
        "E" => NANO * 1_000_000_000_000_000_000,
        "Ki" => NANO << 10,
        "Mi" => NANO << 20,
        "Gi" => NANO << 30,
        "Ti" => NANO << 40,
        "Pi" => NANO << 50,
        "Ei" => NANO << 60,
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?)?
        }
    })
}

/// Whole units, rounded up: bytes, or cores.
pub(crate) fn units(text: &str) -> Option<u64> {
    divided(text, "1")
}

/// Thousandths, rounded up: millicores.
pub(crate) fn millis(text: &str) -> Option<u64> {
    divided(text, "1m")
}

/// How many of `divisor` are in `text`, rounded up, as `resourceFieldRef` counts.
pub(crate) fn divided(text: &str, divisor: &str) -> Option<u64> {
    let (value, divisor) = (parse_nanos(text)?, parse_nanos(divisor)?);
    if value < 0 || divisor <= 0 {
        return None;
    }
    u64::try_from((value + divisor - 1) / divisor).ok()
}

/// Bytes as Kubernetes writes them: in the largest binary unit that they are whole in.
pub(crate) fn binary(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut rest = bytes;
    let mut unit = 0;
    while rest != 0 && rest.is_multiple_of(1024) && unit + 1 < units.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them_and_rounded_up() {
        let read = |text| (units(text), millis(text));
        assert_eq!(read("500m"), (Some(1), Some(500)));
        assert_eq!(read("0.5"), (Some(1), Some(500)));
        assert_eq!(read("2"), (Some(2), Some(2_000)));
        assert_eq!(read("64Mi").0, Some(64 << 20));
        assert_eq!(read("1.5Gi").0, Some(3 << 29));
        assert_eq!(read("1e3").0, Some(1_000));
        assert_eq!(read("1E").0, Some(1_000_000_000_000_000_000));
        assert_eq!(read("100n"), (Some(1), Some(1)));
        assert_eq!(read("-1"), (None, None));
        assert_eq!(read("ten"), (None, None));
        assert_eq!(read(""), (None, None));
        assert_eq!(binary(3 << 29), "1536Mi");
        assert_eq!(
            (binary(0), binary(1025)),
            ("0".to_owned(), "1025".to_owned())
        );
        assert_eq!(divided("1500m", "1"), Some(2));
        assert_eq!(divided("64Mi", "1Ki"), Some(64 << 10));
        assert_eq!(divided("1", "0"), None);
    }
}
