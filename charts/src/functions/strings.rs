//! Strings: trimming, searching, cutting, quoting, splitting and joining.

use bytes::Bytes;

use super::{
    arguments::{bounded, bounded_items, int, strings, text},
    cast, fixed, runes, variadic,
};
use crate::{
    Environment, Failure, Function, Map,
    Param::{Any, Int, String as Text},
    Value, format,
};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("hello", &[], |_, _| Ok(Value::string("Hello!"))),
    fixed("trim", &[Text], |_, args| {
        Ok(cut(args, 0, trim_matches(text(args, 0), runes::is_space)))
    }),
    fixed("trimAll", &[Text, Text], trim_all),
    fixed("trimall", &[Text, Text], trim_all),
    fixed("trimSuffix", &[Text, Text], |_, args| {
        let whole = text(args, 1);
        Ok(cut(
            args,
            1,
            whole.strip_suffix(text(args, 0)).unwrap_or(whole),
        ))
    }),
    fixed("trimPrefix", &[Text, Text], |_, args| {
        let whole = text(args, 1);
        Ok(cut(
            args,
            1,
            whole.strip_prefix(text(args, 0)).unwrap_or(whole),
        ))
    }),
    fixed("nospace", &[Text], |_, args| {
        Ok(Value::string(without_space(text(args, 0))))
    }),
    fixed("contains", &[Text, Text], |_, args| {
        Ok(Value::Bool(find(text(args, 1), text(args, 0)).is_some()))
    }),
    fixed("hasPrefix", &[Text, Text], |_, args| {
        Ok(Value::Bool(text(args, 1).starts_with(text(args, 0))))
    }),
    fixed("hasSuffix", &[Text, Text], |_, args| {
        Ok(Value::Bool(text(args, 1).ends_with(text(args, 0))))
    }),
    fixed("trunc", &[Int, Text], trunc),
    fixed("substr", &[Int, Int, Text], substr),
    fixed("repeat", &[Int, Text], repeat),
    fixed("replace", &[Text, Text, Text], replace),
    fixed("indent", &[Int, Text], |environment, args| {
        Ok(Value::string(indent(environment, "indent", args, b"")?))
    }),
    fixed("nindent", &[Int, Text], |environment, args| {
        Ok(Value::string(indent(environment, "nindent", args, b"\n")?))
    }),
    fixed("plural", &[Text, Text, Int], |_, args| {
        Ok(args[usize::from(int(args, 2) != 1)].clone())
    }),
    variadic("quote", &[], Any, quote),
    variadic("squote", &[], Any, squote),
    variadic("cat", &[], Any, cat),
    fixed("toString", &[Any], |_, args| {
        Ok(Value::string(format::strval(&args[0])))
    }),
    fixed("toStrings", &[Any], |_, args| {
        Ok(strings(texts_of(&args[0])))
    }),
    fixed("split", &[Text, Text], |environment, args| {
        Ok(numbered(split(
            environment,
            "split",
            text(args, 1),
            text(args, 0),
            -1,
        )?))
    }),
    fixed("splitn", &[Text, Int, Text], |environment, args| {
        Ok(numbered(split(
            environment,
            "splitn",
            text(args, 2),
            text(args, 0),
            int(args, 1),
        )?))
    }),
    fixed("splitList", &[Text, Text], |environment, args| {
        let parts = split(environment, "splitList", text(args, 1), text(args, 0), -1)?;
        Ok(strings(parts.into_iter().map(Bytes::copy_from_slice)))
    }),
    fixed("join", &[Text, Any], join),
    fixed("sortAlpha", &[Any], |_, args| {
        let Value::List(_) = &args[0] else {
            return Ok(strings([format::strval(&args[0])]));
        };
        let mut texts = texts_of(&args[0]);
        texts.sort_unstable();
        Ok(strings(texts))
    }),
    fixed("atoi", &[Text], |_, args| {
        Ok(Value::int(atoi(text(args, 0))))
    }),
];

