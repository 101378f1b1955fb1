//! Go's layouts of dates: a format is the date `Mon Jan 2 15:04:05 MST 2006` written the wanted way.

use super::time::{MONTHS, Time, WEEKDAYS, days_in};

/// A part of a layout that stands for a part of a date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Year,
    LongYear,
    Month,
    LongMonth,
    NumberMonth,
    ZeroMonth,
    Weekday,
    LongWeekday,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    UpperHalf,
    LowerHalf,
    ZoneName,
    Offset {
        utc_is_z: bool,
        colon: bool,
        parts: u8,
    },
    /// A separator and so many digits.
    Fraction {
        separator: u8,
        digits: usize,
        /// Trailing zeros are left out.
        trimmed: bool,
    },
}

/// Layouts' texts that mean a part, the longer before what they begin with.
const PARTS: &[(&str, Part)] = &[
    ("January", Part::LongMonth),
    ("Monday", Part::LongWeekday),
    ("MST", Part::ZoneName),
    ("002", Part::ZeroYearDay),
    ("01", Part::ZeroMonth),
    ("02", Part::ZeroDay),
    ("03", Part::ZeroHour12),
    ("04", Part::ZeroMinute),
    ("05", Part::ZeroSecond),
    ("06", Part::Year),
    ("15", Part::Hour),
    ("1", Part::NumberMonth),
    ("2006", Part::LongYear),
    ("2", Part::Day),
    ("__2", Part::UnderYearDay),
    ("_2", Part::UnderDay),
    ("3", Part::Hour12),
    ("4", Part::Minute),
    ("5", Part::Second),
    ("PM", Part::UpperHalf),
    ("pm", Part::LowerHalf),
    ("-070000", offset(false, false, 3)),
    ("-07:00:00", offset(false, true, 3)),
    ("-0700", offset(false, false, 2)),
    ("-07:00", offset(false, true, 2)),
    ("-07", offset(false, false, 1)),
    ("Z070000", offset(true, false, 3)),
    ("Z07:00:00", offset(true, true, 3)),
    ("Z0700", offset(true, false, 2)),
    ("Z07:00", offset(true, true, 2)),
    ("Z07", offset(true, false, 1)),
];

const fn offset(utc_is_z: bool, colon: bool, parts: u8) -> Part {
    Part::Offset {
        utc_is_z,
        colon,
        parts,
    }
}

/// A layout's next part, between what comes before and after it.
struct Next<'a> {
    before: &'a [u8],
    part: Part,
    name: &'a [u8],
    after: &'a [u8],
}

fn next_part(layout: &[u8]) -> Option<Next<'_>> {
    for at in 0..layout.len() {
        let Some((part, size)) = part_at(&layout[at..]) else {
            continue;
        };
        // `_2006` is an underscore and a year.
        let year = part == Part::UnderDay && layout[at..].starts_with(b"_2006");
        let (part, start, size) = match year {
            true => (Part::LongYear, at + 1, 4),
            false => (part, at, size),
        };
        return Some(Next {
            before: &layout[..start],
            part,
            name: &layout[start..start + size],
            after: &layout[start + size..],
        });
    }
    None
}

