//! Benchmarks of a whole cluster, printed as one table: `cargo xtask bench`.
//!
//! Each runs the release build in a sandbox of its own. Numbers are of this machine and this run;
//! the fastest and the median of several rounds are shown where a round is short.

mod charts;
mod hollow;
mod latency;
mod oci;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use e2e::{Cluster, Options, eventually, example};

const ROUNDS: usize = 7;
const SOON: Duration = Duration::from_secs(60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["latency-within", kubeconfig] = words.as_slice() {
        return latency::within(kubeconfig.as_ref());
    }
    if let ["oci-within", arguments @ ..] = words.as_slice() {
        return oci::within(arguments);
    }
    if let ["hollow-within", arguments @ ..] = words.as_slice() {
        return hollow::within(arguments);
    }
    if let ["hollow", arguments @ ..] = words.as_slice() {
        return hollow::bench(arguments);
    }
    let benches: [(&str, fn()); 9] = [
        ("start", start),
        ("first-answer", first_answer),
        ("memory", memory),
        ("pod-latency", pod_latency),
        ("thousand-pods", || many_pods(1_000, "reported")),
        ("ten-thousand-pods", || many_pods(10_000, "goal < 120 s")),
        ("oci", oci::bench),
        ("charts", charts::bench),
        ("hollow", || hollow::bench(&[])),
    ];
    for (name, bench) in benches {
        if words.is_empty() || words.contains(&name) {
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

/// From the creation of a pod of a cached component to the watch event that says Ready, one after another.
fn pod_latency() {
    let cluster = Cluster::start();
    let own = std::env::current_exe().expect("this program is a file");
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let told = cluster.sandbox.run(own, &["latency-within", &kubeconfig]);
    let told = told.ok();
    let (p50, p99) = told.trim().split_once(' ').expect("it prints p50 and p99");
    row(
        "a pod of a cached component, created to Ready, p50",
        &format!("{p50} ms"),
        "goal <= 25 ms",
    );
    row("the same, p99", &format!("{p99} ms"), "goal <= 100 ms");
}

/// One Deployment of many pods of one component, until all are Ready and answer at their own IPs; what they
/// take, and what they take at rest.
fn many_pods(pods: usize, goal: &str) {
    const REST: Duration = Duration::from_secs(30);
    let cluster = Cluster::start();
    cluster.wkctl(&["apply", "-f", &example("hello.yaml")]).ok();
    cluster
        .wkctl(&["rollout", "status", "deployment/hello"])
        .ok();
    let before = rss(&cluster);
    let cpu = cpu_seconds(&cluster);
    let begin = Instant::now();
    cluster
        .wkctl(&["scale", "deployment/hello", &format!("--replicas={pods}")])
        .ok();
    eventually(Duration::from_secs(600), || {
        let output = cluster
            .wkctl(&["get", "deployment", "hello", "-o", "json"])
            .ok();
        let deployment: serde_json::Value =
            serde_json::from_str(&output).map_err(|error| error.to_string())?;
        let ready = deployment["status"]["readyReplicas"]
            .as_u64()
            .unwrap_or_default();
        if usize::try_from(ready) == Ok(pods) {
            Ok(())
        } else {
            Err(format!("{ready} ready"))
        }
    });
    let took = begin.elapsed();
    let count = pods as f64;
    row(
        &format!("{pods} pods of one component, all Ready"),
        &format!(
            "{:.1} s ({:.0}/s)",
            took.as_secs_f64(),
            count / took.as_secs_f64()
        ),
        goal,
    );
    let cpu = (cpu_seconds(&cluster) - cpu) * 1000.0 / count;
    row(
        "CPU a pod, from the scale to Ready",
        &format!("{cpu:.1} ms"),
        "reported",
    );
    let each = (rss(&cluster) - before) * 1024.0 / count;
    row(
        &format!("memory a pod, whole process (RSS growth / {pods})"),
        &format!("{each:.0} KiB"),
        "goal <= 64 KiB",
    );
    let answered = answering(&cluster);
    row(
        "of them answer HTTP at their own IP",
        &answered.to_string(),
        &format!("goal {pods}"),
    );
    let cpu = cpu_seconds(&cluster);
    std::thread::sleep(REST);
    let idle = (cpu_seconds(&cluster) - cpu) / REST.as_secs_f64() * 100.0;
    row(
        &format!("CPU at rest, of one core, {pods} pods"),
        &format!("{idle:.1} %"),
        "goal <= 5 %",
    );
}

/// How many pods answer 200 at their IP.
fn answering(cluster: &Cluster) -> usize {
    let pods = cluster.wkctl(&["get", "pods", "-o", "json"]).ok();
    let pods: serde_json::Value = serde_json::from_str(&pods).expect("it is JSON");
    let pods = pods["items"].as_array().expect("a list of pods");
    let mut config = String::new();
    for pod in pods {
        let ip = pod["status"]["podIP"]
            .as_str()
            .expect("a Ready pod has an IP");
        write!(config, "url = \"http://{ip}:8080/\"\noutput = /dev/null\n").expect("memory");
    }
    let path = cluster.manifest("urls", &config);
    let told = cluster.curl(&["--silent", "-K", &path, "-w", "%{http_code}\n"]);
    told.stdout.lines().filter(|line| *line == "200").count()
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
    /// Clock ticks a second in `/proc`.
    const TICKS: f64 = 100.0;
    let path = format!("/proc/{}/stat", cluster.pid());
    let line = std::fs::read_to_string(path).expect("the process runs");
    let (_, rest) = line.rsplit_once(") ").expect("the name is in parentheses");
    let fields = rest.split_whitespace().skip(11).take(2);
    let ticks = fields.map(|field| field.parse::<f64>().expect("user and system time"));
    ticks.sum::<f64>() / TICKS
}
