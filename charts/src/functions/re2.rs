//! Regular expressions in RE2's syntax, as Go reads it, rewritten for the `regex` crate.
//!
//! What Go refuses is refused in its words. Classes of letters are ASCII's (`\d`, `\w`, `\s`, `\b`), a `{` that begins no
//! repetition is itself, sets know no operations, and names of groups may repeat: groups are numbered, names kept aside.

use regex::{Regex, escape};

/// An expression for the `regex` crate, and the names of its groups by number.
pub(super) struct Translated {
    pub(super) pattern: String,
    pub(super) names: Vec<Option<String>>,
    /// About how many states its automaton has.
    pub(super) states: u64,
}

/// Repetitions within repetitions multiply up to this.
const REPEATS: u64 = 1000;
/// Groups within groups.
const DEPTH: usize = 1000;
/// About how many states an item takes, and a class of Unicode's.
const STATES: u64 = 4;
const UNICODE_STATES: u64 = 300;

pub(super) fn translate(whole: &str) -> Result<Translated, String> {
    let mut parser = Parser {
        whole,
        rest: whole,
        out: String::with_capacity(whole.len() + 16),
        names: vec![None],
        groups: vec![Group::default()],
    };
    parser.parse()?;
    Ok(Translated {
        states: parser
            .group()
            .states()
            .saturating_add(parser.out.len() as u64),
        pattern: parser.out,
        names: parser.names,
    })
}

fn trouble(code: &str, part: &str) -> String {
    format!("error parsing regexp: {code}: `{part}`")
}

/// What is known of a group while it is open.
#[derive(Default)]
struct Group {
    /// Repetitions of the item before, if there is one: what an operator would repeat.
    last: Option<u64>,
    /// The most repetitions of any item before that.
    most: u64,
    /// States of the item before, and of all before that.
    last_states: u64,
    states: u64,
}

impl Group {
    fn all(&self) -> u64 {
        self.most.max(self.last.unwrap_or(1))
    }

    fn states(&self) -> u64 {
        self.states.saturating_add(self.last_states)
    }
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
    names: Vec<Option<String>>,
    groups: Vec<Group>,
}

impl<'a> Parser<'a> {
    fn parse(&mut self) -> Result<(), String> {
        // Where the repetition just before began.
        let mut last_repeat: Option<&'a str> = None;
        while let Some(first) = self.rest.chars().next() {
            let before = self.rest;
            let mut repeat = None;
            match first {
                '(' => self.open()?,
                '|' => {
                    let group = self.group();
                    group.most = group.all();
                    group.last = None;
                    group.states = group.states() + 1;
                    group.last_states = 0;
                    self.take('|', "|");
                }
                ')' => self.close()?,
                '^' | '$' | '.' => {
                    let sign = first.to_string();
                    self.take(first, &sign);
                    self.item(1);
                }
                '[' => self.set()?,
                '*' | '+' | '?' => {
                    self.rest = &before[1..];
                    self.repeat(&before[..1], None, before, last_repeat)?;
                    repeat = Some(before);
                }
                '{' => match bounds(before) {
                    None => self.literal(1, '{'),
                    Some((least, most, size)) => {
                        let counts = least.zip(most.unwrap_or(least));
                        let fits = counts.is_some_and(|(least, most)| {
                            least <= REPEATS && most <= REPEATS && least <= most
                        });
                        if !fits {
                            return Err(trouble("invalid repeat count", &before[..size]));
                        }
                        self.rest = &before[size..];
                        let most = most.unwrap_or(least);
                        self.repeat(&before[..size], most, before, last_repeat)?;
                        let times = least.max(most).unwrap_or(1).max(1);
                        let group = self.group();
                        group.last_states = group.last_states.saturating_mul(times);
                        repeat = Some(before);
                    }
                },
                '\\' => self.escape()?,
                other => self.literal(other.len_utf8(), other),
            }
            last_repeat = repeat;
        }
        if self.groups.len() > 1 {
            return Err(trouble("missing closing )", self.whole));
        }
        Ok(())
    }