fn part_at(rest: &[u8]) -> Option<(Part, usize)> {
    let found = PARTS
        .iter()
        .find(|(text, _)| rest.starts_with(text.as_bytes()));
    if let Some((text, part)) = found {
        return Some((*part, text.len()));
    }
    let small_follows = rest.get(3).is_some_and(u8::is_ascii_lowercase);
    if rest.starts_with(b"Jan") && !small_follows {
        return Some((Part::Month, 3));
    }
    if rest.starts_with(b"Mon") && !small_follows {
        return Some((Part::Weekday, 3));
    }
    let [separator @ (b'.' | b','), digit @ (b'0' | b'9'), ..] = rest else {
        return None;
    };
    let digits = rest[1..].iter().take_while(|byte| *byte == digit).count();
    if rest.get(1 + digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let part = Part::Fraction {
        separator: *separator,
        digits,
        trimmed: *digit == b'9',
    };
    Some((part, 1 + digits))
}

/// The date in that layout.
pub(super) fn format(time: &Time, layout: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = layout;
    while let Some(next) = next_part(rest) {
        out.extend_from_slice(next.before);
        out.extend_from_slice(format_part(time, next.part).as_bytes());
        rest = next.after;
    }
    out.extend_from_slice(rest);
    out
}

fn format_part(time: &Time, part: Part) -> String {
    let date = time.civil();
    let name = |names: &[&str], index: i64| names[index as usize].to_owned();
    let hour12 = match date.hour % 12 {
        0 => 12,
        hour => hour,
    };
    match part {
        Part::Year => format!("{:02}", date.year.max(0) % 100),
        Part::LongYear if date.year < 0 => format!("-{:04}", -date.year),
        Part::LongYear => format!("{:04}", date.year),
        Part::Month => name(&MONTHS, date.month - 1)[..3].to_owned(),
        Part::LongMonth => name(&MONTHS, date.month - 1),
        Part::NumberMonth => date.month.to_string(),
        Part::ZeroMonth => format!("{:02}", date.month),
        Part::Weekday => name(&WEEKDAYS, date.weekday)[..3].to_owned(),
        Part::LongWeekday => name(&WEEKDAYS, date.weekday),
        Part::Day => date.day.to_string(),
        Part::UnderDay => format!("{:2}", date.day),
        Part::ZeroDay => format!("{:02}", date.day),
        Part::UnderYearDay => format!("{:3}", date.year_day),
        Part::ZeroYearDay => format!("{:03}", date.year_day),
        Part::Hour => format!("{:02}", date.hour),
        Part::Hour12 => hour12.to_string(),
        Part::ZeroHour12 => format!("{hour12:02}"),
        Part::Minute => date.minute.to_string(),
        Part::ZeroMinute => format!("{:02}", date.minute),
        Part::Second => date.second.to_string(),
        Part::ZeroSecond => format!("{:02}", date.second),
        Part::UpperHalf => (if date.hour >= 12 { "PM" } else { "AM" }).to_owned(),
        Part::LowerHalf => (if date.hour >= 12 { "pm" } else { "am" }).to_owned(),
        Part::ZoneName if time.zone.is_empty() => format_offset(time.offset, false, 2),
        Part::ZoneName => time.zone.clone(),
        Part::Offset { utc_is_z: true, .. } if time.offset == 0 => "Z".to_owned(),
        Part::Offset { colon, parts, .. } => format_offset(time.offset, colon, parts),
        Part::Fraction {
            separator,
            digits,
            trimmed,
        } => format_fraction(time.nanoseconds, char::from(separator), digits, trimmed),
    }
}

fn format_offset(offset: i32, colon: bool, parts: u8) -> String {
    let negative = offset < 0 && (offset / 60 != 0 || parts > 2);
    let sign = if negative { '-' } else { '+' };
    let size = offset.unsigned_abs();
    let numbers = [size / 3600, size / 60 % 60, size % 60];
    let texts = numbers
        .iter()
        .take(usize::from(parts))
        .map(|number| format!("{number:02}"));
    let texts: Vec<String> = texts.collect();
    format!("{sign}{}", texts.join(if colon { ":" } else { "" }))
}

fn format_fraction(nanoseconds: u32, separator: char, digits: usize, trimmed: bool) -> String {
    let all = format!("{nanoseconds:09}");
    let kept = &all[..digits.min(9)];
    let kept = if trimmed {
        kept.trim_end_matches('0')
    } else {
        kept
    };
    if trimmed && kept.is_empty() {
        return String::new();
    }
    format!("{separator}{kept}")
}

/// What was read of a date; `None`: the layout has no such part.
#[derive(Default)]
struct Fields {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanoseconds: u32,
    afternoon: Option<bool>,
    utc: bool,
    offset: Option<i32>,
    zone: String,
}

/// Why one part could not be read.
enum Trouble {
    /// It is not there.
    Absent,
    /// It is, but too large: what, and the text after it.
    Range(&'static str),
}

type Read<'a, T> = Result<(T, &'a [u8]), Trouble>;

/// Reads a date in that layout; without a zone it is universal time. The error is in Go's words.
pub(super) fn parse(layout: &[u8], text: &[u8]) -> Result<Time, String> {
    let mut fields = Fields::default();
    let (mut layout_rest, mut rest) = (layout, text);
    let wrong = |what: &[u8], found: &[u8]| {
        let (text, layout) = (quote(text), quote(layout));
        let (found, what) = (quote(found), quote(what));
        format!("parsing time {text} as {layout}: cannot parse {found} as {what}")
    };
    let refused = |why: &str| format!("parsing time {}: {why}", quote(text));
    loop {
        let Some(next) = next_part(layout_rest) else {
            let end = skip(rest, layout_rest).map_err(|at| wrong(layout_rest, at))?;
            if !end.is_empty() {
                return Err(refused(&format!("extra text: {}", quote(end))));
            }
            break;
        };
        rest = skip(rest, next.before).map_err(|at| wrong(next.before, at))?;
        rest = match fields.read(next.part, next.after, rest) {
            Ok(rest) => rest,
            Err(Trouble::Absent) => return Err(wrong(next.name, rest)),
            Err(Trouble::Range(what)) => return Err(refused(&format!("{what} out of range"))),
        };
        layout_rest = next.after;
    }
    fields.into_time().map_err(refused)
}

impl Fields {
    fn read<'a>(
        &mut self,
        part: Part,
        layout_rest: &[u8],
        text: &'a [u8],
    ) -> Result<&'a [u8], Trouble> {
        let rest;
        match part {
            Part::Year => {
                (self.year, rest) = digits(text, 2)?;
                self.year += if self.year >= 69 { 1900 } else { 2000 };
            }
            Part::LongYear => (self.year, rest) = digits(text, 4)?,
            Part::Month | Part::LongMonth => {
                let (index, after) = lookup(&MONTHS, part == Part::Month, text)?;
                (self.month, rest) = (Some(index + 1), after);
            }
            Part::Weekday | Part::LongWeekday => {
                (_, rest) = lookup(&WEEKDAYS, part == Part::Weekday, text)?;
            }
            Part::NumberMonth | Part::ZeroMonth => {
                let month;
                (month, rest) = number(text, part == Part::ZeroMonth)?;
                self.month = Some(within(month, 1, 12, "month")?);
            }
            Part::Day | Part::UnderDay | Part::ZeroDay => {
                let text = match text {
                    [b' ', after @ ..] if part == Part::UnderDay => after,
                    _ => text,
                };
                let day;
                (day, rest) = number(text, part == Part::ZeroDay)?;
                self.day = Some(day);
            }
            Part::UnderYearDay | Part::ZeroYearDay => {
                let mut text = text;
                for _ in 0..2 {
                    if let [b' ', after @ ..] = text
                        && part == Part::UnderYearDay
                    {
                        text = after;
                    }
                }
                let count = text
                    .iter()
                    .take(3)
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                if count == 0 || part == Part::ZeroYearDay && count != 3 {
                    return Err(Trouble::Absent);
                }
                let day;
                (day, rest) = digits(text, count)?;
                self.year_day = Some(day);
            }
            Part::Hour => {
                (self.hour, rest) = number(text, false)?;
                within(self.hour, 0, 23, "hour")?;
            }
            Part::Hour12 | Part::ZeroHour12 => {
                (self.hour, rest) = number(text, part == Part::ZeroHour12)?;
                within(self.hour, 0, 12, "hour")?;
            }
            Part::Minute | Part::ZeroMinute => {
                (self.minute, rest) = number(text, part == Part::ZeroMinute)?;
                within(self.minute, 0, 59, "minute")?;
            }
            Part::Second | Part::ZeroSecond => {
                let after;
                (self.second, after) = number(text, part == Part::ZeroSecond)?;
                within(self.second, 0, 59, "second")?;
                rest = self.read_unasked_fraction(layout_rest, after)?;
            }
            Part::UpperHalf | Part::LowerHalf => {
                let half = text.get(..2).ok_or(Trouble::Absent)?;
                self.afternoon = Some(match (half, part) {
                    (b"PM", Part::UpperHalf) | (b"pm", Part::LowerHalf) => true,
                    (b"AM", Part::UpperHalf) | (b"am", Part::LowerHalf) => false,
                    _ => return Err(Trouble::Absent),
                });
                rest = &text[2..];
            }
            Part::ZoneName if text.starts_with(b"UTC") => {
                self.utc = true;
                rest = &text[3..];
            }
            Part::ZoneName => {
                let size = zone_name(text).ok_or(Trouble::Absent)?;
                self.zone = String::from_utf8_lossy(&text[..size]).into_owned();
                rest = &text[size..];
            }
            Part::Offset { utc_is_z: true, .. } if text.first() == Some(&b'Z') => {
                self.utc = true;
                rest = &text[1..];
            }
            Part::Offset { colon, parts, .. } => {
                let offset;
                (offset, rest) = read_offset(text, colon, parts)?;
                self.offset = Some(offset);
            }
            Part::Fraction {
                digits,
                trimmed: false,
                ..
            } => {
                if text.len() < 1 + digits {
                    return Err(Trouble::Absent);
                }
                self.nanoseconds = nanoseconds(&text[..1 + digits])?;
                rest = &text[1 + digits..];
            }
            Part::Fraction { trimmed: true, .. } => rest = self.read_fraction(text)?,
        }
        Ok(rest)
    }

    /// A fraction after seconds is read also where the layout has none.
    fn read_unasked_fraction<'a>(
        &mut self,
        layout_rest: &[u8],
        text: &'a [u8],
    ) -> Result<&'a [u8], Trouble> {
        match next_part(layout_rest) {
            Some(Next {
                part: Part::Fraction { .. },
                ..
            }) => Ok(text),
            _ => self.read_fraction(text),
        }
    }

    fn read_fraction<'a>(&mut self, text: &'a [u8]) -> Result<&'a [u8], Trouble> {
        let [b'.' | b',', digits @ ..] = text else {
            return Ok(text);
        };
        let count = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if count == 0 {
            return Ok(text);
        }
        self.nanoseconds = nanoseconds(&text[..1 + count])?;
        Ok(&text[1 + count..])
    }

    fn into_time(mut self) -> Result<Time, &'static str> {
        match self.afternoon {
            Some(true) if self.hour < 12 => self.hour += 12,
            Some(false) if self.hour == 12 => self.hour = 0,
            _ => {}
        }
        if let Some(year_day) = self.year_day {
            let (month, day) = month_and_day(self.year, year_day)?;
            if self.month.is_some_and(|seen| seen != month) {
                return Err("day-of-year does not match month");
            }
            if self.day.is_some_and(|seen| seen != day) {
                return Err("day-of-year does not match day");
            }
            (self.month, self.day) = (Some(month), Some(day));
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        if day < 1 || day > days_in(self.year, month) {
            return Err("day out of range");
        }
        let clock = (self.hour * 60 + self.minute) * 60 + self.second;
        let mut time = Time::utc(self.year, month, day, clock, self.nanoseconds);
        if self.utc {
            return Ok(time);
        }
        if let Some(offset) = self.offset {
            time.seconds -= i64::from(offset);
            if offset != 0 || !matches!(self.zone.as_str(), "" | "UTC") {
                time.set_zone(self.zone, offset);
            }
            return Ok(time);
        }
        if !self.zone.is_empty() {
            let hours = self
                .zone
                .strip_prefix("GMT")
                .and_then(|hours| hours.parse::<i32>().ok());
            // The clock's numbers count as universal time all the same.
            time.set_zone(self.zone, hours.unwrap_or(0) * 3600);
            return Ok(time);
        }
        time.location = "Local".into();
        Ok(time)
    }
}

