//! What a nodelet is told when it starts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use metrics::Metrics;

/// Where the node's pod addresses come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PodRange {
    /// The node controller writes `spec.podCIDR`; the node is not Ready before that.
    Assigned,
    /// This range, written to `spec.podCIDR` when the node registers.
    Fixed(String),
}

/// What the node offers where it should differ from what the host has; `None` asks the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub ephemeral_storage_bytes: Option<u64>,
}

/// A TCP port of the node that pods do not get as a `hostPort`: it would take the traffic of what listens there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedPort {
    pub address: SocketAddr,
    /// Whose it is, in words for users.
    pub what: &'static str,
}

/// A nodelet's settings. Plain data; [`Config::validate`] says what is wrong with it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Node's name: a DNS subdomain.
    pub node_name: String,
    /// The node's own addresses (`InternalIP`); the first is the pods' `hostIP`.
    pub addresses: Vec<IpAddr>,
    /// What `kubernetes.io/hostname` and the `Hostname` address say.
    pub hostname: String,
    /// Where the nodelet's own server listens; `daemonEndpoints.kubeletEndpoint.Port`.
    pub port: u16,
    /// Ports of the node that are not for pods: where the nodelet's server listens, and what else is in its process.
    pub reserved_ports: Vec<ReservedPort>,
    pub pod_range: PodRange,
    /// Holds `<namespace>_<pod>_<uid>/<container>/<attempt>.log`.
    pub log_dir: PathBuf,
    /// Holds `<uid>/volumes/<kind>/<name>` and `<uid>/containers/<name>/<attempt>`; a pod's directory goes with the pod.
    pub pods_dir: PathBuf,
    /// Where one file system in memory holds Secrets and tokens, if this process may mount; `None` keeps them in
    /// `pods_dir`, and mounts nothing for volumes.
    pub memory_dir: Option<PathBuf>,
    /// On the file system that ephemeral storage is measured on.
    pub state_dir: PathBuf,
    /// Holds the volumes that are made on this node: `pvc-<uid of the claim>`.
    pub volumes_dir: PathBuf,
    /// Holds seccomp profiles of the node, which `seccompProfile.localhostProfile` names.
    pub seccomp_dir: PathBuf,
    /// Where names of the cluster are looked up; empty: containers look names up as the host does.
    pub cluster_dns: Vec<IpAddr>,
    /// What names of the cluster end with.
    pub cluster_domain: String,
    /// How the host looks names up.
    pub resolv_conf: PathBuf,
    /// Kernel parameters that pods may set beyond those that touch nobody else; a `*` at the end stands for the rest.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Runtimes that this node does not have, and what it lacks for them, in words for users.
    pub unavailable_runtimes: BTreeMap<&'static str, String>,
    /// A directory of manifests of pods that run without being asked by the API (static pods).
    pub static_pods: Option<PathBuf>,
    pub capacity: Capacity,
    pub max_pods: u32,
    /// `nodeInfo.kubeletVersion`.
    pub version: String,
    /// More labels for the Node.
    pub labels: BTreeMap<String, String>,
    /// How often the Lease is renewed.
    pub lease_period: Duration,
    /// How long the Lease says the node may be silent.
    pub lease_duration: Duration,
    /// How often the node's conditions are looked at; they are written when they changed.
    pub status_period: Duration,
    /// How often an unchanged status is written all the same.
    pub report_period: Duration,
    /// How many containers may be on their way from image to running at once.
    pub concurrent_starts: usize,
    /// How long a session of exec, attach or port-forward may be silent.
    pub streaming_idle_timeout: Duration,
    /// Below this the node has `MemoryPressure`.
    pub min_free_memory_bytes: u64,
    /// Below this the node has `DiskPressure`.
    pub min_free_disk_bytes: u64,
    /// Images that no pod uses are removed when the disk is fuller than this, in percent …
    pub image_gc_high_percent: u8,
    /// … until it is no fuller than this.
    pub image_gc_low_percent: u8,
    /// An image stays for so long, used or not.
    pub image_min_age: Duration,
    /// How long a pressure lasts at least: pods are not sent away and back.
    pub pressure_period: Duration,
    /// Images that the Node's status names; the largest come first.
    pub max_images: usize,
    /// Where its metrics go, and what its server's `/metrics` tells.
    pub metrics: Metrics,
}

impl Config {
    /// The usual settings; logs and state go below `data_dir`.
    pub fn new(
        node_name: impl Into<String>,
        addresses: Vec<IpAddr>,
        data_dir: impl Into<PathBuf>,
    ) -> Config {
        let (node_name, data_dir) = (node_name.into(), data_dir.into());
        Config {
            hostname: node_name.clone(),
            node_name,
            addresses,
            port: 10250,
            reserved_ports: Vec::new(),
            pod_range: PodRange::Assigned,
            log_dir: data_dir.join("logs"),
            volumes_dir: data_dir.join("volumes"),
            pods_dir: data_dir.join("pods"),
            memory_dir: Some(data_dir.join("memory")),
            seccomp_dir: data_dir.join("seccomp"),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            allowed_unsafe_sysctls: Vec::new(),
            unavailable_runtimes: BTreeMap::new(),
            state_dir: data_dir,
            static_pods: None,
            capacity: Capacity::default(),
            // What the node's part of the pod range has addresses for, and 10,000 and more beside.
            max_pods: 16_000,
            version: concat!("v1.36.0+wk", env!("CARGO_PKG_VERSION")).to_owned(),
            labels: BTreeMap::new(),
            lease_period: Duration::from_secs(10),
            lease_duration: Duration::from_secs(40),
            status_period: Duration::from_secs(10),
            report_period: Duration::from_secs(300),
            concurrent_starts: 32,
            streaming_idle_timeout: Duration::from_secs(4 * 60 * 60),
            min_free_memory_bytes: 100 << 20,
            min_free_disk_bytes: 256 << 20,
            image_gc_high_percent: 85,
            image_gc_low_percent: 80,
            image_min_age: Duration::from_secs(120),
            pressure_period: Duration::from_secs(300),
            max_images: 50,
            metrics: Metrics::new(),
        }
    }

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// Names the setting and what it must be.
    pub fn validate(&self) -> anyhow::Result<()> {
        let name = &self.node_name;
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        anyhow::ensure!(
            !name.is_empty() && name.len() <= 253 && name.chars().all(allowed),
            "node name {name:?} must be lower-case letters, digits, '-' and '.', at most 253 of them"
        );
        anyhow::ensure!(
            !self.addresses.is_empty(),
            "node {name} has no address: give it at least one"
        );
        anyhow::ensure!(
            self.concurrent_starts > 0,
            "concurrent starts must be at least 1"
        );
        anyhow::ensure!(
            self.image_gc_low_percent < self.image_gc_high_percent
                && self.image_gc_high_percent <= 100,
            "the low threshold of image garbage collection must be below the high one, both in percent"
        );
        anyhow::ensure!(
            self.lease_period < self.lease_duration,
            "the lease period must be shorter than the lease duration"
        );
        Ok(())
    }
}
