//! JSON as Go's `encoding/json` reads and writes it.
//!
//! Every number is a `float64`; keys come in bytewise order; bytes that are no UTF-8 become U+FFFD. Recursion is bounded.

mod reader;
mod writer;

use std::borrow::Cow;

use crate::Value;

/// Why there is no JSON, or none to be read, in Go's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A number that JSON has no form for.
    #[error("json: unsupported value: {0}")]
    Unsupported(String),
    #[error("json: exceeded max depth")]
    TooDeep,
    /// JSON, but no YAML reader takes it.
    #[error("yaml: control characters are not allowed")]
    Control,
}

/// The value of a JSON text.
pub fn parse(text: &[u8]) -> Result<Value, Error> {
    reader::Reader::new(text).document()
}

/// The value at the start of a text, and the length it had.
pub(crate) fn parse_prefix(text: &[u8]) -> Result<(Value, usize), Error> {
    reader::Reader::new(text).prefix()
}

/// As `toJson`: on one line, `<`, `>` and `&` escaped.
pub fn emit(value: &Value) -> Result<String, Error> {
    writer::write(value, true, None)
}

/// As `toRawJson`: on one line.
pub fn emit_raw(value: &Value) -> Result<String, Error> {
    writer::write(value, false, None)
}

/// As `toPrettyJson`: two spaces a level.
pub fn emit_pretty(value: &Value) -> Result<String, Error> {
    writer::write(value, true, Some("  "))
}

/// What Go's errors call a value's JSON.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "null",
        Value::Bool(_) => "bool",
        Value::Int(..) | Value::Uint(..) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) | Value::Object(_) => "object",
    }
}

/// Bytes as text: each byte that is no UTF-8 becomes U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let replaced = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
        text.extend(replaced);
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::{emit, emit_pretty, emit_raw, parse};

    #[track_caller]
    fn check(text: &[u8], expected: Expect) {
        expected.assert_eq(&match parse(text) {
            Ok(value) => emit(&value).unwrap(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn what_go_reads_is_read() {
        check(
            br#" {"b": [1, -2.5e3, true, null], "a": "x\n\u00e9\ud83d\ude00"} "#,
            expect![[r#"{"a":"x\né😀","b":[1,-2500,true,null]}"#]],
        );
        check(br#"{"a": 1, "a": 2}"#, expect![[r#"{"a":2}"#]]);
        check(br#""\ud83d x""#, expect![[r#""� x""#]]);
        check(b"\"\xff<&>\"", expect![[r#""�\u003c\u0026\u003e""#]]);
    }

    #[test]
    fn what_is_no_json_is_refused_in_gos_words() {
        check(b"", expect!["unexpected end of JSON input"]);
        check(b"[1, 2", expect!["unexpected end of JSON input"]);
        check(
            b"{a: 1}",
            expect!["invalid character 'a' looking for beginning of object key string"],
        );
        check(
            b"[1 2]",
            expect!["invalid character '2' after array element"],
        );
        check(
            b"{\"a\" 1}",
            expect!["invalid character '1' after object key"],
        );
        check(
            b"{\"a\": 1 2}",
            expect!["invalid character '2' after object key:value pair"],
        );
        check(
            b"nope",
            expect!["invalid character 'o' in literal null (expecting 'u')"],
        );
        check(
            b"1 x",
            expect!["invalid character 'x' after top-level value"],
        );
        check(
            b"01",
            expect!["invalid character '1' after top-level value"],
        );
        check(b"-x", expect!["invalid character 'x' in numeric literal"]);
        check(
            b"1.x",
            expect!["invalid character 'x' after decimal point in numeric literal"],
        );
        check(
            b"1ex",
            expect!["invalid character 'x' in exponent of numeric literal"],
        );
        check(
            b"\"\\q\"",
            expect!["invalid character 'q' in string escape code"],
        );
        check(
            b"\"\\u12x\"",
            expect![[r"invalid character 'x' in \u hexadecimal character escape"]],
        );
        check(
            b"\"a\nb\"",
            expect![[r"invalid character '\n' in string literal"]],
        );
        check(
            b"[1,]",
            expect!["invalid character ']' looking for beginning of value"],
        );
        check(&b"[".repeat(100_000), expect!["exceeded max depth"]);
    }

    #[test]
    fn raw_json_keeps_angle_brackets_and_pretty_json_has_two_spaces_a_level() {
        let value = parse(br#"{"a": "<&>", "b": [], "c": {}, "d": [1]}"#).unwrap();
        expect![[r#"{"a":"<&>","b":[],"c":{},"d":[1]}"#]].assert_eq(&emit_raw(&value).unwrap());
        expect![[r#"
            {
              "a": "\u003c\u0026\u003e",
              "b": [],
              "c": {},
              "d": [
                1
              ]
            }"#]]
        .assert_eq(&emit_pretty(&value).unwrap());
    }
}
