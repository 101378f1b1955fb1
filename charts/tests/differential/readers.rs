//! YAML and the arguments of `--set` mean what they mean to Helm.

use charts::{
    Map,
    values::{
        self,
        strvals::{self, Kind},
    },
    yaml,
};
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use crate::hunt::{Subject, hunt, hunt_past};

const YAML: Subject = Subject {
    request: |text| json!({"yaml": text}),
    ours: |text| match yaml::parse_map(text.as_bytes()) {
        Ok(map) => json!({"out": values::to_json_map(&map)}),
        Err(error) => json!({"error": error.to_string()}),
    },
    same: |_, helm, ours| match (helm["error"].as_str(), ours["error"].as_str()) {
        // What one of the two parsers alone takes for YAML.
        (Some(_), _) => true,
        (None, Some(ours)) => STRICTER.iter().any(|reason| ours.contains(reason)),
        (None, None) => numbers_as_floats(helm) == numbers_as_floats(ours),
    },
};

/// What our parser refuses of what go-yaml reads: all of it is no YAML, or stands behind the document's end.
const STRICTER: &[&str] = &[
    "unclosed bracket",
    "misplaced bracket",
    "unclosed quote",
    "comments must be separated",
    "missing explicit document end",
    "'-' must be followed",
    "while scanning a tag",
    "json: unsupported value",
    "invalid trailing content",
    "did not find expected tag URI",
];

/// Of YAML errors we know the line better, and name the parser's own reason.
pub(crate) fn only_the_line_differs(helm: &str, ours: &str) -> bool {
    let without = |text: &str| {
        text.split_once("error converting YAML to JSON: ")
            .map(|(before, _)| before.to_owned())
    };
    without(helm).is_some_and(|helm| Some(helm) == without(ours))
}

