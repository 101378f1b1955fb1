//! A network and mount namespace of its own, held open by a sleeping process.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl Output {
    /// Its stdout; fails the test if the command failed.
    ///
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout
    }

    /// Its stderr; fails the test if the command succeeded.
    ///
    /// # Panics
    /// When the command succeeded.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_ne!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stderr
    }
}

/// A private network with a loopback device; ends with the value.
pub struct Sandbox {
    holder: Child,
    as_root: bool,
}

impl Sandbox {
    /// Makes one: as root directly, else in a user namespace.
    ///
    /// # Panics
    /// When the host does not allow namespaces.
    pub fn new() -> Self {
        let as_root = nix::unistd::geteuid().is_root();
        let mut command = Command::new("unshare");
        if !as_root {
            command.arg("--map-root-user");
        }
        let script = "ip link set lo up && mkdir -p /run/netns && mount -t tmpfs none /run/netns && echo ready && exec sleep 100000";
        let mut holder = command
            .args(["--net", "--mount", "sh", "-c", script])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare (util-linux) runs");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the sandbox says that it is ready");
        assert_eq!(
            line, "ready\n",
            "this host does not allow network namespaces"
        );
        Self { holder, as_root }
    }

    /// A command that runs in the sandbox, at the root of the repository.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args(["--net", "--mount"]);
        command.arg(format!("--wd={}", repository().display()));
        if !self.as_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a command in the sandbox to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Output {
        let output = self
            .command(program)
            .args(arguments)
            .output()
            .expect("nsenter (util-linux) runs");
        Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests is in the repository")
        .to_owned()
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
