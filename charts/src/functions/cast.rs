//! Anything as a number, as the library behind Sprig's `int`, `int64` and `float64` does it: what is no number is 0.

use crate::Value;

/// As Go's `int` and `int64`.
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(number, _) => *number,
        Value::Uint(number, _) => *number as i64,
        Value::Float(number) => truncate(*number),
        Value::Bool(flag) => i64::from(*flag),
        Value::String(text) => parse_int(trim_zero_decimal(text)).unwrap_or(0),
        _ => 0,
    }
}

/// As Go's `float64`.
pub(super) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(number, _) => *number as f64,
        Value::Uint(number, _) => *number as f64,
        Value::Float(number) => *number,
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::String(text) => parse_float(text).unwrap_or(0.0),
        _ => 0.0,
    }
}

/// A float's integer part as a processor converts it: out of range is the least number.
pub(super) fn truncate(number: f64) -> i64 {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if (-BEYOND..BEYOND).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

/// `5.00` as `5`: a fraction of zeros is no fraction.
fn trim_zero_decimal(text: &[u8]) -> &[u8] {
    let mut zero = false;
    for (index, byte) in text.iter().enumerate().rev() {
        match byte {
            b'.' if zero => return &text[..index],
            b'.' => {}
            b'0' => zero = true,
            _ => return text,
        }
    }
    text
}

/// An integer in the base that its prefix says (`0x`, `0b`, `0o`, `0`), with underscores between digits.
pub(super) fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = sign(text);
    if digits.contains(&b'_') && !underscores_are_right(digits) {
        return None;
    }
    let (base, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] if !rest.is_empty() => (16, rest),
        [b'0', b'o' | b'O', rest @ ..] if !rest.is_empty() => (8, rest),
        [b'0', b'b' | b'B', rest @ ..] if !rest.is_empty() => (2, rest),
        [b'0', _, ..] => (8, &digits[1..]),
        [] => return None,
        _ => (10, digits),
    };
    let mut number: u64 = 0;
    for byte in digits.iter().filter(|byte| **byte != b'_') {
        let digit = char::from(*byte).to_digit(base)?;
        number = number.checked_mul(u64::from(base))?;
        number = number.checked_add(u64::from(digit))?;
    }
    match negative {
        true => 0i64.checked_sub_unsigned(number),
        false => i64::try_from(number).ok(),
    }
}

/// A float as Go's `strconv` reads it; out of range is none.
pub(super) fn parse_float(text: &[u8]) -> Option<f64> {
    let (negative, unsigned) = sign(text);
    if unsigned.contains(&b'_') && !underscores_are_right(unsigned) {
        return None;
    }
    let plain: String = unsigned
        .iter()
        .filter(|byte| **byte != b'_')
        .map(|byte| char::from(*byte))
        .collect();
    let lower = plain.to_ascii_lowercase();
    let number = match lower.strip_prefix("0x") {
        Some(hexadecimal) => parse_hexadecimal(hexadecimal)?,
        None if lower == "inf" || lower == "infinity" => f64::INFINITY,
        None if lower.starts_with(['+', '-']) => return None,
        None => lower
            .parse()
            .ok()
            .filter(|number: &f64| !number.is_infinite())?,
    };
    Some(if negative { -number } else { number })
}

/// `1.8p-3`: an exponent of two is required.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let mut exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut number = 0.0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        number = number * 16.0 + f64::from(digit.to_digit(16)?);
    }
    exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?.checked_mul(4)?)?;
    Some(number * 2f64.powi(exponent)).filter(|number| !number.is_infinite())
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// Whether each underscore stands between digits, or between a prefix and a digit.
fn underscores_are_right(text: &[u8]) -> bool {
    let mut before = b'^';
    let mut rest = text;
    let mut hexadecimal = false;
    if let [b'0', prefix, after @ ..] = text
        && matches!(prefix.to_ascii_lowercase(), b'b' | b'o' | b'x')
    {
        before = b'0';
        hexadecimal = prefix.eq_ignore_ascii_case(&b'x');
        rest = after;
    }
    for byte in rest {
        let digit = byte.is_ascii_digit() || hexadecimal && byte.is_ascii_hexdigit();
        if digit {
            before = b'0';
        } else if *byte == b'_' {
            if before != b'0' {
                return false;
            }
            before = b'_';
        } else if before == b'_' {
            return false;
        } else {
            before = b'!';
        }
    }
    before != b'_'
}
