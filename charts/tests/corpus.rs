//! Public charts render as Helm renders them, file for file.
//!
//! `WK_CHARTS` names a directory of unpacked charts, `WK_HELM` a Python with `helm-python-sdk`; without them there is nothing to
//! compare, and the test says so. What is random or of the moment differs and is shown as any difference is; the test fails
//! only where Helm renders a chart and we refuse it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that reports"
)]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use charts::{
    Environment, Limits, Map,
    chart::Chart,
    render::{RenderOptions, render},
};
use rand::SeedableRng;

/// Prints a chart's rendered files as JSON, or why there are none.
const HELM: &str = r#"
import json, sys
from helm_python import Chart
try:
    files = Chart.load(sys.argv[1]).render({}, name="release-name", namespace="default")
    print(json.dumps({"files": files}))
except Exception as error:
    print(json.dumps({"error": str(error)}))
"#;

/// The charts beneath a directory, subcharts left out.
fn find(directory: &Path, found: &mut Vec<PathBuf>) {
    if directory.join("Chart.yaml").is_file() {
        return found.push(directory.to_owned());
    }
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.is_dir() && !path.is_symlink())
    {
        find(path, found);
    }
}

fn ask_helm(python: &str, chart: &Path) -> Result<BTreeMap<String, String>, String> {
    let output = Command::new(python)
        .args(["-c", HELM])
        .arg(chart)
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(serde_json::from_value(answer["files"].clone()).unwrap()),
    }
}

fn ours(chart: &Path) -> Result<BTreeMap<String, String>, String> {
    let chart = Chart::load(chart).map_err(|error| error.to_string())?;
    let environment = Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits::default(),
    };
    let options = RenderOptions::default();
    let rendered = render(&chart, &Map::new(), &options, &environment);
    rendered
        .map(|rendered| rendered.files)
        .map_err(|error| error.to_string())
}

/// The first line in which two texts differ.
fn difference(helm: &str, ours: &str) -> String {
    let mut lines = helm.lines().zip(ours.lines()).enumerate();
    match lines.find(|(_, (helm, ours))| helm != ours) {
        Some((i, (helm, ours))) => format!("line {}\n    helm {helm:?}\n    ours {ours:?}", i + 1),
        None => format!("{} bytes of Helm, {} of ours", helm.len(), ours.len()),
    }
}

#[test]
fn public_charts_render_as_helm_renders_them() {
    let (Ok(directory), Ok(python)) = (std::env::var("WK_CHARTS"), std::env::var("WK_HELM")) else {
        println!("skipped: WK_CHARTS and WK_HELM name no charts and no Helm");
        return;
    };
    let mut charts = Vec::new();
    find(Path::new(&directory), &mut charts);
    let (mut compared, mut equal, mut refused, mut both_refuse) = (0, 0, Vec::new(), 0);
    for chart in &charts {
        let name = chart.display();
        match (ask_helm(&python, chart), ours(chart)) {
            (Ok(helm), Ok(ours)) => {
                for (path, helm) in &helm {
                    compared += 1;
                    match ours.get(path) {
                        Some(ours) if ours == helm => equal += 1,
                        Some(ours) => println!("{path} differs: {}", difference(helm, ours)),
                        None => println!("{path} is missing"),
                    }
                }
            }
            (Err(_), Err(_)) => both_refuse += 1,
            (Err(helm), Ok(_)) => println!("{name}: Helm alone refuses it: {helm}"),
            (Ok(_), Err(ours)) => refused.push(format!("{name}: {ours}")),
        }
    }
    println!(
        "{} charts, {both_refuse} refused by both; {compared} files compared, {equal} equal",
        charts.len()
    );
    assert!(
        refused.is_empty(),
        "refused by us alone:\n{}",
        refused.join("\n")
    );
}
