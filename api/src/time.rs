//! Times: as objects hold them (`2026-01-02T03:04:05Z`) and as people read them (`5m3s`, `2d4h`).
//!
//! Pure: the clock is the caller's. Durations follow the rounding of `kubectl get`: two units while
//! they matter, then one.

use jiff::Timestamp;
use serde_json::Value;

/// A time as Kubernetes writes a `Time`: RFC 3339 in UTC, whole seconds.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as Kubernetes writes a `MicroTime`: the same with six digits of a second.
pub(crate) fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A whole number of seconds in words.
pub(crate) fn human(seconds: i64) -> String {
    let pair = |big: i64, unit: &str, small: i64, rest: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{rest}")
        }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// The time since an RFC 3339 timestamp; `<unknown>` if there is none.
pub(crate) fn since(timestamp: &Value, now: Timestamp) -> String {
    parse(timestamp).map_or_else(
        || "<unknown>".to_owned(),
        |then| human(now.duration_since(then).as_secs()),
    )
}

/// An RFC 3339 timestamp.
pub(crate) fn parse(timestamp: &Value) -> Option<Timestamp> {
    timestamp.as_str()?.parse().ok()
}

/// Reads a duration as Go writes one: `1m30s`, `500ms`, `0`; `None` if it is none, or below zero.
pub(crate) fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(std::time::Duration::ZERO);
    }
    let mut seconds = 0.0;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = rest.split_at(unit.unwrap_or(rest.len()));
        seconds += amount
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = after;
        if rest.is_empty() {
            return std::time::Duration::try_from_secs_f64(seconds).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    #[test]
    fn times_are_written_in_utc_with_whole_seconds_or_micros() {
        let time = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        assert_eq!(super::seconds(time), "2026-01-02T03:04:05Z");
        assert_eq!(super::micros(time), "2026-01-02T03:04:05.678000Z");
    }

    #[track_caller]
    fn check(seconds: &[i64], expect: Expect) {
        let shown: Vec<_> = seconds.iter().map(|s| super::human(*s)).collect();
        expect.assert_eq(&shown.join(" "));
    }

    #[test]
    fn two_units_are_shown_while_the_smaller_matters() {
        check(&[-5, -1, 0, 59, 119], expect!["<invalid> 0s 0s 59s 119s"]);
        check(&[120, 303, 600, 10_799], expect!["2m 5m3s 10m 179m"]);
        check(
            &[10_800, 12_345, 28_800, 172_799],
            expect!["3h 3h25m 8h 47h"],
        );
        check(&[172_800, 187_200, 691_200], expect!["2d 2d4h 8d"]);
        check(
            &[63_072_000, 63_158_400, 252_288_000],
            expect!["2y 2y1d 8y"],
        );
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("32s", Some(32_000)),
            ("1m30.5s", Some(90_500)),
            ("500ms", Some(500)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("1..5s", None),
        ] {
            let found = super::parse_duration(text).map(|duration| duration.as_millis());
            assert_eq!(found, millis, "{text:?}");
        }
    }
}
