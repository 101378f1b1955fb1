//! Integers in any base, and floats as Go's `strconv` writes them.

use super::{printer::Printer, quoting};

/// An integer in a base, with sign, prefix, zeros and width.
pub(super) fn integer(out: &mut Printer, number: u64, negative: bool, base: u64, verb: char) {
    let flags = out.flags;
    let mut least = flags.precision.unwrap_or(0);
    if flags.precision == Some(0) && number == 0 {
        out.flags.zero = false;
        out.padding(flags.width.unwrap_or(0));
        out.flags.zero = flags.zero;
        return;
    }
    if flags.precision.is_none() && flags.zero && !flags.minus {
        let signed = negative || flags.plus || flags.space;
        least = flags.width.unwrap_or(0).saturating_sub(usize::from(signed));
    }
    let digits: &[u8; 16] = match verb {
        'X' => b"0123456789ABCDEF",
        _ => b"0123456789abcdef",
    };
    // Backwards, then turned round.
    let mut text = Vec::with_capacity(least.max(20) + 3);
    let mut rest = number;
    loop {
        text.push(digits[(rest % base) as usize]);
        rest /= base;
        if rest == 0 {
            break;
        }
    }
    while text.len() < least {
        text.push(b'0');
    }
    if flags.sharp {
        match base {
            2 => text.extend_from_slice(b"b0"),
            8 if text.last() != Some(&b'0') => text.push(b'0'),
            16 => text.extend_from_slice(if verb == 'X' { b"X0" } else { b"x0" }),
            _ => {}
        }
    }
    if verb == 'O' {
        text.extend_from_slice(b"o0");
    }
    match (negative, flags.plus, flags.space) {
        (true, _, _) => text.push(b'-'),
        (_, true, _) => text.push(b'+'),
        (_, _, true) => text.push(b' '),
        _ => {}
    }
    text.reverse();
    out.flags.zero = false;
    out.pad(&text);
    out.flags.zero = flags.zero;
}

/// `%U`: `U+0078`, and with `#` the character too.
pub(super) fn code_point(out: &mut Printer, number: u64, negative: bool) {
    let flags = out.flags;
    let number = if negative {
        number.wrapping_neg()
    } else {
        number
    };
    let digits = flags.precision.unwrap_or(4).max(4);
    let mut text = format!("U+{number:0digits$X}");
    let char = u32::try_from(number).ok().and_then(char::from_u32);
    if let Some(char) = char.filter(|char| flags.sharp && quoting::is_printable(*char)) {
        text.push_str(&format!(" '{char}'"));
    }
    out.flags.zero = false;
    out.pad(text.as_bytes());
    out.flags.zero = flags.zero;
}

/// A float for one of the verbs `v b g G x X f F e E`.
pub(super) fn float(out: &mut Printer, number: f64, verb: char) {
    let flags = out.flags;
    let precision = flags.precision.or(match verb {
        'f' | 'F' | 'e' | 'E' => Some(6),
        _ => None,
    });
    let verb = match verb {
        'v' => 'g',
        'F' => 'f',
        verb => verb,
    };
    let mut text = text(number, verb, precision);
    if !text.starts_with('-') && !text.starts_with('+') {
        text.insert(0, '+');
    }
    if flags.space && text.starts_with('+') && !flags.plus {
        text.replace_range(..1, " ");
    }
    if !number.is_finite() {
        let signless = number.is_nan() && !flags.space && !flags.plus;
        out.flags.zero = false;
        out.pad(&text.as_bytes()[usize::from(signless)..]);
        out.flags.zero = flags.zero;
        return;
    }
    if flags.sharp && verb != 'b' {
        text = with_point(&text, verb, precision);
    }
    if flags.plus || !text.starts_with('+') {
        let width = flags.width.unwrap_or(0);
        if flags.zero && !flags.minus && width > text.len() {
            out.bytes(&text.as_bytes()[..1]);
            out.padding(width - text.len());
            return out.bytes(&text.as_bytes()[1..]);
        }
        return out.pad(text.as_bytes());
    }
    out.pad(&text.as_bytes()[1..]);
}

/// `#`: the decimal point always, and `%g`'s trailing zeros.
fn with_point(text: &str, verb: char, precision: Option<usize>) -> String {
    let hexadecimal = matches!(verb, 'x' | 'X');
    let tail_at = text.find(|char| match char {
        'p' | 'P' => true,
        'e' | 'E' => !hexadecimal,
        _ => false,
    });
    let (number, tail) = text.split_at(tail_at.unwrap_or(text.len()));
    let mut missing = match verb {
        'g' | 'G' | 'x' | 'X' => precision.unwrap_or(6) as i64,
        _ => 0,
    };
    let mut counting = false;
    for char in number.chars().skip(1).filter(|char| *char != '.') {
        counting |= char != '0';
        missing -= i64::from(counting);
    }
    let mut number = number.to_owned();
    if !number.contains('.') {
        if number.len() == 2 && number.ends_with('0') {
            missing -= 1;
        }
        number.push('.');
    }
    for _ in 0..missing {
        number.push('0');
    }
    number + tail
}

