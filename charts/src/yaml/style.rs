//! How a scalar may be written: the rules of libyaml's emitter, as go-yaml has them.

use super::{emitter::Dialect, scalar};

/// How a scalar is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Literal,
}

/// What in a text restricts its style.
#[derive(Default)]
struct Analysis {
    /// Characters that mean something in block context.
    indicators: bool,
    /// Characters that only double quotes can carry.
    special: bool,
    tabs: bool,
    line_breaks: bool,
    blank_ends: bool,
    trailing_space: bool,
    break_space: bool,
    space_break: bool,
}

/// Whether a key is written before its `:` on one line.
pub(super) fn is_simple_key(text: &str) -> bool {
    text.len() <= 128 && !text.chars().any(is_break)
}

/// The style of a text; a key that is simple never is a block.
pub(super) fn style(text: &str, simple_key: bool, dialect: Dialect) -> Style {
    let wanted = match () {
        () if text.contains('\n') => Style::Literal,
        () if scalar::needs_quotes(text) => Style::DoubleQuoted,
        () => Style::Plain,
    };
    if text.is_empty() {
        return Style::DoubleQuoted;
    }
    let found = analyse(text, dialect);
    let broken = found.space_break || found.special;
    let plain_allowed = !(found.blank_ends
        || found.break_space
        || broken
        || found.tabs
        || found.line_breaks
        || found.indicators);
    let single_allowed = !(found.break_space || broken || found.tabs);
    let block_allowed = !(found.trailing_space || broken);
    match wanted {
        Style::Plain if plain_allowed => Style::Plain,
        Style::Plain if single_allowed && !(simple_key && found.line_breaks) => Style::SingleQuoted,
        Style::Literal if block_allowed && !simple_key => Style::Literal,
        _ => Style::DoubleQuoted,
    }
}

fn analyse(text: &str, dialect: Dialect) -> Analysis {
    let mut found = Analysis {
        indicators: text.starts_with("---") || text.starts_with("..."),
        ..Analysis::default()
    };
    let (mut after_space, mut after_break, mut after_blank) = (false, false, true);
    let mut letters = text.chars().peekable();
    let mut first = true;
    while let Some(letter) = letters.next() {
        let last = letters.peek().is_none();
        let before_blank = letters.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
        found.indicators |= match letter {
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
            | '@' | '`'
                if first =>
            {
                true
            }
            '?' | '-' if first => before_blank,
            ':' => before_blank,
            '#' => after_blank,
            _ => false,
        };
        match letter {
            '\t' if dialect == Dialect::V3 => found.tabs = true,
            letter => found.special |= !is_printable(letter),
        }
        if letter == ' ' {
            found.blank_ends |= first || last;
            found.trailing_space |= last;
            found.break_space |= after_break;
            (after_space, after_break) = (true, false);
        } else if is_break(letter) {
            found.line_breaks = true;
            found.blank_ends |= first || last;
            found.space_break |= after_space;
            (after_space, after_break) = (false, true);
        } else {
            (after_space, after_break) = (false, false);
        }
        after_blank = matches!(letter, ' ' | '\t' | '\0') || is_break(letter);
        first = false;
    }
    found
}

/// What go-yaml takes for printable: nothing beyond the basic plane.
pub(super) fn is_printable(letter: char) -> bool {
    matches!(letter,
        '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// What ends a line in YAML 1.1.
pub(super) fn is_break(letter: char) -> bool {
    matches!(letter, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}
