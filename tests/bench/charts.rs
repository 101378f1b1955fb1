//! Installing a chart of fifty objects until all are there: `wkctl chart install`, and Helm 4 in a Python process that has it
//! loaded, on the same server and taking turns.
//!
//! `wkctl` is a new process each time, and its start counts. `WK_HELM` is that Python, with `helm-python-sdk`.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use e2e::Cluster;
use serde_json::{Value, json};

use crate::{ROUNDS, millis, row};

const OBJECTS: usize = 50;
const HELM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/charts/helm.py");

pub(crate) fn bench() {
    let Ok(python) = std::env::var("WK_HELM") else {
        let why = "WK_HELM names no Python with helm-python-sdk";
        return row("chart install", why, "");
    };
    let cluster = Cluster::start();
    let chart = tempfile::tempdir().expect("a temporary directory");
    write_chart(chart.path());
    let chart = chart.path().display().to_string();
    let mut helm = Helm::start(&cluster, &python);
    let (mut here, mut atomic, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let plain = install(&cluster, &chart, &[]);
        let at_once = install(&cluster, &chart, &["--atomic-apply"]);
        let helms = helm.ask(&json!(["install", chart, "theirs", {}]));
        created(&cluster, "theirs");
        helm.ask(&json!(["uninstall", "theirs", {}]));
        // The first of each finds nothing in caches.
        if round > 0 {
            here.push(plain);
            atomic.push(at_once);
            theirs.push(helms);
        }
    }
    let what = format!("chart install, {OBJECTS} objects");
    row(&format!("{what}, Helm 4 loaded"), &millis(&mut theirs), "");
    let median = |times: &[Duration]| times[times.len() / 2].as_secs_f64();
    for (who, mut times) in [("wkctl", here), ("wkctl --atomic-apply", atomic)] {
        row(&format!("{what}, {who}"), &millis(&mut times), "");
        let ratio = median(&theirs) / median(&times);
        row("  ratio", &format!("{ratio:.1}"), "goal >= 3");
    }
}

/// How long a `wkctl` that is started for it takes to install the chart, which is gone again after.
fn install(cluster: &Cluster, chart: &str, flags: &[&str]) -> Duration {
    let words = ["chart", "install", "here", chart];
    let begun = Instant::now();
    cluster.wkctl(&[&words[..], flags].concat()).ok();
    let took = begun.elapsed();
    created(cluster, "here");
    cluster.wkctl(&["chart", "uninstall", "here"]).ok();
    took
}

/// Fails unless all that the chart has is there.
fn created(cluster: &Cluster, release: &str) {
    let kinds = "configmaps,secrets,services,serviceaccounts,deployments";
    let labelled = format!("release={release}");
    let found = cluster.wkctl(&["get", kinds, "-l", &labelled, "-o", "name"]);
    assert_eq!(found.ok().lines().count(), OBJECTS);
}

/// Writes a chart of what charts are made of; nothing that it makes has work to do.
fn write_chart(directory: &Path) {
    let metadata = |name: &str| {
        format!(
            "metadata:\n  name: {{{{ .Release.Name }}}}-{name}\n  labels:\n    release: {{{{ .Release.Name }}}}\n"
        )
    };
    let mut objects = String::new();
    for number in 0..OBJECTS / 5 {
        let name = number.to_string();
        let metadata = metadata(&name);
        write!(
            objects,
            "apiVersion: v1\nkind: ConfigMap\n{metadata}data:\n  settings: {{{{ .Values.text | quote }}}}\n---\n\
             apiVersion: v1\nkind: Secret\n{metadata}stringData:\n  password: {{{{ .Values.text | b64enc }}}}\n---\n\
             apiVersion: v1\nkind: ServiceAccount\n{metadata}---\n\
             apiVersion: v1\nkind: Service\n{metadata}spec:\n  selector:\n    app: a{name}\n  ports:\n  - port: 80\n---\n\
             apiVersion: apps/v1\nkind: Deployment\n{metadata}spec:\n  replicas: 0\n  selector:\n    matchLabels:\n      app: a{name}\n  \
             template:\n    metadata:\n      labels:\n        app: a{name}\n    spec:\n      containers:\n      - name: web\n        \
             image: registry.example/web:1\n---\n"
        )
        .expect("memory");
    }
    let templates = directory.join("templates");
    fs::create_dir(&templates).expect("a temporary directory can be written");
    for (name, text) in [
        (
            "Chart.yaml",
            "apiVersion: v2\nname: fifty\nversion: 1.0.0\n",
        ),
        ("values.yaml", "text: some words\n"),
        ("templates/objects.yaml", &objects),
    ] {
        fs::write(directory.join(name), text).expect("a temporary directory can be written");
    }
}

/// Helm in a Python process in the cluster's network, which keeps the time itself.
struct Helm {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Helm {
    fn start(cluster: &Cluster, python: &str) -> Helm {
        let mut command = cluster.sandbox.command(python);
        command.arg(HELM).arg(cluster.kubeconfig());
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter (util-linux) runs");
        Helm {
            stdin: process.stdin.take().expect("it is piped"),
            stdout: BufReader::new(process.stdout.take().expect("it is piped")),
            process,
        }
    }

    /// How long a call took.
    fn ask(&mut self, call: &Value) -> Duration {
        writeln!(self.stdin, "{call}").expect("Helm runs");
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("Helm runs");
        let answer: Value = serde_json::from_str(&answer).expect("it answers JSON");
        let seconds = answer["seconds"].as_f64();
        Duration::from_secs_f64(seconds.unwrap_or_else(|| panic!("{call}: {answer}")))
    }
}

impl Drop for Helm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
