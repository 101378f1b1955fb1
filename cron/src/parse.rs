//! Reading an expression, and saying what is wrong with one.

use std::str::FromStr;

use jiff::SignedDuration;

use crate::{Fields, Rule, Schedule};

/// A field: what it is called, its bounds, and words for its numbers.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const BOUNDS: [Bounds; 5] = [
    Bounds {
        least: 0,
        most: 59,
        names: &[],
    },
    Bounds {
        least: 0,
        most: 23,
        names: &[],
    },
    Bounds {
        least: 1,
        most: 31,
        names: &[],
    },
    Bounds {
        least: 1,
        most: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Bounds {
        least: 0,
        most: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Words, and the fields that they stand for.
const WORDS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl FromStr for Schedule {
    type Err = String;

    /// # Errors
    /// What is wrong with the expression, in the words of the parser that Kubernetes uses.
    fn from_str(expression: &str) -> Result<Self, String> {
        if let Some(period) = expression.strip_prefix("@every ") {
            let period = parse_period(period);
            let period = period.ok_or_else(|| format!("failed to parse duration {expression}"))?;
            return Ok(Self(Rule::Every(period)));
        }
        let mut fields = expression;
        if expression.starts_with('@') {
            let word = WORDS.iter().find(|(word, _)| *word == expression);
            let (_, meant) =
                word.ok_or_else(|| format!("unrecognized descriptor: {expression}"))?;
            fields = meant;
        }
        parse_fields(fields).map(|fields| Self(Rule::At(fields)))
    }
}

fn parse_fields(expression: &str) -> Result<Fields, String> {
    let fields: Vec<_> = expression.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            BOUNDS.len(),
            fields.len(),
            fields.join(" ")
        ));
    };
    let [of_minute, of_hour, of_day, of_month, of_weekday] = &BOUNDS;
    let (minutes, _) = parse_field(minutes, of_minute)?;
    let (hours, _) = parse_field(hours, of_hour)?;
    let (days, any_day) = parse_field(days, of_day)?;
    let (months, _) = parse_field(months, of_month)?;
    let (weekdays, any_weekday) = parse_field(weekdays, of_weekday)?;
    Ok(Fields {
        minutes,
        hours,
        days,
        months,
        weekdays,
        any_day,
        any_weekday,
    })
}

/// A bit for each number, and whether the field says that any will do.
fn parse_field(field: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (mut bits, mut any) = (0, false);
    for range in field.split(',') {
        let (more, whole) = parse_range(range, bounds)?;
        bits |= more;
        any |= whole;
    }
    Ok((bits, any))
}

/// Reads `*`, `3`, `mon-fri`, `*/5`, `1-30/2`.
fn parse_range(expression: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let mut halves = expression.split('/');
    let range = halves.next().unwrap_or_default();
    let step = halves.next();
    if halves.next().is_some() {
        return Err(format!("too many slashes: {expression}"));
    }
    let mut ends = range.split('-');
    let first = ends.next().unwrap_or_default();
    let last = ends.next();
    if ends.next().is_some() {
        return Err(format!("too many hyphens: {expression}"));
    }
    let mut any = matches!(first, "*" | "?");
    let (start, mut end) = if any {
        (bounds.least, bounds.most)
    } else {
        let start = number(first, bounds)?;
        match last {
            Some(last) => (start, number(last, bounds)?),
            None => (start, start),
        }
    };
    let mut every = 1;
    if let Some(step) = step {
        if last.is_none() {
            end = bounds.most;
        }
        every = plain(step)?;
        if every == 0 {
            return Err(format!(
                "step of range should be a positive number: {expression}"
            ));
        }
        any &= every == 1;
    }
    if start < bounds.least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({}): {expression}",
            bounds.least
        ));
    }
    if end > bounds.most {
        return Err(format!(
            "end of range ({end}) above maximum ({}): {expression}",
            bounds.most
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {expression}"
        ));
    }
    let every = usize::try_from(every).unwrap_or(usize::MAX);
    let bits = (start..=end).step_by(every);
    Ok((bits.fold(0, |bits, number| bits | 1 << number), any))
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let name = text.to_lowercase();
    let named = bounds.names.iter().zip(bounds.least..);
    match named.into_iter().find(|(known, _)| **known == name) {
        Some((_, number)) => Ok(number),
        None => plain(text),
    }
}

fn plain(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) => u32::try_from(number)
            .map_err(|_| format!("negative number ({number}) not allowed: {text}")),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

/// A period such as `1h30m` or `1.5s`, in whole seconds, of which it has at least one.
fn parse_period(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (count, after) = rest.split_at(digits.unwrap_or(rest.len()));
        let units = UNITS.iter().filter(|(unit, _)| after.starts_with(unit));
        let (unit, length) = units.max_by_key(|(unit, _)| unit.len())?;
        seconds += count.parse::<f64>().ok()? * length;
        rest = &after[unit.len()..];
    }
    if text.is_empty() {
        return None;
    }
    SignedDuration::try_from_secs_f64(seconds.trunc().max(1.0)).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(expression: &str, expect: Expect) {
        let problem = expression.parse::<Schedule>().err();
        expect.assert_eq(&problem.unwrap_or_default());
    }

    #[test]
    fn schedules_that_people_write() {
        for expression in [
            "* * * * *",
            "*/15 0-6,20-23 1,15 jan-Jun mon",
            "0 0 1 */3 ?",
            "5/10 * * * 0-6/2",
            "@hourly",
            "@every 1h30m",
        ] {
            check(expression, expect![[""]]);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        check(
            "* * * *",
            expect!["expected exactly 5 fields, found 4: [* * * *]"],
        );
        check(
            "60 * * * *",
            expect!["end of range (60) above maximum (59): 60"],
        );
        check(
            "* * 0 * *",
            expect!["beginning of range (0) below minimum (1): 0"],
        );
        check(
            "5-1 * * * *",
            expect!["beginning of range (5) beyond end of range (1): 5-1"],
        );
        check(
            "*/0 * * * *",
            expect!["step of range should be a positive number: */0"],
        );
        check("1-2-3 * * * *", expect!["too many hyphens: 1-2-3"]);
        check("*/1/2 * * * *", expect!["too many slashes: */1/2"]);
        check(
            "x * * * *",
            expect![[r#"failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax"#]],
        );
        check("@often", expect!["unrecognized descriptor: @often"]);
        check("@every day", expect!["failed to parse duration @every day"]);
    }

    #[test]
    fn a_star_with_a_step_is_not_any_day() {
        let any = |days: &str| match format!("0 0 {days} * *").parse::<Schedule>() {
            Ok(Schedule(Rule::At(fields))) => fields.any_day,
            other => panic!("{other:?}"),
        };
        assert!(any("*") && any("?") && any("*/1") && any("3,*"));
        assert!(!any("*/2") && !any("1-31"));
    }

    #[test]
    fn a_period_has_whole_seconds() {
        let every = |period: &str| parse_period(period).map(|period| period.as_secs());
        assert_eq!(every("1h30m"), Some(5400));
        assert_eq!(every("1.5s"), Some(1));
        assert_eq!(every("3ms"), Some(1));
        assert_eq!(every("99999999999999999999999h"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = text.parse::<Schedule>();
        }

        #[test]
        fn numbers_within_their_bounds_are_fine(m in 0..60, h in 0..24, d in 1..32, n in 1..13, w in 0..7) {
            let text = format!("{m} {h} {d} {n} {w}");
            prop_assert!(text.parse::<Schedule>().is_ok(), "{}", text);
        }
    }
}
