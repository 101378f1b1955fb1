//! What the Node object says.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
        NodeSpec, NodeStatus, NodeSwapStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use runtimes::Image;
use tokio::time::Instant;

use crate::{
    config::{Config, PodRange},
    host,
};

/// How well the node is, as its conditions tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Health {
    /// Why the node cannot take pods; `None` if it can.
    pub(crate) not_ready: Option<String>,
    pub(crate) memory_pressure: bool,
    pub(crate) disk_pressure: bool,
    pub(crate) pid_pressure: bool,
}

/// Below this part of its inodes a file system is full.
const MIN_FREE_INODES: f64 = 0.05;
/// Names of one image that the status has room for.
const NAMES: usize = 5;

/// Looks at the host. `range` is `spec.podCIDR` as the API has it.
pub(crate) fn health(config: &Config, range: Option<&str>) -> Health {
    let (_, free_memory) = host::memory();
    let disk = host::disk(&config.state_dir);
    let few_inodes = (disk.free_inodes as f64) < disk.inodes as f64 * MIN_FREE_INODES;
    let (threads, limit) = host::threads();
    let waits = config.pod_range == PodRange::Assigned && range.is_none_or(str::is_empty);
    Health {
        not_ready: waits.then(|| {
            "the node has no pod range yet: the node controller assigns spec.podCIDR".to_owned()
        }),
        memory_pressure: free_memory < config.min_free_memory_bytes,
        disk_pressure: disk.free_bytes < config.min_free_disk_bytes || few_inodes,
        pid_pressure: threads > limit / 10 * 9,
    }
}

/// When each pressure was last seen.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pressures {
    memory: Option<Instant>,
    disk: Option<Instant>,
    pid: Option<Instant>,
}

impl Pressures {
    /// Keeps a pressure up for `period` after it was last seen.
    pub(crate) fn hold(&mut self, mut health: Health, period: Duration, now: Instant) -> Health {
        let hold = |seen: &mut Option<Instant>, holds: &mut bool| {
            if *holds {
                *seen = Some(now);
            }
            *holds = seen.is_some_and(|seen| now - seen < period);
        };
        hold(&mut self.memory, &mut health.memory_pressure);
        hold(&mut self.disk, &mut health.disk_pressure);
        hold(&mut self.pid, &mut health.pid_pressure);
        health
    }
}

/// The largest images of the node, as the status names them: contents once, by all their names.
pub(crate) fn images(images: &[Image], most: usize) -> Vec<ContainerImage> {
    let mut contents: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for image in images {
        let (_, names) = contents
            .entry(&image.digest)
            .or_insert((image.size_bytes, Vec::new()));
        let repository = runtimes::images::repository(&image.reference);
        names.extend([
            format!("{repository}@{}", image.digest),
            image.reference.clone(),
        ]);
    }
    let mut list: Vec<_> = contents.into_values().collect();
    list.sort_by(|(a, _), (b, _)| b.cmp(a));
    list.truncate(most);
    list.into_iter()
        .map(|(size, mut names)| {
            names.sort();
            names.dedup();
            names.truncate(NAMES);
            ContainerImage {
                names: Some(names),
                size_bytes: i64::try_from(size).ok(),
            }
        })
        .collect()
}

/// What the labels that say what a node can run begin with; the runtime's name follows.
pub(crate) const RUNTIME_LABELS: &str = "runtime.wk.dev/";

/// The Node's labels.
pub(crate) fn labels(config: &Config) -> BTreeMap<String, String> {
    let (os, arch) = ("linux".to_owned(), host::architecture().to_owned());
    let mut labels = config.labels.clone();
    labels.extend([
        ("kubernetes.io/hostname".to_owned(), config.hostname.clone()),
        ("kubernetes.io/os".to_owned(), os.clone()),
        ("kubernetes.io/arch".to_owned(), arch.clone()),
        ("beta.kubernetes.io/os".to_owned(), os),
        ("beta.kubernetes.io/arch".to_owned(), arch),
    ]);
    labels
}

/// The Node as it is registered.
pub(crate) fn node(config: &Config, status: NodeStatus) -> Node {
    let pod_cidr = match &config.pod_range {
        PodRange::Assigned => None,
        PodRange::Fixed(range) => Some(range.clone()),
    };
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidrs: pod_cidr.clone().map(|range| vec![range]),
            pod_cidr,
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

/// What the node has.
pub(crate) fn capacity(config: &Config) -> BTreeMap<String, Quantity> {
    resources(config, 0, 0)
}

/// What of it pods may have: all but what keeps the node out of pressure.
pub(crate) fn allocatable(config: &Config) -> BTreeMap<String, Quantity> {
    resources(
        config,
        config.min_free_memory_bytes,
        config.min_free_disk_bytes,
    )
}

fn resources(config: &Config, less_memory: u64, less_disk: u64) -> BTreeMap<String, Quantity> {
    let capacity = config.capacity;
    let cpu = match capacity.cpu_millis {
        Some(millis) if millis % 1_000 != 0 => format!("{millis}m"),
        Some(millis) => (millis / 1_000).to_string(),
        None => host::cores().to_string(),
    };
    let memory = capacity.memory_bytes.unwrap_or_else(|| host::memory().0);
    let disk = capacity
        .ephemeral_storage_bytes
        .unwrap_or_else(|| host::disk(&config.state_dir).bytes);
    let kibibytes = |bytes: u64, less: u64| format!("{}Ki", bytes.saturating_sub(less) >> 10);
    [
        ("cpu", cpu),
        ("memory", kibibytes(memory, less_memory)),
        ("ephemeral-storage", kibibytes(disk, less_disk)),
        ("pods", config.max_pods.to_string()),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), Quantity(text)))
    .collect()
}

