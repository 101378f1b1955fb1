//! Durations as users write them (`1h30m`) and as tables show them (`5m3s`, `2d4h`). Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Reads `90s`, `1h30m`, `1.5h`, `0`: for clap.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write it as 30s, 5m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &rest[end..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// How long ago something was, in the two largest units that matter.
pub(crate) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / (24 * 365));
    let pair = |large: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => pair(days, 'd', hours % 24, 'h'),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => pair(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    }
}

/// The age of an RFC 3339 time; `<unknown>` if it is none.
pub(crate) fn age(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human(now.duration_since(time).as_secs()),
        Err(_) => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(seconds: i64, expected: Expect) {
        expected.assert_eq(&human(seconds));
    }

    #[test]
    fn ages_have_the_two_units_that_matter() {
        check(-5, expect!["<invalid>"]);
        check(-1, expect!["0s"]);
        check(119, expect!["119s"]);
        check(120, expect!["2m"]);
        check(303, expect!["5m3s"]);
        check(660, expect!["11m"]);
        check(3 * 3600 + 60, expect!["3h1m"]);
        check(9 * 3600 + 60, expect!["9h"]);
        check(52 * 3600, expect!["2d4h"]);
        check(9 * 86_400 + 3600, expect!["9d"]);
        check((2 * 365 + 10) * 86_400, expect!["2y10d"]);
        check(9 * 365 * 86_400, expect!["9y"]);
    }

    #[test]
    fn durations_are_read_as_written_by_hand() {
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "m", "5x", "-1s", "1..2s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
