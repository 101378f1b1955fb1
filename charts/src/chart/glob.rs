//! Patterns of file names: Go's `filepath.Match` (`.helmignore`, `--show-only`) and gobwas' (`.Files.Glob`).

use regex::{Regex, RegexBuilder};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// As `filepath.Match`: `*` and `?` within one directory, `[a-z]`, `[^a]`, `\` before what is meant literally.
    pub fn file(pattern: &str) -> Result<Pattern, String> {
        compile(pattern, false).ok_or_else(|| "syntax error in pattern".to_owned())
    }

    /// As gobwas' `glob.Compile(pattern, '/')`: `**` crosses directories, `{a,b}` is either, `[!a]` is not.
    pub fn glob(pattern: &str) -> Result<Pattern, String> {
        compile(pattern, true).ok_or_else(|| "syntax error in pattern".to_owned())
    }

    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

fn compile(pattern: &str, glob: bool) -> Option<Pattern> {
    let mut letters = pattern.chars().peekable();
    let mut expression = "^".to_owned();
    let mut alternatives = 0;
    while let Some(letter) = letters.next() {
        match letter {
            '*' if glob && letters.next_if_eq(&'*').is_some() => {
                while letters.next_if_eq(&'*').is_some() {}
                expression.push_str(".*");
            }
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' => class(&mut letters, glob, &mut expression)?,
            '{' if glob => {
                alternatives += 1;
                expression.push_str("(?:");
            }
            '}' if glob && alternatives > 0 => {
                alternatives -= 1;
                expression.push(')');
            }
            ',' if glob && alternatives > 0 => expression.push('|'),
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
    compiled.ok().map(Pattern)
}

/// The rest of a class of characters, after its `[`.
fn class(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    glob: bool,
    expression: &mut String,
) -> Option<()> {
    expression.push('[');
    let negation = if glob { '!' } else { '^' };
    if letters.next_if_eq(&negation).is_some() {
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
