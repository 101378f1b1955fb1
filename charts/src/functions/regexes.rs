//! Regular expressions: RE2's, in time linear in the text, within bounds on what an expression compiles to.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Instant};

use bytes::Bytes;
use regex::bytes::{Captures, Regex, RegexBuilder};

use super::{
    arguments::{bounded, bounded_items, costly, int, lossy, strings, text},
    fixed, re2,
};
use crate::{
    Element, Environment, Failure, Function, List,
    Param::{Int, String as Text},
    Value, format,
    value::meter,
};

/// Bytes of one compiled expression.
const SIZE: usize = 32 << 20;
/// Groups within groups.
const DEPTH: u32 = 1000;
/// Compiled expressions that are kept: charts use few, in loops.
const KEPT: usize = 64;

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("regexMatch", &[Text, Text], |_, args| {
        let matches = compile(args).and_then(|found| found.is_match(text(args, 1)));
        Ok(Value::Bool(matches.unwrap_or(false)))
    }),
    fixed("mustRegexMatch", &[Text, Text], |_, args| {
        Ok(Value::Bool(compile(args)?.is_match(text(args, 1))?))
    }),
    fixed("regexFind", &[Text, Text], |_, args| {
        find(must_compile(args)?, args)
    }),
    fixed("mustRegexFind", &[Text, Text], |_, args| {
        find(compile(args)?, args)
    }),
    fixed("regexFindAll", &[Text, Text, Int], |environment, args| {
        find_all(environment, must_compile(args)?, args)
    }),
    fixed(
        "mustRegexFindAll",
        &[Text, Text, Int],
        |environment, args| find_all(environment, compile(args)?, args),
    ),
    fixed(
        "regexReplaceAll",
        &[Text, Text, Text],
        |environment, args| replace(environment, must_compile(args)?, args, true),
    ),
    fixed(
        "mustRegexReplaceAll",
        &[Text, Text, Text],
        |environment, args| replace(environment, compile(args)?, args, true),
    ),
    fixed(
        "regexReplaceAllLiteral",
        &[Text, Text, Text],
        |environment, args| replace(environment, must_compile(args)?, args, false),
    ),
    fixed(
        "mustRegexReplaceAllLiteral",
        &[Text, Text, Text],
        |environment, args| replace(environment, compile(args)?, args, false),
    ),
    fixed("regexSplit", &[Text, Text, Int], |environment, args| {
        split(environment, must_compile(args)?, args)
    }),
    fixed("mustRegexSplit", &[Text, Text, Int], |environment, args| {
        split(environment, compile(args)?, args)
    }),
    fixed("regexQuoteMeta", &[Text], |_, args| {
        let mut out = Vec::new();
        for byte in text(args, 0) {
            if br"\.+*?()|[]{}^$".contains(byte) {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        Ok(Value::string(out))
    }),
];

/// A compiled expression with its groups' names.
struct Compiled {
    regex: Regex,
    names: Vec<Option<String>>,
    /// About how many states it has.
    states: u64,
}

/// States that a step goes through with one byte.
const STATES_PASSED: u64 = 64;

impl Compiled {
    fn is_match(&self, text: &[u8]) -> Result<bool, Failure> {
        self.charge(text)?;
        Ok(self.regex.is_match(text))
    }

    /// Counts the search of a text: at worst every byte is held against every state.
    fn charge(&self, text: &[u8]) -> Result<(), Failure> {
        costly(
            "a regular expression",
            self.states.saturating_mul(text.len() as u64) / STATES_PASSED,
        )
    }
}

/// Matches, for as long as the rendering may go on: to find all may take the square of finding one.
fn metered<T>(mut matches: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || {
        let start = Instant::now();
        let next = matches.next();
        meter::charge_time(start).then_some(next).flatten()
    })
}

/// The first argument, compiled; else the error as Go returns it.
fn compile(args: &[Value]) -> Result<Rc<Compiled>, Failure> {
    thread_local! {
        static CACHE: RefCell<HashMap<Bytes, Rc<Compiled>>> = RefCell::default();
    }
    let pattern = text(args, 0);
    if let Some(kept) = CACHE.with_borrow(|cache| cache.get(pattern).cloned()) {
        return Ok(kept);
    }
    let Ok(readable) = std::str::from_utf8(pattern) else {
        let shown = lossy(args, 0);
        return Err(Failure::new(format!(
            "error parsing regexp: invalid UTF-8: `{shown}`"
        )));
    };
    let translated = re2::translate(readable).map_err(Failure::new)?;
    costly("a regular expression", translated.states)?;
    let regex = RegexBuilder::new(&translated.pattern)
        .size_limit(SIZE)
        .nest_limit(DEPTH + 8)
        .build()
        .map_err(|_| {
            Failure::new(format!(
                "error parsing regexp: expression too large: `{readable}`"
            ))
        })?;
    let compiled = Rc::new(Compiled {
        regex,
        names: translated.names,
        states: translated.states,
    });
    CACHE.with_borrow_mut(|cache| {
        if cache.len() >= KEPT {
            cache.clear();
        }
        cache.insert(Bytes::copy_from_slice(pattern), compiled.clone());
    });
    Ok(compiled)
}

