use std::cell::RefCell;

use rand::SeedableRng;

use super::*;
use crate::{Limits, Map};

fn environment() -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits {
            steps: 1_000_000,
            output: 1 << 20,
            ..Limits::default()
        },
    }
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    let map = Map::new();
    for (key, value) in entries {
        map.insert(key.to_owned(), value);
    }
    Value::Map(map)
}

fn data() -> Value {
    let item = |name: &str| map(vec![("name", Value::string(name.to_owned()))]);
    map(vec![(
        "Values",
        map(vec![
            ("s", Value::string("str")),
            ("n", Value::Float(5.0)),
            ("big", Value::Float(1e6)),
            ("t", Value::Bool(true)),
            ("null", Value::Nil),
            (
                "a",
                map(vec![("b", map(vec![("c", Value::string("deep"))]))]),
            ),
            (
                "l",
                Value::list(vec![Value::Float(1.0), Value::Nil, Value::string("x")]),
            ),
            ("items", Value::list(vec![item("one"), item("two")])),
        ]),
    )])
}

fn render(text: &str) -> Result<String, TemplateError> {
    let mut templates = Templates::new();
    templates.add("chart/templates/x.yaml", text.to_owned())?;
    let executed = templates.execute("chart/templates/x.yaml", data(), &environment())?;
    Ok(String::from_utf8_lossy(&executed.text).into_owned())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    match render(text) {
        Ok(text) => assert_eq!(text, expected),
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    match render(text) {
        Ok(text) => panic!("no error, but {text:?}"),
        Err(error) => assert_eq!(error.helm(), expected),
    }
}

#[test]
fn actions_write_what_go_writes() {
    check("x{{ .Values.s }}y", "xstry");
    check("{{ .Values.big }}", "1e+06");
    check("{{ with .Values.a }}{{ .b.c }}{{ end }}", "deep");
    check(
        "{{ range $i, $e := .Values.items }}{{ $i }}={{ .name }}{{ $e.name }} {{ end }}",
        "0=oneone 1=twotwo ",
    );
    check("{{ range .Values.none }}x{{ else }}none{{ end }}", "none");
    check(
        "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := $x }}{{ $y }}{{ end }}{{ $x }}",
        "22",
    );
    check("{{ $x := 1 }}{{ $x := $x }}{{ $x }}", "1");
    check("{{ (.Values.nope).x }}|{{ .Values.nope }}", "|");
    check(
        "{{ define \"d\" }}<{{ . }}>{{ end }}{{ template \"d\" .Values.s }}{{ include \"d\" 1 }}",
        "<str><1>",
    );
    check(
        "{{ tpl \"{{ .Values.s }}{{ define \\\"q\\\" }}Q{{ end }}{{ include \\\"q\\\" . }}\" . }}",
        "strQ",
    );
    check(
        "{{ range $i := 3 }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ $i }}{{ end }}",
        "02",
    );
    check("{{ block \"b\" .Values.s }}[{{ . }}]{{ end }}", "[str]");
    check(
        "{{ if and .Values.t (eq .Values.s \"str\") }}yes{{ else if false }}no{{ end }}",
        "yes",
    );
    check("{{ printf \"%s-%d\" .Values.s 3 | html }}", "str-3");
    check("a {{- /* c */}} b", "a b");
    check("a {{/* c */ -}} b", "a b");
    check("x\n{{- /* c */}}\ny", "x\ny");
}

#[test]
fn errors_say_what_helm_says() {
    check_error(
        "{{ .Values.x.y }}",
        "chart/templates/x.yaml:1:10\n  executing \"chart/templates/x.yaml\" at <.Values.x.y>:\n    nil pointer evaluating interface {}.y",
    );
    check_error(
        "{{ if }}",
        "parse error at (chart/templates/x.yaml:1): missing value for if",
    );
    check_error(
        "{{ foo }}",
        "parse error at (chart/templates/x.yaml:1): function \"foo\" not defined",
    );
}
