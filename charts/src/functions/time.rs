//! Moments and spans of time, as Go's `time.Time` and `time.Duration`, with their methods.
//!
//! "Local" is universal time: what a chart renders to doesn't depend on where it is rendered.

use std::{any::Any, rc::Rc};

use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};

use super::layout;
use crate::{Failure, Object, Value};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The layout that a moment prints in.
const PRINTED: &[u8] = b"2006-01-02 15:04:05.999999999 -0700 MST";
const RFC3339: &[u8] = b"2006-01-02T15:04:05.999999999Z07:00";
pub(super) const SECOND: i64 = 1_000_000_000;
/// Seconds from the year 1, Go's zero, to 1970.
const ZERO: i64 = -62_135_596_800;

/// `time.Time`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Time {
    /// Since 1970, universal time.
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    /// Seconds east.
    pub(super) offset: i32,
    /// The zone's abbreviation; may be empty.
    pub(super) zone: String,
    /// The location's name.
    pub(super) location: String,
}

/// A moment as a calendar and a clock show it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    /// From 1.
    pub(super) year_day: i64,
    /// From Sunday, 0.
    pub(super) weekday: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Time {
    /// That moment, in universal time as "Local".
    pub(super) fn at(seconds: i64, nanoseconds: u32) -> Time {
        Time {
            seconds,
            nanoseconds,
            offset: 0,
            zone: "UTC".to_owned(),
            location: "Local".to_owned(),
        }
    }

    pub(super) fn of(timestamp: Timestamp) -> Time {
        let nanoseconds = timestamp.as_nanosecond();
        let seconds = nanoseconds.div_euclid(i128::from(SECOND));
        let rest = nanoseconds.rem_euclid(i128::from(SECOND));
        Time::at(seconds as i64, rest as u32)
    }

    /// A date in universal time; months and days out of range count on.
    pub(super) fn utc(year: i64, month: i64, day: i64, clock: i64, nanoseconds: u32) -> Time {
        let days = days_from_civil(year, month).saturating_add(day - 1);
        let seconds = days.saturating_mul(86_400).saturating_add(clock);
        Time {
            location: "UTC".to_owned(),
            ..Time::at(seconds, nanoseconds)
        }
    }

    /// Go's zero: the first moment of the year 1.
    pub(super) fn zero() -> Time {
        Time {
            location: "UTC".to_owned(),
            ..Time::at(ZERO, 0)
        }
    }

    pub(super) fn set_zone(&mut self, zone: String, offset: i32) {
        self.offset = offset;
        self.location = zone.clone();
        self.zone = zone;
    }

    /// The same moment in a zone of the time zone database; `None`: it knows none of that name.
    pub(super) fn in_zone(&self, name: &str) -> Option<Time> {
        let moment = Time::at(self.seconds, self.nanoseconds);
        match name {
            "Local" => return Some(moment),
            "" | "UTC" => {
                return Some(Time {
                    location: "UTC".to_owned(),
                    ..moment
                });
            }
            _ => {}
        }
        let zone = TimeZone::get(name).ok()?;
        let within = self.seconds.clamp(
            Timestamp::MIN.as_second() + 1,
            Timestamp::MAX.as_second() - 1,
        );
        let info = zone.to_offset_info(Timestamp::from_second(within).ok()?);
        Some(Time {
            offset: info.offset().seconds(),
            zone: abbreviation(info.abbreviation(), info.offset().seconds()),
            location: name.to_owned(),
            ..moment
        })
    }

    pub(super) fn add(&self, nanoseconds: i128) -> Time {
        let all = i128::from(self.nanoseconds) + nanoseconds;
        let seconds = all.div_euclid(i128::from(SECOND)) as i64;
        Time {
            seconds: self.seconds.saturating_add(seconds),
            nanoseconds: all.rem_euclid(i128::from(SECOND)) as u32,
            ..self.clone()
        }
    }

    /// The span since another moment, as long as a `time.Duration` can be.
    pub(super) fn since(&self, earlier: &Time) -> i64 {
        let seconds = i128::from(self.seconds) - i128::from(earlier.seconds);
        let nanoseconds = i128::from(self.nanoseconds) - i128::from(earlier.nanoseconds);
        let span = seconds * i128::from(SECOND) + nanoseconds;
        span.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    pub(super) fn civil(&self) -> Civil {
        let local = self.seconds.saturating_add(i64::from(self.offset));
        let (days, clock) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            year_day: days - days_from_civil(year, 1) + 1,
            weekday: (days + 4).rem_euclid(7),
            hour: clock / 3600,
            minute: clock / 60 % 60,
            second: clock % 60,
        }
    }

    pub(super) fn format(&self, layout: &[u8]) -> Vec<u8> {
        layout::format(self, layout)
    }

    fn add_date(&self, years: i64, months: i64, days: i64) -> Time {
        let date = self.civil();
        let clock = (date.hour * 60 + date.minute) * 60 + date.second;
        let moved = Time::utc(
            date.year.saturating_add(years),
            date.month.saturating_add(months),
            date.day.saturating_add(days),
            clock,
            self.nanoseconds,
        );
        Time {
            seconds: moved.seconds.saturating_sub(i64::from(self.offset)),
            ..self.clone()
        }
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(Rc::new(self))
    }

    /// The moment that a value is, if it is one.
    pub(super) fn from_value(value: &Value) -> Option<Time> {
        match value {
            Value::Object(object) => object.as_any().downcast_ref::<Time>().cloned(),
            _ => None,
        }
    }
}

