//! Whole charts, read from their directories and rendered: here, and by Helm 4 in a Python process that has it loaded.
//!
//! `WK_HELM` is that Python, with `helm-python-sdk`; `WK_CHART_CORPUS` a directory of unpacked charts, of which the ten largest
//! are taken. Without one it is the charts of the library, and larger ones made of them ([`generated`]). Times are of the wall, the
//! best of several rounds that take turns; memory is the process' peak beyond what it had before the first chart. Helm's
//! answers pass as JSON from Go to Python: what reading that costs Python is measured apart, and is not Helm's.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, reason = "a bench")]

mod generated;
mod helm;

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use charts::{
    Environment, Limits, Map,
    chart::Chart,
    render::{RenderOptions, render},
};
use rand::SeedableRng as _;

use helm::Helm;

const CHARTS: usize = 10;
const ROUNDS: usize = 5;

/// What one rendering took.
struct Took {
    milliseconds: f64,
    files: usize,
    bytes: usize,
}

fn ours(chart: &Path) -> Took {
    let environment = Environment {
        now: jiff::Timestamp::UNIX_EPOCH,
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(1)),
        lookup: None,
        dns: false,
        limits: Limits::default(),
    };
    let options = RenderOptions::default();
    let begun = Instant::now();
    let chart = Chart::load(chart).unwrap();
    let rendered = render(&chart, &Map::new(), &options, &environment).unwrap();
    Took {
        milliseconds: begun.elapsed().as_secs_f64() * 1e3,
        files: rendered.files.len(),
        bytes: rendered.files.values().map(String::len).sum(),
    }
}

/// The most that this process ever had in memory, in MB.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<f64>().unwrap() * 1024.0 / 1e6
}

/// The bytes of a directory's files.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// The charts of a directory, the largest first.
fn largest(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut charts: Vec<PathBuf> = paths
        .filter(|path| path.join("Chart.yaml").is_file())
        .collect();
    charts.sort_by_cached_key(|chart| std::cmp::Reverse(size(&chart.join("templates"))));
    charts
}

fn main() {
    let Ok(python) = std::env::var("WK_HELM") else {
        println!("skipped: WK_HELM names no Python with helm-python-sdk");
        return;
    };
    let made = tempfile::tempdir().unwrap();
    let (kind, mut charts) = match std::env::var("WK_CHART_CORPUS") {
        Ok(corpus) => ("public", largest(corpus.as_ref())),
        Err(_) => ("own", generated::charts(made.path())),
    };
    let mut helm = Helm::start(&python);
    charts.retain(|chart| helm.render(chart).is_ok());
    charts.truncate(CHARTS);
    drop(helm);
    println!("{} {kind} charts, read and rendered", charts.len());
    println!(
        "{:<28} {:>6} {:>9} {:>10} {:>10} {:>7}",
        "chart", "files", "bytes", "Helm ms", "here ms", "ratio"
    );

    let mut helm = Helm::start(&python);
    let before = peak();
    let mut ratios = Vec::new();
    for chart in &charts {
        let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        let (mut theirs, mut here) = (Vec::new(), Vec::new());
        let mut last = ours(chart);
        for _ in 0..ROUNDS {
            theirs.push(helm.render(chart).unwrap());
            last = ours(chart);
            here.push(last.milliseconds);
        }
        let (theirs, here) = (best(&theirs), best(&here));
        ratios.push(theirs / here);
        println!(
            "{:<28} {:>6} {:>9} {theirs:>10.2} {here:>10.2} {:>7.1}",
            chart.file_name().unwrap_or_default().display(),
            last.files,
            last.bytes,
            theirs / here,
        );
    }
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    let mean = (logarithms / ratios.len() as f64).exp();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    println!("ratio, geometric mean {mean:.1}, least {least:.1}   goal >= 5");
    let (theirs, here) = (helm.memory(), peak() - before);
    println!("memory beyond what it had: Helm {theirs:.1} MB, here {here:.1} MB");
}