/// The Node's status. `before` gives conditions that did not change their transition times.
pub(crate) fn status(
    config: &Config,
    runtimes: &[String],
    images: Vec<ContainerImage>,
    health: &Health,
    before: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let mut addresses: Vec<NodeAddress> = config
        .addresses
        .iter()
        .map(|ip: &IpAddr| address("InternalIP", ip.to_string()))
        .collect();
    addresses.push(address("Hostname", config.hostname.clone()));
    NodeStatus {
        capacity: Some(capacity(config)),
        allocatable: Some(allocatable(config)),
        addresses: Some(addresses),
        images: Some(images),
        conditions: Some(conditions(health, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(config.port),
            }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: host::architecture().to_owned(),
            boot_id: host::line("/proc/sys/kernel/random/boot_id"),
            container_runtime_version: runtimes.join(","),
            kernel_version: host::line("/proc/sys/kernel/osrelease"),
            kube_proxy_version: String::new(),
            kubelet_version: config.version.clone(),
            machine_id: host::line("/etc/machine-id"),
            operating_system: "linux".to_owned(),
            os_image: host::os_image(),
            swap: i64::try_from(host::swap().0)
                .ok()
                .filter(|capacity| *capacity > 0)
                .map(|capacity| NodeSwapStatus {
                    capacity: Some(capacity),
                }),
            system_uuid: match host::line("/sys/class/dmi/id/product_uuid") {
                uuid if uuid.is_empty() => host::line("/etc/machine-id"),
                uuid => uuid,
            },
        }),
        ..NodeStatus::default()
    }
}

fn conditions(health: &Health, before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let condition = |type_: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let before = before
            .and_then(|before| before.conditions.as_ref())
            .into_iter()
            .flatten();
        let same = before
            .clone()
            .find(|condition| condition.type_ == type_ && condition.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: same
                .and_then(|same| same.last_transition_time.clone())
                .or(Some(Time(now))),
        }
    };
    let pressure = |type_, holds, yes: &str, no: &str, more: &str, enough: &str| {
        if holds {
            condition(type_, true, yes, more)
        } else {
            condition(type_, false, no, enough)
        }
    };
    vec![
        pressure(
            "MemoryPressure",
            health.memory_pressure,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "kubelet has insufficient memory available",
            "kubelet has sufficient memory available",
        ),
        pressure(
            "DiskPressure",
            health.disk_pressure,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has disk pressure",
            "kubelet has no disk pressure",
        ),
        pressure(
            "PIDPressure",
            health.pid_pressure,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "kubelet has insufficient PID available",
            "kubelet has sufficient PID available",
        ),
        match &health.not_ready {
            None => condition(
                "Ready",
                true,
                "KubeletReady",
                "kubelet is posting ready status",
            ),
            Some(why) => condition("Ready", false, "KubeletNotReady", why),
        },
    ]
}

#[cfg(test)]
mod tests {
    use runtimes::fake::FakeImages;

    use super::*;

    #[test]
    fn an_image_is_named_once_by_all_its_names_and_the_largest_come_first() {
        let image = |reference: &str, digest: &str, size_bytes| Image {
            digest: digest.to_owned(),
            size_bytes,
            ..FakeImages::image(reference)
        };
        let all = [
            image("r/a:1", "sha256:a", 10),
            image("r/b@sha256:b", "sha256:b", 30),
            image("r/a:2", "sha256:a", 10),
            image("r/c", "sha256:c", 5),
        ];
        let listed = images(&all, 2);
        let listed: Vec<String> = listed
            .iter()
            .map(|image| {
                let names = image.names.clone().unwrap_or_default();
                format!("{} {:?}", names.join(" "), image.size_bytes)
            })
            .collect();
        assert_eq!(
            listed,
            ["r/b@sha256:b Some(30)", "r/a:1 r/a:2 r/a@sha256:a Some(10)"]
        );
    }

    #[test]
    fn a_pressure_lasts_for_a_while() {
        let mut pressures = Pressures::default();
        let (start, period) = (Instant::now(), Duration::from_secs(300));
        let mut at = |seconds, memory_pressure| {
            let health = Health {
                not_ready: None,
                memory_pressure,
                disk_pressure: false,
                pid_pressure: false,
            };
            let now = start + Duration::from_secs(seconds);
            pressures.hold(health, period, now).memory_pressure
        };
        let seen = [
            at(0, false),
            at(10, true),
            at(20, false),
            at(309, false),
            at(310, false),
        ];
        assert_eq!(seen, [false, true, true, true, false]);
    }

    #[test]
    fn pods_get_what_keeps_the_node_out_of_pressure() {
        let mut config = Config::new("n1", Vec::new(), "/");
        config.capacity.memory_bytes = Some(1 << 30);
        config.capacity.ephemeral_storage_bytes = Some(10 << 30);
        config.capacity.cpu_millis = Some(1_500);
        let text = |resources: BTreeMap<String, Quantity>| {
            let parts = resources
                .iter()
                .map(|(name, quantity)| format!("{name}={}", quantity.0));
            parts.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(capacity(&config)),
            "cpu=1500m ephemeral-storage=10485760Ki memory=1048576Ki pods=16000"
        );
        assert_eq!(
            text(allocatable(&config)),
            "cpu=1500m ephemeral-storage=10223616Ki memory=946176Ki pods=16000"
        );
    }
}
