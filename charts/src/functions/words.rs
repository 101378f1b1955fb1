//! Words: case, initials, wrapping and abbreviating, as the libraries behind Sprig do it.

use super::{
    arguments::{bounded, int, text},
    case, fixed, runes,
    strings::find,
};
use crate::{
    Environment, Failure, Function,
    Param::{Int, String as Text},
    Value,
};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("upper", &[Text], |_, args| {
        Ok(Value::string(runes::map(text(args, 0), runes::upper)))
    }),
    fixed("lower", &[Text], |_, args| {
        Ok(Value::string(runes::map(text(args, 0), runes::lower)))
    }),
    fixed("title", &[Text], |_, args| {
        Ok(Value::string(title(text(args, 0))))
    }),
    fixed("untitle", &[Text], |_, args| {
        Ok(Value::string(untitle(text(args, 0))))
    }),
    fixed("swapcase", &[Text], |_, args| {
        Ok(Value::string(swap_case(text(args, 0))))
    }),
    fixed("initials", &[Text], |_, args| {
        Ok(Value::string(initials(text(args, 0))))
    }),
    fixed("camelcase", &[Text], |_, args| {
        Ok(Value::string(case::to_pascal(text(args, 0))))
    }),
    fixed("snakecase", &[Text], |_, args| {
        Ok(Value::string(case::to_separated(text(args, 0), '_')))
    }),
    fixed("kebabcase", &[Text], |_, args| {
        Ok(Value::string(case::to_separated(text(args, 0), '-')))
    }),
    fixed("wrap", &[Int, Text], |environment, args| {
        wrap(environment, text(args, 1), int(args, 0), b"\n", false)
    }),
    fixed("wrapWith", &[Int, Text, Text], |environment, args| {
        let separator = match text(args, 1) {
            b"" => b"\n",
            other => other,
        };
        wrap(environment, text(args, 2), int(args, 0), separator, true)
    }),
    fixed("abbrev", &[Int, Text], |_, args| {
        let width = int(args, 0);
        if width < 4 {
            return Ok(args[1].clone());
        }
        Ok(Value::string(abbreviate(text(args, 1), 0, width)))
    }),
    fixed("abbrevboth", &[Int, Int, Text], |_, args| {
        let (left, right) = (int(args, 0), int(args, 1));
        if right < 4 || left > 0 && right < 7 {
            return Ok(args[2].clone());
        }
        Ok(Value::string(abbreviate(text(args, 2), left, right)))
    }),
];

/// The first letter of each word in title case; words end at what is neither letter, digit nor underscore.
fn title(whole: &[u8]) -> String {
    let mut before = ' ';
    runes::map(whole, |rune| {
        let starts = match before.is_ascii() {
            true => !(before.is_ascii_alphanumeric() || before == '_'),
            false => runes::is_space(before),
        };
        before = rune;
        if starts { runes::title(rune) } else { rune }
    })
}

fn untitle(whole: &[u8]) -> String {
    let mut starts = true;
    runes::map(whole, |rune| {
        if runes::is_space(rune) {
            starts = true;
            return rune;
        }
        if std::mem::take(&mut starts) {
            return runes::lower(rune);
        }
        rune
    })
}

/// Small letters at the start of a word become title case, not upper case.
fn swap_case(whole: &[u8]) -> String {
    let mut starts = true;
    runes::map(whole, |rune| {
        if runes::is_upper(rune) || runes::is_title(rune) {
            starts = false;
            runes::lower(rune)
        } else if runes::is_lower(rune) {
            match std::mem::take(&mut starts) {
                true => runes::title(rune),
                false => runes::upper(rune),
            }
        } else {
            starts = runes::is_space(rune);
            rune
        }
    })
}

/// The first byte of each word, as a rune of its own.
fn initials(whole: &[u8]) -> String {
    let mut gap = true;
    let mut out = String::new();
    for byte in whole {
        let rune = char::from(*byte);
        if runes::is_space(rune) {
            gap = true;
        } else if std::mem::take(&mut gap) {
            out.push(rune);
        }
    }
    out
}

/// Lines of at most so many bytes, broken at spaces; longer words stay whole unless `long_words` are broken too.
fn wrap(
    environment: &Environment,
    whole: &[u8],
    width: i64,
    separator: &[u8],
    long_words: bool,
) -> Result<Value, Failure> {
    let size = whole.len() as u128 * (separator.len() as u128 + 1);
    if size > environment.limits.output as u128 {
        let lines = whole.len() as u128 / width.max(1) as u128 + 1;
        bounded(
            environment,
            "wrapWith",
            whole.len() as u128 + 2 * lines * separator.len() as u128,
        )?;
    }
    let width = usize::try_from(width.max(1)).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(whole.len());
    let mut rest = whole;
    while rest.len() > width {
        if rest[0] == b' ' {
            rest = &rest[1..];
            continue;
        }
        let line = rest[..=width].iter().rposition(|byte| *byte == b' ');
        let (line, next) = match line {
            Some(space) => (space, space + 1),
            None if long_words => (width, width),
            None => match find(&rest[width..], b" ") {
                Some(space) => (width + space, width + space + 1),
                None => break,
            },
        };
        out.extend_from_slice(&rest[..line]);
        out.extend_from_slice(separator);
        rest = &rest[next..];
    }
    out.extend_from_slice(rest);
    Ok(Value::string(out))
}

/// At most so many bytes, with `...` where some were left out; the byte at `offset` stays.
fn abbreviate(whole: &[u8], offset: i64, width: i64) -> Vec<u8> {
    const MARK: &[u8] = b"...";
    let length = whole.len() as i64;
    if length <= width || width < 4 {
        return if width < 4 {
            Vec::new()
        } else {
            whole.to_vec()
        };
    }
    let kept = width - 3;
    let mut offset = offset.min(length);
    if length - offset < kept {
        offset = length - kept;
    }
    if offset <= 4 {
        return [&whole[..kept as usize], MARK].concat();
    }
    if width < 7 {
        return Vec::new();
    }
    if offset + kept < length {
        let rest = abbreviate(&whole[offset as usize..], 0, kept);
        return [MARK, &rest].concat();
    }
    [MARK, &whole[(length - kept) as usize..]].concat()
}