/// Zones without letters have their offset for a name: `+03`, not what the database's reader calls it.
fn abbreviation(name: &str, offset: i32) -> String {
    if name.is_empty() && offset == 0 {
        return "UTC".to_owned();
    }
    name.to_owned()
}

/// Days since 1970 of a month's first day; months out of range count on into other years.
fn days_from_civil(year: i64, month: i64) -> i64 {
    let months = month - 1;
    let year = year
        .saturating_add(months.div_euclid(12))
        .clamp(-300_000_000_000, 300_000_000_000);
    let month = months.rem_euclid(12) + 1;
    // Years from March on: the leap day is then the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The number of days in a month.
pub(super) fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Object for Time {
    fn type_name(&self) -> &'static str {
        "time.Time"
    }

    fn field(&self, _: &str) -> Option<Value> {
        None
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, Failure>> {
        let date = self.civil();
        let int = |number| Ok(Value::int(number));
        let int64 = |number| Ok(Value::int64(number));
        Some(match name {
            "Year" => int(date.year),
            "Month" => Ok(Value::Object(Rc::new(Named {
                names: &MONTHS,
                type_name: "time.Month",
                first: 1,
                number: date.month,
            }))),
            "Day" => int(date.day),
            "Weekday" => Ok(Value::Object(Rc::new(Named {
                names: &WEEKDAYS,
                type_name: "time.Weekday",
                first: 0,
                number: date.weekday,
            }))),
            "YearDay" => int(date.year_day),
            "Hour" => int(date.hour),
            "Minute" => int(date.minute),
            "Second" => int(date.second),
            "Nanosecond" => int(i64::from(self.nanoseconds)),
            "Unix" => int64(self.seconds),
            "UnixMilli" => int64(self.unix(1000)),
            "UnixMicro" => int64(self.unix(1_000_000)),
            "UnixNano" => int64(self.unix(SECOND)),
            "UTC" => Ok(Time {
                location: "UTC".to_owned(),
                ..Time::at(self.seconds, self.nanoseconds)
            }
            .into_value()),
            "Local" => Ok(Time::at(self.seconds, self.nanoseconds).into_value()),
            "Location" => Ok(Value::string(self.location.clone())),
            "IsZero" => Ok(Value::Bool(self.seconds == ZERO && self.nanoseconds == 0)),
            "String" => Ok(Value::string(self.print())),
            "Format" => match args {
                [Value::String(layout)] => Ok(Value::string(self.format(layout))),
                _ => Err(arguments("Format", "a layout")),
            },
            "AddDate" => match args {
                [
                    Value::Int(years, _),
                    Value::Int(months, _),
                    Value::Int(days, _),
                ] => Ok(self.add_date(*years, *months, *days).into_value()),
                _ => Err(arguments("AddDate", "years, months and days")),
            },
            "Add" => match args {
                [span] => match Duration::from_value(span) {
                    Some(span) => Ok(self.add(i128::from(span)).into_value()),
                    None => Err(arguments("Add", "a duration")),
                },
                _ => Err(arguments("Add", "a duration")),
            },
            "Sub" | "Before" | "After" | "Equal" | "Compare" => {
                match args.first().and_then(Time::from_value) {
                    Some(other) => Ok(self.compare(name, &other)),
                    None => Err(arguments(name, "a time")),
                }
            }
            _ => return None,
        })
    }

    fn print(&self) -> String {
        String::from_utf8_lossy(&self.format(PRINTED)).into_owned()
    }

    fn plain(&self) -> Value {
        Value::string(self.format(RFC3339))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Time {
    fn unix(&self, per_second: i64) -> i64 {
        let part = i64::from(self.nanoseconds) / (SECOND / per_second);
        self.seconds.wrapping_mul(per_second).wrapping_add(part)
    }

    fn compare(&self, method: &str, other: &Time) -> Value {
        let order = (self.seconds, self.nanoseconds).cmp(&(other.seconds, other.nanoseconds));
        match method {
            "Sub" => Duration(self.since(other)).into_value(),
            "Before" => Value::Bool(order.is_lt()),
            "After" => Value::Bool(order.is_gt()),
            "Equal" => Value::Bool(order.is_eq()),
            _ => Value::int(order as i64),
        }
    }
}

fn arguments(method: &str, wanted: &str) -> Failure {
    Failure::new(format!("{method} takes {wanted}"))
}

/// A month or a day of the week: a number that prints as its name.
struct Named {
    names: &'static [&'static str],
    type_name: &'static str,
    first: i64,
    number: i64,
}

impl Object for Named {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn kind(&self) -> &'static str {
        "int"
    }

    fn field(&self, _: &str) -> Option<Value> {
        None
    }

    fn method(&self, name: &str, _: &[Value]) -> Option<Result<Value, Failure>> {
        (name == "String").then(|| Ok(Value::string(self.print())))
    }

    fn print(&self) -> String {
        let index = usize::try_from(self.number - self.first).unwrap_or(usize::MAX);
        self.names
            .get(index)
            .copied()
            .unwrap_or_default()
            .to_owned()
    }

    fn plain(&self) -> Value {
        Value::int(self.number)
    }

    fn truth(&self) -> bool {
        self.number != 0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `time.Duration`, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Duration(pub(super) i64);

impl Duration {
    pub(super) fn into_value(self) -> Value {
        Value::Object(Rc::new(self))
    }

    /// The nanoseconds of a duration or of an integer.
    pub(super) fn from_value(value: &Value) -> Option<i64> {
        match value {
            Value::Int(number, _) => Some(*number),
            Value::Object(object) => object.as_any().downcast_ref().map(|Duration(span)| *span),
            _ => None,
        }
    }

    pub(super) fn truncate(self, unit: i64) -> Duration {
        match unit {
            ..=0 => self,
            _ => Duration(self.0 - self.0 % unit),
        }
    }

    /// To the nearest multiple, half away from zero; as far as a duration goes.
    pub(super) fn round(self, unit: i64) -> Duration {
        if unit <= 0 {
            return self;
        }
        let rest = i128::from(self.0 % unit);
        let down = i128::from(self.0) - rest;
        let away = if rest.abs() * 2 >= i128::from(unit) {
            i128::from(unit)
        } else {
            0
        };
        let rounded = down + if self.0 < 0 { -away } else { away };
        Duration(rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    pub(super) fn units(self, unit: i64) -> f64 {
        (self.0 / unit) as f64 + (self.0 % unit) as f64 / unit as f64
    }
}

impl std::fmt::Display for Duration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let (unit, name) = match size {
            0 => return f.write_str("0s"),
            1..1000 => (1, "ns"),
            1000..1_000_000 => (1000, "µs"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (SECOND as u64, "s"),
        };
        let whole = size / unit;
        if whole >= 3600 {
            write!(f, "{}h", whole / 3600)?;
        }
        if whole >= 60 {
            write!(f, "{}m", whole / 60 % 60)?;
        }
        let fraction = match unit {
            1 => String::new(),
            _ => format!("{:0width$}", size % unit, width = unit.ilog10() as usize),
        };
        let fraction = fraction.trim_end_matches('0');
        let shown = if unit == SECOND as u64 {
            whole % 60
        } else {
            whole
        };
        write!(f, "{shown}")?;
        if !fraction.is_empty() {
            write!(f, ".{fraction}")?;
        }
        f.write_str(name)
    }
}

impl Object for Duration {
    fn type_name(&self) -> &'static str {
        "time.Duration"
    }

    fn kind(&self) -> &'static str {
        "int64"
    }

    fn field(&self, _: &str) -> Option<Value> {
        None
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, Failure>> {
        let unit = || args.first().and_then(Duration::from_value);
        Some(match name {
            "Hours" => Ok(Value::Float(self.units(3600 * SECOND))),
            "Minutes" => Ok(Value::Float(self.units(60 * SECOND))),
            "Seconds" => Ok(Value::Float(self.units(SECOND))),
            "Milliseconds" => Ok(Value::int64(self.0 / 1_000_000)),
            "Microseconds" => Ok(Value::int64(self.0 / 1000)),
            "Nanoseconds" => Ok(Value::int64(self.0)),
            "Abs" => Ok(Duration(self.0.saturating_abs()).into_value()),
            "String" => Ok(Value::string(self.to_string())),
            "Round" => match unit() {
                Some(unit) => Ok(self.round(unit).into_value()),
                None => Err(arguments("Round", "a duration")),
            },
            "Truncate" => match unit() {
                Some(unit) => Ok(self.truncate(unit).into_value()),
                None => Err(arguments("Truncate", "a duration")),
            },
            _ => return None,
        })
    }

    fn print(&self) -> String {
        self.to_string()
    }

    fn plain(&self) -> Value {
        Value::int64(self.0)
    }

    fn truth(&self) -> bool {
        self.0 != 0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// As `time.ParseDuration` reads it: `-1h30m`, `1.5s`. The error is in its words.
pub(super) fn parse_duration(text: &[u8]) -> Result<Duration, String> {
    let shown = || crate::format::sprintf(b"%q", &[Value::string(Bytes::copy_from_slice(text))]);
    let invalid = || {
        format!(
            "time: invalid duration {}",
            String::from_utf8_lossy(&shown())
        )
    };
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if rest == b"0" {
        return Ok(Duration(0));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, after) = rest.split_at(whole);
        let (fraction, after) = match after {
            [b'.', after @ ..] => {
                let count = after
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                after.split_at(count)
            }
            _ => (&after[..0], after),
        };
        if digits.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let size = after
            .iter()
            .take_while(|byte| **byte != b'.' && !byte.is_ascii_digit())
            .count();
        let (name, after) = after.split_at(size);
        if name.is_empty() {
            let shown = shown();
            return Err(format!(
                "time: missing unit in duration {}",
                String::from_utf8_lossy(&shown)
            ));
        }
        let Some(unit) = unit(name) else {
            let name =
                crate::format::sprintf(b"%q", &[Value::string(Bytes::copy_from_slice(name))]);
            return Err(format!(
                "time: unknown unit {} in duration {}",
                String::from_utf8_lossy(&name),
                String::from_utf8_lossy(&shown())
            ));
        };
        let number = digits.iter().try_fold(0u64, |sum, digit| {
            let sum = sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            (sum <= 1 << 63).then_some(sum)
        });
        let part = number
            .and_then(|number| number.checked_mul(unit))
            .filter(|n| *n <= 1 << 63);
        let part = part.ok_or_else(invalid)? + fraction_of(fraction, unit);
        total = total
            .checked_add(part)
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return Ok(Duration(0i64.wrapping_sub_unsigned(total)));
    }
    i64::try_from(total).map(Duration).map_err(|_| invalid())
}

fn fraction_of(digits: &[u8], unit: u64) -> u64 {
    let (mut number, mut scale) = (0u64, 1.0f64);
    for digit in digits {
        let next = number
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')));
        let Some(next) = next.filter(|next| i64::try_from(*next).is_ok()) else {
            break;
        };
        number = next;
        scale *= 10.0;
    }
    (number as f64 * (unit as f64 / scale)) as u64
}

fn unit(name: &[u8]) -> Option<u64> {
    Some(match name {
        b"ns" => 1,
        b"us" => 1000,
        _ if name == "µs".as_bytes() || name == "μs".as_bytes() => 1000,
        b"ms" => 1_000_000,
        b"s" => 1_000_000_000,
        b"m" => 60_000_000_000,
        b"h" => 3_600_000_000_000,
        _ => return None,
    })
}
