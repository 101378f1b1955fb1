//! The grammar of `--set`, `--set-string`, `--set-file`, `--set-json` and `--set-literal`: `a.b[0].c=value,d={x,y}`.
//!
//! Changes a map in place, as Helm does, with Helm's messages.

use crate::{Map, Value, format::sprintf, json};

/// A list may have no more items.
const MAX_INDEX: i64 = 65536;
/// A path may have no more names.
const MAX_DEPTH: usize = 30;
/// A path may have no more indexes: what walks values recurses.
const MAX_INDEXES: usize = 500;

/// What values mean.
pub enum Kind<'a> {
    /// `true`, `null` and integers have their types; anything else is text.
    Typed,
    Text,
    /// What a function makes of the text: the content of a file.
    With(&'a dyn Fn(&str) -> Result<Value, String>),
    Json,
    /// Text to the end of the line, commas and backslashes and all.
    Literal,
}

/// Sets what a line says.
pub fn set(line: &str, values: &Map, kind: &Kind<'_>) -> Result<(), String> {
    let mut parser = Parser {
        letters: line.chars().collect(),
        at: 0,
        indexes: 0,
        kind,
    };
    loop {
        parser.indexes = 0;
        match parser.key(values, 0) {
            Ok(()) => {}
            Err(Stop::End) => return Ok(()),
            Err(Stop::Wrong(message)) => return Err(message),
        }
    }
}

/// Why a part of a line was not the whole of it.
enum Stop {
    /// The line ended; what there was is set.
    End,
    Wrong(String),
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Wrong(message.into()))
}

