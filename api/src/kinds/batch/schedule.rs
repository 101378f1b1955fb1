//! Cron expressions: what is wrong with one.
//!
//! Five fields (minute, hour, day of month, month, day of week) of `*`, numbers, names, ranges, steps and
//! lists; or a word such as `@daily`, or `@every 1h30m`. Pure.

/// A field: what it is called, its bounds, and words for its numbers.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
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

const WORDS: &[&str] = &[
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// What is wrong with an expression, if anything is.
pub(super) fn problem(expression: &str) -> Option<String> {
    if expression.starts_with('@') {
        return word_problem(expression);
    }
    let fields: Vec<_> = expression.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Some(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            fields.len(),
            fields.join(" ")
        ));
    }
    fields
        .iter()
        .zip(&FIELDS)
        .flat_map(|(field, bounds)| field.split(',').map(move |range| (range, bounds)))
        .find_map(|(range, bounds)| check(range, bounds).err())
}

fn word_problem(expression: &str) -> Option<String> {
    if WORDS.contains(&expression) {
        return None;
    }
    match expression.strip_prefix("@every ") {
        Some(period) if is_period(period) => None,
        Some(_) => Some(format!("failed to parse duration {expression}")),
        None => Some(format!("unrecognized descriptor: {expression}")),
    }
}

/// True of a period such as `1h30m` or `1.5s`.
fn is_period(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .into_iter()
            .filter(|unit| after.starts_with(unit))
            .max_by_key(|unit| unit.len());
        let (Ok(_), Some(unit)) = (number.parse::<f64>(), unit) else {
            return false;
        };
        rest = &after[unit.len()..];
    }
    !text.is_empty()
}

/// Checks `*`, `3`, `mon-fri`, `*/5`, `1-30/2`.
fn check(expression: &str, bounds: &Bounds) -> Result<(), String> {
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
    let (start, mut end) = if matches!(first, "*" | "?") {
        (bounds.least, bounds.most)
    } else {
        let start = number(first, bounds)?;
        match last {
            Some(last) => (start, number(last, bounds)?),
            None => (start, start),
        }
    };
    if let Some(step) = step {
        if last.is_none() {
            end = bounds.most;
        }
        if plain(step)? == 0 {
            return Err(format!(
                "step of range should be a positive number: {expression}"
            ));
        }
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
    Ok(())
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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(expression: &str, expect: Expect) {
        expect.assert_eq(&problem(expression).unwrap_or_default());
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

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            problem(&text);
        }

        #[test]
        fn numbers_within_their_bounds_are_fine(m in 0..60, h in 0..24, d in 1..32, n in 1..13, w in 0..7) {
            prop_assert_eq!(problem(&format!("{m} {h} {d} {n} {w}")), None);
        }
    }
}
