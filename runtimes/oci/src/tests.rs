//! The shim and commands, with the real runc and a root of Debian's static busybox.

mod commands;
mod containers;
mod crashes;
mod output;
mod streams;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use oci_spec::runtime::{LinuxNamespaceType, ProcessBuilder, RootBuilder, Spec};
use runtimes::{Process, RuntimeError, Stdio, log::Rotation};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    exec::{Exec, exec},
    shim::{Ended, Failed, Launch, Shim, launch},
};

const RUNC: &str = "runc";

/// How long anything may take on a machine that does other things too.
const DEADLINE: Duration = Duration::from_secs(60);

/// A bundle that can be run, and what it needs. Dropped, the container is gone.
struct Bundle {
    id: String,
    directory: TempDir,
    tty: bool,
    stdin: bool,
    stdin_once: bool,
    rotation: Rotation,
    runc: PathBuf,
    within: Duration,
}

impl Bundle {
    /// A container that runs a script.
    fn new(script: &str) -> Bundle {
        Bundle::with_arguments(&["sh", "-c", script])
    }

    /// One that begins its script when it is [told to](Bundle::go).
    fn waiting(script: &str) -> Bundle {
        Bundle::new(&format!("until [ -e /go ]; do sleep 0.02; done; {script}"))
    }

    fn with_arguments(arguments: &[&str]) -> Bundle {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::tempdir().unwrap();
        let bundle = Bundle {
            id: format!("wk-shim-test-{}-{number}", std::process::id()),
            directory,
            tty: false,
            stdin: false,
            stdin_once: false,
            rotation: Rotation::default(),
            runc: RUNC.into(),
            within: DEADLINE,
        };
        let bin = bundle.dir().join("root/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).expect("Debian's busybox-static");
        for name in [
            "sh", "cat", "sleep", "stty", "seq", "kill", "head", "yes", "true", "tr",
        ] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        fs::create_dir(bundle.logs()).unwrap();
        bundle.describe(arguments);
        bundle
    }

    fn tty(mut self) -> Bundle {
        self.tty = true;
        let path = self.dir().join("config.json");
        let mut spec = Spec::load(&path).unwrap();
        let mut process = spec.process().clone().unwrap();
        process.set_terminal(Some(true));
        spec.set_process(Some(process));
        spec.save(path).unwrap();
        self
    }

    fn stdin(mut self, once: bool) -> Bundle {
        self.stdin = true;
        self.stdin_once = once;
        self
    }

    /// Without a process namespace of its own: what it has started outlives it.
    fn with_processes_of_the_host(self) -> Bundle {
        let path = self.dir().join("config.json");
        let mut spec = Spec::load(&path).unwrap();
        let mut linux = spec.linux().clone().unwrap();
        let mut namespaces = linux.namespaces().clone().unwrap();
        namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Pid);
        linux.set_namespaces(Some(namespaces));
        spec.set_linux(Some(linux));
        spec.save(path).unwrap();
        self
    }

    fn describe(&self, arguments: &[&str]) {
        let mut spec = Spec::default();
        let root = RootBuilder::default().path("root").readonly(false);
        spec.set_root(Some(root.build().unwrap()));
        spec.set_process(Some(self.process(arguments)));
        spec.save(self.dir().join("config.json")).unwrap();
    }

    fn process(&self, arguments: &[&str]) -> oci_spec::runtime::Process {
        let arguments: Vec<_> = arguments.iter().map(|&text| text.to_owned()).collect();
        let process = ProcessBuilder::default()
            .args(arguments)
            .env(vec!["PATH=/bin".to_owned()])
            .cwd("/")
            .terminal(false);
        process.build().unwrap()
    }

    /// Longer than a socket's path may be.
    fn dir(&self) -> PathBuf {
        self.directory.path().join("d".repeat(120))
    }

    fn logs(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    fn log(&self) -> PathBuf {
        self.logs().join("0.log")
    }

    fn runc_root(&self) -> PathBuf {
        self.directory.path().join("runc")
    }

    async fn launch(&self) -> Result<Shim, Failed> {
        let (dir, runc_root, log) = (self.dir(), self.runc_root(), self.log());
        let spec = Launch {
            program: shim_program(),
            dir: &dir,
            runc: &self.runc,
            runc_root: &runc_root,
            id: &self.id,
            log: &log,
            rotation: self.rotation,
            tty: self.tty,
            stdin: self.stdin,
            stdin_once: self.stdin_once,
            within: self.within,
        };
        soon(launch(&spec)).await
    }

    async fn run(&self) -> Shim {
        self.launch().await.unwrap()
    }

    /// Lets a container go on that is [waiting](Bundle::waiting).
    fn go(&self) {
        fs::write(self.dir().join("root/go"), "").unwrap();
    }

    fn runc(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(RUNC);
        command.arg("--root").arg(self.runc_root()).args(arguments);
        command.output().unwrap()
    }

    /// Whether runc knows the container.
    fn exists(&self) -> bool {
        self.runc(&["state", &self.id]).status.success()
    }

    async fn exec(&self, arguments: &[&str], stdio: Stdio) -> Result<Process, RuntimeError> {
        let (dir, runc_root) = (self.dir(), self.runc_root());
        let call = Exec {
            program: shim_program(),
            dir: &dir,
            runc: Path::new(RUNC),
            runc_root: &runc_root,
            id: &self.id,
        };
        soon(exec(&call, &self.process(arguments), stdio)).await
    }

    /// The log's entries, oldest file first, without times.
    fn entries(&self) -> Vec<String> {
        let files = runtimes::log::files(&self.log()).unwrap();
        let text: String = files
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        let lines = text
            .split_terminator('\n')
            .map(|line| line.split_once(' ').unwrap().1.to_owned());
        lines.collect()
    }

    /// The number of the shim's process.
    fn shim_pid(&self) -> Option<i32> {
        processes(&self.id).first().copied()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.runc(&["delete", "--force", &self.id]);
    }
}

/// The shims of a container: of itself, and of commands in it.
fn processes(id: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        let program = arguments.next().unwrap_or_default();
        if String::from_utf8_lossy(program).ends_with("wk-shim")
            && arguments.any(|a| a == id.as_bytes())
        {
            found.push(pid);
        }
    }
    found
}

/// Where the build has left it.
fn shim_program() -> &'static Path {
    Path::new(env!("WK_SHIM"))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("within the deadline")
}

/// Waits until something is so.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waited = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waited)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// All that comes until the end.
async fn all(reader: Option<Box<dyn AsyncRead + Send + Unpin>>) -> String {
    let mut bytes = Vec::new();
    soon(reader.expect("a stream").read_to_end(&mut bytes))
        .await
        .unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until a text has come.
async fn until_read(reader: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut all = String::new();
    let mut buffer = [0; 1024];
    while !all.contains(text) {
        let length = soon(reader.read(&mut buffer)).await.unwrap();
        assert!(length > 0, "the end, after {all:?}");
        all += &String::from_utf8_lossy(&buffer[..length]);
    }
    all
}

fn code(ended: Ended) -> i32 {
    assert!(ended.known);
    ended.code
}
