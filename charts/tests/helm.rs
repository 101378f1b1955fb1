//! Our own small charts render as real Helm rendered them: its answers are committed. With `UPDATE_EXPECT=1` and `WK_HELM`, Helm
//! answers anew.

#![expect(clippy::unwrap_used, reason = "a test: what is missing fails it")]

#[path = "differential/oracle.rs"]
mod oracle;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use charts::{
    Environment, Limits, Map,
    chart::Chart,
    render::{RenderOptions, render},
    values,
};
use jiff::Timestamp;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

fn environment() -> Environment {
    Environment {
        now: Timestamp::UNIX_EPOCH,
        random: RefCell::new(StdRng::seed_from_u64(0)),
        lookup: None,
        dns: false,
        limits: Limits::default(),
    }
}

/// What we answer, in Helm's form.
fn ours(path: &Path, given: &Map) -> Value {
    let chart = match Chart::load(path) {
        Ok(chart) => chart,
        Err(error) => return json!({"error": error.to_string()}),
    };
    let options = RenderOptions {
        name: "r".to_owned(),
        namespace: "ns".to_owned(),
        ..RenderOptions::default()
    };
    match render(&chart, given, &options, &environment()) {
        Ok(rendered) => json!({
            "files": rendered.files,
            "manifest": rendered.manifest,
            "notes": rendered.notes,
        }),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// The first difference of two answers; of an error only the first line counts.
fn difference(helm: &Value, ours: &Value) -> Option<String> {
    if let Some(error) = helm["error"].as_str() {
        let found = ours["error"].as_str().unwrap_or("no error");
        // Of YAML errors we know the line better, and name the parser's own reason.
        let first = error.lines().next().unwrap_or_default();
        let first = first.split_inclusive("yaml: ").next().unwrap_or(first);
        return (!found.contains(first))
            .then(|| format!("error\n  Helm: {error}\n  here: {found}"));
    }
    if let Some(error) = ours["error"].as_str() {
        return Some(format!("error here: {error}"));
    }
    let texts = |answer: &Value| -> BTreeMap<String, String> {
        let files = answer["files"].as_object().unwrap();
        files
            .iter()
            .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned()))
            .chain([
                ("manifest".to_owned(), answer["manifest"].to_string()),
                ("notes".to_owned(), answer["notes"].to_string()),
            ])
            .collect()
    };
    let (helm, ours) = (texts(helm), texts(ours));
    if helm.keys().ne(ours.keys()) {
        return Some(format!(
            "files\n  Helm: {:?}\n  here: {:?}",
            helm.keys(),
            ours.keys()
        ));
    }
    let (name, text) = helm.iter().find(|(name, text)| ours[*name] != **text)?;
    Some(format!("{name}\n{}", first_lines(text, &ours[name])))
}

fn first_lines(helm: &str, ours: &str) -> String {
    let (mut helm, mut ours) = (helm.split('\n'), ours.split('\n'));
    for number in 1.. {
        match (helm.next(), ours.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return format!("  line {number}\n  Helm: {a:?}\n  here: {b:?}"),
        }
    }
    String::new()
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Cases are `CHART.CASE.yaml`: values for a chart of `tests/charts` or of the library.
#[test]
fn our_own_charts_render_as_helm_renders_them() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut helm = if update { oracle::Helm::start() } else { None };
    let mut wrong = Vec::new();
    let mut seen = 0;
    for case in children(&tests.join("cases")) {
        let name = case.file_stem().unwrap().to_str().unwrap().to_owned();
        let chart = name.split('.').next().unwrap();
        let mut charts = ["charts", "../library"]
            .map(|kept| tests.join(kept).join(chart))
            .into_iter();
        let chart = charts.find(|path| path.is_dir()).unwrap();
        let given = values::load(&fs::read(&case).unwrap()).unwrap();
        let expected = tests.join(format!("expected/{name}.json"));
        if let Some(helm) = &mut helm {
            let json = Value::Object(values::to_json_map(&given));
            let answer = helm.ask(&json!({"chart": chart, "values": json}));
            let text = serde_json::to_string_pretty(&answer).unwrap();
            fs::write(&expected, text + "\n").unwrap();
        }
        let answer: Value = serde_json::from_slice(&fs::read(&expected).unwrap()).unwrap();
        seen += 1;
        if let Some(difference) = difference(&answer, &ours(&chart, &given)) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(seen > 0, "there are no cases");
    assert!(
        wrong.is_empty(),
        "{} of {seen} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
