//! What the nodelet asks of whatever runs containers, holds images and gives pods addresses.
//!
//! - [`runtime`]: the [`Runtime`] trait: create, start, stop, remove, list, wait, exec, attach, stats.
//! - [`images`]: the [`Images`] contract, and the content store that pulls from files and registries.
//! - [`serve`]: requests to components that no pod holds: [`Serve`] of a runtime, [`Invoke`] of a node.
//! - [`network`]: the [`PodNetwork`] contract: an address for a pod, names and Services as its sockets see them.
//! - [`log`]: the format of a container's log file; a crate of its own, which is small.
//! - [`removal`]: removes directories that containers had, however deep they are.
//! - [`fake`]: the three contracts in memory, for tests of the nodelet.
//! - [`conformance`]: what every runtime must pass.
//!
//! Never knows a Kubernetes object: the nodelet translates pods into these values.

pub mod conformance;
pub mod fake;
pub mod images;
pub mod network;
pub mod removal;
pub mod runtime;
pub mod serve;

pub use runtimes_log as log;

pub use images::{
    ArchiveError, Credentials, Image, ImageError, ImageKind, Images, Progress, PullPolicy,
};
pub use network::{Direction, HostPort, Isolated, NetworkError, PodAddress, PodNetwork, Traffic};
pub use runtime::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, Device, Exit, Limits, Mount,
    Namespaces, Notice, PodRef, PodResources, Port, Process, Propagation, Protocol, Qos, Resolver,
    Runtime, RuntimeError, Seccomp, Security, Stats, Stdio, TerminalSize,
};
pub use serve::{Body, Invoke, RevisionRef, Serve, ServeError, ServeOptions, ServeUsage, Served};
