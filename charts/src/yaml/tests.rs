use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{emit, emit_pretty, parse, split};
use crate::{Value, json};

#[track_caller]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&match parse(text.as_bytes()) {
        Ok(value) => json::emit_raw(&value).unwrap(),
        Err(error) => error.to_string(),
    });
}

#[test]
fn plain_scalars_mean_what_yaml_1_1_says() {
    check(
        "[yes, Off, y, N, ~, Null, '', \"yes\", 'null']",
        expect![[r#"[true,false,true,false,null,null,"","yes","null"]"#]],
    );
    check(
        "[0644, 0o644, 0o9, 0x1F, 0b101, 1_000, 08, 0_1, 1__0, 0x_1, 0xG, -012, -0b11, +1, -1]",
        expect![[r#"[420,420,"0o9",31,5,1000,8,1,10,1,"0xG",-10,-3,1,-1]"#]],
    );
    check(
        "[12:30, 190:20:30, 1e3, 1E+3, .5, 5., +.5, 1.5e, 1e400, 1e-400, 1._5, 1e5_0, .1_, -.]",
        expect![[
            r#"["12:30","190:20:30",1000,1000,0.5,5,0.5,"1.5e","1e400",0,1.5,1e+50,".1_","-."]"#
        ]],
    );
    check(
        "[12345678901234567890, 18446744073709551616, 2020-01-01, '=', <<, -0, -0.0]",
        expect![[r#"[12345678901234567000,18446744073709552000,"2020-01-01","=","<<",0,-0]"#]],
    );
}

#[test]
fn keys_become_strings() {
    check(
        "y: 1\nno: 2\n1.5: 3\n0x10: 4\n1e20: 5\n2020-01-01: 6\n-1: 7\n",
        expect![[r#"{"-1":7,"1.5":3,"16":4,"1e+20":5,"2020-01-01":6,"false":2,"true":1}"#]],
    );
    check(
        "null: 1",
        expect![
            "error converting YAML to JSON: unsupported map key of type: %!s(<nil>), key: null"
        ],
    );
}

#[test]
fn tags_decide_where_go_yaml_lets_them() {
    check(
        "[!!str 5, !!int '5', !!float 5, !!binary aGVsbG8=, !foo bar, !!bool 'yes', !!null '', ! 5]",
        expect![[r#"["5",5,5,"hello","bar",true,null,"5"]"#]],
    );
    check(
        "a: !!int abc",
        expect![
            "error converting YAML to JSON: yaml: line 1: cannot decode !!str `abc` as a !!int"
        ],
    );
}

#[test]
fn merges_happen_where_they_stand_and_the_last_of_equal_keys_wins() {
    check("x: 9\n<<: {x: 1, z: 3}\n", expect![[r#"{"x":1,"z":3}"#]]);
    check("<<: {x: 1, z: 3}\nx: 9\n", expect![[r#"{"x":9,"z":3}"#]]);
    check(
        "<<: [{x: 1}, {x: 2, q: 1}]\n",
        expect![[r#"{"q":1,"x":1}"#]],
    );
    check(
        "a: &a {x: 1}\nb:\n  <<: *a\n  z: 2\n",
        expect![[r#"{"a":{"x":1},"b":{"x":1,"z":2}}"#]],
    );
    check("a: 1\na: {b: 2}\n", expect![[r#"{"a":{"b":2}}"#]]);
    check("'<<': {x: 1}", expect![[r#"{"<<":{"x":1}}"#]]);
    check(
        "a: {<<: 5}",
        expect![
            "error converting YAML to JSON: yaml: line 1: map merge requires map or sequence of maps as the value"
        ],
    );
}

#[test]
fn aliases_are_followed_within_reason() {
    check(
        "a: &x 1\nb: &x 2\nc: *x\n",
        expect![[r#"{"a":1,"b":2,"c":2}"#]],
    );
    check("&k a: 1\nb: *k\n", expect![[r#"{"a":1,"b":"a"}"#]]);
    check(
        "a: *b",
        expect!["error converting YAML to JSON: yaml: line 1: unknown anchor 'b' referenced"],
    );
    check(
        "a: &x [*x]",
        expect!["error converting YAML to JSON: yaml: line 1: anchor 'x' value contains itself"],
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    check(
        &bomb,
        expect!["error converting YAML to JSON: yaml: document contains excessive aliasing"],
    );
}

#[test]
fn blocks_folds_and_quotes_are_read() {
    check(
        "a: |\n  x\n   y\n\nb: >\n  x\n  y\n\n    z\n  w\nc: |+\n  x\n\nd: >-\n  x\n",
        expect![[r#"{"a":"x\n y\n","b":"x y\n\n  z\nw\n","c":"x\n\n","d":"x"}"#]],
    );
    check(
        "a: 'it''s'\nb: \"\\x41\\u00e9\\U0001F600\\\n    joined\"\nc: x\n  y\nd: b#c #d\n",
        expect![[r#"{"a":"it's","b":"Aé😀joined","c":"x y","d":"b#c"}"#]],
    );
    check(
        "\u{feff}a: 1\r\nb: |\r\n  x\r\n  y\r\n",
        expect![[r#"{"a":1,"b":"x\ny\n"}"#]],
    );
    check(
        "a: {b:1}\nc: [d:1]\n",
        expect![[r#"{"a":{"b:1":null},"c":["d:1"]}"#]],
    );
    check(
        "a: [x, y,]\nb: {x: 1, }\n",
        expect![[r#"{"a":["x",true],"b":{"x":1}}"#]],
    );
}

#[test]
fn only_the_first_document_has_a_say() {
    check("---\na: 1\n---\nb: [\n", expect![[r#"{"a":1}"#]]);
    check("", expect!["null"]);
    check("# nothing\n", expect!["null"]);
    let documents = split(b"a: 1\n--- # next\nb: 2\n---x\n---\n---\nc: 3");
    let documents: Vec<_> = documents
        .iter()
        .map(|(line, text)| (line, str::from_utf8(text).unwrap()))
        .collect();
    assert_eq!(
        format!("{documents:?}"),
        r#"[(1, "a: 1\n"), (3, "b: 2\n---x\n"), (7, "c: 3")]"#
    );
}

#[test]
fn what_is_no_yaml_is_refused_with_its_line() {
    for text in [
        "a: 'x",
        "a: b: c",
        "a: [1",
        "a: \x01",
        "a:\n\t- b",
        "x:\n  - 1\n - 2\n",
        "a: \"\\q\"",
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("error converting YAML to JSON: yaml: line "),
            "{text:?}: {error}"
        );
    }
    let error = parse(b"a: \xff").unwrap_err().to_string();
    assert_eq!(
        error,
        "error converting YAML to JSON: yaml: line 1: invalid leading UTF-8 octet"
    );
    assert!(parse(&b"[".repeat(100_000)).is_err());
    assert!(parse(&b"- ".repeat(100_000)).is_err());
}

#[test]
fn a_path_has_the_line_of_its_key() {
    let text = b"a: 1\nb:\n  c:\n    - x\n    - d: 5\n";
    let document = super::Document::parse_at(text, 11).unwrap();
    assert_eq!(document.line(&["a"]), Some(11));
    assert_eq!(document.line(&["b", "c"]), Some(13));
    assert_eq!(document.line(&["b", "c", "1", "d"]), Some(15));
    assert_eq!(document.line(&["b", "x"]), None);
}

/// What real Helm wrote for each of a few hundred values.
#[test]
fn values_are_written_as_helm_writes_them() {
    let facts = include_bytes!("../../tests/facts/to_yaml.json");
    let Value::List(rows) = json::parse(facts).unwrap() else {
        panic!("no list");
    };
    let mut wrong = Vec::new();
    for row in rows.items.iter() {
        let Value::Map(row) = row else {
            panic!("no row")
        };
        let value = row.get(b"value").unwrap();
        let text = |key: &str| match row.get(key.as_bytes()) {
            Some(Value::String(text)) => String::from_utf8(text.to_vec()).unwrap(),
            _ => panic!("no text"),
        };
        for (found, expected) in [
            (emit(&value), text("yaml")),
            (emit_pretty(&value), text("pretty")),
        ] {
            if found != expected {
                wrong.push(format!(
                    "{value:?}\n  Helm: {expected:?}\n  here: {found:?}"
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a0 :,\\[\\]{}&*!|>'\"%#?\\n\\t\\\\<~.]{0,60}") {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse(&bytes);
        let _ = json::parse(&bytes);
    }

    #[test]
    fn what_is_written_is_read_as_the_same(texts in proptest::collection::vec("[ -~\u{e9}\\n]{0,100}", 0..4)) {
        // The last line's end is cut off.
        let texts = texts.iter().cloned().chain(["end".to_owned()]);
        let value = Value::list(texts.map(Value::string).collect());
        let read = parse(emit(&value).as_bytes()).unwrap();
        prop_assert_eq!(json::emit(&read).unwrap(), json::emit(&value).unwrap());
    }
}
