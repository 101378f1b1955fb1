//! Values are written as Helm writes them, whatever they hold, and read again as Helm reads them.

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::{
    hunt::{Subject, hunt},
    readers::only_the_line_differs,
    templates::ours,
};

/// The value in each form, and once more through each reader.
const FORMS: &str = r#"{{ $v := (fromJson .Values.json).v -}}
toYaml
{{ toYaml $v }}
toYamlPretty
{{ toYamlPretty $v }}
toJson {{ toJson $v }}
toRawJson {{ toRawJson $v }}
toPrettyJson {{ toPrettyJson $v }}
toToml {{ dict "v" $v | toToml }}
fromYaml {{ dict "v" $v | toYaml | fromYaml | toJson }}
fromYaml {{ dict "v" $v | toYamlPretty | fromYaml | toJson }}
print {{ $v }} {{ $v | quote }}
"#;

const VALUE: Subject = Subject {
    request: |json| json!({"template": FORMS, "values": {"json": json}}),
    ours: |json| ours(FORMS, &json!({"json": json})),
    same,
};

/// Line by line: what was written must be the same, what was read again too, but where both readers have opinions of their own.
fn same(json: &str, helm: &Value, ours: &Value) -> bool {
    let (Some(helm), Some(ours)) = (helm["out"].as_str(), ours["out"].as_str()) else {
        return helm == ours;
    };
    let odd = json.contains(['\u{2028}', '\u{2029}']);
    // Beyond 64 bits, Go's order of keys depends on the order it meets them in.
    let digits = |text: &str| text.len() >= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    if json.split('"').any(digits) {
        return true;
    }
    let equal = |(helm, ours): (&str, &str)| {
        let read = helm.starts_with("fromYaml ") && ours.starts_with("fromYaml ");
        let excused =
            odd || helm.contains("found a tab character") || only_the_line_differs(helm, ours);
        helm == ours || (read && excused)
    };
    helm.split('\n').count() == ours.split('\n').count()
        && helm.split('\n').zip(ours.split('\n')).all(equal)
}

/// Strings that YAML, JSON or TOML have other plans for.
const NASTY: &[&str] = &[
    "",
    " ",
    "~",
    "null",
    "Null",
    "NULL",
    "true",
    "True",
    "yes",
    "Yes",
    "no",
    "NO",
    "on",
    "off",
    "y",
    "N",
    "nan",
    ".nan",
    ".NaN",
    ".inf",
    "-.Inf",
    "+.inf",
    "inf",
    "=",
    "<<",
    "!",
    "!!str",
    "&a",
    "*a",
    "|",
    ">",
    "|-",
    "%",
    "@",
    "`",
    "-",
    "- a",
    "--",
    "---",
    "--- a",
    "...",
    ":",
    "a:",
    ": a",
    "a: b",
    "a:b",
    "#",
    "a #b",
    "a#b",
    " #",
    "?",
    "? a",
    "?a",
    ",",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    "[a",
    "a]",
    "\"",
    "'",
    "''",
    "\"a\"",
    "'a'",
    "a'b",
    "a\"b",
    "\\",
    "\\n",
    "012",
    "0o14",
    "0o9",
    "0x1F",
    "0b11",
    "-0x1",
    "1_000",
    "_1",
    "1_",
    "12:30",
    "12:30:45",
    "1:60",
    "-1:30",
    "190:20:30",
    "2020-01-01",
    "2020-1-1",
    "2001-12-14t21:59:43.10-05:00",
    "2001-12-14 21:59:43.10 -5",
    ".5",
    "5.",
    "+1",
    "-1",
    "+",
    "1e3",
    "1E+3",
    "1e",
    "1.e3",
    ".e3",
    "-.5",
    "+.5",
    "0",
    "00",
    "08",
    "0.0",
    "-0",
    "1e400",
    "123456789012345678901234567890",
    "0x",
    "0b",
    "0o",
    "\n",
    "\n\n",
    "a\n",
    "a\nb",
    "a\n\n",
    " a",
    "a ",
    "\na",
    "a\n b",
    " a\nb",
    "a \nb",
    "\ta",
    "a\t",
    "a\tb",
    "\t",
    "a\n\tb",
    "a\r\nb",
    "\r",
    "a\rb",
    "\u{85}",
    "a\u{85}b",
    "\u{2028}",
    "\u{2029}x",
    "\u{feff}",
    "\u{feff}a",
    "\u{a0}",
    "é",
    "世界",
    "🎉",
    "\u{7f}",
    "\u{1}",
    "\u{1b}[0m",
    "\u{fffd}",
    "\u{ffff}",
    "<no value>",
    "<a&b>",
    "{{ .x }}",
    "a, b",
    "a,b",
    "key: [1, 2]",
    "# c",
    "x\n# c\n",
    "x\n---\ny",
    "\u{200b}",
    "e\u{301}",
];

/// What random strings are made of.
const LETTERS: &str = "[a-cA-Z0-9 :#\\-,\\[\\]{}&*!|>'\"%@`~?<=.+_\\\\/\\n\\t\\re\u{85}\u{a0}\u{2028}\u{feff}é世🎉\u{7f}\u{0}\u{1b}]{0,24}";

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        3 => prop::sample::select(NASTY).prop_map(str::to_owned),
        3 => LETTERS,
        1 => ("[ -~]{0,10}", prop::sample::select(NASTY)).prop_map(|(a, b)| a + b),
        1 => (prop::sample::select(NASTY), prop::sample::select(NASTY)).prop_map(|(a, b)| a.to_owned() + b),
        // Long enough to be folded.
        1 => "([a-z:#'\"\\-é]{0,9} {1,2}){5,25}[a-z\\n]{0,3}",
        1 => "([a-z]{1,30} ?\\n{0,2}){2,12}",
        1 => "[0-9_.:+\\-eExXoObB]{1,8}",
        1 => "[a-z]{120,140}",
    ]
    .boxed()
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i16>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        (any::<i32>(), -12..25)
            .prop_map(|(digits, exponent)| { json!(f64::from(digits) * 10_f64.powi(exponent)) }),
        prop::num::f64::NORMAL.prop_map(|number| json!(number)),
        prop::num::f64::SUBNORMAL.prop_map(|number| json!(number)),
        prop::sample::select(vec![
            0.0,
            -0.0,
            0.1,
            0.30000000000000004,
            1e6,
            999999.0,
            999999.5,
            1e-4,
            1e-5,
            1e-6,
            1e-7,
            1e20,
            1e21,
            1e22,
            123456789.5,
            9007199254740993.0,
            9.223372036854775e18,
            9.223372036854776e18,
            1.8446744073709552e19,
            1e308,
            5e-324,
            2.5,
            -1.5,
            1e15,
            1e16,
            1e17,
            4503599627370496.5,
        ])
        .prop_map(|number| json!(number)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => text().prop_map(Value::String),
        3 => number(),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
    ];
    let key = prop_oneof![3 => text(), 1 => "[a-c]?[0-9]{0,3}[a-c]?", 1 => "[aAbB_.\\-/0-9é]{0,6}"];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

#[test]
fn values_are_written_and_read_as_helm_does() {
    let mut runner = None;
    hunt(&VALUE, 3000, |random| {
        let runner = runner.get_or_insert_with(|| {
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &random.random::<[u8; 32]>());
            TestRunner::new_with_rng(ProptestConfig::default(), rng)
        });
        let value = value().new_tree(runner).unwrap().current();
        json!({"v": value}).to_string()
    });
}
