//! The runtime contract.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use crate::{Image, PodAddress};

/// A container's name for its whole life, chosen by the nodelet: `<pod uid>/<container>/<attempt>`.
/// A retried call names the same container.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContainerId(pub Arc<str>);

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pod that a container or an address belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A transport protocol of a declared port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A port that a container says it serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub name: Option<String>,
    pub number: u16,
    pub protocol: Protocol,
}

/// What a container may use; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
}

/// The class of a pod's quality of service, which decides where its processes stand when a host runs short.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Qos {
    Guaranteed,
    Burstable,
    #[default]
    BestEffort,
}

/// What a pod as a whole is promised and may use: the sums of its containers', and its overhead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PodResources {
    pub qos: Qos,
    pub requests: Limits,
    /// A limit that not every container has is no limit of the pod.
    pub limits: Limits,
}

/// Which mounts made later show up on the other side of a [`Mount`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Propagation {
    /// None (`rprivate`).
    #[default]
    Private,
    /// The host's show up in the container (`rslave`).
    HostToContainer,
    /// Both sides' (`rshared`).
    Bidirectional,
}

/// A file or directory of the host that a container sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// On the host; it exists, and no part of the way to it is a symbolic link: a runtime follows none,
    /// for a pod may have put one in its own volume.
    pub source: PathBuf,
    /// In the container; absolute, without `.` and `..`.
    pub destination: PathBuf,
    pub read_only: bool,
    /// Components see files, not mounts: for them it means nothing.
    pub propagation: Propagation,
}

impl Mount {
    /// A mount that other mounts do not reach.
    pub fn new(
        source: impl Into<PathBuf>,
        destination: impl Into<PathBuf>,
        read_only: bool,
    ) -> Mount {
        Mount {
            source: source.into(),
            destination: destination.into(),
            read_only,
            propagation: Propagation::Private,
        }
    }
}

/// A device of the host that a container may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// On the host.
    pub source: PathBuf,
    /// In the container; absolute.
    pub destination: PathBuf,
    pub read_only: bool,
}

/// Which system calls a process may make.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Seccomp {
    #[default]
    Unconfined,
    /// The runtime's own profile.
    RuntimeDefault,
    /// A profile in a file of the node, as JSON.
    Localhost(PathBuf),
}

