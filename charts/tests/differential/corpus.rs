//! Public charts render as Helm renders them, file for file.
//!
//! `WK_CHARTS` names a directory of unpacked charts: each is rendered with its defaults and with each of its `ci/*values.yaml`.
//! Prints how much is equal, and the first difference of each case that is not: what is random or of the moment differs, as any
//! difference does. Fails only where Helm renders a chart and we refuse it.

use std::path::{Path, PathBuf};

use charts::{
    Map,
    chart::Chart,
    render::{RenderOptions, render},
    values,
};
use serde_json::{Value, json};

use crate::{environment, oracle::Helm};

/// The charts beneath a directory, subcharts left out.
fn find(directory: &Path, found: &mut Vec<PathBuf>) {
    if directory.join("Chart.yaml").is_file() {
        return found.push(directory.to_owned());
    }
    let children = children(directory).into_iter();
    for path in children.filter(|path| path.is_dir() && !path.is_symlink()) {
        find(&path, found);
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A chart's cases: what each is called, and its values.
fn cases(chart: &Path) -> Vec<(String, Map)> {
    let mut cases = vec![("defaults".to_owned(), Map::new())];
    for file in children(&chart.join("ci")) {
        let name = file.display().to_string();
        if name.ends_with("values.yaml")
            && let Ok(given) = values::load(&std::fs::read(&file).unwrap())
        {
            cases.push((name, given));
        }
    }
    cases
}

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
        Ok(rendered) => {
            json!({"files": rendered.files, "manifest": rendered.manifest, "notes": rendered.notes})
        }
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// The first line in which two texts differ.
fn first_difference(helm: &str, ours: &str) -> String {
    let mut lines = helm.split('\n').zip(ours.split('\n')).enumerate();
    match lines.find(|(_, (helm, ours))| helm != ours) {
        Some((at, (helm, ours))) => {
            format!("line {}\n    Helm {helm:?}\n    here {ours:?}", at + 1)
        }
        None => format!("{} bytes of Helm, {} here", helm.len(), ours.len()),
    }
}

#[test]
fn public_charts_render_as_helm_renders_them() {
    let Some(directory) = std::env::var_os("WK_CHARTS") else {
        println!("skipped: WK_CHARTS names no charts");
        return;
    };
    let Some(mut helm) = Helm::start() else {
        return;
    };
    let mut charts = Vec::new();
    find(Path::new(&directory), &mut charts);
    let (mut total, mut equal, mut files, mut equal_files, mut both_refuse) = (0, 0, 0, 0, 0);
    let mut refused = Vec::new();
    for chart in &charts {
        for (case, given) in cases(chart) {
            let name = format!("{} ({case})", chart.display());
            let values = Value::Object(values::to_json_map(&given));
            let theirs = helm.ask(&json!({"chart": chart, "values": values}));
            let found = ours(chart, &given);
            total += 1;
            if theirs["error"].is_string() {
                match found["error"].as_str() {
                    Some(_) => both_refuse += 1,
                    None => println!("{name}: Helm refuses it: {}", theirs["error"]),
                }
                continue;
            }
            if let Some(error) = found["error"].as_str() {
                refused.push(format!("{name}: {error}"));
                continue;
            }
            let mut wrong = None;
            let mut compare = |what: &str, helm: &Value, ours: &Value| {
                if helm != ours {
                    let texts = (
                        helm.as_str().unwrap_or_default(),
                        ours.as_str().unwrap_or_default(),
                    );
                    wrong.get_or_insert_with(|| {
                        format!("{what}: {}", first_difference(texts.0, texts.1))
                    });
                }
                helm == ours
            };
            for (path, text) in theirs["files"].as_object().into_iter().flatten() {
                files += 1;
                equal_files += usize::from(compare(path, text, &found["files"][path]));
            }
            for part in ["manifest", "notes"] {
                compare(part, &theirs[part], &found[part]);
            }
            match wrong {
                None => equal += 1,
                Some(wrong) => println!("{name}: {wrong}"),
            }
        }
    }
    println!(
        "{} charts, {total} cases: {equal} equal, {both_refuse} refused by both; {equal_files} of {files} files equal",
        charts.len()
    );
    assert!(
        refused.is_empty(),
        "refused here only:\n{}",
        refused.join("\n")
    );
}
