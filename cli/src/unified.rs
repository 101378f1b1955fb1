//! Two texts as a unified diff. Pure.
//!
//! The shortest edit script by Myers' algorithm, within a bound: texts that differ in more lines than [`EDITS`] are
//! shown as removed and added whole.

use std::fmt::Write as _;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Most differing lines for which the shortest script is looked for.
const EDITS: usize = 2000;

/// A line of a diff.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The hunks that make `new` of `old`; empty if they are the same. With colours if asked.
pub(crate) fn diff(old: &str, new: &str, colour: bool) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let script = script(&old, &new);
    let mut text = String::new();
    let changed: Vec<usize> = (0..script.len())
        .filter(|index| !matches!(script[*index], Line::Same(_)))
        .collect();
    let mut next = 0;
    while next < changed.len() {
        let mut last = next;
        while last + 1 < changed.len() && changed[last + 1] - changed[last] <= 2 * CONTEXT {
            last += 1;
        }
        let begin = changed[next].saturating_sub(CONTEXT);
        let end = (changed[last] + CONTEXT + 1).min(script.len());
        hunk(&script, begin, end, colour, &mut text);
        next = last + 1;
    }
    text
}

fn hunk(script: &[Line<'_>], begin: usize, end: usize, colour: bool, into: &mut String) {
    let count = |lines: &[Line<'_>], old: bool| {
        let other = |line: &&Line<'_>| match line {
            Line::Same(_) => true,
            Line::Old(_) => old,
            Line::New(_) => !old,
        };
        lines.iter().filter(other).count()
    };
    let range = |old: bool| {
        let (before, length) = (
            count(&script[..begin], old),
            count(&script[begin..end], old),
        );
        let first = if length == 0 { before } else { before + 1 };
        format!("{first},{length}")
    };
    let (old, new) = (range(true), range(false));
    paint(into, colour, "36", &format!("@@ -{old} +{new} @@"));
    for line in &script[begin..end] {
        match line {
            Line::Same(text) => paint(into, false, "", &format!(" {text}")),
            Line::Old(text) => paint(into, colour, "31", &format!("-{text}")),
            Line::New(text) => paint(into, colour, "32", &format!("+{text}")),
        }
    }
}

/// Adds a line, in a colour of terminals if asked.
pub(crate) fn paint(into: &mut String, colour: bool, code: &str, line: &str) {
    let _ = match colour {
        true => writeln!(into, "\x1b[{code}m{line}\x1b[0m"),
        false => writeln!(into, "{line}"),
    };
}

fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let tail = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let (old_middle, new_middle) = (
        &old_rest[..old_rest.len() - tail],
        &new_rest[..new_rest.len() - tail],
    );
    let mut lines: Vec<Line<'a>> = old[..start].iter().map(|line| Line::Same(line)).collect();
    lines.extend(middle(old_middle, new_middle));
    lines.extend(old[old.len() - tail..].iter().map(|line| Line::Same(line)));
    lines
}

/// Myers: the furthest that each diagonal reaches by a number of edits, kept for each number to walk back.
fn middle<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let most = (old.len() + new.len()).min(EDITS);
    let width = 2 * most + 3;
    let centre = most + 1;
    let mut reach = vec![0usize; width];
    let mut trace: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=most {
        trace.push(reach[centre - edits..=centre + edits].to_vec());
        for step in 0..=edits {
            // The diagonal is `2 * step - edits`; `place` is where it is kept.
            let place = centre + 2 * step - edits;
            let down = step == 0 || (step != edits && reach[place - 1] < reach[place + 1]);
            let mut x = if down {
                reach[place + 1]
            } else {
                reach[place - 1] + 1
            };
            let mut y = x + centre - place;
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            reach[place] = x;
            if x >= old.len() && y >= new.len() {
                return walk_back(old, new, &trace);
            }
        }
    }
    let removed = old.iter().map(|line| Line::Old(line));
    removed
        .chain(new.iter().map(|line| Line::New(line)))
        .collect()
}