/// A part of an argument, sharing its bytes.
fn cut(args: &[Value], index: usize, part: &[u8]) -> Value {
    match args.get(index) {
        Some(Value::String(whole)) if !part.is_empty() => Value::String(whole.slice_ref(part)),
        _ => Value::string(Bytes::new()),
    }
}

fn trim_all(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let set: Vec<char> = runes::decode(text(args, 0)).map(|(rune, _)| rune).collect();
    Ok(cut(
        args,
        1,
        trim_matches(text(args, 1), |rune| set.contains(&rune)),
    ))
}

/// Without the runes at either end that match.
fn trim_matches(whole: &[u8], matches: impl Fn(char) -> bool) -> &[u8] {
    let mut start = None;
    let mut end = 0;
    let mut at = 0;
    for (rune, size) in runes::decode(whole) {
        if !matches(rune) {
            start.get_or_insert(at);
            end = at + size;
        }
        at += size;
    }
    &whole[start.unwrap_or(0)..end]
}

/// Each byte taken for a rune of its own, as the library does: what is not ASCII comes out encoded twice.
fn without_space(whole: &[u8]) -> Vec<u8> {
    let kept: Vec<char> = whole.iter().map(|byte| char::from(*byte)).collect();
    if !kept.iter().any(|rune| runes::is_space(*rune)) {
        return whole.to_vec();
    }
    let kept = kept.into_iter().filter(|rune| !runes::is_space(*rune));
    kept.collect::<String>().into_bytes()
}

/// Where a part first begins.
pub(super) fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    match part {
        [] => Some(0),
        [byte] => whole.iter().position(|other| other == byte),
        _ => whole.windows(part.len()).position(|window| window == part),
    }
}

fn trunc(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let whole = text(args, 1);
    let count = int(args, 0);
    let bytes = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(if count < 0 && bytes < whole.len() {
        cut(args, 1, &whole[whole.len() - bytes..])
    } else if count >= 0 && bytes < whole.len() {
        cut(args, 1, &whole[..bytes])
    } else {
        args[1].clone()
    })
}

fn substr(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let whole = text(args, 2);
    let (start, end, length) = (int(args, 0), int(args, 1), whole.len() as i64);
    let bounds =
        |what: String| Failure::new(format!("runtime error: slice bounds out of range {what}"));
    let (start, end) = if start < 0 {
        if end < 0 {
            return Err(bounds(format!("[:{end}]")));
        }
        if end > length {
            return Err(bounds(format!("[:{end}] with length {length}")));
        }
        (0, end)
    } else if end < 0 || end > length {
        (start, length)
    } else {
        (start, end)
    };
    if start > end {
        return Err(bounds(format!("[{start}:{end}]")));
    }
    Ok(cut(args, 2, &whole[start as usize..end as usize]))
}

fn repeat(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let unit = text(args, 1);
    let count = repetitions(int(args, 0))?;
    bounded(environment, "repeat", unit.len() as u128 * count as u128)?;
    if unit.is_empty() {
        return Ok(args[1].clone());
    }
    Ok(Value::string(unit.repeat(count)))
}

fn repetitions(count: i64) -> Result<usize, Failure> {
    usize::try_from(count).map_err(|_| Failure::new("strings: negative Repeat count"))
}

fn replace(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let (old, new, whole) = (text(args, 0), text(args, 1), text(args, 2));
    let parts: Vec<&[u8]> = if old.is_empty() {
        // Between all runes, and at either end.
        let mut parts = vec![&whole[..0]];
        parts.extend(explode(whole));
        parts.push(&whole[whole.len()..]);
        parts
    } else {
        split_all(whole, old, usize::MAX)
    };
    if parts.len() == 1 {
        return Ok(args[2].clone());
    }
    if old.is_empty() && whole.is_empty() {
        return Ok(args[1].clone());
    }
    let size = whole.len() as u128 + (parts.len() - 1) as u128 * new.len() as u128;
    bounded(environment, "replace", size)?;
    Ok(Value::string(parts.join(new)))
}

