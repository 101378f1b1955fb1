//! What runc is told of a container: its `config.json`, from a container's spec and its image.
//!
//! Pure: [`Bundle`] holds all that was looked up on the host. What Kubernetes leaves to the runtime is as containerd
//! does it. Source: the OCI runtime specification 1.0.2, which runc 1.1 implements.

pub(crate) mod capabilities;
pub(crate) mod devices;
pub(crate) mod mounts;
pub(crate) mod process;

use std::path::{Path, PathBuf};

use oci_spec::{
    image::ImageConfiguration,
    runtime::{
        Capability, Linux, LinuxDevice, LinuxNamespace, LinuxNamespaceType, LinuxResources,
        LinuxSeccomp, RootBuilder, Spec,
    },
};
use runtimes::{ContainerSpec, RuntimeError};

use crate::user::Identity;

/// The version of the specification that a `config.json` follows.
const VERSION: &str = "1.0.2";

/// What a container may not see: of the kernel's, what tells of the host or of others on it.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What it may see and not change.
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What the host offers to containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// What this process may do, and so what it can give.
    pub(crate) capabilities: Vec<Capability>,
    /// Whether there is one hierarchy of cgroups (version 2), of which a container gets its own view.
    pub(crate) unified: bool,
    /// Whether a mount can be made read-only with all that is mounted below it (Linux 5.12).
    pub(crate) recursive_read_only: bool,
}

/// The process namespace of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Processes {
    Own,
    Host,
    /// Another's: the pod's, or a container's.
    Of(PathBuf),
}

/// Everything that a `config.json` is made of.
pub(crate) struct Bundle<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) image: &'a ImageConfiguration,
    pub(crate) identity: &'a Identity,
    pub(crate) host: &'a Host,
    /// Where the image's layers are mounted.
    pub(crate) root: &'a Path,
    /// The pod's namespaces; `None` is the host's.
    pub(crate) ipc: Option<&'a Path>,
    pub(crate) uts: Option<&'a Path>,
    pub(crate) processes: Processes,
    /// What is mounted at `/dev/shm`.
    pub(crate) shm: &'a Path,
    pub(crate) cgroup: String,
    pub(crate) resources: LinuxResources,
    /// Those of the container's spec, or all of the host's.
    pub(crate) devices: Vec<devices::Found>,
    pub(crate) seccomp: Option<LinuxSeccomp>,
}

/// The `config.json`.
///
/// # Errors
/// `Invalid`: there is nothing to run, or a name that does not exist.
pub(crate) fn config(bundle: Bundle<'_>) -> Result<Spec, RuntimeError> {
    let security = &bundle.spec.security;
    let capabilities = capabilities::of(security, &bundle.host.capabilities)?;
    let process = process::of(bundle.spec, bundle.image, bundle.identity, capabilities)?;
    let root = RootBuilder::default()
        .path(bundle.root)
        .readonly(security.read_only_root)
        .build()
        .expect("every field has a value");
    let mounts = mounts::of(bundle.spec, bundle.host, bundle.shm);
    let mut config = Spec::default();
    config
        .set_version(VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_mounts(Some(mounts))
        .set_hostname(None)
        .set_annotations(None)
        .set_linux(Some(linux(bundle)));
    Ok(config)
}

fn linux(bundle: Bundle<'_>) -> Linux {
    let security = &bundle.spec.security;
    let open = security.privileged || security.unmasked_proc;
    let paths = |paths: &[&str]| {
        let paths = paths.iter().filter(|_| !open);
        Some(paths.map(|path| (*path).to_owned()).collect::<Vec<_>>())
    };
    let sysctls = security.sysctls.iter().cloned().collect();
    let mut resources = bundle.resources.clone();
    resources.set_devices(Some(devices::rules(security.privileged, &bundle.devices)));
    let found = bundle.devices.iter();
    let devices: Vec<LinuxDevice> = found.map(|found| found.device.clone()).collect();
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(&bundle)))
        .set_sysctl(Some(sysctls))
        .set_cgroups_path(Some(PathBuf::from(&bundle.cgroup)))
        .set_resources(Some(resources))
        .set_devices(Some(devices))
        .set_masked_paths(paths(MASKED))
        .set_readonly_paths(paths(READ_ONLY))
        .set_rootfs_propagation(mounts::root_propagation(&bundle.spec.mounts))
        .set_seccomp(bundle.seccomp);
    linux
}

/// Which namespaces the container is in that are not the host's.
fn namespaces(bundle: &Bundle<'_>) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let namespace = |kind, path: Option<&Path>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path.map(Path::to_owned));
        namespace
    };
    let network = bundle.spec.namespaces.network.as_deref();
    let shared = [(Network, network), (Ipc, bundle.ipc), (Uts, bundle.uts)];
    let shared = shared.into_iter().filter(|(_, path)| path.is_some());
    let mut namespaces = vec![namespace(Mount, None)];
    namespaces.extend(shared.map(|(kind, path)| namespace(kind, path)));
    match &bundle.processes {
        Processes::Own => namespaces.push(namespace(Pid, None)),
        Processes::Of(path) => namespaces.push(namespace(Pid, Some(path))),
        Processes::Host => {}
    }
    if bundle.host.unified && !bundle.spec.security.privileged {
        namespaces.push(namespace(Cgroup, None));
    }
    namespaces
}

#[cfg(test)]
pub(crate) mod tests;
