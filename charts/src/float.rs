//! How Go prints a `float64` where nobody gave a precision.

/// As `strconv.FormatFloat(number, 'g', -1, 64)`: the fewest digits that read back, an exponent from 1e+21 up.
pub(crate) fn shortest(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    general(&format!("{number:e}"), 21)
}

/// As YAML has it: an exponent below 1e-04 and from 1e+06 up.
pub(crate) fn yaml(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+.inf" } else { "-.inf" }.to_owned();
    }
    general(&format!("{number:e}"), 6)
}

/// As [`yaml`], of no more digits than a `float32` has: keys of maps that are numbers.
pub(crate) fn yaml_key(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "sigs.k8s.io/yaml prints keys with 32 bits"
    )]
    let number = number as f32;
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    general(&format!("{number:e}"), 6)
}

/// As `encoding/json` has it: an exponent below 1e-6 and from 1e21 up.
pub(crate) fn json(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let scientific = format!("{number:e}");
        let (digits, exponent) = parts(&scientific);
        let sign = if exponent < 0 { '-' } else { '+' };
        let width = if exponent < 0 { 1 } else { 2 };
        let exponent = exponent.abs();
        return format!("{digits}e{sign}{exponent:0width$}");
    }
    format!("{number}")
}

/// Rust's `1.25e6` as Go's `%g` has it.
fn general(scientific: &str, exponent_from: i32) -> String {
    let (digits, exponent) = parts(scientific);
    if (-4..exponent_from).contains(&exponent) {
        // The same digits without an exponent: exact, since they read back.
        let (sign, digits) = match digits.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", digits),
        };
        let digits: String = digits.chars().filter(|digit| *digit != '.').collect();
        return format!("{sign}{}", positional(&digits, exponent));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The digits `d.ddd` times ten to the exponent, without one.
fn positional(digits: &str, exponent: i32) -> String {
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("0.{zeros}{digits}");
    }
    let point = exponent.unsigned_abs() as usize + 1;
    if digits.len() <= point {
        return format!("{digits}{}", "0".repeat(point - digits.len()));
    }
    format!("{}.{}", &digits[..point], &digits[point..])
}

fn parts(scientific: &str) -> (&str, i32) {
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    (digits, exponent.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{json, shortest, yaml, yaml_key};

    #[track_caller]
    fn check(number: f64, expected: [&str; 3]) {
        assert_eq!([shortest(number), yaml(number), json(number)], expected);
    }

    #[test]
    fn numbers_print_as_go_prints_them() {
        check(0.0, ["0", "0", "0"]);
        check(-0.0, ["-0", "-0", "-0"]);
        check(1.5, ["1.5", "1.5", "1.5"]);
        check(999_999.9, ["999999.9", "999999.9", "999999.9"]);
        check(1e6, ["1000000", "1e+06", "1000000"]);
        check(1_234_567.5, ["1234567.5", "1.2345675e+06", "1234567.5"]);
        check(
            1e20,
            ["100000000000000000000", "1e+20", "100000000000000000000"],
        );
        check(1e21, ["1e+21", "1e+21", "1e+21"]);
        check(0.000_1, ["0.0001", "0.0001", "0.0001"]);
        check(0.000_01, ["1e-05", "1e-05", "0.00001"]);
        check(-1.25e-7, ["-1.25e-07", "-1.25e-07", "-1.25e-7"]);
        check(5e-324, ["5e-324", "5e-324", "5e-324"]);
        check(1e300, ["1e+300", "1e+300", "1e+300"]);
    }

    #[test]
    fn a_key_has_the_digits_of_a_float32() {
        assert_eq!(yaml_key(12_345_678_901_234_567_890_123.0), "1.2345679e+22");
        assert_eq!(yaml_key(0.1), "0.1");
    }
}
