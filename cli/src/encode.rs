//! Objects as YAML and JSON text, as `kubectl` writes them. Pure.

use anyhow::{Context, Result};
use serde::Serialize as _;
use serde_json::Value;

/// Block style, keys in order; strings that another reader could take for something else are quoted.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        folded_wrap_chars: usize::MAX,
    };
    let mut text =
        serde_saphyr::to_string_with_options(value, options).context("write the object as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Four spaces a level.
pub(crate) fn json(value: &Value) -> Result<String> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut text, format,
        ))
        .context("write the object as JSON")?;
    text.push(b'\n');
    String::from_utf8(text).context("write the object as JSON")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::manifest;

    #[track_caller]
    fn check(object: Value, expected: Expect) {
        let text = yaml(&object).unwrap();
        expected.assert_eq(&text);
        let read = manifest::parse("a.yaml", &text).remove(0).object.unwrap();
        assert_eq!(read, object);
    }

    fn object(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "data": data})
    }

    #[test]
    fn strings_that_look_like_something_else_are_quoted_and_read_again() {
        check(
            object(json!({
                "bool": "true", "yes": "yes", "y": "y", "off": "off", "null": "null", "tilde": "~", "empty": "",
                "int": "1", "octal": "0644", "float": "1.5", "exp": "1e3", "hex": "0x1f", "under": "1_000",
                "time": "12:30", "date": "2024-01-01", "stamp": "2026-11-21T04:40:00Z", "colon": "a: b", "hash": "a #b",
                "dash": "- a", "star": "*a", "amp": "&a", "bang": "!a", "brace": "{a}", "percent": "%a", "at": "@a",
                "quote": "it's", "double": "say \"x\"", "space": " a ", "tab": "a\tb", "back": "a\\b", "inf": ".inf",
            })),
            expect![[r#"
                apiVersion: v1
                data:
                  amp: "&a"
                  at: "@a"
                  back: a\b
                  bang: "!a"
                  bool: "true"
                  brace: "{a}"
                  colon: "a: b"
                  dash: "- a"
                  date: "2024-01-01"
                  double: say "x"
                  empty: ""
                  exp: "1e3"
                  float: "1.5"
                  hash: "a #b"
                  hex: "0x1f"
                  "inf": ".inf"
                  int: "1"
                  "null": "null"
                  octal: "0644"
                  "off": "off"
                  percent: "%a"
                  quote: it's
                  space: " a "
                  stamp: "2026-11-21T04:40:00Z"
                  star: "*a"
                  tab: "a\tb"
                  tilde: "~"
                  time: "12:30"
                  under: "1_000"
                  "y": "y"
                  "yes": "yes"
                kind: A
                metadata:
                  name: a
            "#]],
        );
    }

    #[test]
    fn lists_are_not_indented_and_empty_ones_are_braces() {
        check(
            object(
                json!({"list": [{"a": 1, "b": [2, 3]}, []], "map": {}, "none": null, "n": 1.5, "t": false, "1": "a", "true": "b", "a b": "c"}),
            ),
            expect![[r#"
                apiVersion: v1
                data:
                  "1": a
                  a b: c
                  list:
                  - a: 1
                    b:
                    - 2
                    - 3
                  - []
                  map: {}
                  "n": 1.5
                  none: null
                  t: false
                  "true": b
                kind: A
                metadata:
                  name: a
            "#]],
        );
    }

    #[test]
    fn long_and_many_lined_strings_stay_readable() {
        check(
            object(json!({
                "long": "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore",
                "lines": "a\n  b\nc\n", "strip": "a\nb", "lead": "  a\nb\n", "crlf": "a\r\nb\r\n",
            })),
            expect![[r#"
                apiVersion: v1
                data:
                  crlf: "a\r\nb\r\n"
                  lead: |2
                      a
                    b
                  lines: |
                    a
                      b
                    c
                  long: lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore
                  strip: |-
                    a
                    b
                kind: A
                metadata:
                  name: a
            "#]],
        );
    }

    #[test]
    fn empty_lines_at_the_end_are_kept() {
        let object =
            object(json!({"keep": "a\n\n\n", "line": "\n", "lines": "\n\n", "between": "a\n\nb"}));
        let text = yaml(&object).unwrap();
        let read = manifest::parse("a.yaml", &text).remove(0).object.unwrap();
        assert_eq!(read, object, "{text}");
    }

    #[test]
    fn json_has_four_spaces() {
        expect![[r#"
            {
                "a": [
                    1
                ]
            }
        "#]]
        .assert_eq(&json(&json!({"a": [1]})).unwrap());
    }
}
