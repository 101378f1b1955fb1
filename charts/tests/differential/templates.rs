//! Templates render to what Helm renders them to, or are refused in Helm's words.

use std::{path::Path, sync::LazyLock};

use charts::{
    chart::{Chart, File},
    render::{RenderError, RenderOptions, render},
    values,
};
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use crate::{
    environment,
    grammar::Grammar,
    hunt::{Subject, hunt, hunt_past},
    readers::only_the_line_differs,
};

const TEMPLATE: Subject = Subject {
    request: |text| json!({"template": text, "values": *VALUES}),
    ours: |text| ours(text, &VALUES),
    same,
};

fn probes() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probes"))
}

static VALUES: LazyLock<Value> = LazyLock::new(|| {
    let text = std::fs::read(probes().join("values.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
});

/// Renders a chart of one template.
pub(crate) fn ours(text: &str, given: &Value) -> Value {
    let file = |name: &str, text: &str| File {
        name: name.to_owned(),
        data: text.to_owned().into(),
    };
    let chart = Chart::from_files(vec![
        file("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.2.3\n"),
        file("templates/x.yaml", text),
    ])
    .unwrap();
    let options = RenderOptions {
        name: "r".to_owned(),
        namespace: "ns".to_owned(),
        ..RenderOptions::default()
    };
    let given = values::from_json_map(given.as_object().unwrap());
    let files = match render(&chart, &given, &options, &environment()) {
        Ok(rendered) => rendered.files,
        // What is rendered is not asked to be YAML here.
        Err(RenderError::Manifest { files, .. }) => files,
        Err(RenderError::Template(error)) => return json!({"error": error.helm()}),
        Err(error) => return json!({"error": error.to_string()}),
    };
    json!({"out": files["c/templates/x.yaml"]})
}

fn same(_: &str, helm: &Value, ours: &Value) -> bool {
    // Go prints some values as their address.
    let address = |text: &str| {
        let digits = text.bytes().take_while(u8::is_ascii_hexdigit).count();
        digits >= 8
    };
    if helm.to_string().split("0x").skip(1).any(address) {
        return true;
    }
    match (helm["error"].as_str(), ours["error"].as_str()) {
        // Go has complex numbers.
        (_, Some(ours)) if ours.contains("complex number") => true,
        // A slice of Go's may reach into what its list has room for.
        (None, Some(ours)) if ours.contains("slice index out of bounds") => true,
        (Some(helm), Some(ours)) => helm.trim_end() == ours.trim_end(),
        _ => {
            let (helm, ours) = (helm.to_string(), ours.to_string());
            let tab = helm.contains("found character that cannot start any token");
            // All that a template sees: Go's structs print in ways that no chart asks for.
            let all = helm.contains("admissionregistration.k8s.io/v1alpha1");
            helm == ours || tab || all || only_the_line_differs(&helm, &ours)
        }
    }
}

#[test]
fn templates_of_every_kind_render_as_helm_renders_them() {
    hunt_past(&TEMPLATE, 3000, 4, |random| Grammar::new(random).template());
}

/// The templates of all probes.
fn known() -> Vec<String> {
    let mut known = Vec::new();
    for name in ["language.jsonl", "printing.jsonl"] {
        let text = std::fs::read_to_string(probes().join(name)).unwrap();
        for line in text.lines() {
            let probe: Value = serde_json::from_str(line).unwrap();
            known.extend(probe["t"].as_str().map(str::to_owned));
        }
    }
    for file in std::fs::read_dir(probes().join("functions")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("? "));
        known.extend(lines.map(str::to_owned));
    }
    known.retain(|text| !DIFFERENT_EACH_TIME.iter().any(|word| text.contains(word)));
    known.sort();
    known
}

/// Not to be asked: random, of the moment, or too large for Helm.
const DIFFERENT_EACH_TIME: &[&str] = &[
    "rand", "uuid", "shuffle", "now", "ago", "gen", "bcrypt", "htpasswd", "encrypt", "keys",
    "values", "repeat", "indent", "until", "seq", "Cert", "fromToml", "derive", "date", "Date",
    "9999", "00000", "wrap", "%p",
];

const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    " ",
    "(",
    ")",
    "|",
    ".",
    "$",
    "$x",
    ":=",
    "=",
    ",",
    "\"",
    "`",
    "'",
    "\\",
    "/*",
    "*/",
    "nil",
    "true",
    "1",
    "-1",
    "0x1p4",
    "'a'",
    "\"s\"",
    ".Values",
    ".Values.a.b",
    "if",
    "else",
    "else if",
    "with",
    "else with",
    "range",
    "end",
    "break",
    "continue",
    "define",
    "template",
    "block",
    "\"t\"",
    "printf",
    "\"%v\"",
    "index",
    "len",
    "not",
    "and",
    "or",
    "eq",
    "print",
    "list",
    "dict",
    "include",
    "tpl",
    "\n",
    "é",
    "\t",
    "{{ end }}",
    "{{ else }}",
    "{{ if .Values.t }}",
    "{{ range .Values.l }}",
    "{{ with .Values.a }}",
    "{{ $x := 1 }}",
    "{{/* c */}}",
    "_",
    "+",
    "1_0",
    "0b1",
    "1e3",
    "!",
];

/// A probe, or two that are cut and joined, with a few pieces put in, left out or doubled.
fn mutated(known: &[String], random: &mut StdRng) -> String {
    let letters = |text: &String| text.chars().collect::<Vec<char>>();
    let mut text = letters(known.choose(random).unwrap());
    if random.random_bool(0.3) {
        let other = letters(known.choose(random).unwrap());
        text.truncate(random.random_range(0..=text.len()));
        text.extend(&other[random.random_range(0..=other.len())..]);
    }
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=text.len());
        let end = (at + random.random_range(0..6)).min(text.len());
        match random.random_range(0..4) {
            0 => drop(text.drain(at..end)),
            1 => {
                let doubled = text[at..end].to_vec();
                drop(text.splice(at..at, doubled));
            }
            2 => {
                let piece = PIECES.choose(random).unwrap();
                drop(text.splice(at..at, piece.chars()));
            }
            _ => {
                let piece = PIECES.choose(random).unwrap();
                drop(text.splice(at..end, piece.chars()));
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn what_is_almost_a_template_is_refused_as_helm_refuses_it() {
    let known = known();
    hunt(&TEMPLATE, 3000, |random| mutated(&known, random));
}
