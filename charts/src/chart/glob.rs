//! Patterns of file names: Go's `filepath.Match` (`.helmignore`, `--show-only`) and gobwas' (`.Files.Glob`).

use std::{iter::Peekable, str::Chars};

use regex::{Regex, RegexBuilder};

type Letters<'a> = Peekable<Chars<'a>>;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Kind);

/// Every chart is read past some patterns of files: those are no automata, which take longer to build than to use.
#[derive(Clone, Debug)]
enum Kind {
    File(Vec<Piece>),
    Glob(Regex),
}

/// What stands for one letter of a name, or for any number.
#[derive(Clone, Debug)]
enum Piece {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Many,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Piece {
    /// Whether it is, or goes on with, a letter.
    fn takes(&self, letter: char) -> bool {
        match self {
            Piece::Literal(own) => *own == letter,
            Piece::One | Piece::Many => letter != '/',
            Piece::Class { negated, ranges } => {
                let named = |(from, to): &(char, char)| (*from..=*to).contains(&letter);
                let named = ranges.iter().any(named);
                // No class matches a separator that is not named.
                if *negated {
                    !named && letter != '/'
                } else {
                    named
                }
            }
        }
    }
}

impl Pattern {
    /// As `filepath.Match`: `*` and `?` within one directory, `[a-z]`, `[^a]`, `\` before what is meant literally.
    pub fn file(pattern: &str) -> Result<Pattern, String> {
        let pieces = pieces(pattern).ok_or_else(|| "syntax error in pattern".to_owned())?;
        Ok(Pattern(Kind::File(pieces)))
    }

    /// As gobwas' `glob.Compile(pattern, '/')`: `**` crosses directories, `{a,b}` is either, `[!a]` is not.
    pub fn glob(pattern: &str) -> Result<Pattern, String> {
        let compiled = compile(pattern).ok_or_else(|| "syntax error in pattern".to_owned())?;
        Ok(Pattern(Kind::Glob(compiled)))
    }

    pub fn matches(&self, name: &str) -> bool {
        match &self.0 {
            Kind::File(pieces) => matches(pieces, name),
            Kind::Glob(regex) => regex.is_match(name),
        }
    }
}

/// Follows all ways to match at once, so that no pattern takes longer than its length times the name's.
fn matches(pieces: &[Piece], name: &str) -> bool {
    // Whether what stands before a piece has matched so far.
    let mut before = vec![false; pieces.len() + 1];
    before[0] = true;
    for letter in name.chars() {
        let mut after = vec![false; before.len()];
        for (at, piece) in pieces.iter().enumerate() {
            let many = matches!(piece, Piece::Many);
            // Any number may be none.
            before[at + 1] |= many && before[at];
            if before[at] && piece.takes(letter) {
                after[if many { at } else { at + 1 }] = true;
            }
        }
        if !after.contains(&true) {
            return false;
        }
        before = after;
    }
    let rest = pieces.iter().rev();
    let optional = rest
        .take_while(|piece| matches!(piece, Piece::Many))
        .count();
    before[pieces.len() - optional..].contains(&true)
}

fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut letters = pattern.chars().peekable();
    let mut pieces = Vec::new();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '*' => Piece::Many,
            '?' => Piece::One,
            '[' => {
                let negated = letters.next_if_eq(&'^').is_some();
                let ranges = ranges(&mut letters)?;
                Piece::Class { negated, ranges }
            }
            '\\' => Piece::Literal(letters.next()?),
            letter => Piece::Literal(letter),
        });
    }
    Some(pieces)
}

/// What a class names, up to its `]`.
fn ranges(letters: &mut Letters<'_>) -> Option<Vec<(char, char)>> {
    let mut ranges = Vec::new();
    while ranges.is_empty() || letters.next_if_eq(&']').is_none() {
        let from = named(letters)?;
        let to = match letters.next_if_eq(&'-') {
            Some(_) => named(letters)?,
            None => from,
        };
        ranges.push((from, to));
    }
    Some(ranges)
}

