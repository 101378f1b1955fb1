//! OCI containers: images unpacked into layers, run by runc, watched over by a shim each.
//!
//! - [`runtime`]: the [`OciRuntime`]: containers by id, and the calls that move them through their life.
//! - [`host`]: what containers need of a host.
//! - [`record`]: what is kept of a container on disk, where a restarted process finds it.
//! - [`pod`]: what the containers of a pod share.
//! - [`layers`]: images' layers, unpacked once, and mounted for each container.
//! - [`spec`]: what runc is told of a container; [`user`] as whom it runs, [`seccomp`] which system calls it may make,
//!   [`signal`] how it is asked to end.
//! - [`cgroup`]: what it may use.
//! - [`runc`]: calls of the program.
//! - [`shim`]: the small process that stays with a container.
//! - [`exec`]: commands that run beside a container's own process; [`console`]: streams of processes.
//! - [`locks`]: one thing at a time is done to a container.
//!
//! Everything is on the host: in the state directory, in runc's, and in mounts, control groups and processes, none of
//! which ends with this process. Never pulls an image, never makes a network.

mod cgroup;
mod console;
mod exec;
mod host;
mod layers;
mod locks;
mod pod;
mod record;
mod runc;
mod runtime;
mod seccomp;
mod shim;
mod signal;
mod spec;
#[cfg(test)]
mod tests;
mod user;

use std::path::PathBuf;

use runtimes::log::Rotation;

pub use runtime::OciRuntime;

/// What the runtime works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where layers, containers and what pods share are kept; made if it is not there.
    pub state_dir: PathBuf,
    /// The name of wk's own control group on this host, which no other wk may have.
    pub group: String,
    /// The program, by its path or by its name in `PATH`.
    pub runc: PathBuf,
    pub rotation: Rotation,
    /// How many processes and threads a pod may have; `None` is unlimited.
    pub pids: Option<u64>,
}

impl Config {
    /// With this host's runc, and logs as in Kubernetes.
    pub fn new(state_dir: impl Into<PathBuf>, group: impl Into<String>) -> Config {
        Config {
            state_dir: state_dir.into(),
            group: group.into(),
            runc: PathBuf::from("runc"),
            rotation: Rotation::default(),
            pids: Some(cgroup::DEFAULT_PIDS),
        }
    }
}
