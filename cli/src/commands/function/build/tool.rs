//! The tools of the languages: found, run, and named with what installs them when they are not there.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// A program that builds.
pub(super) struct Tool {
    pub(super) program: PathBuf,
    /// How one gets it: a sentence, with the command to copy where there is one.
    pub(super) install: &'static str,
}

impl Tool {
    pub(super) fn new(program: impl Into<PathBuf>, install: &'static str) -> Tool {
        let program = program.into();
        Tool { program, install }
    }

    /// The command, in the project's directory. It ends with us.
    fn command(
        &self,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(directory);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// What is to be said when the program is not there.
    fn missing(&self) -> anyhow::Error {
        let program = self.program.display();
        anyhow::anyhow!("{program} is not installed: {}", self.install)
    }

    /// Runs it. What it says goes to stderr: stdout is the command's own answer.
    ///
    /// # Errors
    /// It is not installed, or it fails: it has said why.
    pub(super) async fn run(
        &self,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<()> {
        let mut command = self.command(directory, arguments, environment);
        command.stdout(std::io::stderr()).stderr(Stdio::inherit());
        let status = match command.status().await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.missing()),
            status => status.with_context(|| format!("start {}", self.program.display()))?,
        };
        if !status.success() {
            let shown = format!("{} {}", self.program.display(), arguments.join(" "));
            bail!("{} failed ({status})", shown.trim_end());
        }
        Ok(())
    }

    /// What it answers on stdout.
    ///
    /// # Errors
    /// It is not installed, or it fails, in its own words.
    pub(super) async fn ask(&self, directory: &Path, arguments: &[&str]) -> Result<String> {
        let program = self.program.display();
        let output = match self.command(directory, arguments, &[]).output().await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.missing()),
            output => output.with_context(|| format!("start {program}"))?,
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {}: {}", arguments.join(" "), said.trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }
}
