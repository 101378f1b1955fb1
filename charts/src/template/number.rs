//! Reads the constants of templates as Go does: bases, underscores, floats, characters.

use crate::format::{quote, unquote_char};

use super::ast::{Ideal, Number};

/// A constant such as `1`, `0x1F`, `0b1`, `1_000`, `1e3`.
pub(super) fn parse(text: &[u8]) -> Result<Number, String> {
    let text = std::str::from_utf8(text).map_err(|_| "illegal number syntax".to_owned())?;
    if text.ends_with('i') {
        return Err(complex(text));
    }
    let uint = unsigned(text);
    let int = signed(text);
    let mut float = int.map(|int| int as f64).or(uint.map(|uint| uint as f64));
    let mut int_value = int;
    let fractional = text.contains(['.', 'e', 'E', 'p', 'P']);
    if float.is_none() {
        float = parse_float(text);
        if let Some(number) = float {
            if !fractional {
                return Err(format!("integer overflow: {}", quote(text.as_bytes())));
            }
            let truncated = number as i64;
            if truncated as f64 == number {
                int_value = Some(truncated);
            }
        }
    }
    let Some(number) = float else {
        return Err(format!("illegal number syntax: {}", quote(text.as_bytes())));
    };
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let whole_hexadecimal = hexadecimal && text.len() > 2 && !text.contains(['p', 'P']);
    let ideal = match int_value {
        _ if fractional && !whole_hexadecimal => Ideal::Float(number),
        Some(int) => Ideal::Int(int),
        None => Ideal::Overflow,
    };
    Ok(Number {
        text: text.into(),
        int: int_value,
        float,
        ideal,
    })
}

/// Complex numbers are read by Go, but nothing in a chart takes them.
pub(super) fn complex(text: &str) -> String {
    format!("complex number {} is not supported", quote(text.as_bytes()))
}

/// A constant such as `'a'`: its code.
pub(super) fn parse_char(text: &[u8]) -> Result<Number, String> {
    let printed = String::from_utf8_lossy(text);
    let (piece, size) = unquote_char(&text[1..], b'\'').map_err(|error| error.to_string())?;
    if &text[1 + size..] != b"'" {
        return Err(format!("malformed character constant: {printed}"));
    }
    let code = piece.code();
    Ok(Number {
        text: printed.into(),
        int: Some(code),
        float: Some(code as f64),
        ideal: Ideal::Int(code),
    })
}

/// `strconv.ParseInt` with base 0.
pub(super) fn signed(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let number = i128::from(unsigned(digits)?);
    i64::try_from(if negative { -number } else { number }).ok()
}

/// `strconv.ParseUint` with base 0.
fn unsigned(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let (base, digits) = match bytes {
        [b'0', b'x' | b'X', _, ..] => (16, &text[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &text[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    if !underscores_separate(text) {
        return None;
    }
    let digits: String = digits.chars().filter(|char| *char != '_').collect();
    if digits.is_empty() || !digits.chars().all(|char| char.is_digit(base)) {
        return None;
    }
    u64::from_str_radix(&digits, base).ok()
}

/// Whether each underscore is between digits, the prefix of a base counting as one.
fn underscores_separate(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    let prefixed = matches!(
        text.as_bytes(),
        [b'0', b'b' | b'B' | b'o' | b'O' | b'x' | b'X', ..]
    );
    let (mut last, digits) = match prefixed {
        true => ('0', &text[2..]),
        false => ('^', text),
    };
    let hexadecimal = prefixed && text.as_bytes()[1].eq_ignore_ascii_case(&b'x');
    for char in digits.chars() {
        let digit = char.is_ascii_digit() || hexadecimal && char.is_ascii_hexdigit();
        let next = match char {
            _ if digit => '0',
            '_' if last != '0' => return false,
            '_' => '_',
            _ if last == '_' => return false,
            _ => '!',
        };
        last = next;
    }
    last != '_'
}

fn parse_float(text: &str) -> Option<f64> {
    if !underscores_separate(text) {
        return None;
    }
    let text: String = text.chars().filter(|char| *char != '_').collect();
    let unsigned = text.trim_start_matches(['+', '-']);
    if unsigned.starts_with("0x") || unsigned.starts_with("0X") {
        let number = parse_hexadecimal(&unsigned[2..])?;
        return Some(if text.starts_with('-') {
            -number
        } else {
            number
        });
    }
    let plain = |char: char| char.is_ascii_digit() || "+-.eE".contains(char);
    let number: f64 = text.parse().ok().filter(|_| text.chars().all(plain))?;
    number.is_finite().then_some(number)
}

/// `1.8p3`, its prefix gone: a power of two is required.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, power) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let power: i32 = power.parse().ok()?;
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() {
        return None;
    }
    let mut number = 0.0;
    for char in digits.chars() {
        number = number * 16.0 + f64::from(char.to_digit(16)?);
    }
    let power = power.checked_sub(i32::try_from(fraction.len()).ok()?.checked_mul(4)?)?;
    let number = number * 2f64.powi(power);
    number.is_finite().then_some(number)
}
