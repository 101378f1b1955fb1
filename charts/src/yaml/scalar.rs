//! What a scalar means: YAML 1.1's types as go-yaml v2 tells them apart, and which of its strings need quotes.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// The namespace of `!!int` and the like.
const CORE: &str = "tag:yaml.org,2002:";

/// A scalar's value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// A point in time: stays the text it was.
    Timestamp,
    String,
}

impl Scalar {
    /// As go-yaml names its type.
    fn tag(&self) -> &'static str {
        match self {
            Scalar::Null => "!!null",
            Scalar::Bool(_) => "!!bool",
            Scalar::Int(_) | Scalar::Uint(_) => "!!int",
            Scalar::Float(_) => "!!float",
            Scalar::Timestamp => "!!timestamp",
            Scalar::String => "!!str",
        }
    }
}

/// A scalar with an explicit tag: the value, or other bytes that the text stands for.
pub(super) enum Tagged {
    Scalar(Scalar),
    Bytes(Vec<u8>),
}

/// What a text means under an explicit tag.
pub(super) fn resolve_tagged(tag: &str, text: &str) -> Result<Tagged, String> {
    let Some(name) = tag.strip_prefix(CORE) else {
        return Ok(Tagged::Scalar(Scalar::String));
    };
    let found = match name {
        "binary" => {
            let clean: String = text
                .chars()
                .filter(|letter| !matches!(letter, '\n' | '\r'))
                .collect();
            let bytes = BASE64_STANDARD.decode(clean);
            return bytes
                .map(Tagged::Bytes)
                .map_err(|_| "!!binary value contains invalid base64 data".to_owned());
        }
        "bool" | "int" | "float" | "null" | "timestamp" => resolve(text),
        _ => return Ok(Tagged::Scalar(Scalar::String)),
    };
    let wanted = format!("!!{name}");
    Ok(Tagged::Scalar(match found {
        #[expect(
            clippy::cast_precision_loss,
            reason = "an integer that is declared to be a float"
        )]
        Scalar::Int(number) if name == "float" => Scalar::Float(number as f64),
        found if found.tag() == wanted => found,
        found => {
            return Err(format!(
                "cannot decode {} `{text}` as a {wanted}",
                found.tag()
            ));
        }
    }))
}

/// What a plain text means.
pub(super) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Scalar::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => float(text).map_or(Scalar::String, Scalar::Float),
        b'+' | b'-' | b'0'..=b'9' => number(text),
        _ => Scalar::String,
    }
}

/// An integer, a float or a point in time.
fn number(text: &str) -> Scalar {
    if timestamp(text) {
        return Scalar::Timestamp;
    }
    let plain: String = text.chars().filter(|digit| *digit != '_').collect();
    if let Some(number) = integer(&plain) {
        return number;
    }
    if let Some(number) = float(&plain) {
        return Scalar::Float(number);
    }
    Scalar::String
}

/// As Go's `ParseInt` and `ParseUint` read with base 0.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, radix) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&unsigned[2..], 16),
        [b'0', b'o' | b'O', ..] => (&unsigned[2..], 8),
        [b'0', b'b' | b'B', ..] => (&unsigned[2..], 2),
        [b'0', _, ..] => (&unsigned[1..], 8),
        _ => (unsigned, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return 0_i64.checked_sub_unsigned(magnitude).map(Scalar::Int);
    }
    if let Ok(number) = i64::try_from(magnitude) {
        return Some(Scalar::Int(number));
    }
    // Go's unsigned numbers take no sign.
    (!text.starts_with('+')).then_some(Scalar::Uint(magnitude))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, if it is within range.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let mantissa_fits =
        digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    if !mantissa_fits || !exponent_fits {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether a plain text of these letters would be read as something else than that text.
pub(super) fn needs_quotes(text: &str) -> bool {
    resolve(text) != Scalar::String || base_60(text)
}

/// `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`: a number to other readers of YAML 1.1.
fn base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|digit: char| digit.is_ascii_digit()) {
        return false;
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let digit_or_line = |byte: u8| byte.is_ascii_digit() || byte == b'_';
    first.bytes().all(digit_or_line)
        && fraction.bytes().all(digit_or_line)
        && !rest.is_empty()
        && rest
            .iter()
            .all(|part| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']))
}

/// Whether go-yaml reads it as a point in time: a date, or a date and a time of day.
fn timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let year = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if year != 4 || bytes.get(4) != Some(&b'-') {
        return false;
    }
    let mut rest = Cursor(&text[5..]);
    let date = (|| {
        let month = rest.number(1..=12)?;
        rest.byte(b"-")?;
        let day = rest.number(1..=31)?;
        let year = text[..4].parse().ok()?;
        let month = i8::try_from(month).ok()?;
        jiff::civil::Date::new(year, month, i8::try_from(day).ok()?).ok()
    })();
    if date.is_none() {
        return false;
    }
    if rest.0.is_empty() {
        return true;
    }
    let separator = rest.byte(b"Tt ");
    let time = (|| {
        rest.number(0..=23)?;
        rest.byte(b":")?;
        rest.number(0..=59)?;
        rest.byte(b":")?;
        rest.number(0..=59)
    })();
    if separator.is_none() || time.is_none() {
        return false;
    }
    rest.fraction();
    match separator {
        Some(b' ') => rest.0.is_empty(),
        _ => rest.zone(),
    }
}

/// What is left of a text that is read from the front.
struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    fn byte(&mut self, wanted: &[u8]) -> Option<u8> {
        let first = *self.0.as_bytes().first()?;
        wanted.contains(&first).then(|| {
            self.0 = &self.0[1..];
            first
        })
    }

    /// One or two digits.
    fn number(&mut self, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let digits = self
            .0
            .bytes()
            .take(2)
            .take_while(u8::is_ascii_digit)
            .count();
        let number = self.0[..digits].parse().ok()?;
        self.0 = &self.0[digits..];
        range.contains(&number).then_some(number)
    }

    fn fraction(&mut self) {
        if let [b'.' | b',', digit, ..] = self.0.as_bytes()
            && digit.is_ascii_digit()
        {
            self.0 = self.0[1..].trim_start_matches(|digit: char| digit.is_ascii_digit());
        }
    }

    /// `Z` or `+01:00`, and nothing behind it.
    fn zone(&mut self) -> bool {
        if self.0 == "Z" {
            return true;
        }
        let Some(hours_minutes) = self.0.strip_prefix(['+', '-']) else {
            return false;
        };
        let Some((hours, minutes)) = hours_minutes.split_once(':') else {
            return false;
        };
        let within = |text: &str, most: u32| {
            text.len() == 2
                && text.bytes().all(|digit| digit.is_ascii_digit())
                && text.parse::<u32>().is_ok_and(|number| number <= most)
        };
        within(hours, 24) && within(minutes, 60)
    }
}