fn indent(
    environment: &Environment,
    name: &str,
    args: &[Value],
    start: &[u8],
) -> Result<Vec<u8>, Failure> {
    let body = text(args, 1);
    let width = repetitions(int(args, 0))?;
    let lines = 1 + body.iter().filter(|byte| **byte == b'\n').count();
    let size = body.len() as u128 + start.len() as u128 + width as u128 * lines as u128;
    bounded(environment, name, size)?;
    let mut out = Vec::with_capacity(size as usize);
    out.extend_from_slice(start);
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        out.resize(out.len() + width, b' ');
        out.extend_from_slice(line);
    }
    Ok(out)
}

fn quote(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let words = args.iter().filter(|value| !matches!(value, Value::Nil));
    let quoted: Vec<Bytes> = words
        .map(|value| format::sprintf(b"%q", &[Value::String(format::strval(value))]))
        .collect();
    Ok(Value::string(quoted.join(&b' ')))
}

fn squote(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let words = args.iter().filter(|value| !matches!(value, Value::Nil));
    let quoted: Vec<Vec<u8>> = words
        .map(|value| [b"'", &format::sprint(value)[..], b"'"].concat())
        .collect();
    Ok(Value::string(quoted.join(&b' ')))
}

fn cat(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let words = args.iter().filter(|value| !matches!(value, Value::Nil));
    let words: Vec<Bytes> = words.map(format::sprint).collect();
    Ok(Value::string(words.join(&b' ')))
}

/// The texts of a list's items that are not nil; of anything else its own.
pub(super) fn texts_of(value: &Value) -> Vec<Bytes> {
    match value {
        Value::Nil => Vec::new(),
        Value::List(list) => {
            let items = list.items.iter().filter(|item| !matches!(item, Value::Nil));
            items.map(format::strval).collect()
        }
        other => vec![format::strval(other)],
    }
}

/// Split as Go's `SplitN`: at most `limit` parts, the last with what remains; all if it is negative.
fn split<'a>(
    environment: &Environment,
    name: &str,
    whole: &'a [u8],
    separator: &[u8],
    limit: i64,
) -> Result<Vec<&'a [u8]>, Failure> {
    bounded_items(environment, name, whole.len() as u128)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    if !separator.is_empty() {
        return Ok(split_all(whole, separator, limit));
    }
    let mut parts: Vec<&[u8]> = explode(whole).collect();
    if parts.len() > limit {
        let kept: usize = parts[..limit - 1].iter().map(|part| part.len()).sum();
        parts.truncate(limit - 1);
        parts.push(&whole[kept..]);
    }
    Ok(parts)
}

fn split_all<'a>(whole: &'a [u8], separator: &[u8], limit: usize) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = whole;
    while parts.len() + 1 < limit
        && let Some(at) = find(rest, separator)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

/// Each rune alone.
fn explode(whole: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = whole;
    runes::decode(whole).map(move |(_, size)| {
        let (rune, after) = rest.split_at(size);
        rest = after;
        rune
    })
}

/// `map[string]string{"_0": …, "_1": …}`.
fn numbered(parts: Vec<&[u8]>) -> Value {
    let map = Map::of_type("map[string]string");
    for (index, part) in parts.into_iter().enumerate() {
        map.insert(
            format!("_{index}"),
            Value::string(Bytes::copy_from_slice(part)),
        );
    }
    Value::Map(map)
}

fn join(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let texts = texts_of(&args[1]);
    let separator = text(args, 0);
    let size: u128 = texts
        .iter()
        .map(|text| (text.len() + separator.len()) as u128)
        .sum();
    bounded(environment, "join", size)?;
    Ok(Value::string(texts.join(separator)))
}

/// Decimal only; out of range is the nearest number, anything else 0.
fn atoi(digits: &[u8]) -> i64 {
    let (negative, unsigned) = match digits {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, digits),
    };
    if unsigned.is_empty() || !unsigned.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let plain = unsigned
        .iter()
        .position(|digit| *digit != b'0')
        .unwrap_or(unsigned.len() - 1);
    let magnitude = [if negative { &b"-"[..] } else { b"" }, &unsigned[plain..]].concat();
    cast::parse_int(&magnitude).unwrap_or(if negative { i64::MIN } else { i64::MAX })
}
