use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// The value, then the paths of duplicate keys, or the error.
fn told(outcome: Result<Body, DecodeError>) -> String {
    match outcome {
        Ok(body) if body.duplicates.is_empty() => body.value.to_string(),
        Ok(body) => format!("{} duplicates {:?}", body.value, body.duplicates),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&told(json(text.as_bytes())));
}

#[track_caller]
fn check_yaml(text: &str, expected: &Expect) {
    expected.assert_eq(&told(yaml(text.as_bytes())));
}

#[test]
fn the_last_of_duplicate_keys_wins_and_is_told() {
    check(
        r#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#,
        &expect![[r#"{"a":3,"b":[{"c":2}]} duplicates ["b[0].c", "a"]"#]],
    );
    check_yaml(
        "spec:\n  replicas: 1\n  replicas: 2\n",
        &expect![[r#"{"spec":{"replicas":2}} duplicates ["spec.replicas"]"#]],
    );
}

#[test]
fn numbers_keep_their_value() {
    check("1.0", &expect!["1"]);
    check("1e3", &expect!["1000"]);
    check("-0.0", &expect!["0"]);
    check("0.5", &expect!["0.5"]);
    check("9223372036854775807", &expect!["9223372036854775807"]);
    check("18446744073709551615", &expect!["18446744073709551615"]);
    check("1e20", &expect!["1e+20"]);
    check(
        "1e999",
        &expect!["error: number out of range at line 1 column 5"],
    );
}

#[test]
fn what_is_not_json_is_refused() {
    check(
        "",
        &expect!["error: EOF while parsing a value at line 1 column 0"],
    );
    check(
        "{\"a\":",
        &expect!["error: EOF while parsing a value at line 1 column 5"],
    );
    check(
        "{} {}",
        &expect!["error: trailing characters at line 1 column 4"],
    );
    check(
        "{a: 1}",
        &expect!["error: key must be a string at line 1 column 2"],
    );
    assert_eq!(json(b"\"\xff\""), Err(DecodeError::NotUtf8));
    assert_eq!(yaml(b"a: \xff"), Err(DecodeError::NotUtf8));
}

#[test]
fn depth_is_bounded_in_both() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let maps = |depth: usize| format!("{}1{}", r#"{"a": "#.repeat(depth), "}".repeat(depth));
    for text in [nested(MAX_DEPTH), maps(MAX_DEPTH)] {
        assert_eq!(
            json(text.as_bytes()).map(|body| depth(&body.value)),
            Ok(MAX_DEPTH)
        );
        assert_eq!(
            yaml(text.as_bytes()).map(|body| depth(&body.value)),
            Ok(MAX_DEPTH)
        );
    }
    for text in [nested(MAX_DEPTH + 1), maps(MAX_DEPTH + 1)] {
        assert_eq!(json(text.as_bytes()), Err(DecodeError::TooDeep));
        assert_eq!(yaml(text.as_bytes()), Err(DecodeError::TooDeep));
    }
    let block = |depth: usize| format!("{}{{a: 1}}", "- ".repeat(depth - 1));
    assert_eq!(
        yaml(block(MAX_DEPTH).as_bytes()).map(|body| depth(&body.value)),
        Ok(MAX_DEPTH)
    );
    assert_eq!(
        yaml(block(MAX_DEPTH + 1).as_bytes()),
        Err(DecodeError::TooDeep)
    );
    assert_eq!(json(nested(100_000).as_bytes()), Err(DecodeError::TooDeep));
    assert!(yaml(nested(100_000).as_bytes()).is_err());
    assert!(yaml("- ".repeat(10_000).as_bytes()).is_err());
}

#[test]
fn yaml_is_read_as_kubectl_reads_it() {
    check_yaml(
        "[yes, on, n, OFF, true]",
        &expect!["[true,true,false,false,true]"],
    );
    check_yaml(
        "[0644, 0o644, 0x10, 1_000, 1e3, 1.0, 08]",
        &expect!["[420,420,16,1000,1000,1,8]"],
    );
    check_yaml(
        "[12:30:45, 2024-01-02]",
        &expect![[r#"["12:30:45","2024-01-02"]"#]],
    );
    check_yaml("1e20", &expect!["1e+20"]);
    check_yaml("a: !!binary aGVsbG8=", &expect![[r#"{"a":"hello"}"#]]);
    check_yaml(
        "[~, null, '', \"1\", !custom x]",
        &expect![[r#"[null,null,"","1","x"]"#]],
    );
    check_yaml(
        "{1: a, true: b, x: c}",
        &expect![[r#"{"1":"a","true":"b","x":"c"}"#]],
    );
    check_yaml(
        "base: &b {x: 1, z: 2}\nuse: {<<: *b, z: 3}",
        &expect![[r#"{"base":{"x":1,"z":2},"use":{"x":1,"z":3}}"#]],
    );
    check_yaml("text: |\n  a\n  b\n", &expect![[r#"{"text":"a\nb\n"}"#]]);
    check_yaml("# nothing\n", &expect!["null"]);
    check_yaml(r#"{"a": "\ud83d\ude00"}"#, &expect![[r#"{"a":"😀"}"#]]);
}

#[test]
fn a_yaml_body_is_one_document() {
    check_yaml(
        "a: 1\n---\nb: 2\n",
        &expect!["error: expected one YAML document, found more"],
    );
    check_yaml(
        "a: [1",
        &expect!["error: unclosed bracket '[' at line 1, column 4"],
    );
    check_yaml(
        "a: .inf",
        &expect![
            "error: non-finite float `.inf` rejected by the configured policy at line 1, column 4"
        ],
    );
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(matches!(
        yaml(text.as_bytes()),
        Err(DecodeError::Syntax { .. })
    ));
}

#[test]
fn documents_are_read_one_by_one() {
    let text =
        "---\n# only a comment\n---\na: 1\n---\nb: [\n--- \nc: |\n  ---\n  x\n---\n---\n\"d\"\n";
    let told: Vec<String> = yaml_documents(text)
        .into_iter()
        .map(|document| document.map_or_else(|_| "error".to_owned(), |value| value.to_string()))
        .collect();
    expect![[r#"{"a":1} error {"c":"---\nx\n"} "d""#]].assert_eq(&told.join(" "));
}

proptest! {
    #[test]
    fn yaml_decodes_what_it_encodes(value in crate::schema::arbitrary::value()) {
        let text = to_yaml(&value).expect("it is written");
        prop_assert_eq!(yaml(text.as_bytes()).expect("it is read").value, value, "{}", text);
    }

    #[test]
    fn yaml_keeps_every_text_a_text(text in r#"[-+]?[0-9_.:eExo~&*!|>%@`#,\[\]{}\"'yYnNa-f \n\t]{0,12}"#) {
        let value = serde_json::json!({ "a": { &text: [&text] } });
        let written = to_yaml(&value).expect("it is written");
        prop_assert_eq!(yaml(written.as_bytes()).expect("it is read").value, value, "{}", written);
    }

    #[test]
    fn json_decodes_what_it_encodes(value in crate::schema::arbitrary::value()) {
        prop_assert_eq!(json(value.to_string().as_bytes()).unwrap().value, value.clone());
        prop_assert_eq!(yaml(value.to_string().as_bytes()).unwrap().value, value);
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in ".{0,60}") {
        let _ = json(&bytes);
        let _ = yaml(&bytes);
        let _ = yaml_documents(&text);
    }
}

#[test]
fn words_that_yaml_1_1_reads_as_something_else_are_quoted() {
    for word in [
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "N",
        "true",
        "null",
        "~",
        "",
        "0644",
        "0x1f",
        "1e3",
        "1_000",
        "12:30:45",
        "2026-01-01",
        ".inf",
        ".nan",
        "- a",
        "a: b",
        "a #b",
        "<<",
        "=",
        "---",
        "...",
        "? a",
        "0o17",
        "0b1",
        "+1",
        ".5",
    ] {
        let value = serde_json::json!({ word: word });
        let text = to_yaml(&value).expect("it is written");
        assert_eq!(
            yaml(text.as_bytes()).expect("it is read").value,
            value,
            "{text}"
        );
    }
}
