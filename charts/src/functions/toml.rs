//! TOML: written as the library behind Helm's `toToml` lays it out, and read.

use ::toml::{Value as Read, value::Datetime};
use bytes::Bytes;

use super::time::Time;
use crate::{Map, Value, format, value::meter};

/// Tables within tables: what walks them recurses.
const DEPTH: usize = 500;
/// What a value costs to write, in steps.
const COST: u64 = 4;
const NIL_ITEM: &str = "toml: cannot encode array with nil element";

/// A map as a document, anything else as a value alone. The error is in the library's words.
pub(super) fn emit(value: &Value) -> Result<String, String> {
    let mut writer = Writer::default();
    match plain(value) {
        Value::Map(map) => writer.table(&[], &map)?,
        other => {
            if is_tables(&other)? {
                return Err("toml: top-level values must be Go maps or structs".to_owned());
            }
            writer.value(&other, 0)?;
        }
    }
    Ok(writer.out)
}

#[derive(Default)]
struct Writer {
    out: String,
}

impl Writer {
    fn newline(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    fn indent(&mut self, depth: usize) {
        self.out.push_str(&"  ".repeat(depth));
    }

    /// What is no table first, then the tables.
    fn table(&mut self, key: &[Bytes], map: &Map) -> Result<(), String> {
        if key.len() > DEPTH {
            return Err("toml: the tables are nested too deeply".to_owned());
        }
        self.charged()?;
        let mut tables = Vec::new();
        for (name, value) in map.entries() {
            let value = plain(&value);
            match &value {
                Value::Nil => {}
                Value::Map(_) => tables.push((name, value)),
                other if is_tables(other)? => tables.push((name, value)),
                other => {
                    self.indent(key.len());
                    self.out.push_str(&bare(&name));
                    self.out.push_str(" = ");
                    self.value(other, key.len())?;
                    self.newline();
                }
            }
        }
        for (name, value) in tables {
            let key = [key, &[name]].concat();
            match value {
                Value::Map(map) => {
                    if key.len() == 1 {
                        self.newline();
                    }
                    self.heading(&key, "[", "]");
                    self.table(&key, &map)?;
                }
                Value::List(list) => {
                    for item in list.items.iter() {
                        self.newline();
                        self.heading(&key, "[[", "]]");
                        if let Value::Map(map) = plain(item) {
                            self.table(&key, &map)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn heading(&mut self, key: &[Bytes], open: &str, close: &str) {
        self.indent(key.len() - 1);
        let names: Vec<String> = key.iter().map(|name| bare(name)).collect();
        self.out.push_str(open);
        self.out.push_str(&names.join("."));
        self.out.push_str(close);
        self.newline();
    }

    /// On one line.
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        if depth > DEPTH {
            return Err("toml: the value is nested too deeply".to_owned());
        }
        self.charged()?;
        stacker::maybe_grow(64 << 10, 1 << 20, || self.write(value, depth))
    }

    /// Counts a value; the rendering ends with its own reason.
    fn charged(&self) -> Result<(), String> {
        match meter::charge(COST) && meter::fits(self.out.len()) {
            true => Ok(()),
            false => Err("toml: the value is too large".to_owned()),
        }
    }

    fn write(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        match value {
            Value::Nil => return Err(NIL_ITEM.to_owned()),
            Value::String(text) => self.out.push_str(&quoted(text)),
            Value::Float(number) => self.out.push_str(&float(*number)),
            Value::List(list) => {
                self.out.push('[');
                for (index, item) in list.items.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(&plain(item), depth + 1)?;
                }
                self.out.push(']');
            }
            Value::Map(map) => {
                let (mut others, mut tables) = (Vec::new(), Vec::new());
                for (name, value) in map.entries() {
                    let value = plain(&value);
                    match matches!(value, Value::Map(_)) || is_tables(&value)? {
                        true => tables.push((name, value)),
                        false => others.push((name, value)),
                    }
                }
                self.out.push('{');
                self.inline(&others, !tables.is_empty(), depth)?;
                self.inline(&tables, false, depth)?;
                self.out.push('}');
            }
            Value::Object(object) if object.type_name() == "time.Time" => {
                if let Value::String(text) = object.plain() {
                    self.out.push_str(&String::from_utf8_lossy(&text));
                }
            }
            other => self
                .out
                .push_str(&String::from_utf8_lossy(&format::sprint(other))),
        }
        Ok(())
    }
}

impl Writer {
    /// Entries of a table on one line. A nil is left out, the comma behind it is not.
    fn inline(
        &mut self,
        entries: &[(Bytes, Value)],
        more: bool,
        depth: usize,
    ) -> Result<(), String> {
        for (at, (name, value)) in entries.iter().enumerate() {
            if matches!(value, Value::Nil) {
                continue;
            }
            self.out.push_str(&bare(name));
            self.out.push_str(" = ");
            self.value(value, depth + 1)?;
            if more || at + 1 < entries.len() {
                self.out.push_str(", ");
            }
        }
        Ok(())
    }
}

/// Structs as maps; moments stay, they are not written as strings.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(object) if object.type_name() != "time.Time" => object.plain(),
        other => other.clone(),
    }
}

/// Whether it is a list of tables alone.
fn is_tables(value: &Value) -> Result<bool, String> {
    let Value::List(list) = value else {
        return Ok(false);
    };
    if list.items.iter().any(|item| matches!(item, Value::Nil)) {
        return Err(NIL_ITEM.to_owned());
    }
    let tables = list
        .items
        .iter()
        .all(|item| matches!(plain(item), Value::Map(_)));
    Ok(tables && !list.items.is_empty())
}

/// A key, in quotes where it must be.
fn bare(name: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.iter().all(plain) {
        return String::from_utf8_lossy(name).into_owned();
    }
    quoted(name)
}

fn quoted(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for rune in String::from_utf8_lossy(text).chars() {
        match rune {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\u{C}' => out.push_str("\\f"),
            '\0'..='\u{1F}' | '\u{7F}' => out.push_str(&format!("\\u{:04x}", rune as u32)),
            _ => out.push(rune),
        }
    }
    out.push('"');
    out
}

fn float(number: f64) -> String {
    if !number.is_finite() {
        return match number {
            n if n.is_nan() => "nan",
            n if n > 0.0 => "inf",
            _ => "-inf",
        }
        .to_owned();
    }
    let text = format::sprint(&Value::Float(number));
    let text = String::from_utf8_lossy(&text).into_owned();
    match text.contains(['e', '.']) {
        true => text,
        false => text + ".0",
    }
}

/// The map that a document means; integers stay integers.
pub(super) fn parse(text: &[u8]) -> Result<Map, String> {
    let text = std::str::from_utf8(text).map_err(|_| "toml: invalid UTF-8".to_owned())?;
    let table: ::toml::Table = text.parse().map_err(|error: ::toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("toml: line {line}: {}", error.message())
    })?;
    Ok(map(table))
}

fn map(table: ::toml::Table) -> Map {
    let map = Map::new();
    for (key, value) in table {
        map.insert(key, read(value));
    }
    map
}

fn read(value: Read) -> Value {
    match value {
        Read::String(text) => Value::string(text),
        Read::Integer(number) => Value::int64(number),
        Read::Float(number) => Value::Float(number),
        Read::Boolean(flag) => Value::Bool(flag),
        Read::Array(items) => Value::list(items.into_iter().map(read).collect()),
        Read::Table(table) => Value::Map(map(table)),
        Read::Datetime(datetime) => moment(datetime).into_value(),
    }
}

/// A date or a time of day alone is a moment too, in a zone that says so.
fn moment(datetime: Datetime) -> Time {
    let (year, month, day) = datetime.date.map_or((0, 1, 1), |date| {
        (
            i64::from(date.year),
            i64::from(date.month),
            i64::from(date.day),
        )
    });
    let (clock, nanoseconds) = datetime.time.map_or((0, 0), |time| {
        let minutes = i64::from(time.hour) * 60 + i64::from(time.minute);
        (minutes * 60 + i64::from(time.second), time.nanosecond)
    });
    let mut moment = Time::utc(year, month, day, clock, nanoseconds);
    let zone = match (datetime.date, datetime.time, datetime.offset) {
        (_, _, Some(::toml::value::Offset::Custom { minutes })) if minutes != 0 => {
            let offset = i32::from(minutes) * 60;
            moment.seconds -= i64::from(offset);
            moment.set_zone(String::new(), offset);
            return moment;
        }
        (_, _, Some(_)) => return moment,
        (Some(_), Some(_), None) => "datetime-local",
        (Some(_), None, None) => "date-local",
        _ => "time-local",
    };
    moment.set_zone(zone.to_owned(), 0);
    moment
}
