//! Lays values out as go-yaml's emitter does: indentation, folding after column 80, quotes.

use crate::{
    Element, Value, float, json,
    value::meter,
    yaml::{
        MAX_DEPTH, order, scalar,
        style::{self, Style},
    },
};

/// What a value costs to copy and to write, in steps: a copy takes memory.
const COST: u64 = 16;

/// Whose layout: go-yaml v2 (`toYaml`) or v3 with two spaces (`toYamlPretty`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// Lines may be folded after this column.
    fn width(self) -> usize {
        match self {
            Dialect::V2 => 80,
            Dialect::V3 => usize::MAX,
        }
    }
}

/// A value as it is after Helm's detour by JSON: numbers without a fraction are integers, texts have lost what JSON or
/// YAML cannot carry.
pub(super) fn through_json(value: &Value, depth: usize) -> Result<Value, json::Error> {
    if depth > MAX_DEPTH {
        return Err(json::Error::TooDeep);
    }
    if !meter::charge(COST) {
        // The rendering ends with its own reason.
        return Err(json::Error::TooDeep);
    }
    stacker::maybe_grow(64 << 10, 1 << 20, || copy(value, depth))
}

fn copy(value: &Value, depth: usize) -> Result<Value, json::Error> {
    Ok(match value {
        Value::Float(number) if !number.is_finite() => {
            return Err(json::Error::Unsupported(float::shortest(*number)));
        }
        Value::Float(number) => match scalar::resolve(&float::json(*number)) {
            scalar::Scalar::Int(number) => Value::int(number),
            scalar::Scalar::Uint(number) => Value::Uint(number, crate::value::UintKind::Uint64),
            _ => value.clone(),
        },
        Value::String(bytes) if is_simple(bytes) => value.clone(),
        Value::String(bytes) => Value::string(text_through_json(&json::text(bytes))?),
        Value::List(list) if list.element == Element::NoString => Value::Nil,
        Value::List(list) => {
            let items = list.items.iter().map(|item| through_json(item, depth + 1));
            Value::list(items.collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            let through = crate::Map::new();
            for (key, value) in map.entries() {
                if is_simple(&key) {
                    through.insert(key, through_json(&value, depth + 1)?);
                    continue;
                }
                let key = json::text(&key);
                if key.contains('\u{85}') {
                    // A key of several lines, to the reader.
                    return Err(json::Error::Control);
                }
                through.insert(text_through_json(&key)?, through_json(&value, depth + 1)?);
            }
            Value::Map(through)
        }
        Value::Object(object) => through_json(&object.document(), depth + 1)?,
        Value::Nil | Value::Bool(_) | Value::Int(..) | Value::Uint(..) => value.clone(),
    })
}

/// Whether a text is the same after JSON: nearly all are.
fn is_simple(text: &[u8]) -> bool {
    text.is_ascii() && !text.contains(&0x7f)
}

/// What the YAML reader makes of a JSON string: next-line characters are line breaks to it, and fold to a space.
fn text_through_json(text: &str) -> Result<String, json::Error> {
    let control = |letter: char| matches!(letter, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
    if text.contains(control) {
        return Err(json::Error::Control);
    }
    if !text.contains('\u{85}') {
        return Ok(text.to_owned());
    }
    let mut folded = String::with_capacity(text.len());
    let mut parts = text.split('\u{85}').peekable();
    let mut breaks = 0;
    let mut first = true;
    while let Some(part) = parts.next() {
        let part = if first {
            part
        } else {
            part.trim_start_matches(' ')
        };
        let part = match parts.peek() {
            Some(_) => part.trim_end_matches(' '),
            None => part,
        };
        if !first {
            breaks += 1;
        }
        if first || !part.is_empty() || parts.peek().is_none() {
            match breaks {
                0 => {}
                1 => folded.push(' '),
                more => folded.push_str(&"\n".repeat(more - 1)),
            }
            breaks = 0;
            folded.push_str(part);
        }
        first = false;
    }
    Ok(folded)
}

/// A document of one value, with its last line's end.
pub(super) fn write(value: &Value, dialect: Dialect) -> String {
    let mut emitter = Emitter {
        text: String::new(),
        dialect,
        column: 0,
        indent: None,
        whitespace: true,
        indention: true,
    };
    emitter.node(value, Place::Root, 0);
    emitter.indent = None;
    emitter.line();
    emitter.text
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Item,
    Key,
    Value,
}

struct Emitter {
    text: String,
    dialect: Dialect,
    /// Characters since the line's start.
    column: usize,
    indent: Option<usize>,
    /// The last character was blank.
    whitespace: bool,
    /// The line holds nothing but indentation and indicators.
    indention: bool,
}

impl Emitter {
    fn node(&mut self, value: &Value, place: Place, depth: usize) {
        if depth > MAX_DEPTH {
            // Cannot be written, and nobody could read it: what is deeper is left out.
            return self.plain("null");
        }
        if meter::charge(COST) && meter::fits(self.text.len()) {
            stacker::maybe_grow(64 << 10, 1 << 20, || self.write(value, place, depth));
        }
    }

    fn write(&mut self, value: &Value, place: Place, depth: usize) {
        match value {
            Value::Nil => self.plain("null"),
            Value::Bool(true) => self.plain("true"),
            Value::Bool(false) => self.plain("false"),
            Value::Int(number, _) => self.plain(&number.to_string()),
            Value::Uint(number, _) => self.plain(&number.to_string()),
            Value::Float(number) => self.plain(&float::yaml(*number)),
            Value::String(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => self.scalar(text, place == Place::Key),
                Err(_) => self.binary(bytes),
            },
            Value::List(list) if list.items.is_empty() => self.indicator("[]", true, false, false),
            Value::List(list) => self.list(&list.items, place, depth),
            Value::Map(map) => {
                let entries = map.entries().into_iter();
                let entries: Vec<(String, Value)> = entries
                    .map(|(key, value)| (json::text(&key).into_owned(), value))
                    .collect();
                match entries.is_empty() {
                    true => self.indicator("{}", true, false, false),
                    false => self.map(order::sort(entries, self.dialect), depth),
                }
            }
            // The library knows points in time; others see their text.
            Value::Object(object) if object.type_name() == "time.Time" => match object.plain() {
                Value::String(text) => self.plain(&json::text(&text)),
                other => self.node(&other, place, depth + 1),
            },
            Value::Object(object) => self.node(&object.plain(), place, depth + 1),
        }
    }

    fn list(&mut self, items: &[Value], place: Place, depth: usize) {
        let outer = self.indent;
        let aligned = self.dialect == Dialect::V2 && place == Place::Value && !self.indention;
        if !aligned {
            self.deepen(false);
        }
        for item in items {
            self.line();
            self.indicator("-", true, false, true);
            self.node(item, Place::Item, depth + 1);
        }
        self.indent = outer;
    }

    fn map(&mut self, entries: Vec<(String, Value)>, depth: usize) {
        let outer = self.indent;
        self.deepen(false);
        for (key, value) in entries {
            self.line();
            if style::is_simple_key(&key) {
                self.scalar(&key, true);
                self.indicator(":", false, false, false);
            } else {
                self.indicator("?", true, false, true);
                self.scalar(&key, false);
                self.line();
                self.indicator(":", true, false, true);
            }
            self.node(&value, Place::Value, depth + 1);
        }
        self.indent = outer;
    }

    fn plain(&mut self, text: &str) {
        self.indicator(text, true, false, false);
    }

    /// What is no text: as go-yaml v3 writes it.
    fn binary(&mut self, bytes: &[u8]) {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        self.indicator("!!binary", true, false, false);
        self.scalar(&BASE64_STANDARD.encode(bytes), false);
    }

    fn scalar(&mut self, text: &str, simple_key: bool) {
        let outer = self.indent;
        self.deepen(true);
        let folds = !simple_key;
        match style::style(text, simple_key, self.dialect) {
            Style::Plain => self.plain_scalar(text, folds),
            Style::SingleQuoted => self.single_quoted(text, folds),
            Style::DoubleQuoted => self.double_quoted(text, folds),
            Style::Literal => self.literal(text),
        }
        self.indent = outer;
    }

    fn plain_scalar(&mut self, text: &str, folds: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        if !text.contains(' ') {
            self.put_all(text);
            self.whitespace = false;
            self.indention = false;
            return;
        }
        let mut letters = text.chars().peekable();
        let mut after_space = false;
        while let Some(letter) = letters.next() {
            let space = letter == ' ';
            if space && folds && !after_space && self.full() && letters.peek() != Some(&' ') {
                self.line();
            } else {
                self.put(letter);
            }
            self.indention &= space;
            after_space = space;
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn single_quoted(&mut self, text: &str, folds: bool) {
        self.indicator("'", true, false, false);
        let mut letters = text.chars().enumerate().peekable();
        let (mut after_space, mut after_break) = (false, false);
        while let Some((index, letter)) = letters.next() {
            let next = letters.peek().map(|(_, next)| *next);
            if letter == ' ' {
                let inside = index > 0 && next.is_some_and(|next| next != ' ');
                if folds && !after_space && self.full() && inside {
                    self.line();
                } else {
                    self.put(letter);
                }
                after_space = true;
            } else if style::is_break(letter) {
                self.put_break(letter);
                self.indention = true;
                after_break = true;
            } else {
                if after_break {
                    self.line();
                }
                if letter == '\'' {
                    self.put('\'');
                }
                self.put(letter);
                self.indention = false;
                (after_space, after_break) = (false, false);
            }
        }
        self.indicator("'", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn double_quoted(&mut self, text: &str, folds: bool) {
        self.indicator("\"", true, false, false);
        // go-yaml looks for a byte-order mark at the start for each letter.
        let marked = text.starts_with('\u{feff}');
        let mut letters = text.chars().enumerate().peekable();
        let mut after_space = false;
        while let Some((index, letter)) = letters.next() {
            let next = letters.peek().map(|(_, next)| *next);
            let escaped = marked
                || !style::is_printable(letter)
                || style::is_break(letter)
                || matches!(letter, '"' | '\\');
            if escaped {
                self.escape(letter);
                after_space = false;
            } else if letter == ' ' {
                if folds && !after_space && self.full() && index > 0 && next.is_some() {
                    self.line();
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(letter);
                }
                after_space = true;
            } else {
                self.put(letter);
                after_space = false;
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn escape(&mut self, letter: char) {
        let short = match letter {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            other => {
                let code = u32::from(other);
                let escape = match code {
                    0..=0xff => format!("\\x{code:02X}"),
                    0x100..=0xffff => format!("\\u{code:04X}"),
                    _ => format!("\\U{code:08X}"),
                };
                return self.put_all(&escape);
            }
        };
        self.put('\\');
        self.put(short);
    }

    fn literal(&mut self, text: &str) {
        self.indicator("|", true, false, false);
        if text.starts_with(|first| first == ' ' || style::is_break(first)) {
            self.indicator("2", false, false, false);
        }
        let mut from_end = text.chars().rev();
        let breaks = [from_end.next(), from_end.next()].map(|last| last.map(style::is_break));
        match breaks {
            [Some(false), _] => self.indicator("-", false, false, false),
            [_, None | Some(true)] => self.indicator("+", false, false, false),
            _ => {}
        }
        self.put_break('\n');
        self.indention = true;
        self.whitespace = true;
        let mut after_break = true;
        for letter in text.chars() {
            if style::is_break(letter) {
                self.put_break(letter);
                self.indention = true;
                after_break = true;
            } else {
                if after_break {
                    self.line();
                }
                self.put(letter);
                self.indention = false;
                after_break = false;
            }
        }
    }

    /// Whether the line may be folded here.
    fn full(&self) -> bool {
        self.column > self.dialect.width()
    }

    /// One step further right; the root of scalars counts as a step.
    fn deepen(&mut self, scalar: bool) {
        self.indent = Some(match self.indent {
            None if scalar => 2,
            None => 0,
            Some(indent) => indent + 2,
        });
    }

    /// Goes to the indentation, on a new line unless this one is still empty.
    fn line(&mut self) {
        let indent = self.indent.unwrap_or(0);
        let here =
            self.indention && (self.column < indent || (self.column == indent && self.whitespace));
        if !here {
            self.put_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, spaced: bool, whitespace: bool, indention: bool) {
        if spaced && !self.whitespace {
            self.put(' ');
        }
        self.put_all(text);
        self.whitespace = whitespace;
        self.indention &= indention;
    }

    fn put_all(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    fn put(&mut self, letter: char) {
        self.text.push(letter);
        self.column += 1;
    }

    fn put_break(&mut self, letter: char) {
        self.text.push(letter);
        self.column = 0;
    }
}