/// As [`compile`]; the error as Go panics with it.
fn must_compile(args: &[Value]) -> Result<Rc<Compiled>, Failure> {
    compile(args).map_err(|failure| {
        let shown = format::sprintf(b"%#q", &args[..1]);
        let shown = String::from_utf8_lossy(&shown);
        Failure::new(format!("regexp: Compile({shown}): {failure}"))
    })
}

fn part(whole: &[u8]) -> Bytes {
    Bytes::copy_from_slice(whole)
}

fn find(compiled: Rc<Compiled>, args: &[Value]) -> Result<Value, Failure> {
    compiled.charge(text(args, 1))?;
    let found = compiled.regex.find(text(args, 1));
    let found = found.map_or(Bytes::new(), |found| part(found.as_bytes()));
    Ok(Value::string(found))
}

/// How many matches are wanted: all if it is negative.
fn wanted(args: &[Value]) -> usize {
    usize::try_from(int(args, 2)).unwrap_or(usize::MAX)
}

fn find_all(
    environment: &Environment,
    compiled: Rc<Compiled>,
    args: &[Value],
) -> Result<Value, Failure> {
    let whole = text(args, 1);
    compiled.charge(whole)?;
    bounded_items(environment, "regexFindAll", whole.len() as u128)?;
    let found = metered(compiled.regex.find_iter(whole)).take(wanted(args));
    let found = strings(found.map(|found| part(found.as_bytes())));
    Ok(match found {
        Value::List(list) if list.items.is_empty() => Value::List(List {
            items: list.items.clone(),
            element: Element::NoString,
        }),
        found => found,
    })
}

fn split(
    environment: &Environment,
    compiled: Rc<Compiled>,
    args: &[Value],
) -> Result<Value, Failure> {
    let (whole, limit) = (text(args, 1), wanted(args));
    compiled.charge(whole)?;
    bounded_items(environment, "regexSplit", whole.len() as u128)?;
    if limit == 0 {
        return Ok(Value::strings(Vec::new()));
    }
    if whole.is_empty() && !text(args, 0).is_empty() {
        return Ok(strings([Bytes::new()]));
    }
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, 0);
    for found in metered(compiled.regex.find_iter(whole)).take(limit) {
        if parts.len() == limit - 1 {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(part(&whole[start..end]));
        }
        start = found.end();
    }
    if end != whole.len() {
        parts.push(part(&whole[start..]));
    }
    Ok(strings(parts))
}

fn replace(
    environment: &Environment,
    compiled: Rc<Compiled>,
    args: &[Value],
    expanded: bool,
) -> Result<Value, Failure> {
    let (whole, with) = (text(args, 1), text(args, 2));
    compiled.charge(whole)?;
    let mut out = Vec::with_capacity(whole.len());
    let mut end = 0;
    for captures in metered(compiled.regex.captures_iter(whole)) {
        let found = captures.get_match();
        out.extend_from_slice(&whole[end..found.start()]);
        if expanded {
            expand(&compiled, &captures, with, &mut out);
        } else {
            out.extend_from_slice(with);
        }
        bounded(environment, "regexReplaceAll", out.len() as u128)?;
        end = found.end();
    }
    out.extend_from_slice(&whole[end..]);
    bounded(environment, "regexReplaceAll", out.len() as u128)?;
    Ok(Value::string(out))
}

/// `$1`, `${1}`, `$name` and `$$`; a dollar that means none of them stays.
fn expand(compiled: &Compiled, captures: &Captures<'_>, template: &[u8], out: &mut Vec<u8>) {
    let mut rest = template;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let [b'$', after @ ..] = rest {
            out.push(b'$');
            rest = after;
            continue;
        }
        let Some((name, after)) = reference(rest) else {
            out.push(b'$');
            continue;
        };
        rest = after;
        let group = match number(name) {
            Some(number) => captures.get(number),
            None => {
                let named = |(_, known): &(usize, &Option<String>)| {
                    known.as_ref().is_some_and(|known| known.as_bytes() == name)
                };
                let groups = compiled.names.iter().enumerate().filter(named);
                groups.filter_map(|(index, _)| captures.get(index)).next()
            }
        };
        if let Some(group) = group {
            out.extend_from_slice(group.as_bytes());
        }
    }
    out.extend_from_slice(rest);
}

/// A name after a dollar, with or without braces, and what follows it.
fn reference(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (braces, text) = match text {
        [b'{', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut end = 0;
    for (rune, size) in super::runes::decode(text) {
        if rune != '_' && !super::runes::is_letter(rune) && !rune.is_numeric() {
            break;
        }
        end += size;
    }
    if end == 0 {
        return None;
    }
    let (name, rest) = text.split_at(end);
    match (braces, rest) {
        (true, [b'}', rest @ ..]) => Some((name, rest)),
        (true, _) => None,
        (false, _) => Some((name, rest)),
    }
}

/// A group's number: digits without a zero before them.
fn number(name: &[u8]) -> Option<usize> {
    let plain = name.len() == 1 || name.first() != Some(&b'0');
    let name = std::str::from_utf8(name).ok().filter(|_| plain)?;
    name.parse()
        .ok()
        .filter(|_| name.bytes().all(|byte| byte.is_ascii_digit()))
}