fn month_and_day(year: i64, mut year_day: i64) -> Result<(i64, i64), &'static str> {
    let length: i64 = (1..=12).map(|month| days_in(year, month)).sum();
    if year_day < 1 || year_day > length {
        return Err("day-of-year out of range");
    }
    let mut month = 1;
    while year_day > days_in(year, month) {
        year_day -= days_in(year, month);
        month += 1;
    }
    Ok((month, year_day))
}

fn within(number: i64, least: i64, most: i64, what: &'static str) -> Result<i64, Trouble> {
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(Trouble::Range(what)),
    }
}

/// Past the text that a layout has between parts; else where they differ. Spaces match any number of spaces.
fn skip<'a>(mut text: &'a [u8], mut prefix: &[u8]) -> Result<&'a [u8], &'a [u8]> {
    while let [first, after @ ..] = prefix {
        if *first == b' ' {
            if text.first().is_some_and(|byte| *byte != b' ') {
                return Err(text);
            }
            prefix = trim_spaces(prefix);
            text = trim_spaces(text);
            continue;
        }
        match text {
            [byte, rest @ ..] if byte == first => text = rest,
            _ => return Err(text),
        }
        prefix = after;
    }
    Ok(text)
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}

fn digits(text: &[u8], count: usize) -> Read<'_, i64> {
    let digits = text.get(..count).ok_or(Trouble::Absent)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Trouble::Absent);
    }
    let value = digits.iter().fold(0i64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    Ok((value, &text[count..]))
}

