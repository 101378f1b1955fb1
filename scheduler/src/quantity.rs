//! Reading quantities such as `100m`, `1.5Gi` and `2e3`.

/// A quantity in thousandths, rounded up; `None` if it is none.
pub(crate) fn parse_milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-' && c != '+')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (top, bottom): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        "Ei" => (1000 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            if !(-18..=18).contains(&power) {
                return None;
            }
            let factor = 10_i128.pow(power.unsigned_abs());
            if power >= 0 {
                (1000 * factor, 1)
            } else {
                (1000, factor)
            }
        }
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + part.len() > 19 {
        return None;
    }
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let bottom = bottom.checked_mul(10_i128.pow(u32::try_from(part.len()).ok()?))?;
    let product = digits.checked_mul(top)?;
    Some(product.div_euclid(bottom) + i128::from(product.rem_euclid(bottom) != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_is_read() {
        let read: Vec<_> = ["100m", "1", "1.5", "2Ki", "1e3", "1n", "-1", "x", ""]
            .map(parse_milli)
            .into();
        assert_eq!(
            read,
            [
                Some(100),
                Some(1000),
                Some(1500),
                Some(2_048_000),
                Some(1_000_000),
                Some(1),
                Some(-1000),
                None,
                None
            ]
        );
    }
}
