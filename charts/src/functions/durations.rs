//! Spans of time: Sprig's two functions, and those of Helm after 4.2 that take them in many forms.

use super::{
    cast, fixed,
    time::{Duration, SECOND, Time, parse_duration},
    types,
};
use crate::{Environment, Failure, Function, Param::Any, Value, value::IntKind};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("duration", &[Any], |_, args| {
        let seconds = match &args[0] {
            Value::String(text) => decimal(text),
            Value::Int(seconds, IntKind::Int64) => *seconds,
            _ => 0,
        };
        Ok(Value::string(
            Duration(seconds.wrapping_mul(SECOND)).to_string(),
        ))
    }),
    fixed("durationRound", &[Any], |environment, args| {
        let now = Time::of(environment.now);
        let span = match &args[0] {
            Value::String(text) => parse_duration(text).map_or(0, |span| span.0),
            Value::Int(nanoseconds, IntKind::Int64) => *nanoseconds,
            other => Time::from_value(other).map_or(0, |then| now.since(&then)),
        };
        Ok(Value::string(coarse(span)))
    }),
    fixed("mustToDuration", &[Any], |_, args| {
        Ok(span(&args[0]).map_err(Failure::new)?.into_value())
    }),
    fixed("toNanoseconds", &[Any], |_, args| whole(args, 1)),
    fixed("toMicroseconds", &[Any], |_, args| whole(args, 1000)),
    fixed("toMilliseconds", &[Any], |_, args| whole(args, 1_000_000)),
    fixed("toSeconds", &[Any], |_, args| units(args, SECOND, 1.0)),
    fixed("toMinutes", &[Any], |_, args| units(args, 60 * SECOND, 1.0)),
    fixed("toHours", &[Any], |_, args| units(args, 3600 * SECOND, 1.0)),
    fixed("toDays", &[Any], |_, args| units(args, 3600 * SECOND, 24.0)),
    fixed("toWeeks", &[Any], |_, args| {
        units(args, 3600 * SECOND, 168.0)
    }),
    fixed("roundToDuration", &[Any, Any], |environment, args| {
        to_multiple(environment, args, Duration::round)
    }),
    fixed("truncateToDuration", &[Any, Any], |environment, args| {
        to_multiple(environment, args, Duration::truncate)
    }),
];

/// The largest unit that fits more than once: years of 365 days, months of 30.
fn coarse(nanoseconds: i64) -> String {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "y"),
        (30 * 86_400, "mo"),
        (86_400, "d"),
        (3600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let span = nanoseconds.unsigned_abs();
    for (seconds, name) in UNITS {
        let unit = seconds * SECOND as u64;
        if span > unit {
            return format!("{}{name}", span / unit);
        }
    }
    "0s".to_owned()
}

/// Digits of base ten, as far as an integer goes; else 0.
fn decimal(text: &[u8]) -> i64 {
    let digits = text
        .strip_prefix(b"-")
        .or(text.strip_prefix(b"+"))
        .unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let text = String::from_utf8_lossy(text);
    let beyond = if text.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    text.parse().unwrap_or(beyond)
}

/// A duration, its text, or a number of seconds.
fn span(value: &Value) -> Result<Duration, String> {
    let seconds = |number: f64| Duration(cast::truncate(number * SECOND as f64));
    match value {
        Value::Nil => Err("invalid duration".to_owned()),
        Value::String(text) => {
            let trimmed = text.trim_ascii();
            if trimmed.is_empty() {
                return Err("empty duration".to_owned());
            }
            if let Ok(span) = parse_duration(trimmed) {
                return Ok(span);
            }
            cast::parse_float(trimmed).map(seconds).ok_or_else(|| {
                let shown = crate::format::sprintf(b"%q", std::slice::from_ref(value));
                format!(
                    "could not parse duration {}",
                    String::from_utf8_lossy(&shown)
                )
            })
        }
        Value::Int(number, _) => Ok(Duration(number.wrapping_mul(SECOND))),
        Value::Uint(number, _) => match i64::try_from(*number) {
            Ok(number) => Ok(Duration(number.wrapping_mul(SECOND))),
            Err(_) => Err(format!("duration seconds overflow: {number}")),
        },
        Value::Float(number) => Ok(seconds(*number)),
        other => match other {
            Value::Object(object) if object.type_name() == "time.Duration" => {
                Ok(Duration(Duration::from_value(other).unwrap_or(0)))
            }
            _ => Err(format!(
                "unsupported duration type {}",
                types::type_name(other)
            )),
        },
    }
}

fn whole(args: &[Value], unit: i64) -> Result<Value, Failure> {
    Ok(Value::int64(span(&args[0]).map_or(0, |span| span.0 / unit)))
}

fn units(args: &[Value], unit: i64, per: f64) -> Result<Value, Failure> {
    Ok(Value::Float(
        span(&args[0]).map_or(0.0, |span| span.units(unit) / per),
    ))
}

fn to_multiple(
    _: &Environment,
    args: &[Value],
    rounded: fn(Duration, i64) -> Duration,
) -> Result<Value, Failure> {
    let span_of = span(&args[0]);
    Ok(match (span_of, span(&args[1])) {
        (Ok(span), Ok(multiple)) => rounded(span, multiple.0).into_value(),
        (Ok(span), Err(_)) => span.into_value(),
        (Err(_), _) => Duration(0).into_value(),
    })
}
