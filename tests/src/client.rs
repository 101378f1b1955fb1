//! A client's commands: to their end, with input; in a terminal; or as a port-forward that goes on.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use crate::{Cluster, Output, eventually};
use nix::pty::{Winsize, openpty};

/// No command takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What kubectl before 1.33 says now and then: the empty frame by which a server tells that it is ready, as
/// Kubernetes' does, was there before kubectl had made its streams.
const TOO_SOON: &str = "Unknown stream id 1, discarding message";

/// A program that speaks to a cluster.
pub struct Client<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
    pub program: PathBuf,
}

impl Client<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cluster.client_command(&self.program, arguments);
        // A command that hangs fails the test, not the machine.
        let inner: Vec<_> = std::iter::once(command.get_program().to_owned())
            .chain(command.get_args().map(ToOwned::to_owned))
            .collect();
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new("timeout");
        command
            .args(["--foreground", &PATIENCE.as_secs().to_string()])
            .args(inner)
            .envs(environment);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    /// The same with something to read.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("timeout (coreutils) runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        let output = std::thread::scope(|scope| {
            // A command may end without reading all of it.
            scope.spawn(move || stdin.write_all(input.as_bytes()));
            child.wait_with_output().expect("it can be waited for")
        });
        let stderr = String::from_utf8_lossy(&output.stderr);
        let early = self.name.starts_with("kubectl-") && *self.name < *"kubectl-1-33";
        let said = stderr
            .split_inclusive('\n')
            .filter(|line| !early || !line.contains(TOO_SOON));
        Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: said.collect(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Starts a command in a terminal of its own.
    pub fn terminal(&self, arguments: &[&str]) -> Terminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("a terminal can be made");
        let end = || -> OwnedFd { pair.slave.try_clone().expect("it can be shared") };
        let mut command = self.command(arguments);
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("timeout (coreutils) runs");
        drop(command);
        drop(pair.slave);
        let screen = File::from(pair.master);
        let keys = screen.try_clone().expect("it can be shared");
        Terminal {
            child,
            keys,
            shown: follow(screen),
            text: String::new(),
        }
    }

    /// Starts a port-forward and answers the local port.
    pub fn forward(&self, arguments: &[&str]) -> (Forward, u16) {
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let stderr = log.reopen().expect("it can be opened");
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("timeout (coreutils) runs");
        let stdout = child.stdout.take().expect("it is piped");
        let mut forward = Forward {
            child,
            stdout: BufReader::new(stdout),
            log,
        };
        let mut line = String::new();
        forward.stdout.read_line(&mut line).expect("it prints text");
        let port = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("{}: {line:?} {}", self.name, forward.said()));
        (forward, port)
    }
}

/// What comes from a file, in pieces, as it comes.
fn follow(mut file: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // A terminal whose other end is closed gives an error.
        while let Ok(read @ 1..) = file.read(&mut buffer) {
            if sender.send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A command in a terminal.
pub struct Terminal {
    child: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    pub fn write(&mut self, text: &str) {
        self.keys
            .write_all(text.as_bytes())
            .expect("it can be typed");
    }

    /// Waits until the screen has shown this after all that was waited for before.
    pub fn until(&mut self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.text.contains(wanted) {
            let left = end.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {wanted:?} in {:?}", self.text),
            }
        }
        let after = self.text.find(wanted).map(|at| at + wanted.len());
        self.text.drain(..after.unwrap_or_default());
    }

    /// Waits for the command's end and answers its exit code.
    pub fn end(mut self) -> i32 {
        eventually(PATIENCE, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
            other => Err(format!("{other:?}")),
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port-forward; it is ended with the value.
pub struct Forward {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: tempfile::NamedTempFile,
}

impl Forward {
    fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Waits until it ends by itself; answers what it said.
    pub fn end(mut self) -> String {
        eventually(PATIENCE, || match self.child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}: {}", self.said())),
        });
        self.said()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // `timeout` passes the signal on to the client; killed, it could not.
        let pid = i32::try_from(self.child.id()).expect("a pid fits");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
        let _ = self.child.wait();
    }
}
