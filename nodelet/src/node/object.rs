//! What the Node object says.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
        NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};

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

/// Looks at the host. `range` is `spec.podCIDR` as the API has it.
pub(crate) fn health(config: &Config, range: Option<&str>) -> Health {
    let (_, free_memory) = host::memory();
    let (_, free_disk) = host::disk(&config.state_dir);
    let (threads, limit) = host::threads();
    let waits = config.pod_range == PodRange::Assigned && range.is_none_or(str::is_empty);
    Health {
        not_ready: waits.then(|| {
            "the node has no pod range yet: the node controller assigns spec.podCIDR".to_owned()
        }),
        memory_pressure: free_memory < config.min_free_memory_bytes,
        disk_pressure: free_disk < config.min_free_disk_bytes,
        pid_pressure: threads > limit / 10 * 9,
    }
}

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

/// What the node offers: capacity and allocatable alike.
pub(crate) fn resources(config: &Config) -> BTreeMap<String, Quantity> {
    let capacity = config.capacity;
    let cpu = match capacity.cpu_millis {
        Some(millis) if millis % 1_000 != 0 => format!("{millis}m"),
        Some(millis) => (millis / 1_000).to_string(),
        None => host::cores().to_string(),
    };
    let memory = capacity.memory_bytes.unwrap_or_else(|| host::memory().0);
    let disk = capacity
        .ephemeral_storage_bytes
        .unwrap_or_else(|| host::disk(&config.state_dir).0);
    [
        ("cpu", cpu),
        ("memory", format!("{}Ki", memory >> 10)),
        ("ephemeral-storage", format!("{}Ki", disk >> 10)),
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
    health: &Health,
    before: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let resources = resources(config);
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
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        addresses: Some(addresses),
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
            swap: None,
            system_uuid: host::line("/sys/class/dmi/id/product_uuid"),
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