struct Parser<'a> {
    letters: Vec<char>,
    at: usize,
    /// Indexes of the path at hand.
    indexes: usize,
    kind: &'a Kind<'a>,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.letters.get(self.at).copied()?;
        self.at += 1;
        Some(letter)
    }

    fn literal(&self) -> bool {
        matches!(self.kind, Kind::Literal)
    }

    /// Reads until one of the letters: what was before it, and which it was; none at the end of the line.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(letter) = self.next() {
            if stops.contains(&letter) {
                return (text, Some(letter));
            }
            if letter != '\\' || self.literal() {
                text.push(letter);
                continue;
            }
            match self.next() {
                Some(escaped) => text.push(escaped),
                None => return (text, None),
            }
        }
        (text, None)
    }

    fn key(&mut self, values: &Map, depth: usize) -> Result<(), Stop> {
        let stops: &[char] = match self.literal() {
            true => &['=', '[', '.'],
            false => &['=', '[', ',', '.'],
        };
        let (key, stop) = self.until(stops);
        match stop {
            None if key.is_empty() => Err(Stop::End),
            None => wrong(format!("key {key:?} has no value")),
            Some('[') => self.list_of_key(values, key, depth),
            Some('=') => self.value_of_key(values, key),
            Some(',') => {
                put(values, &key, Value::string(""));
                wrong(format!("key {key:?} has no value (cannot end with ,)"))
            }
            Some(_) => self.map_of_key(values, key, depth + 1),
        }
    }

    fn list_of_key(&mut self, values: &Map, key: String, depth: usize) -> Result<(), Stop> {
        let index = self.index()?;
        let list = match values.peek(key.as_bytes()) {
            None => Vec::new(),
            Some(Value::List(list)) => list.items.to_vec(),
            Some(other) => return wrong(not_a(&other, "[]interface {}")),
        };
        let mut list = list;
        let result = stacker::maybe_grow(64 << 10, 1 << 20, || self.item(&mut list, index, depth));
        put(values, &key, Value::list(list));
        result
    }

    fn value_of_key(&mut self, values: &Map, key: String) -> Result<(), Stop> {
        match self.kind {
            Kind::Literal => {
                put(values, &key, Value::string(self.rest()));
                Ok(())
            }
            Kind::Json => {
                let value = self.json()?;
                put(values, &key, value);
                Ok(())
            }
            _ if self.at == self.letters.len() => {
                put(values, &key, Value::string(""));
                Err(Stop::End)
            }
            _ => {
                let value = self.value()?;
                put(values, &key, value);
                Ok(())
            }
        }
    }

    fn map_of_key(&mut self, values: &Map, key: String, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return wrong(too_deep());
        }
        let inner = match values.peek(key.as_bytes()) {
            None => Map::new(),
            Some(Value::Map(map)) => map,
            Some(other) => return wrong(not_a(&other, "map[string]interface {}")),
        };
        let result = self.key(&inner, depth);
        if result.is_ok() && inner.is_empty() {
            return wrong(format!("key map {key:?} has no value"));
        }
        if !inner.is_empty() {
            put(values, &key, Value::Map(inner));
        }
        result
    }

    /// What stands between `[` and `]`.
    fn index(&mut self) -> Result<i64, Stop> {
        let (text, stop) = self.until(&[']']);
        // Helm takes the line's end for the end of what is to be set, here too.
        if stop.is_none() {
            return Err(Stop::End);
        }
        text.parse().map_err(|_| {
            let why = "invalid syntax";
            Stop::Wrong(format!(
                "error parsing index: strconv.Atoi: parsing {text:?}: {why}"
            ))
        })
    }

    /// What comes after an index.
    fn item(&mut self, list: &mut Vec<Value>, index: i64, depth: usize) -> Result<(), Stop> {
        if index < 0 {
            return wrong(format!("negative {index} index not allowed"));
        }
        self.indexes += 1;
        if self.indexes > MAX_INDEXES {
            return wrong(format!("a path has more than {MAX_INDEXES} indexes"));
        }
        let (rest, stop) = self.until(&['[', '.', '=']);
        if !rest.is_empty() {
            let letters = rest.chars().map(|letter| i64::from(u32::from(letter)));
            let letters = letters.map(|letter| sprintf(b"%q", &[Value::int(letter)]));
            let letters: Vec<_> = letters
                .map(|letter| String::from_utf8_lossy(&letter).into_owned())
                .collect();
            let letters = letters.join(" ");
            return wrong(format!(
                "unexpected data at end of array index: [{letters}]"
            ));
        }
        let present = usize::try_from(index)
            .ok()
            .and_then(|at| list.get(at))
            .cloned();
        let value = match stop {
            None => return Err(Stop::End),
            Some('=') => match self.kind {
                Kind::Literal => Value::string(self.rest()),
                Kind::Json => self.json()?,
                _ if self.at == self.letters.len() => Value::string(""),
                _ => self.value()?,
            },
            Some('[') => {
                let next = self.index()?;
                let mut inner = match present {
                    None | Some(Value::Nil) => Vec::new(),
                    Some(Value::List(list)) => list.items.to_vec(),
                    Some(other) => return wrong(not_a(&other, "[]interface {}")),
                };
                stacker::maybe_grow(64 << 10, 1 << 20, || self.item(&mut inner, next, depth))?;
                Value::list(inner)
            }
            Some(_) => {
                let inner = match present {
                    Some(Value::Map(map)) => map,
                    _ => Map::new(),
                };
                self.key(&inner, depth)?;
                Value::Map(inner)
            }
        };
        put_item(list, index, value)
    }

    /// A list in braces, or text until a comma.
    fn value(&mut self) -> Result<Value, Stop> {
        if self.letters.get(self.at) != Some(&'{') {
            let (text, _) = self.until(&[',']);
            return self.typed(&text);
        }
        self.at += 1;
        let mut items = Vec::new();
        loop {
            let (text, stop) = self.until(&[',', '}']);
            if stop.is_none() {
                return wrong("list must terminate with '}'");
            }
            items.push(self.typed(&text)?);
            if stop == Some('}') {
                if self.letters.get(self.at) == Some(&',') {
                    self.at += 1;
                }
                return Ok(Value::list(items));
            }
        }
    }

    fn typed(&self, text: &str) -> Result<Value, Stop> {
        match self.kind {
            Kind::Typed => Ok(typed(text)),
            Kind::With(read) => read(text).map_err(Stop::Wrong),
            Kind::Text | Kind::Json | Kind::Literal => Ok(Value::string(text.to_owned())),
        }
    }

    fn rest(&mut self) -> String {
        let rest = self.letters[self.at..].iter().collect();
        self.at = self.letters.len();
        rest
    }

    /// A JSON value and the comma behind it; nothing is null.
    fn json(&mut self) -> Result<Value, Stop> {
        if self.blank_until_comma() {
            return Ok(Value::Nil);
        }
        let rest: String = self.letters[self.at..].iter().collect();
        let (value, length) =
            json::parse_prefix(rest.as_bytes()).map_err(|error| Stop::Wrong(error.to_string()))?;
        self.at += rest[..length].chars().count();
        self.blank_until_comma();
        Ok(value)
    }

    /// Skips blanks, and one comma or the end of the line: whether there was nothing else.
    fn blank_until_comma(&mut self) -> bool {
        while let Some(letter) = self.next() {
            if letter == ',' {
                return true;
            }
            if !letter.is_whitespace() {
                self.at -= 1;
                return false;
            }
        }
        true
    }
}