/// `strconv.FormatFloat` for 64 bits; no precision: as few digits as tell the number.
pub(crate) fn text(number: f64, verb: char, precision: Option<usize>) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    match (verb, precision) {
        ('f', Some(precision)) => format!("{number:.precision$}"),
        ('f', None) => format!("{number}"),
        ('e' | 'E', Some(precision)) => exponent(&format!("{number:.precision$e}"), verb),
        ('e' | 'E', None) => exponent(&format!("{number:e}"), verb),
        ('x' | 'X', precision) => hexadecimal(number, verb, precision),
        ('b', _) => {
            let (mantissa, exponent) = parts(number);
            let sign = if number.is_sign_negative() { "-" } else { "" };
            format!("{sign}{mantissa}p{exponent:+}")
        }
        (_, None) => general(&format!("{number:e}"), number, None, verb),
        (_, Some(precision)) => {
            let precision = precision.max(1);
            let digits = precision - 1;
            general(
                &format!("{number:.digits$e}"),
                number,
                Some(precision),
                verb,
            )
        }
    }
}

/// Rust's `1.5e7` as Go's `1.5e+07`.
fn exponent(scientific: &str, verb: char) -> String {
    let (mantissa, exponent) = split(scientific);
    let letter = if verb == 'E' || verb == 'G' { 'E' } else { 'e' };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{letter}{sign}{:02}", exponent.abs())
}

fn split(scientific: &str) -> (&str, i32) {
    let (mantissa, exponent) = scientific.split_once('e').expect("Rust writes an exponent");
    (mantissa, exponent.parse().expect("an exponent is a number"))
}

/// `%g`: the exponent form for what is small or large; no precision: as few digits as tell the number.
fn general(scientific: &str, number: f64, precision: Option<usize>, verb: char) -> String {
    let (mantissa, power) = split(scientific);
    let negative = mantissa.starts_with('-');
    let mut digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_end_matches('0').len().max(1);
    digits.truncate(significant);
    if number == 0.0 {
        return if negative { "-0" } else { "0" }.to_owned();
    }
    let whole = power + 1;
    let count = digits.len() as i32;
    let threshold = match precision {
        None => 6,
        Some(precision) if precision as i32 > count && count >= whole => count,
        Some(precision) => precision as i32,
    };
    let sign = if negative { "-" } else { "" };
    if power < -4 || power >= threshold {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return exponent(&format!("{sign}{first}{point}{rest}e{power}"), verb);
    }
    if whole <= 0 {
        let zeros = "0".repeat(whole.unsigned_abs() as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = whole as usize;
    if digits.len() <= whole {
        let zeros = "0".repeat(whole - digits.len());
        return format!("{sign}{digits}{zeros}");
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// Mantissa and exponent of two.
fn parts(number: f64) -> (u64, i32) {
    let bits = number.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match (bits >> 52) & 0x7ff {
        0 => (fraction, -1074),
        exponent => (fraction | (1 << 52), exponent as i32 - 1075),
    }
}

/// `%x`: `0x1.8p+01`.
fn hexadecimal(number: f64, verb: char, precision: Option<usize>) -> String {
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let (mut mantissa, mut exponent) = parts(number);
    if mantissa == 0 {
        exponent = 0;
    } else {
        exponent += 52;
        mantissa <<= 8;
        while mantissa & (1 << 60) == 0 {
            mantissa <<= 1;
            exponent -= 1;
        }
        if let Some(precision) = precision.filter(|precision| *precision < 15) {
            let shift = precision as u32 * 4;
            let extra = (mantissa << shift) & ((1 << 60) - 1);
            mantissa >>= 60 - shift;
            if extra | (mantissa & 1) > 1 << 59 {
                mantissa += 1;
            }
            mantissa <<= 60 - shift;
            if mantissa & (1 << 61) != 0 {
                mantissa >>= 1;
                exponent += 1;
            }
        }
    }
    let mut digits = format!("{:015x}", mantissa & ((1 << 60) - 1));
    match precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(precision) => {
            digits.truncate(precision);
            while digits.len() < precision {
                digits.push('0');
            }
        }
    }
    let point = if digits.is_empty() { "" } else { "." };
    let power = if exponent < 0 { '-' } else { '+' };
    let lead = mantissa >> 60;
    let text = format!("{sign}0x{lead}{point}{digits}p{power}{:02}", exponent.abs());
    if verb == 'X' {
        return text.to_ascii_uppercase();
    }
    text
}