fn walk_back<'a>(old: &[&'a str], new: &[&'a str], trace: &[Vec<usize>]) -> Vec<Line<'a>> {
    let (mut x, mut y) = (old.len() as isize, new.len() as isize);
    let mut lines = Vec::new();
    for (edits, reach) in trace.iter().enumerate().rev() {
        let edits = edits as isize;
        // What is not kept was not reached.
        let at = |diagonal: isize| {
            let index = usize::try_from(diagonal + edits).ok();
            index
                .and_then(|index| reach.get(index))
                .map_or(0, |x| *x as isize)
        };
        let diagonal = x - y;
        let down = diagonal == -edits || (diagonal != edits && at(diagonal - 1) < at(diagonal + 1));
        let from = if down { diagonal + 1 } else { diagonal - 1 };
        let (px, py) = match edits {
            0 => (0, 0),
            _ => (at(from), at(from) - from),
        };
        while x > px && y > py {
            (x, y) = (x - 1, y - 1);
            lines.push(Line::Same(old[x as usize]));
        }
        if edits > 0 {
            if down {
                y -= 1;
                lines.push(Line::New(new[y as usize]));
            } else {
                x -= 1;
                lines.push(Line::Old(old[x as usize]));
            }
        }
    }
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(old: &str, new: &str, expected: Expect) {
        let lines = |text: &str| text.replace(' ', "\n");
        expected.assert_eq(&diff(&lines(old), &lines(new), false));
    }

    #[test]
    fn changes_are_shown_with_the_lines_around_them() {
        check("a b c", "a b c", expect![""]);
        check(
            "a b c d e f g h i",
            "a b c d X f g h i",
            expect![[r#"
            @@ -2,7 +2,7 @@
             b
             c
             d
            -e
            +X
             f
             g
             h
        "#]],
        );
        check(
            "a",
            "",
            expect![[r#"
            @@ -1,1 +0,0 @@
            -a
        "#]],
        );
        check(
            "a b c d e f g h i j k l",
            "X b c d e f g h i j k Y",
            expect![[r#"
            @@ -1,4 +1,4 @@
            -a
            +X
             b
             c
             d
            @@ -9,4 +9,4 @@
             i
             j
             k
            -l
            +Y
        "#]],
        );
        check(
            "a b c a b b a",
            "c b a b a c",
            expect![[r#"
            @@ -1,7 +1,6 @@
            -a
            -b
             c
            +b
             a
             b
            -b
             a
            +c
        "#]],
        );
    }

    #[test]
    fn a_script_makes_the_new_text_of_the_old_and_is_short() {
        // All texts of up to five lines of two kinds.
        let texts: Vec<Vec<&str>> = (0..6)
            .flat_map(|length| {
                (0..1usize << length).map(move |bits| {
                    (0..length)
                        .map(|n| if bits >> n & 1 == 1 { "a" } else { "b" })
                        .collect()
                })
            })
            .collect();
        for old in &texts {
            for new in &texts {
                let script = script(old, new);
                let side = |old: bool| -> Vec<&str> {
                    let keep = |line: &Line<'static>| match line {
                        Line::Same(text) => Some(*text),
                        Line::Old(text) => old.then_some(*text),
                        Line::New(text) => (!old).then_some(*text),
                    };
                    script.iter().filter_map(keep).collect()
                };
                assert_eq!((&side(true), &side(false)), (old, new));
                let same = script.iter().filter(|l| matches!(l, Line::Same(_))).count();
                assert_eq!(same, longest_common(old, new), "{old:?} {new:?}");
            }
        }
    }

    fn longest_common(old: &[&str], new: &[&str]) -> usize {
        match (old.split_first(), new.split_first()) {
            (Some((a, old_rest)), Some((b, new_rest))) if a == b => {
                1 + longest_common(old_rest, new_rest)
            }
            (Some((_, old_rest)), Some((_, new_rest))) => {
                longest_common(old_rest, new).max(longest_common(old, new_rest))
            }
            _ => 0,
        }
    }
}