/// As whom a container's processes run, and what of the host they may do: a `securityContext`, the pod's and
/// the container's merged. For runtimes whose containers are processes; the nodelet refuses components what
/// they cannot be held to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Security {
    /// `None`: the image's.
    pub user: Option<u32>,
    /// `None`: the primary group that the image gives the user; 0 if it gives none.
    pub group: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    pub groups: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`: the groups that the image gives the user are not added.
    pub only_these_groups: bool,
    /// The container is not started if it would run as root ([`RuntimeError::Config`]).
    pub non_root: bool,
    pub privileged: bool,
    /// Names without `CAP_`, or `ALL`.
    pub added_capabilities: Vec<String>,
    pub dropped_capabilities: Vec<String>,
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
    /// The pod's, in order.
    pub sysctls: Vec<(String, String)>,
}

/// Which of its pod's and the host's namespaces a container is in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespaces {
    /// The pod's own network namespace. `None`: for a component the one of all components, for a container
    /// the host's (`hostNetwork`).
    pub network: Option<PathBuf>,
    /// The host's processes (`hostPID`).
    pub host_pid: bool,
    /// The host's interprocess communication (`hostIPC`).
    pub host_ipc: bool,
    /// One process namespace for all containers of the pod (`shareProcessNamespace`).
    pub shared_pid: bool,
    /// For an ephemeral container: the one whose process namespace it joins.
    pub target: Option<ContainerId>,
}

/// Which streams of a process somebody holds the other end of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stdio {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// A terminal: output and errors come as one stream, stdout.
    pub tty: bool,
}

/// How a container looks names up, beside the cluster's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolver {
    /// Names that come before all others: the pod's own, and its `hostAliases`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Domains to look a name up in that is not found as it stands.
    pub searches: Vec<String>,
    /// The cluster's names are not looked up (`dnsPolicy: Default`).
    pub skips_cluster: bool,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// The other end of a process' streams: those that [`Stdio`] asked for and the process has.
///
/// Dropped, it ends a process made by [`Runtime::exec`]; one that was attached to goes on.
pub struct Process {
    /// Shut down, it is the end of the process' input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Takes a terminal's new sizes; `None` where there is no terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// The process' exit code. What it wrote is in the streams, to their ends, before it answers.
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// Everything needed to run one container.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub id: ContainerId,
    pub pod: PodRef,
    /// The container's name in its pod.
    pub name: String,
    pub image: Image,
    /// Replaces the image's entry point; empty keeps it.
    pub command: Vec<String>,
    /// Replaces the image's arguments; empty keeps them.
    pub args: Vec<String>,
    /// Complete and expanded, in order.
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub ports: Vec<Port>,
    pub limits: Limits,
    pub requests: Limits,
    pub pod_resources: PodResources,
    /// −1000 (never killed) to 1000 (first), where the host runs out of memory.
    pub oom_score_adj: i32,
    /// What `uname -n` says; with the host's network, the host's.
    pub hostname: String,
    pub security: Security,
    pub namespaces: Namespaces,
    pub devices: Vec<Device>,
    /// A signal's name (`SIGTERM`). `None`: the image's, otherwise `SIGTERM`.
    pub stop_signal: Option<String>,
    /// In any order; a destination may lie within another's.
    pub mounts: Vec<Mount>,
    /// Its input stays open for those who attach; otherwise it is at its end from the start.
    pub stdin: bool,
    /// The first who attaches and leaves closes the input.
    pub stdin_once: bool,
    /// Its output is a terminal's.
    pub tty: bool,
    /// The pod's, for what a runtime offers beyond a pod's fields.
    pub annotations: Arc<BTreeMap<String, String>>,
    pub address: PodAddress,
    pub resolver: Arc<Resolver>,
    /// Where the runtime appends stdout and stderr, in CRI format
    /// (`<RFC 3339 time with nanoseconds> stdout F <line>`). Its directory exists.
    pub log: PathBuf,
}

impl ContainerSpec {
    /// A container of an image with nothing else asked for.
    pub fn new(
        id: ContainerId,
        pod: PodRef,
        image: Image,
        address: PodAddress,
        log: PathBuf,
    ) -> ContainerSpec {
        let name = id.0.split('/').nth(1).unwrap_or_default().to_owned();
        ContainerSpec {
            hostname: pod.name.clone(),
            id,
            pod,
            name,
            image,
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            ports: Vec::new(),
            limits: Limits::default(),
            requests: Limits::default(),
            pod_resources: PodResources::default(),
            oom_score_adj: 0,
            security: Security::default(),
            namespaces: Namespaces::default(),
            devices: Vec::new(),
            stop_signal: None,
            mounts: Vec::new(),
            stdin: false,
            stdin_once: false,
            tty: false,
            annotations: Arc::default(),
            address,
            resolver: Arc::default(),
            log,
        }
    }
}

/// Where a container is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContainerState {
    Created,
    Running { started_at: SystemTime },
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exit {
    /// 0–255; 128 + signal if it was killed (137 when out of memory or past its grace period).
    pub code: i32,
    /// `Completed`, `Error` or `OOMKilled`.
    pub reason: &'static str,
    /// What it died of, in words: a trap, a missing export; empty if there is nothing to say.
    pub message: String,
    pub started_at: SystemTime,
    pub finished_at: SystemTime,
}

/// A container as its runtime sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub pod: PodRef,
    pub name: String,
    pub state: ContainerState,
}

/// Something that happened inside a container and that its pod's Events are to tell, as a warning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    pub pod: PodRef,
    /// The container's name in its pod.
    pub container: String,
    /// An Event's reason: `WasmTrap`.
    pub reason: &'static str,
    pub message: String,
}

/// What a container has used so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub cpu: Duration,
    pub memory_bytes: u64,
}

/// Why a runtime call failed, by what the nodelet does next.
#[derive(thiserror::Error, Debug)]
pub enum RuntimeError {
    /// There is no such container: create it, or treat it as removed.
    #[error("container {0} not found")]
    NotFound(ContainerId),
    /// The image or the spec cannot run, and will not by trying again: tell the user (`CreateContainerError`).
    #[error("{0}")]
    Invalid(String),
    /// What the spec asks for does not fit this image (`CreateContainerConfigError`): a root user where none is
    /// allowed.
    #[error("{0}")]
    Config(String),
    /// Something on the node is in the way: try again with back-off (`RunContainerError`).
    #[error("{message}")]
    Unavailable {
        message: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Runs containers. Every call is safe to repeat; `list` is how a restarted nodelet recovers.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// `wasm` or `oci`: what `runtimeClassName` and node information call it.
    fn name(&self) -> &'static str;

    /// What the node reports as `containerRuntimeVersion`: `wasmtime://48.0.8`.
    fn version(&self) -> String;

    /// Makes an image ready to start (compiles it, unpacks it); called once it is pulled, so that no
    /// start waits for it. Done at once if it is ready.
    async fn prepare(&self, image: &Image) -> Result<(), RuntimeError>;

    /// Whether containers of a prepared image hold no state of their own, so that one that ended with this
    /// process and is started again is the same container: servers that answer each request anew.
    async fn stateless(&self, image: &Image) -> bool {
        let _ = image;
        false
    }

    /// Makes a container without starting it. A container of this id that exists is left as it is.
    async fn create(&self, spec: ContainerSpec) -> Result<(), RuntimeError>;

    /// Starts a created container and returns when it runs (for a server: when its ports are open).
    /// A container that runs or has exited is left as it is.
    async fn start(&self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Asks a container to end, and ends it by force after `grace`. Returns when it has exited.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError>;

    /// Forgets an exited or created container; its log file stays. `Ok` if it is not there.
    async fn remove(&self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Every container that this runtime holds.
    async fn list(&self) -> Result<Vec<ContainerStatus>, RuntimeError>;

    /// One container.
    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, RuntimeError>;

    /// Waits until the container has exited; answers at once if it has.
    async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError>;

    /// Runs `command` beside a running container's own process, with its environment, files and
    /// addresses. The process is ended with its container.
    async fn exec(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        stdio: Stdio,
    ) -> Result<Process, RuntimeError>;

    /// Joins a running container's own streams, from now on. Several may; each gets all the output.
    async fn attach(&self, id: &ContainerId, stdio: Stdio) -> Result<Process, RuntimeError>;

    /// What the container has used since it started.
    async fn stats(&self, id: &ContainerId) -> Result<Stats, RuntimeError>;

    /// What the container has written outside of its mounts, in bytes on disk; nothing for one that this runtime does not hold.
    async fn disk_bytes(&self, id: &ContainerId) -> Result<u64, RuntimeError> {
        let _ = id;
        Ok(0)
    }

    /// What happens inside containers, from now on. There is one receiver: who asks again gets none.
    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        None
    }

    /// Removes what was made of images that are not among these and that nobody runs; the bytes freed.
    async fn keep_only(&self, images: &[Image]) -> Result<u64, RuntimeError> {
        let _ = images;
        Ok(0)
    }
}
