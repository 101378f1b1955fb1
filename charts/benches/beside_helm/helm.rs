//! Helm in a Python process of its own, which keeps the time itself.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// Reads charts' directories, one a line; prints milliseconds, or why there are none. `null` asks for the memory.
///
/// The library loads Helm at its first use: the chart that it makes for itself is not counted.
const SCRIPT: &str = r#"
import json, pathlib, resource, sys, tempfile, time
from helm_python import Chart

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

def render(path):
    start = time.perf_counter()
    with Chart.load(path) as chart:
        files = chart.render({}, name="release-name", namespace="default")
    took = time.perf_counter() - start
    text = json.dumps(files)
    start = time.perf_counter()
    json.loads(text)
    return (took - (time.perf_counter() - start)) * 1e3

with tempfile.TemporaryDirectory() as first:
    pathlib.Path(first, "Chart.yaml").write_text("{apiVersion: v2, name: a, version: 1.0.0}")
    pathlib.Path(first, "templates").mkdir()
    pathlib.Path(first, "templates/a.yaml").write_text("a: b")
    render(first)
before = peak()
for line in sys.stdin:
    path = json.loads(line)
    try:
        answer = {"value": peak() - before if path is None else render(path)}
    except Exception as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"#;

pub(crate) struct Helm {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Helm {
    pub(crate) fn start(python: &str) -> Helm {
        let mut process = Command::new(python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Helm {
            stdin: process.stdin.take().unwrap(),
            stdout: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// Milliseconds that reading and rendering took.
    pub(crate) fn render(&mut self, chart: &Path) -> Result<f64, String> {
        self.ask(&json!(chart))
    }

    /// MB at the peak, beyond what there was before the first chart.
    pub(crate) fn memory(&mut self) -> f64 {
        self.ask(&Value::Null).unwrap()
    }

    fn ask(&mut self, question: &Value) -> Result<f64, String> {
        writeln!(self.stdin, "{question}").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let error = || answer["error"].as_str().unwrap_or_default().to_owned();
        answer["value"].as_f64().ok_or_else(error)
    }
}

impl Drop for Helm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