/// One or two digits; two if it is fixed.
fn number(text: &[u8], fixed: bool) -> Read<'_, i64> {
    if text.get(1).is_some_and(u8::is_ascii_digit) || fixed {
        digits(text, 2)
    } else {
        digits(text, 1)
    }
}

fn lookup<'a>(names: &[&str], short: bool, text: &'a [u8]) -> Read<'a, i64> {
    for (index, name) in names.iter().enumerate() {
        let name = if short { &name[..3] } else { name };
        let start = text.get(..name.len());
        if start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes())) {
            return Ok((index as i64, &text[name.len()..]));
        }
    }
    Err(Trouble::Absent)
}

fn nanoseconds(text: &[u8]) -> Result<u32, Trouble> {
    let [b'.' | b',', digits @ ..] = text else {
        return Err(Trouble::Absent);
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Trouble::Absent);
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0'));
    Ok(padded
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

fn read_offset(text: &[u8], colon: bool, parts: u8) -> Read<'_, i32> {
    const NAMES: [&str; 3] = [
        "time zone offset hour",
        "time zone offset minute",
        "time zone offset second",
    ];
    const MOST: [i64; 3] = [24, 60, 60];
    let Some((sign, mut rest)) = text.split_first() else {
        return Err(Trouble::Absent);
    };
    let mut seconds = 0;
    for index in 0..usize::from(parts) {
        if colon && index > 0 {
            let [b':', after @ ..] = rest else {
                return Err(Trouble::Absent);
            };
            rest = after;
        }
        let value;
        (value, rest) = digits(rest, 2)?;
        within(value, 0, MOST[index], NAMES[index])?;
        seconds += value * [3600, 60, 1][index];
    }
    let seconds = seconds as i32;
    match sign {
        b'+' => Ok((seconds, rest)),
        b'-' => Ok((-seconds, rest)),
        _ => Err(Trouble::Absent),
    }
}

/// The length of a zone's name: three or four capitals, `GMT+3`, or an offset.
fn zone_name(text: &[u8]) -> Option<usize> {
    if text.len() < 3 {
        return None;
    }
    if text.starts_with(b"ChST") || text.starts_with(b"MeST") {
        return Some(4);
    }
    if let Some(rest) = text.strip_prefix(b"GMT") {
        return Some(3 + signed_offset(rest));
    }
    if matches!(text[0], b'+' | b'-') {
        return Some(signed_offset(text)).filter(|size| *size > 0);
    }
    let capitals = text
        .iter()
        .take(6)
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    match capitals {
        3 => Some(3),
        4 if text[3] == b'T' || text.starts_with(b"WITA") => Some(4),
        5 if text[4] == b'T' => Some(5),
        _ => None,
    }
}

fn signed_offset(text: &[u8]) -> usize {
    let [b'+' | b'-', digits @ ..] = text else {
        return 0;
    };
    let count = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let hours = std::str::from_utf8(&digits[..count])
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    match hours {
        Some(0..=23) => 1 + count,
        _ => 0,
    }
}

/// In quotes, with what is no plain ASCII in hexadecimal.
fn quote(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}
