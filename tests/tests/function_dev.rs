//! `wkctl fn dev` while requests go on: each change of the source is served, and no request fails for it.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use e2e::{Cluster, eventually, example, program};
use nix::{sys::signal::Signal, unistd::Pid};

const SOON: Duration = Duration::from_secs(60);
/// How many ask at once.
const CLIENTS: usize = 3;
const HOST: &str = "Host: greeter.default.localhost";
const URL: &str = "http://127.0.0.1:8080/";

/// A process that is killed when the value goes.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("it starts"))
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.0.id()).expect("a pid fits");
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    }

    fn ended(&mut self) -> i32 {
        eventually(SOON, || match self.0.try_wait() {
            Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
            other => Err(format!("{other:?}")),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes the source as editors do: beside it, and then over it.
fn write(directory: &Path, greeting: &str) {
    let hello = std::fs::read_to_string(example("hello.wat")).expect("the example is there");
    // As long as "Hello": the example has addresses.
    let text = hello.replace("\"Hello from \"", &format!("\"{greeting:<5} from \""));
    let (new, source) = (directory.join(".new"), directory.join("function.wat"));
    std::fs::write(&new, text).expect("it can be written");
    std::fs::rename(new, source).expect("it can be renamed");
}

fn until_it_says(cluster: &Cluster, words: &str) {
    eventually(SOON, || {
        let answer = cluster.curl(&["--max-time", "20", "-H", HOST, URL]);
        if answer.stdout.contains(words) {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
}

/// Asks again and again, and keeps what came, until the file `stop` is there.
fn client(cluster: &Cluster, log: &Path, stop: &Path) -> Running {
    let ask = format!(
        "while [ ! -e {} ]; do curl --silent --show-error --max-time 20 -w '\\n%{{http_code}}\\n' -H '{HOST}' {URL} 2>&1; done",
        stop.display()
    );
    let log = File::create(log).expect("a log");
    let mut command = cluster.sandbox.command("sh");
    Running::start(command.args(["-c", &ask]).stdout(log))
}

#[test]
fn dev_serves_each_change_and_no_request_fails_for_it() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("greeter");
    std::fs::create_dir(&source).expect("a directory");
    write(&source, "Hello");

    let said = dir.path().join("said");
    let log = File::create(&said).expect("a log");
    let path = source.display().to_string();
    let mut dev = cluster.client_command(&program("wkctl"), &["fn", "dev", &path, "--rm"]);
    let errors = log.try_clone().expect("a file can be cloned");
    let mut dev = Running::start(dev.stdout(log).stderr(errors));
    until_it_says(&cluster, "Hello from greeter-00001");

    let stop = dir.path().join("stop");
    let logs: Vec<_> = (0..CLIENTS)
        .map(|number| dir.path().join(format!("asked-{number}")))
        .collect();
    let mut clients: Vec<_> = logs
        .iter()
        .map(|log| client(&cluster, log, &stop))
        .collect();
    for greeting in ["One", "Two", "Three"] {
        write(&source, greeting);
        until_it_says(&cluster, &format!("{greeting:<5} from greeter-"));
    }
    // What doesn't assemble changes nothing.
    std::fs::write(source.join("function.wat"), "(component").expect("it can be written");
    let said = || std::fs::read_to_string(&said).expect("what it said");
    eventually(SOON, || match said() {
        text if text.contains("The last one that worked goes on serving.") => Ok(()),
        text => Err(text),
    });
    std::fs::write(&stop, "").expect("it can be written");
    for client in &mut clients {
        assert_eq!(client.ended(), 0);
    }
    for log in &logs {
        let asked = std::fs::read_to_string(log).expect("a log");
        let mut lines = asked.lines().filter(|line| !line.is_empty());
        assert!(
            lines.clone().filter(|line| *line == "200").count() > 3,
            "{asked}"
        );
        let failed = lines.find(|line| *line != "200" && !line.contains(" from greeter-"));
        assert_eq!(failed, None, "{asked}");
    }
    until_it_says(&cluster, "Three from greeter-");

    dev.interrupt();
    assert_eq!(dev.ended(), 0, "{}", said());
    assert!(
        said().contains("function.functions.wk.dev \"greeter\" deleted"),
        "{}",
        said()
    );
    let found = cluster.kubectl(&["get", "function", "greeter"]);
    assert!(found.stderr.contains("NotFound"), "{found:?}");
}
