//! Writes JSON as Go does.

use super::{Error, text};
use crate::{Element, Value, float, value::meter, yaml::MAX_DEPTH};

/// What a value costs to write, in steps.
const COST: u64 = 4;

pub(super) fn write(value: &Value, html: bool, indent: Option<&str>) -> Result<String, Error> {
    let mut writer = Writer {
        text: String::new(),
        html,
        indent,
    };
    writer.value(value, 0)?;
    Ok(writer.text)
}

struct Writer<'a> {
    text: String,
    /// Whether the characters of HTML are escaped.
    html: bool,
    indent: Option<&'a str>,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        if !meter::charge(COST) || !meter::fits(self.text.len()) {
            // The rendering ends with its own reason.
            return Err(Error::TooDeep);
        }
        stacker::maybe_grow(64 << 10, 1 << 20, || self.write(value, depth))
    }

    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value {
            Value::Nil => self.text.push_str("null"),
            Value::Bool(truth) => self.text.push_str(if *truth { "true" } else { "false" }),
            Value::Int(number, _) => self.text.push_str(&number.to_string()),
            Value::Uint(number, _) => self.text.push_str(&number.to_string()),
            Value::Float(number) if !number.is_finite() => {
                return Err(Error::Unsupported(float::shortest(*number)));
            }
            Value::Float(number) => self.text.push_str(&float::json(*number)),
            Value::String(bytes) => self.string(bytes),
            Value::List(list) if list.element == Element::NoString => self.text.push_str("null"),
            Value::List(list) if list.items.is_empty() => self.text.push_str("[]"),
            Value::List(list) => {
                for (index, item) in list.items.iter().enumerate() {
                    self.text.push(if index == 0 { '[' } else { ',' });
                    self.line(depth + 1);
                    self.value(item, depth + 1)?;
                }
                self.line(depth);
                self.text.push(']');
            }
            Value::Map(map) if map.is_empty() => self.text.push_str("{}"),
            Value::Map(map) => {
                for (index, (key, value)) in map.entries().into_iter().enumerate() {
                    self.text.push(if index == 0 { '{' } else { ',' });
                    self.line(depth + 1);
                    self.string(&key);
                    self.text
                        .push_str(if self.indent.is_some() { ": " } else { ":" });
                    self.value(&value, depth + 1)?;
                }
                self.line(depth);
                self.text.push('}');
            }
            Value::Object(object) => self.value(&object.document(), depth + 1)?,
        }
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        self.text.push('"');
        for letter in text(bytes).chars() {
            match letter {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '<' | '>' | '&' if self.html => self.escape(letter),
                '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => self.escape(letter),
                letter => self.text.push(letter),
            }
        }
        self.text.push('"');
    }

    fn escape(&mut self, letter: char) {
        let code = u32::from(letter);
        self.text.push_str(&format!("\\u{code:04x}"));
    }
}
