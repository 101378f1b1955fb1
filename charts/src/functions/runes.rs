//! Text as Go's runes: bytes that are no UTF-8 are one U+FFFD each, and each letter has one upper and one lower case.

use std::sync::LazyLock;

use regex::Regex;

/// What stands for a byte that is not UTF-8.
pub(super) const ERROR: char = '\u{FFFD}';

/// The runes of a text, each with the number of bytes it came from.
pub(super) fn decode(text: &[u8]) -> impl Iterator<Item = (char, usize)> + '_ {
    text.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|rune| (rune, rune.len_utf8()));
        valid.chain(chunk.invalid().iter().map(|_| (ERROR, 1)))
    })
}

/// Each rune changed.
pub(super) fn map(text: &[u8], change: impl FnMut(char) -> char) -> String {
    decode(text).map(|(rune, _)| rune).map(change).collect()
}

/// The one upper-case letter; a letter whose upper case is several stays as it is.
pub(super) fn upper(rune: char) -> char {
    match rune {
        // With an iota subscript: one letter in simple case mapping, two in the full one.
        '\u{1F80}'..='\u{1F87}' | '\u{1F90}'..='\u{1F97}' | '\u{1FA0}'..='\u{1FA7}' => {
            char::from_u32(rune as u32 + 8).unwrap_or(rune)
        }
        '\u{1FB3}' => '\u{1FBC}',
        '\u{1FC3}' => '\u{1FCC}',
        '\u{1FF3}' => '\u{1FFC}',
        _ => only(rune.to_uppercase(), rune),
    }
}

/// The one lower-case letter.
pub(super) fn lower(rune: char) -> char {
    match rune {
        'İ' => 'i',
        _ => only(rune.to_lowercase(), rune),
    }
}

/// The one title-case letter: the upper-case one, but for digraphs and Georgian.
pub(super) fn title(rune: char) -> char {
    match rune {
        '\u{01C4}'..='\u{01C6}' => '\u{01C5}',
        '\u{01C7}'..='\u{01C9}' => '\u{01C8}',
        '\u{01CA}'..='\u{01CC}' => '\u{01CB}',
        '\u{01F1}'..='\u{01F3}' => '\u{01F2}',
        '\u{10D0}'..='\u{10FF}' => rune,
        _ => upper(rune),
    }
}

fn only(mut mapped: impl Iterator<Item = char>, rune: char) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => rune,
    }
}

pub(super) fn is_upper(rune: char) -> bool {
    // Numerals and enclosed letters have upper case, but are no letters.
    rune.is_uppercase() && !matches!(rune, 'Ⅰ'..='Ⅿ' | 'Ⓐ'..='Ⓩ')
}

pub(super) fn is_lower(rune: char) -> bool {
    rune.is_lowercase() && !matches!(rune, 'ª' | 'º' | 'ⅰ'..='ⅿ' | 'ⓐ'..='ⓩ')
}

pub(super) fn is_title(rune: char) -> bool {
    matches!(rune, '\u{01C5}' | '\u{01C8}' | '\u{01CB}' | '\u{01F2}')
        || matches!(rune, '\u{1F88}'..='\u{1F8F}' | '\u{1F98}'..='\u{1F9F}' | '\u{1FA8}'..='\u{1FAF}')
        || matches!(rune, '\u{1FBC}' | '\u{1FCC}' | '\u{1FFC}')
}

pub(super) fn is_space(rune: char) -> bool {
    rune.is_whitespace()
}

pub(super) fn is_number(rune: char) -> bool {
    rune.is_numeric()
}

pub(super) fn is_letter(rune: char) -> bool {
    static LETTER: LazyLock<Regex> = LazyLock::new(|| class(r"^\p{L}"));
    if rune.is_ascii() {
        return rune.is_ascii_alphabetic();
    }
    LETTER.is_match(rune.encode_utf8(&mut [0; 4]))
}

pub(super) fn is_punctuation(rune: char) -> bool {
    static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| class(r"^\p{P}"));
    if rune.is_ascii() {
        return rune.is_ascii_punctuation()
            && !matches!(rune, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~');
    }
    PUNCTUATION.is_match(rune.encode_utf8(&mut [0; 4]))
}

fn class(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of our own is right")
}