fn put(values: &Map, key: &str, value: Value) {
    if !key.is_empty() {
        values.insert(key.to_owned(), value);
    }
}

fn put_item(list: &mut Vec<Value>, index: i64, value: Value) -> Result<(), Stop> {
    if index > MAX_INDEX {
        return wrong(format!(
            "index of {index} is greater than maximum supported index of {MAX_INDEX}"
        ));
    }
    let at = usize::try_from(index).unwrap_or_default();
    if list.len() <= at {
        list.resize(at + 1, Value::Nil);
    }
    list[at] = value;
    Ok(())
}

fn too_deep() -> String {
    format!("value name nested level is greater than maximum supported nested level of {MAX_DEPTH}")
}

fn not_a(value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::Nil => "nil",
        Value::Bool(_) => "bool",
        Value::Int(..) | Value::Uint(..) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) | Value::Object(_) => "map[string]interface {}",
    };
    format!("unable to parse key: interface conversion: interface {{}} is {found}, not {wanted}")
}

/// What a text means that is not declared to be text.
fn typed(text: &str) -> Value {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") || is("false") {
        return Value::Bool(is("true"));
    }
    if is("null") {
        return Value::Nil;
    }
    if text == "0" {
        return Value::int64(0);
    }
    let number = (!text.starts_with('0'))
        .then(|| text.parse().ok())
        .flatten();
    number.map_or_else(|| Value::string(text.to_owned()), Value::int64)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::{Kind, set};
    use crate::{Map, Value, json};

    #[track_caller]
    fn check_kind(line: &str, kind: &Kind<'_>, expected: Expect) {
        let values = Map::new();
        values.insert("m", Value::Map(Map::new()));
        values.insert("l", Value::list(vec![Value::int(1), Value::int(2)]));
        expected.assert_eq(&match set(line, &values, kind) {
            Ok(()) => {
                values.remove(b"m").unwrap();
                values.remove(b"l").unwrap();
                json::emit_raw(&Value::Map(values)).unwrap()
            }
            Err(message) => message,
        });
    }

    #[track_caller]
    fn check(line: &str, expected: Expect) {
        check_kind(line, &Kind::Typed, expected);
    }

    #[test]
    fn texts_have_the_types_they_look_like() {
        check(
            "a=1,b=true,c=NULL,d=x y,e=0,f=012,g=1.5,h=-3,i=",
            expect![[
                r#"{"a":1,"b":true,"c":null,"d":"x y","e":0,"f":"012","g":"1.5","h":-3,"i":""}"#
            ]],
        );
        check(
            "a=99999999999999999999",
            expect![[r#"{"a":"99999999999999999999"}"#]],
        );
        check("", expect!["{}"]);
    }

    #[test]
    fn names_lead_into_maps_and_lists() {
        check("a.b.c=1,a.b.d=2", expect![[r#"{"a":{"b":{"c":1,"d":2}}}"#]]);
        check(
            "a[0]=1,a[2].b=x,c[1][0]=y",
            expect![[r#"{"a":[1,null,{"b":"x"}],"c":[null,["y"]]}"#]],
        );
        check(
            "a={x,1,true},b={},c=1",
            expect![[r#"{"a":["x",1,true],"b":[""],"c":1}"#]],
        );
        check(
            r"a\.b=1\,2,c\=d=\{x",
            expect![[r#"{"a.b":"1,2","c=d":"{x"}"#]],
        );
        check("=1,a=2", expect![[r#"{"a":2}"#]]);
    }

    #[test]
    fn what_helm_refuses_is_refused_in_its_words() {
        check("a", expect![[r#"key "a" has no value"#]]);
        check(
            "a,b=1",
            expect![[r#"key "a" has no value (cannot end with ,)"#]],
        );
        check("a.=,b=1", expect![[r#"key map "a" has no value"#]]);
        check("a={x", expect!["list must terminate with '}'"]);
        check(
            "a[x]=1",
            expect![[r#"error parsing index: strconv.Atoi: parsing "x": invalid syntax"#]],
        );
        check("a[-1]=1", expect!["negative -1 index not allowed"]);
        check(
            "a[65537]=1",
            expect!["index of 65537 is greater than maximum supported index of 65536"],
        );
        check(
            "a[0]x=1",
            expect!["unexpected data at end of array index: ['x']"],
        );
        check(
            "l.x=1",
            expect![
                "unable to parse key: interface conversion: interface {} is []interface {}, not map[string]interface {}"
            ],
        );
        check(
            "m[0]=1",
            expect![
                "unable to parse key: interface conversion: interface {} is map[string]interface {}, not []interface {}"
            ],
        );
        check(
            &format!("{}=1", ["a"; 40].join(".")),
            expect!["value name nested level is greater than maximum supported nested level of 30"],
        );
    }

    #[test]
    fn the_other_flags_mean_text_json_and_files() {
        check_kind(
            "a=1,b=true",
            &Kind::Text,
            expect![[r#"{"a":"1","b":"true"}"#]],
        );
        check_kind(
            r"a.b=1,c=\x,[0]",
            &Kind::Literal,
            expect![[r#"{"a":{"b":"1,c=\\x,[0]"}}"#]],
        );
        check_kind(
            r#"a={"x":[1,2]},b="y" ,c.d=,e[1]=null"#,
            &Kind::Json,
            expect![[r#"{"a":{"x":[1,2]},"b":"y","c":{"d":null},"e":[null,null]}"#]],
        );
        check_kind(
            "a=x",
            &Kind::Json,
            expect!["invalid character 'x' looking for beginning of value"],
        );
        let read = |path: &str| match path {
            "missing" => Err("open missing: no such file or directory".to_owned()),
            path => Ok(Value::string(format!("content of {path}"))),
        };
        check_kind(
            "a=x,b=y",
            &Kind::With(&read),
            expect![[r#"{"a":"content of x","b":"content of y"}"#]],
        );
        check_kind(
            "a=missing",
            &Kind::With(&read),
            expect!["open missing: no such file or directory"],
        );
    }

    #[test]
    fn lists_within_lists_are_bounded() {
        for line in ["[0]", "[0].a"] {
            let line = "a".to_owned() + &line.repeat(20_000) + "=1";
            let error = set(&line, &Map::new(), &Kind::Typed).unwrap_err();
            assert_eq!(error, "a path has more than 500 indexes");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in "[a.,=\\[\\]0-9{}\\\\\" -]{0,40}") {
            for kind in [Kind::Typed, Kind::Text, Kind::Json, Kind::Literal] {
                let _ = set(&line, &Map::new(), &kind);
            }
        }
    }
}