    fn group(&mut self) -> &mut Group {
        self.groups
            .last_mut()
            .expect("the outermost group is never closed")
    }

    /// An item that operators may repeat, with repetitions of its own.
    fn item(&mut self, repeats: u64) {
        let states = match self.out.ends_with('}') {
            // A class of Unicode's.
            true => UNICODE_STATES,
            false => STATES,
        };
        self.item_of(repeats, states);
    }

    fn item_of(&mut self, repeats: u64, states: u64) {
        let group = self.group();
        group.most = group.all();
        group.last = Some(repeats);
        group.states = group.states();
        group.last_states = states;
    }

    fn take(&mut self, sign: char, written: &str) {
        self.rest = &self.rest[sign.len_utf8()..];
        self.out.push_str(written);
    }

    fn literal(&mut self, size: usize, rune: char) {
        self.rest = &self.rest[size..];
        self.out.push_str(&escape(rune.encode_utf8(&mut [0; 4])));
        self.item(1);
    }

    /// An operator on the item before; `most` is the count of `{…}`.
    fn repeat(
        &mut self,
        operator: &str,
        most: Option<u64>,
        before: &'a str,
        last_repeat: Option<&'a str>,
    ) -> Result<(), String> {
        let lazy = self.rest.starts_with('?');
        if lazy {
            self.rest = &self.rest[1..];
        }
        let text = |from: &'a str| &from[..from.len() - self.rest.len()];
        if let Some(start) = last_repeat {
            return Err(trouble("invalid nested repetition operator", text(start)));
        }
        let Some(repeats) = self.groups.last().and_then(|group| group.last) else {
            return Err(trouble(
                "missing argument to repetition operator",
                text(before),
            ));
        };
        // What is repeated no times costs nothing.
        let product = if most == Some(0) {
            1
        } else {
            repeats * most.unwrap_or(1)
        };
        if product > REPEATS && most.is_some_and(|most| most >= 2) {
            return Err(trouble("invalid repeat count", text(before)));
        }
        self.out.push_str(operator);
        if lazy {
            self.out.push('?');
        }
        self.group().last = Some(product);
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        if self.groups.len() > DEPTH {
            return Err(trouble("expression nests too deeply", self.whole));
        }
        let start = self.rest;
        if let Some(after) = start
            .strip_prefix("(?P<")
            .or_else(|| start.strip_prefix("(?<"))
        {
            let Some(end) = after.find('>') else {
                return Err(trouble("invalid named capture", start));
            };
            let name = &after[..end];
            let size = start.len() - after.len() + end + 1;
            let valid = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(valid) {
                return Err(trouble("invalid named capture", &start[..size]));
            }
            self.names.push(Some(name.to_owned()));
            self.rest = &start[size..];
            self.out.push('(');
            self.groups.push(Group::default());
            return Ok(());
        }
        if start.starts_with("(?") {
            return self.flags();
        }
        self.names.push(None);
        self.take('(', "(");
        self.groups.push(Group::default());
        Ok(())
    }

    /// `(?i)` or `(?i:`.
    fn flags(&mut self) -> Result<(), String> {
        let start = self.rest;
        let (mut minus, mut seen) = (false, false);
        for (index, c) in start.char_indices().skip(2) {
            match c {
                'i' | 'm' | 's' | 'U' => seen = true,
                '-' if !minus => (minus, seen) = (true, false),
                ':' | ')' if !minus || seen => {
                    let text = &start[..=index];
                    self.rest = &start[index + 1..];
                    if c == ':' {
                        self.groups.push(Group::default());
                    }
                    // No flags at all are no flags' change: the crate knows no `(?)`.
                    if text != "(?)" {
                        self.out.push_str(text);
                    }
                    return Ok(());
                }
                _ => {
                    let text = &start[..index + c.len_utf8()];
                    return Err(trouble("invalid or unsupported Perl syntax", text));
                }
            }
        }
        Err(trouble("invalid or unsupported Perl syntax", start))
    }