/// A letter in a class.
fn named(letters: &mut Letters<'_>) -> Option<char> {
    match letters.next()? {
        '\\' => letters.next(),
        '-' | ']' => None,
        letter => Some(letter),
    }
}

fn compile(pattern: &str) -> Option<Regex> {
    let mut letters = pattern.chars().peekable();
    let mut expression = "^".to_owned();
    let mut alternatives = 0;
    while let Some(letter) = letters.next() {
        match letter {
            '*' if letters.next_if_eq(&'*').is_some() => {
                while letters.next_if_eq(&'*').is_some() {}
                expression.push_str(".*");
            }
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' => class(&mut letters, &mut expression)?,
            '{' => {
                alternatives += 1;
                expression.push_str("(?:");
            }
            '}' if alternatives > 0 => {
                alternatives -= 1;
                expression.push(')');
            }
            ',' if alternatives > 0 => expression.push('|'),
            '\\' => literal(letters.next()?, &mut expression),
            letter => literal(letter, &mut expression),
        }
    }
    expression.push('$');
    let compiled = RegexBuilder::new(&expression)
        .dot_matches_new_line(true)
        .size_limit(1 << 20)
        .build();
    (alternatives == 0).then_some(())?;
    compiled.ok()
}

/// The rest of a class of characters, after its `[`.
fn class(letters: &mut Letters<'_>, expression: &mut String) -> Option<()> {
    expression.push('[');
    if letters.next_if_eq(&'!').is_some() {
        expression.push('^');
        // No class matches a separator that is not named.
        expression.push('/');
    }
    let mut empty = true;
    loop {
        match letters.next()? {
            ']' if !empty => break,
            '-' if !empty && letters.peek() != Some(&']') => expression.push('-'),
            '\\' => literal(letters.next()?, expression),
            letter => literal(letter, expression),
        }
        empty = false;
    }
    expression.push(']');
    Some(())
}

fn literal(letter: char, expression: &mut String) {
    if !letter.is_alphanumeric() && letter.is_ascii() {
        expression.push('\\');
    }
    expression.push(letter);
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[track_caller]
    fn check(pattern: &str, glob: bool, matching: &[&str], other: &[&str]) {
        let compiled = match glob {
            true => Pattern::glob(pattern),
            false => Pattern::file(pattern),
        }
        .unwrap();
        for name in matching {
            assert!(compiled.matches(name), "{pattern} should match {name}");
        }
        for name in other {
            assert!(!compiled.matches(name), "{pattern} should not match {name}");
        }
    }

    #[test]
    fn patterns_match_as_in_go() {
        check(
            "*.yaml",
            false,
            &["a.yaml", ".yaml"],
            &["a/b.yaml", "a.yamlx"],
        );
        check("a/[b-d]?", false, &["a/bx"], &["a/ax", "a/b", "a/b/"]);
        check("[^a]", false, &["b"], &["a", "/"]);
        check("[^a-c]*", false, &["dd"], &["bd", ""]);
        check(
            "*a*b*",
            false,
            &["ab", "xaxxbab", "aabx"],
            &["ba", "a/b", ""],
        );
        check("", false, &[""], &["a"]);
        check("a**", false, &["a", "ab"], &["b", "a/b"]);
        let many = "*a".repeat(30);
        check(&many, false, &[&"a".repeat(60)], &[&("a".repeat(60) + "b")]);
        check(r"\*", false, &["*"], &["a"]);
        check("**.txt", true, &["a.txt", "x/y/a.txt"], &["a.md"]);
        check(
            "conf/**",
            true,
            &["conf/a", "conf/a/b"],
            &["conf", "x/conf/a"],
        );
        check(
            "{a,b/*}.{x,y}",
            true,
            &["a.x", "b/q.y"],
            &["a.z", "b/q/r.y"],
        );
        check("[!a-c]", true, &["d"], &["b"]);
        for wrong in ["[a", "[", "a\\", "[]"] {
            assert!(Pattern::file(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::glob("{a").is_err());
    }
}
