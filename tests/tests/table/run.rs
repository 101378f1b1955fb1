//! Plays a transcript against a cluster of its own, and fails with every difference at once.

use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use e2e::{Cluster, Kubectl, Options, program};

use crate::{
    pattern,
    transcript::{self, Command, Step},
};

/// How long a command that begins with `eventually` may take to do what is expected; less once
/// something differs, since the rest then waits in vain.
const EVENTUALLY: Duration = Duration::from_secs(40);
const EVENTUALLY_AFTER_A_DIFFERENCE: Duration = Duration::from_secs(2);

/// When a command that hangs is ended.
const COMMAND_SECONDS: &str = "60";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubectl")
}

/// The names of all transcripts.
pub(crate) fn files() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).expect("the transcripts are there");
    entries
        .map(|entry| entry.expect("a directory can be read").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Plays a transcript.
///
/// # Panics
/// When something differs.
pub(crate) fn file(name: &str, kubectl: &Kubectl) {
    let path = directory().join(name);
    let text = std::fs::read_to_string(&path).expect("a transcript can be read");
    let play = Play::new(kubectl);
    let mut differences = Vec::new();
    for step in transcript::parse(&text, kubectl.minor) {
        match step {
            Step::Write { name, text } => {
                let path = play.directory.path().join(name);
                let parent = path.parent().expect("it is in the directory");
                std::fs::create_dir_all(parent).expect("a directory can be made");
                std::fs::write(path, text).expect("a file can be written");
            }
            Step::Run(command) => {
                let patience = if differences.is_empty() {
                    EVENTUALLY
                } else {
                    EVENTUALLY_AFTER_A_DIFFERENCE
                };
                let actual = play.command(&command, patience);
                if !actual.is_expected(&command) {
                    differences.push((command, actual));
                }
            }
        }
    }
    if differences.is_empty() {
        return;
    }
    if std::env::var_os("UPDATE_KUBECTL").is_some() {
        std::fs::write(&path, updated(&text, &differences)).expect("a transcript can be written");
    }
    let shown: Vec<_> = differences
        .iter()
        .map(|(command, actual)| actual.difference(name, command))
        .collect();
    panic!(
        "{} of its commands differ with kubectl 1.{} (- expected, + printed; UPDATE_KUBECTL=1 writes what was printed into the file, for review):\n\n{}",
        shown.len(),
        kubectl.minor,
        shown.join("\n")
    );
}

/// A cluster, and the directory where the commands run.
struct Play {
    cluster: Cluster,
    directory: tempfile::TempDir,
    path: String,
}

impl Play {
    fn new(kubectl: &Kubectl) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Outside of the working directory, which `apply -f .` reads.
        let programs = directory.path().join(".programs");
        std::fs::create_dir(&programs).expect("a directory can be made");
        symlink(&kubectl.path, programs.join("kubectl")).expect("a link can be made");
        // A cluster of the host's own would come before the one of the environment.
        let wkctl = format!(
            "#!/bin/sh\nexec '{}' --kubeconfig \"$KUBECONFIG\" \"$@\"\n",
            program("wkctl").display()
        );
        std::fs::write(programs.join("wkctl"), wkctl).expect("a file can be written");
        std::fs::set_permissions(programs.join("wkctl"), Permissions::from_mode(0o755))
            .expect("a file can be made a program");
        let path = std::env::var("PATH").unwrap_or_default();
        Self {
            cluster: Cluster::with(Options {
                arguments: vec!["--node-name=node-1".to_owned()],
                ..Options::default()
            }),
            path: format!("{}:{path}", programs.display()),
            directory,
        }
    }

    /// Runs a command, again and again if it may take its time.
    fn command(&self, command: &Command, patience: Duration) -> Actual {
        let end = Instant::now() + patience;
        loop {
            let actual = self.once(&command.text);
            if !command.eventually || actual.is_expected(command) || Instant::now() > end {
                return actual;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn once(&self, text: &str) -> Actual {
        let directory = self.directory.path();
        let script = format!("cd '{}' || exit\n{text}", directory.display());
        let output = self
            .cluster
            .sandbox
            .command("timeout")
            .args([COMMAND_SECONDS, "bash", "-c", &script])
            .env("PATH", &self.path)
            .env("HOME", directory.join(".home"))
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("TZ", "UTC")
            .env_remove("EDITOR")
            .env_remove("KUBE_EDITOR")
            .output()
            .expect("nsenter (util-linux) runs");
        let lines = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let mut lines: Vec<_> = text
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect();
            transcript::trim(&mut lines);
            lines
        };
        Actual {
            stdout: lines(&output.stdout),
            stderr: lines(&output.stderr),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

/// What a command did.
struct Actual {
    stdout: Vec<String>,
    stderr: Vec<String>,
    code: i32,
}

impl Actual {
    fn is_expected(&self, command: &Command) -> bool {
        self.code == command.code
            && pattern::matches(&command.stdout, &self.stdout)
            && pattern::matches(&command.stderr, &self.stderr)
    }

    fn difference(&self, file: &str, command: &Command) -> String {
        let mut text = format!("{file}:{}: $ {}\n", command.line, command.text);
        text += &pattern::difference(&command.stdout, &self.stdout);
        if !pattern::matches(&command.stderr, &self.stderr) {
            text += "  stderr:\n";
            text += &pattern::difference(&command.stderr, &self.stderr);
        }
        if self.code != command.code {
            text += &format!(
                "  exit code: expected {}, was {}\n",
                command.code, self.code
            );
        }
        text
    }

    /// As a transcript says it.
    fn lines(&self) -> Vec<String> {
        let mut lines = self.stdout.clone();
        lines.extend(self.stderr.iter().map(|line| format!("! {line}")));
        if self.code != 0 {
            lines.push(format!("? {}", self.code));
        }
        lines.push(String::new());
        lines
    }
}

/// The transcript with what was printed in place of what was expected, where they differ.
fn updated(text: &str, differences: &[(Command, Actual)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (command, actual) in differences.iter().rev() {
        let more = command.text.lines().count() - 1;
        let start = command.line + more;
        let end = command.line + command.expected_lines;
        lines.splice(start..end, actual.lines());
    }
    lines.join("\n") + "\n"
}