    fn close(&mut self) -> Result<(), String> {
        if self.groups.len() == 1 {
            return Err(trouble("unexpected )", self.whole));
        }
        let closed = self.groups.pop().unwrap_or_default();
        self.take(')', ")");
        self.item_of(closed.all(), closed.states().saturating_add(STATES));
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let start = self.rest;
        let assertion = match start.as_bytes().get(1) {
            Some(b'A') => r"\A",
            Some(b'z') => r"\z",
            Some(b'b') => r"(?-u:\b)",
            Some(b'B') => r"(?-u:\B)",
            Some(b'C') => return Err(trouble("invalid escape sequence", r"\C")),
            Some(b'Q') => {
                let (quoted, rest) = start[2..].split_once(r"\E").unwrap_or((&start[2..], ""));
                self.out
                    .push_str(&quoted.chars().fold(String::new(), |mut out, rune| {
                        out.push_str(&escape(rune.encode_utf8(&mut [0; 4])));
                        out
                    }));
                if !quoted.is_empty() {
                    self.item(1);
                }
                self.rest = rest;
                return Ok(());
            }
            _ => {
                if let Some((class, size)) = class(start)? {
                    self.rest = &start[size..];
                    self.out.push_str(&class);
                    self.item(1);
                    return Ok(());
                }
                let (rune, size) = escaped(start)?;
                self.literal(size, rune);
                return Ok(());
            }
        };
        self.rest = &start[2..];
        self.out.push_str(assertion);
        self.item(1);
        Ok(())
    }

    /// `[a-z[:alpha:]\d]`.
    fn set(&mut self) -> Result<(), String> {
        let start = self.rest;
        let mut rest = &start[1..];
        self.out.push('[');
        if let Some(after) = rest.strip_prefix('^') {
            self.out.push('^');
            rest = after;
        }
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            if rest.starts_with("[:")
                && let Some(end) = rest[2..].find(":]")
            {
                let name = &rest[..end + 4];
                if !POSIX.contains(&name[2..end + 2].trim_start_matches('^')) {
                    return Err(trouble("invalid character class range", name));
                }
                self.out.push_str(name);
                rest = &rest[name.len()..];
                continue;
            }
            if rest.starts_with('\\')
                && let Some((class, size)) = class(rest)?
            {
                self.out.push_str(&class);
                rest = &rest[size..];
                continue;
            }
            let range = rest;
            let (low, after) = set_rune(rest, start)?;
            let mut high = low;
            rest = after;
            if rest.len() >= 2 && rest.starts_with('-') && !rest[1..].starts_with(']') {
                (high, rest) = set_rune(&rest[1..], start)?;
                if high < low {
                    let text = &range[..range.len() - rest.len()];
                    return Err(trouble("invalid character class range", text));
                }
            }
            self.out
                .push_str(&format!(r"\x{{{:X}}}-\x{{{:X}}}", low as u32, high as u32));
        }
        self.rest = &rest[1..];
        self.out.push(']');
        let written = &start[..start.len() - self.rest.len()];
        let unicode = written.contains("\\p") || written.contains("\\P");
        self.item_of(1, if unicode { UNICODE_STATES } else { STATES });
        Ok(())
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

fn set_rune<'a>(text: &'a str, set: &str) -> Result<(char, &'a str), String> {
    match text.chars().next() {
        None => Err(trouble("missing closing ]", set)),
        Some('\\') => escaped(text).map(|(rune, size)| (rune, &text[size..])),
        Some(rune) => Ok((rune, &text[rune.len_utf8()..])),
    }
}

