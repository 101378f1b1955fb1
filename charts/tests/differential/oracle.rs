//! Real Helm in a process of its own: `WK_HELM` is a Python interpreter with `helm-python-sdk`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use serde_json::{Value, json};

/// Answers what `oracle.py` describes.
pub(crate) struct Helm {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Helm {
    /// `None`, which it says, where there is no Helm.
    pub(crate) fn start() -> Option<Helm> {
        let Some(python) = std::env::var_os("WK_HELM").filter(|python| !python.is_empty()) else {
            eprintln!("skipped: WK_HELM names no Python with helm-python-sdk");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/oracle.py");
        let mut process = Command::new(python)
            .arg(script)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Helm {
            process,
            requests,
            answers,
        })
    }

    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.ask_all(std::slice::from_ref(request)).remove(0)
    }

    /// An answer for each request. What ends Helm itself is answered with `died`.
    pub(crate) fn ask_all(&mut self, requests: &[Value]) -> Vec<Value> {
        let mut answers = self.ask_until_it_dies(requests);
        while answers.len() < requests.len() {
            answers.push(json!({"died": true}));
            *self = Helm::start().unwrap();
            let rest = &requests[answers.len()..];
            answers.extend(self.ask_until_it_dies(rest));
        }
        answers
    }

    fn ask_until_it_dies(&mut self, requests: &[Value]) -> Vec<Value> {
        let Helm {
            requests: pipe,
            answers,
            ..
        } = self;
        thread::scope(|scope| {
            scope.spawn(move || {
                for request in requests {
                    // A Helm that died is seen by who waits for its answer.
                    if writeln!(pipe, "{request}").is_err() {
                        break;
                    }
                }
            });
            let lines = answers.lines().take(requests.len());
            let answer = |line: String| serde_json::from_str(&line).unwrap();
            lines.map_while(Result::ok).map(answer).collect()
        })
    }
}

impl Drop for Helm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
