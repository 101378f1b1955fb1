//! Compares printed lines with expected ones, which may hold placeholders. Pure.
//!
//! Runs of spaces within a line count as one, since columns are as wide as their widest value.

use std::fmt::Write as _;

/// What a placeholder stands for.
const PLACEHOLDERS: &[(&str, fn(&str) -> bool)] = &[
    ("<any>", |_| true),
    ("<word>", |text| !text.is_empty() && !text.contains(' ')),
    ("<n>", |text| is_of(text, |c| c.is_ascii_digit())),
    ("<age>", |text| {
        text == "<unknown>" || is_of(text, |c| c.is_ascii_digit() || "smhdy".contains(c))
    }),
    ("<uid>", |text| {
        text.len() == 36 && is_of(text, |c| c.is_ascii_hexdigit() || c == '-')
    }),
    ("<ip>", |text| text.parse::<std::net::IpAddr>().is_ok()),
    ("<time>", |text| {
        text.len() >= 20 && is_of(text, |c| c.is_ascii_digit() || "TZ:.-+\"".contains(c))
    }),
];

fn is_of(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(allowed)
}

/// True if the lines are those expected; the line `...` stands for any number of lines.
pub(crate) fn matches(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=actual.len()).any(|skipped| matches(rest, &actual[skipped..]))
        }
        Some((first, rest)) => match actual.split_first() {
            Some((line, others)) => line_matches(first, line) && matches(rest, others),
            None => false,
        },
    }
}

fn line_matches(expected: &str, actual: &str) -> bool {
    text_matches(&squeeze(expected), &squeeze(actual))
}

/// One space for each run within the line; its indentation stays, its trailing spaces go.
fn squeeze(line: &str) -> String {
    let text = line.trim_end();
    let start = text.len() - text.trim_start().len();
    let words: Vec<_> = text[start..]
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    format!("{}{}", &text[..start], words.join(" "))
}

fn text_matches(expected: &str, actual: &str) -> bool {
    let placeholder = PLACEHOLDERS
        .iter()
        .filter_map(|(name, is)| Some((expected.find(name)?, name, is)))
        .min_by_key(|(at, _, _)| *at);
    let Some((at, name, is)) = placeholder else {
        return expected == actual;
    };
    let Some(rest) = actual.strip_prefix(&expected[..at]) else {
        return false;
    };
    let after = &expected[at + name.len()..];
    let ends = rest.char_indices().map(|(end, _)| end).chain([rest.len()]);
    ends.into_iter()
        .any(|end| is(&rest[..end]) && text_matches(after, &rest[end..]))
}

/// Expected and printed lines side by side: `-` is missing, `+` is too much.
pub(crate) fn difference(expected: &[String], actual: &[String]) -> String {
    let (rows, columns) = (expected.len(), actual.len());
    // The longest run of lines in common, from each pair of positions to the ends.
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if line_matches(&expected[row], &actual[column]) {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column, mut text) = (0, 0, String::new());
    while row < rows || column < columns {
        let both = row < rows && column < columns;
        let (sign, line) = if both && line_matches(&expected[row], &actual[column]) {
            row += 1;
            column += 1;
            (' ', &actual[column - 1])
        } else if column == columns
            || (row < rows && common[row + 1][column] >= common[row][column + 1])
        {
            row += 1;
            ('-', &expected[row - 1])
        } else {
            column += 1;
            ('+', &actual[column - 1])
        };
        let _ = writeln!(text, "  {sign} {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(expected: &str, actual: &str, same: bool) {
        assert_eq!(matches(&lines(expected), &lines(actual)), same);
    }

    #[test]
    fn placeholders_stand_for_what_differs_from_run_to_run() {
        check(
            "pod-<word> Running <age>",
            "pod-x7f2k   Running   5m3s",
            true,
        );
        check("at <time>", "at 2026-01-01T00:00:00Z", true);
        check("<ip> <n>", "10.43.0.1 80", true);
        check("<ip>", "None", false);
        check("a<any>", "a", true);
        check("a <word>", "a b c", false);
    }

    #[test]
    fn indentation_counts_and_other_spaces_do_not() {
        check("a  b", "a    b", true);
        check("  a", "   a", false);
    }

    #[test]
    fn dots_stand_for_any_lines() {
        check("a\n...\nc", "a\nb\nb\nc", true);
        check("a\n...", "a", true);
        check("...\nc", "a\nb", false);
    }

    #[test]
    fn a_difference_shows_what_is_missing_and_what_is_too_much() {
        let shown = difference(&lines("a\nb <age>\nc"), &lines("a\nb 5s\nd"));
        assert_eq!(shown, "    a\n    b 5s\n  - c\n  + d\n");
    }
}
