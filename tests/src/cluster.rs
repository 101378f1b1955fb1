//! A `wk up` process in a sandbox.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{Output, Sandbox, eventually, leftovers, program, sandbox::repository};

/// How long a cluster may take to become ready; generous, since debug builds share two cores.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// What differs from a plain `wk up`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More arguments of `wk up`.
    pub arguments: Vec<String>,
    /// Run as this user (`nobody`) rather than as the test's.
    pub user: Option<String>,
    /// Where the API is served on the sandbox's loopback address; 6443 if nothing is said.
    pub port: Option<u16>,
}

/// A running cluster; it is killed when the value goes.
pub struct Cluster {
    pub sandbox: Arc<Sandbox>,
    dir: tempfile::TempDir,
    options: Options,
    process: Option<Child>,
}

/// The path of an example of the repository.
pub fn example(name: &str) -> String {
    repository()
        .join("examples")
        .join(name)
        .display()
        .to_string()
}

impl Cluster {
    /// Starts a cluster and waits until it is ready.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts a cluster with options and waits until it is ready.
    pub fn with(options: Options) -> Self {
        let mut cluster = Self::prepare(options);
        cluster.up();
        cluster
    }

    /// A cluster that does not run yet.
    ///
    /// # Panics
    /// When a directory cannot be made.
    pub fn prepare(options: Options) -> Self {
        Self::prepare_in(Arc::new(Sandbox::new()), options)
    }

    /// A process that does not run yet, in a sandbox that others run in too.
    ///
    /// # Panics
    /// When a directory cannot be made.
    pub fn prepare_in(sandbox: Arc<Sandbox>, options: Options) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("wk-e2e-")
            .tempdir()
            .expect("a temporary directory");
        if let Some(user) = &options.user {
            let user = nix::unistd::User::from_name(user)
                .expect("users can be read")
                .expect("the user exists");
            nix::unistd::chown(dir.path(), Some(user.uid), Some(user.gid)).expect("root may chown");
        }
        Self {
            sandbox,
            dir,
            options,
            process: None,
        }
    }

    /// Starts `wk up` and waits until the API answers.
    pub fn up(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Waits until the API of a process that was started answers.
    ///
    /// # Panics
    /// When it ends, or takes too long.
    pub fn wait_ready(&mut self) {
        eventually(START, || {
            self.check_alive()?;
            let url = format!("https://127.0.0.1:{}/readyz", self.port());
            let output = self.curl(&["--insecure", &url]);
            if output.stdout == "ok" {
                Ok(())
            } else {
                Err(format!("{output:?}\n{}", self.log()))
            }
        });
        // The kubeconfig is written before the API is served.
        assert!(self.kubeconfig().exists(), "{}", self.log());
    }

    /// Starts `wk up` and waits for nothing.
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the log can be opened");
        let process = self
            .up_command()
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("wk starts");
        self.process = Some(process);
    }

    /// The command that `spawn` starts.
    pub fn up_command(&self) -> Command {
        let mut command = match &self.options.user {
            Some(user) => {
                let mut command = self.sandbox.command("setpriv");
                command
                    .args(["--reuid", user, "--regid", "nogroup", "--clear-groups"])
                    .arg(program("wk"));
                command
            }
            None => self.sandbox.command(program("wk")),
        };
        command
            .arg("up")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(&self.options.arguments);
        if self.options.port.is_some() {
            command.arg(format!("--listen=127.0.0.1:{}", self.port()));
        }
        command
    }

    fn port(&self) -> u16 {
        self.options.port.unwrap_or(6443)
    }

    fn check_alive(&mut self) -> Result<(), String> {
        match self.process.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            ended => panic!("wk ended: {ended:?}\n{}", self.log()),
        }
    }

    /// Kills the process at once, as a power cut would.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// Stops the process as Ctrl-C does and answers its exit code.
    ///
    /// # Panics
    /// When it does not stop in time.
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::SIGINT);
        let mut process = self.process.take().expect("the cluster runs");
        eventually(STOP, || match process.try_wait() {
            Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
            other => Err(format!("{other:?}")),
        })
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid fits"));
            let _ = nix::sys::signal::kill(pid, signal);
        }
    }

    /// Kills the process while others still use the cluster; [`Cluster::kill`] or `up` follows.
    pub fn kill_now(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Where a Service's first port is reached from the host, by its ClusterIP.
    pub fn service_url(&self, name: &str) -> String {
        let path = "jsonpath=http://{.spec.clusterIP}:{.spec.ports[0].port}/";
        self.kubectl(&["get", "service", name, "-o", path]).ok()
    }

    /// The same, asked through `wkctl`, which starts faster than `kubectl`.
    ///
    /// # Panics
    /// When there is no such Service.
    pub fn service_url_wkctl(&self, name: &str) -> String {
        let service: serde_json::Value =
            serde_json::from_str(&self.wkctl(&["get", "service", name, "-o", "json"]).ok())
                .expect("JSON is printed");
        let spec = &service["spec"];
        format!(
            "http://{}:{}/",
            spec["clusterIP"].as_str().unwrap_or_default(),
            spec["ports"][0]["port"]
        )
    }

    /// The process id of `wk up`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process
            .as_ref()
            .map(Child::id)
            .expect("the cluster runs")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("wk.log")
    }

    /// What `wk up` has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs `kubectl` as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.client("kubectl".as_ref(), arguments)
    }

    /// Runs `wkctl` as the administrator.
    pub fn wkctl(&self, arguments: &[&str]) -> Output {
        self.client(&program("wkctl"), arguments)
    }

    fn client(&self, program: &Path, arguments: &[&str]) -> Output {
        let output = self
            .client_command(program, arguments)
            .output()
            .expect("nsenter (util-linux) runs");
        Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// The command that runs a client, `kubectl` or `wkctl` of any version, as the administrator.
    pub fn client_command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.command(program);
        command
            .arg(format!("--kubeconfig={}", self.kubeconfig().display()))
            .args(arguments)
            .env("HOME", self.dir.path());
        command
    }

    /// Runs `curl` quietly, with a deadline.
    pub fn curl(&self, arguments: &[&str]) -> Output {
        self.sandbox.run(
            "curl",
            &[&["--silent", "--show-error", "--max-time", "5"], arguments].concat(),
        )
    }

    /// Writes a manifest for a test and answers its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn manifest(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a temporary directory can be written");
        path.display().to_string()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- wk up printed:\n{}", self.log());
        }
        leftovers::end(&self.data_dir(), &self.sandbox);
    }
}