/// `{2}`, `{2,}`, `{2,3}`: the counts (none: too large) and the bytes; the second is none where there is no bound.
fn bounds(text: &str) -> Option<(Option<u64>, Option<Option<u64>>, usize)> {
    fn number(text: &str) -> Option<(Option<u64>, &str)> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let digits = &text[..end];
        if digits.is_empty() || digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        Some((
            digits.parse().ok().filter(|n| *n < 100_000_000),
            &text[end..],
        ))
    }
    let (least, rest) = number(text.strip_prefix('{')?)?;
    let (most, rest) = match rest.strip_prefix(',') {
        None => (Some(least), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => {
            let (most, rest) = number(rest)?;
            (Some(most), rest)
        }
    };
    let rest = rest.strip_prefix('}')?;
    let least = if most == Some(None) { None } else { least };
    Some((least, most, text.len() - rest.len()))
}

/// `\d`, `\pL`, `\p{Greek}` and their kin, with the bytes they take.
fn class(text: &str) -> Result<Option<(String, usize)>, String> {
    let Some(letter) = text[1..].chars().next() else {
        return Ok(None);
    };
    let perl = match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\x0C\r ]",
        'S' => r"[^\t\n\x0C\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'p' | 'P' => return unicode(text, letter).map(Some),
        _ => return Ok(None),
    };
    Ok(Some((perl.to_owned(), 2)))
}

fn unicode(text: &str, letter: char) -> Result<(String, usize), String> {
    let wrong = |part: &str| trouble("invalid character class range", part);
    let (name, size) = match text[2..].chars().next() {
        None => return Err(wrong(text)),
        Some('{') => {
            let end = text.find('}').ok_or_else(|| wrong(text))?;
            (&text[3..end], end + 1)
        }
        Some(one) => (&text[2..2 + one.len_utf8()], 2 + one.len_utf8()),
    };
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let letter = if (letter == 'P') != negated { 'P' } else { 'p' };
    let valid = !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    let written = format!(r"\{letter}{{{name}}}");
    if !valid || Regex::new(&written).is_err() {
        return Err(wrong(&text[..size]));
    }
    Ok((written, size))
}

/// One escaped rune, with the bytes it takes.
fn escaped(text: &str) -> Result<(char, usize), String> {
    let mut runes = text.char_indices().skip(1).peekable();
    let Some((_, first)) = runes.next() else {
        return Err(trouble("trailing backslash at end of expression", ""));
    };
    let end = |runes: &mut std::iter::Peekable<_>| {
        runes
            .peek()
            .map_or(text.len(), |(index, _): &(usize, char)| *index)
    };
    let wrong = |end: usize| trouble("invalid escape sequence", &text[..end]);
    let simple = match first {
        'a' => '\x07',
        'f' => '\x0C',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0B',
        '0'..='7' => {
            let digit = |c: &(usize, char)| c.1.to_digit(8);
            if first != '0' && runes.peek().and_then(digit).is_none() {
                return Err(wrong(end(&mut runes)));
            }
            let mut code = first.to_digit(8).unwrap_or(0);
            for _ in 0..2 {
                let Some(next) = runes.peek().and_then(digit) else {
                    break;
                };
                code = code * 8 + next;
                runes.next();
            }
            char::from_u32(code).unwrap_or('\u{FFFD}')
        }
        'x' => {
            let mut code = 0u32;
            let braces = runes.peek().is_some_and(|(_, c)| *c == '{');
            if braces {
                runes.next();
            }
            let mut digits = 0;
            loop {
                if !braces && digits == 2 {
                    break;
                }
                let next = runes.next();
                if braces && digits > 0 && next.is_some_and(|(_, c)| c == '}') {
                    break;
                }
                let Some(digit) = next.and_then(|(_, c)| c.to_digit(16)) else {
                    return Err(wrong(end(&mut runes)));
                };
                code = code * 16 + digit;
                digits += 1;
                if code > 0x10_FFFF {
                    return Err(wrong(end(&mut runes)));
                }
            }
            char::from_u32(code).unwrap_or('\u{FFFD}')
        }
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
        _ => return Err(wrong(end(&mut runes))),
    };
    Ok((simple, end(&mut runes)))
}
