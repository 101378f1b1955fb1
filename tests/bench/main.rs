//! Benchmarks of a whole cluster, printed as one table: `cargo xtask bench`.
//!
//! Each runs the release build in a sandbox of its own. Numbers are of this machine and this run;
//! the fastest and the median of several rounds are shown where a round is short.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use e2e::{Cluster, Options, eventually, example};

const ROUNDS: usize = 7;
const SOON: Duration = Duration::from_secs(60);

fn main() {
    let wanted = std::env::args().nth(1);
    let benches: [(&str, fn()); 4] = [
        ("start", start),
        ("first-answer", first_answer),
        ("memory", memory),
        ("thousand-pods", thousand_pods),
    ];
    for (name, bench) in benches {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            bench();
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn row(what: &str, value: &str, goal: &str) {
    println!("{what:<58} {value:>28}   {goal}");
}

fn millis(durations: &mut [Duration]) -> String {
    durations.sort();
    let text = |d: Duration| format!("{:.0}", d.as_secs_f64() * 1000.0);
    format!(
        "{} ms (best {})",
        text(durations[durations.len() / 2]),
        text(durations[0])
    )
}

/// From the process' start to `/readyz` answering 200, on an empty and on a filled data directory.
fn start() {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut cluster = Cluster::prepare(Options::default());
        for times in [&mut first, &mut later] {
            let begin = Instant::now();
            cluster.up();
            times.push(begin.elapsed());
            cluster.stop();
        }
    }
    row(
        "wk up to /readyz, first start",
        &millis(&mut first),
        "goal < 1000 ms",
    );
    row(
        "wk up to /readyz, later start",
        &millis(&mut later),
        "goal < 300 ms",
    );
}

/// From `wkctl apply` of a Deployment and its Service to the first 200 through the Service; the
/// component has run before, so its code is cached.
fn first_answer() {
    let cluster = Cluster::start();
    let manifest = example("hello.yaml");
    let mut times = Vec::new();
    for round in 0..=ROUNDS {
        let begin = Instant::now();
        cluster.wkctl(&["apply", "-f", &manifest]).ok();
        let url = cluster.service_url_wkctl("hello");
        eventually(SOON, || {
            let answer = cluster.curl(&["--fail", &url]);
            if answer.code == 0 {
                Ok(())
            } else {
                Err(answer.stderr)
            }
        });
        if round > 0 {
            times.push(begin.elapsed());
        }
        cluster.wkctl(&["delete", "-f", &manifest]).ok();
        eventually(SOON, || {
            let left = cluster.wkctl(&["get", "pods", "-o", "name"]).stdout;
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
    row(
        "apply to first 200 through the Service, code cached",
        &millis(&mut times),
        "goal < 250 ms",
    );
}

/// Resident memory of the process with nothing applied.
fn memory() {
    let cluster = Cluster::start();
    cluster.wkctl(&["get", "nodes"]).ok();
    row(
        "memory of an empty cluster (RSS)",
        &format!("{:.1} MB", rss(&cluster)),
        "goal < 60 MB",
    );
}

/// One Deployment of 1,000 pods of one component, until all are Ready.
fn thousand_pods() {
    const PODS: usize = 1000;
    let cluster = Cluster::start();
    cluster.wkctl(&["apply", "-f", &example("hello.yaml")]).ok();
    cluster
        .wkctl(&["rollout", "status", "deployment/hello"])
        .ok();
    let before = rss(&cluster);
    let cpu = cpu_seconds(&cluster);
    let begin = Instant::now();
    cluster
        .wkctl(&["scale", "deployment/hello", &format!("--replicas={PODS}")])
        .ok();
    eventually(Duration::from_secs(300), || {
        let output = cluster
            .wkctl(&["get", "deployment", "hello", "-o", "json"])
            .ok();
        let deployment: serde_json::Value =
            serde_json::from_str(&output).map_err(|error| error.to_string())?;
        let ready = deployment["status"]["readyReplicas"]
            .as_u64()
            .unwrap_or_default();
        if usize::try_from(ready) == Ok(PODS) {
            Ok(())
        } else {
            Err(format!("{ready} ready"))
        }
    });
    let took = begin.elapsed();
    row(
        "1,000 pods of one component, all Ready",
        &format!("{:.1} s", took.as_secs_f64()),
        "reported",
    );
    let each = (rss(&cluster) - before) * 1024.0 / (PODS as f64);
    row(
        "memory a pod, whole process (RSS growth / 1,000)",
        &format!("{each:.0} KiB"),
        "reported",
    );
    let cpu = (cpu_seconds(&cluster) - cpu) * 1000.0 / (PODS as f64);
    row(
        "CPU a pod, from the scale to Ready",
        &format!("{cpu:.1} ms"),
        "reported",
    );
}

/// Resident memory in MiB.
fn rss(cluster: &Cluster) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid()))
        .expect("the process runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("the kernel reports VmRSS");
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("VmRSS is a number");
    kib / 1024.0
}

/// CPU seconds that the process has used.
fn cpu_seconds(cluster: &Cluster) -> f64 {
    let output = Command::new("ps")
        .args(["-o", "cputimes=", "-p", &cluster.pid().to_string()])
        .output();
    String::from_utf8_lossy(&output.expect("ps runs").stdout)
        .trim()
        .parse()
        .expect("ps prints seconds")
}