/// Every number of a values file is a float; how it is then written as JSON is no matter of reading.
fn numbers_as_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(numbers_as_floats).collect(),
        Value::Object(map) => {
            let entries = map.iter();
            Value::Object(
                entries
                    .map(|(key, value)| (key.clone(), numbers_as_floats(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

const LINES: &[&str] = &[
    "a: 1",
    "b:",
    "c: x",
    "- 1",
    "- a: 1",
    "-",
    "- - x",
    "? k",
    ": v",
    "? [a, b]",
    "a: |",
    "a: >-",
    "a: |+2",
    "a: >",
    "text",
    "more: ",
    "[1, 2, {a: b}]",
    "{a: 1, b: [x]}",
    "a: &x 1",
    "b: *x",
    "<<: *x",
    "m: &m {k: 1, l: 2}",
    "n: {<<: *m, k: 3}",
    "l: [*m, *x]",
    "# c",
    "a: b # c",
    "a: b#c",
    "a: 'it''s'",
    "a: \"\\u00e9\\n\\x41\"",
    "a: \"b",
    "c\"",
    "a: 'b",
    "---",
    "...",
    "--- a",
    "a: !!str 1",
    "a: !!int \"3\"",
    "a: !!binary aGk=",
    "a: !x y",
    "a: !!float 1",
    "a: !!null x",
    "a: !!bool yes",
    "yes: no",
    "~: null",
    "1: one",
    "1.5: x",
    "0x10: y",
    "true: t",
    "2020-01-01: d",
    "a: 2020-01-01",
    "a: 0644",
    "a: 0o644",
    "a: 1_000",
    "a: 0x1F",
    "a: 0b11",
    "a: 12:30:45",
    "a: .inf",
    "a: .nan",
    "a: 1e400",
    "a: 1e3",
    "a: +1",
    "a: 18446744073709551616",
    "a: -0",
    "a: 9223372036854775807",
    "a: !!set {x}",
    "'q': 1",
    "\"q r\": 1",
    "a b: c",
    "a: b: c",
    "a: - b",
    "a: [1",
    "a: {x: 1",
    "a: ]",
    "@: 1",
    "`: 1",
    "a: @x",
    "a: %x",
    "é: 世",
    "a: \u{feff}x",
    "\u{feff}a: 1",
    "a:\tb",
    "\tx: 1",
    "a: \u{85}",
    "a: \u{1}",
    "a: \u{7f}",
    "&k a: 1",
    "*x : 2",
    "a: &e",
    "a: !!str",
    "- !!map {}",
    "-\t1",
    "- \t- 1",
    "key with spaces: v",
    "a: ",
    "a: ''",
    "a: \"\"",
    "a: \"x\\",
    "  y\"",
    "a: 'x",
    "  y'",
    "a: x",
    "   y",
    "a: \"\\q\"",
    "? |",
    "  block",
    ": - x",
    "[a]: b",
    "{a: b}: c",
    "a: [a, [b, c], {d}]",
    "a: {x, y: }",
    "a: {? k : v}",
    "a: [? k : v]",
    "a: [k: v]",
    "a: [,]",
    "a: [1,]",
    "a: {,}",
    "a: [a b, c:d]",
    "a: {a:1}",
    "a: {\"a\":1}",
    "a: *none",
];

/// Lines of YAML, indented at random, or a line with letters put in and left out.
fn yaml(random: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(1..7) {
        text += &" ".repeat(*[0, 0, 0, 1, 2, 2, 4].choose(random).unwrap());
        text += LINES.choose(random).unwrap();
        text += if random.random_bool(0.97) {
            "\n"
        } else {
            "\r\n"
        };
    }
    if random.random_bool(0.4) {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..letters.len());
            match random.random_range(0..3) {
                0 if letters.len() > 1 => drop(letters.remove(at)),
                1 => letters.insert(
                    at,
                    *[
                        ' ', '\n', ':', '-', '"', '\'', '#', ',', '[', '&', '*', '!', '|', '?',
                        '\t',
                    ]
                    .choose(random)
                    .unwrap(),
                ),
                _ => letters.truncate(at + 1),
            }
        }
        text = letters.into_iter().collect();
    }
    text
}

#[test]
fn yaml_means_what_it_means_to_helm() {
    hunt_past(&YAML, 4000, 1, yaml);
}

fn kind_of(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or(("set", text))
}

const SETTING: Subject = Subject {
    request: |text| {
        let (kind, line) = kind_of(text);
        json!({"set": line, "kind": kind})
    },
    ours: |text| {
        let (name, line) = kind_of(text);
        let kind = match name {
            "set-string" => Kind::Text,
            "set-json" => Kind::Json,
            "set-literal" => Kind::Literal,
            _ => Kind::Typed,
        };
        let map = Map::new();
        match strvals::set(line, &map, &kind) {
            Ok(()) => json!({"out": values::to_json_map(&map)}),
            Err(error) => json!({"error": error}),
        }
    },
    same: |text, helm, ours| {
        let known = ["set", "set-string", "set-json", "set-literal"];
        if !known.contains(&kind_of(text).0) {
            return true;
        }
        match (helm["error"].as_str(), ours["error"].as_str()) {
            (Some(helm), Some(ours)) => helm.ends_with(ours),
            _ => numbers_as_floats(helm) == numbers_as_floats(ours),
        }
    },
};

const SETS: &[&str] = &[
    "a",
    "b",
    "c",
    ".",
    "=",
    ",",
    "[",
    "]",
    "{",
    "}",
    "[0]",
    "[1]",
    "[-1]",
    "[65537]",
    "[x]",
    "\\",
    "\\,",
    "\\.",
    "\\=",
    "\\[",
    "\"",
    "'",
    " ",
    "1",
    "0",
    "01",
    "1.5",
    "true",
    "null",
    "TRUE",
    "a=1",
    "a.b=x",
    "a[0]=1",
    "a[0].b=2",
    "a={1,x}",
    "={",
    "a=",
    "é",
    "\n",
    "{}",
    "{\"k\":1}",
    "[1,2]",
    "\"s\"",
    "a={\"k\":[1]}",
    "a=null",
    "{,}",
    "a.b.c=1,a.b.d=2",
    "a[0][1]=z",
    "9223372036854775808",
    "-5",
    "e3",
    "_",
];

#[test]
fn arguments_of_set_mean_what_they_mean_to_helm() {
    hunt(&SETTING, 4000, |random| {
        let kinds = ["set", "set", "set", "set-string", "set-json", "set-literal"];
        let mut text = (*kinds.choose(random).unwrap()).to_owned() + " ";
        for _ in 0..random.random_range(1..9) {
            text += SETS.choose(random).unwrap();
        }
        text
    });
}
