//! What Helm itself gave for a template, we give: `probes/*.jsonl`, written by `probes/ask_templates.py`.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{cell::RefCell, fmt::Write, path::Path};

use charts::{
    Environment, Limits, Map, Value,
    template::{Rendering, TemplateError, Templates},
};
use rand::SeedableRng;
use serde_json::{Value as Json, json};

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => Value::Float(number.as_f64().unwrap()),
        Json::String(text) => Value::string(text.clone()),
        Json::Array(items) => Value::list(items.iter().map(value).collect()),
        Json::Object(entries) => {
            let map = Map::new();
            for (key, item) in entries {
                map.insert(key.clone(), value(item));
            }
            Value::Map(map)
        }
    }
}

fn environment() -> Environment {
    Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits::default(),
    }
}

/// What the chart's templates see: enough of it for the probes.
fn data(values: &Json) -> Map {
    let data = Map::of_type("common.Values");
    let of_type = |value: Value| {
        let map = Map::of_type("common.Values");
        if let Value::Map(entries) = value {
            entries
                .entries()
                .into_iter()
                .for_each(|(key, value)| map.insert(key, value));
        }
        Value::Map(map)
    };
    data.insert("Values", of_type(value(values)));
    for (key, entries) in [
        ("Release", json!({"Name": "rel", "Namespace": "ns"})),
        ("Chart", json!({"Name": "chart", "Version": "1.2.3"})),
        ("Capabilities", json!({"HelmVersion": "v4"})),
        (
            "Template",
            json!({"Name": "chart/templates/x.yaml", "BasePath": "chart/templates"}),
        ),
    ] {
        data.insert(key, value(&entries));
    }
    data
}

fn render(files: &[(String, String)], values: &Json) -> Result<String, TemplateError> {
    let mut templates = Templates::new();
    for (name, text) in files {
        templates.add(&format!("chart/templates/{name}"), text.clone())?;
    }
    let environment = environment();
    let rendering = Rendering::new(&templates, &environment);
    let text = rendering.execute("chart/templates/x.yaml", Value::Map(data(values)))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A probe's files, in the order in which Helm parses them: the deepest and last first.
fn files(probe: &Json) -> Vec<(String, String)> {
    let Some(files) = probe["files"].as_object() else {
        return vec![("x.yaml".to_owned(), probe["t"].as_str().unwrap().to_owned())];
    };
    let mut files: Vec<_> = files
        .iter()
        .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned()))
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    files
}

#[track_caller]
fn check(name: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let values: Json = serde_json::from_str(&read("values.json")).unwrap();
    let mut wrong = String::new();
    let mut count = 0;
    for line in read(name).lines() {
        let probe: Json = serde_json::from_str(line).unwrap();
        let (expected, got) = match render(&files(&probe), &values) {
            Ok(text) => (probe["out"].as_str(), text),
            Err(error) => (probe["err"].as_str(), error.helm()),
        };
        if expected == Some(got.trim_end()) || expected == Some(&got) {
            continue;
        }
        count += 1;
        let helm = probe["out"].as_str().or(probe["err"].as_str()).unwrap();
        writeln!(wrong, "{}\n  helm {helm:?}\n  ours {got:?}", probe["t"]).unwrap();
    }
    assert!(count == 0, "{count} differ:\n{wrong}");
}

#[test]
fn the_language_is_helms() {
    check("language.jsonl");
}

#[test]
fn values_print_as_helm_prints_them() {
    check("printing.jsonl");
}
