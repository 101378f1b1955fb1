//! A process that is measured: started, found, asked for its CPU time and memory, and ended.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Clock ticks a second in `/proc`.
const TICKS: f64 = 100.0;

/// Which core a process runs on, where there are two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    Server,
    Clients,
}

/// Keeps this process, and what it starts, on one core.
pub(crate) fn pin(core: Core) -> Result<()> {
    let own = Pid::from_raw(0);
    // Whoever started us may have pinned us: all cores are asked for first.
    let mut all = CpuSet::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for index in 0..cores.max(2) {
        all.set(index).context("name a core")?;
    }
    sched_setaffinity(own, &all).context("ask for all cores")?;
    let usable = sched_getaffinity(own).context("read which cores there are")?;
    let usable: Vec<usize> = (0..CpuSet::count())
        .filter(|index| usable.is_set(*index).unwrap_or(false))
        .collect();
    if let [first, .., last] = usable.as_slice() {
        let mut one = CpuSet::new();
        one.set(if core == Core::Server { *first } else { *last })
            .context("name a core")?;
        sched_setaffinity(own, &one).context("choose a core")?;
    }
    Ok(())
}

/// Where objects are kept.
pub(crate) enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(postgres_server::Database),
}

impl Database {
    pub(crate) fn make(name: &str) -> Result<Self> {
        Ok(match name {
            "sqlite" => Self::Sqlite(tempfile::tempdir().context("make a directory")?),
            _ => Self::Postgres(postgres_server::Database::create()),
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Sqlite(directory) => directory.path().display().to_string(),
            Self::Postgres(database) => database.url.clone(),
        }
    }
}

/// A running process, ended when it is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    /// Where it serves without TLS.
    pub(crate) plain: SocketAddr,
    /// Where it serves with TLS; the same if it does not.
    pub(crate) tls: SocketAddr,
    certificate: Option<(tempfile::TempDir, PathBuf)>,
}

impl Child {
    pub(crate) fn server(database: &Database) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let path = directory.path().join("certificate");
        let arguments = ["server", &database.name(), &path.display().to_string()];
        let mut child = Self::start(&arguments)?;
        child.certificate = Some((directory, path));
        Ok(child)
    }

    pub(crate) fn floor() -> Result<Self> {
        Self::start(&["floor"])
    }

    /// A component's server, and how many nanoseconds an instance takes (p50 and p99).
    pub(crate) fn component(path: &Path) -> Result<(Self, [f64; 2])> {
        let (child, more) = Self::start_saying(&["component", &path.display().to_string()])?;
        let [p50, p99] = more.as_slice() else {
            bail!("the process said {more:?} of its instances");
        };
        Ok((child, [*p50, *p99]))
    }

    /// Another program that serves at an address once it accepts there.
    pub(crate) fn serving(mut command: Command, address: SocketAddr) -> Result<Self> {
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = Self {
            process: process.context("start a process")?,
            plain: address,
            tls: address,
            certificate: None,
        };
        for _ in 0..600 {
            if TcpStream::connect(address).is_ok() {
                return Ok(child);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("{command:?} does not serve at {address}")
    }

    /// Puts pods into a database, without a server.
    pub(crate) fn fill(database: &Database, bytes: usize) -> Result<()> {
        let own = std::env::current_exe().context("find this program")?;
        let status = Command::new(own)
            .args(["fill", &database.name(), &bytes.to_string()])
            .status()
            .context("start a process")?;
        if !status.success() {
            bail!("filling the database ended with {status}");
        }
        Ok(())
    }

    fn start(arguments: &[&str]) -> Result<Self> {
        Ok(Self::start_saying(arguments)?.0)
    }

    /// With the numbers that it says after its addresses.
    fn start_saying(arguments: &[&str]) -> Result<(Self, Vec<f64>)> {
        let own = std::env::current_exe().context("find this program")?;
        let mut process = Command::new(own)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .context("start a process")?;
        let stdout = process.stdout.take().context("read what it says")?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("read what it says")?;
        let mut words = line.split_whitespace();
        let mut address = || words.next()?.parse().ok();
        let (Some(plain), Some(tls)) = (address(), address()) else {
            bail!("the process said {line:?}, not where it serves");
        };
        let child = Self {
            process,
            plain,
            tls,
            certificate: None,
        };
        Ok((child, words.filter_map(|word| word.parse().ok()).collect()))
    }

    /// The certificate that it shows.
    pub(crate) fn certificate(&self) -> Option<&Path> {
        self.certificate.as_ref().map(|(_, path)| path.as_path())
    }

    /// CPU seconds that it has used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.process.id());
        let line = std::fs::read_to_string(path).context("read a process' CPU time")?;
        let rest = line.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let fields: Vec<f64> = rest
            .split_whitespace()
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        let used = fields.get(11).zip(fields.get(12));
        let (user, system) = used.context("read a process' CPU time")?;
        Ok((user + system) / TICKS)
    }

    /// Bytes of memory that it has, once it has come to rest.
    pub(crate) async fn settled_rss(&self) -> Result<u64> {
        let mut last = self.cpu_seconds()?;
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.cpu_seconds()?;
            if now - last < 0.02 {
                break;
            }
            last = now;
        }
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).context("read a process' memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .context("read a process' memory")?;
        Ok(kib * 1024)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; what is left of it is collected either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
