//! `/stats/summary`: what is used, as the kubelet's Summary (`stats/v1alpha1`) has it. Pure.
//!
//! What is on disk is told of every pod, the rest of those that run. What the node does not measure is left out. Beside
//! Kubernetes' fields, `cpu.windowSeconds` says over how long `usageNanoCores` is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    ContainerUsage, NodeUsage, Used,
    disk::{DiskUsage, PodDisk, Space, Taken},
};
use crate::host::Room;

/// What the host has beside what is sampled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host {
    pub(crate) now: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) available_bytes: u64,
    pub(crate) disk: Room,
    /// Threads, and how many there may be.
    pub(crate) threads: (u64, u64),
    /// Swap space, and how much of it is free.
    pub(crate) swap: (u64, u64),
}

/// The Summary of a node.
pub(crate) fn of(node_name: &str, host: Host, usage: &NodeUsage, disks: &DiskUsage) -> Value {
    let Host {
        available_bytes,
        now,
        disk,
        threads: (threads, most),
        swap: (swap, free_swap),
        ..
    } = host;
    let room = json!({
        "time": now,
        "capacityBytes": disk.bytes,
        "availableBytes": disk.free_bytes,
        "usedBytes": disk.bytes.saturating_sub(disk.free_bytes),
        "inodes": disk.inodes,
        "inodesFree": disk.free_inodes,
        "inodesUsed": disk.inodes.saturating_sub(disk.free_inodes),
    });
    let mut node = json!({
        "nodeName": node_name,
        // Logs, volumes and images share a file system.
        "fs": room,
        "runtime": {"imageFs": room, "containerFs": room},
        "rlimit": {"time": now, "maxpid": most, "curproc": threads},
        "swap": {
            "time": now,
            "swapAvailableBytes": free_swap,
            "swapUsageBytes": swap.saturating_sub(free_swap),
        },
    });
    if let Some(started) = host.started {
        node["startTime"] = json!(started);
    }
    if let Some(used) = &usage.node {
        node["cpu"] = cpu(&[used]);
        node["memory"] = memory(&[used]);
        node["memory"]["availableBytes"] = available_bytes.into();
    }
    let running = usage.containers.chunk_by(|a, b| a.place.uid == b.place.uid);
    let mut pods: BTreeMap<(&str, &str, &str), Value> = running
        .map(|containers| {
            let place = &containers[0].place;
            (
                (&*place.namespace, &*place.pod, &*place.uid),
                pod(containers),
            )
        })
        .collect();
    for used in &disks.pods {
        let key = (&*used.pod.namespace, &*used.pod.name, &*used.pod.uid);
        let pod = pods.entry(key).or_insert_with(|| {
            let (namespace, name, uid) = key;
            json!({"podRef": {"name": name, "namespace": namespace, "uid": uid}, "containers": []})
        });
        add_disk(pod, used, disks);
    }
    let pods: Vec<Value> = pods.into_values().collect();
    json!({"node": node, "pods": pods})
}

/// What a pod takes of the disk, and each of its containers and volumes.
fn add_disk(pod: &mut Value, used: &PodDisk, disk: &DiskUsage) {
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        let logs = container["name"]
            .as_str()
            .and_then(|name| used.logs.get(name));
        container["logs"] = taken(disk.time, logs.copied().unwrap_or_default(), disk.space);
        let root = container["name"]
            .as_str()
            .and_then(|name| used.roots.get(name));
        container["rootfs"] = taken(disk.time, root.copied().unwrap_or_default(), disk.space);
    }
    pod["ephemeral-storage"] = taken(disk.time, used.ephemeral(), disk.space);
    let volumes: Vec<Value> = used
        .volumes
        .iter()
        .map(|volume| {
            let mut stats = taken(disk.time, volume.taken, volume.space);
            stats["name"] = volume.name.as_str().into();
            if let Some(claim) = &volume.claim {
                stats["pvcRef"] = json!({"name": claim, "namespace": used.pod.namespace});
            }
            stats
        })
        .collect();
    if !volumes.is_empty() {
        pod["volume"] = volumes.into();
    }
}

fn taken(time: Timestamp, taken: Taken, space: Space) -> Value {
    let mut stats = file_system(time, space);
    stats["usedBytes"] = taken.bytes.into();
    stats["inodesUsed"] = taken.inodes.into();
    stats
}

fn file_system(time: Timestamp, space: Space) -> Value {
    json!({
        "time": time,
        "availableBytes": space.available_bytes,
        "capacityBytes": space.capacity_bytes,
    })
}

fn pod(containers: &[ContainerUsage]) -> Value {
    let place = &containers[0].place;
    let all: Vec<&Used> = containers.iter().map(|container| &container.used).collect();
    let started = containers
        .iter()
        .map(|container| container.started_at)
        .min();
    let containers: Vec<Value> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.place.container,
                "startTime": container.started_at,
                "cpu": cpu(&[&container.used]),
                "memory": memory(&[&container.used]),
            })
        })
        .collect();
    json!({
        "podRef": {"name": place.pod, "namespace": place.namespace, "uid": place.uid},
        "startTime": started,
        "containers": containers,
        "cpu": cpu(&all),
        "memory": memory(&all),
    })
}

/// CPU time of some things together; a rate only if each of them has one.
fn cpu(all: &[&Used]) -> Value {
    let nanos: u128 = all.iter().map(|used| used.cpu.as_nanos()).sum();
    let mut cpu = json!({
        "time": all.iter().map(|used| used.time).min(),
        "usageCoreNanoSeconds": u64::try_from(nanos).unwrap_or(u64::MAX),
    });
    let rates: Option<Vec<_>> = all.iter().map(|used| used.rate).collect();
    if let Some(rates) = rates {
        let nano_cores: u64 = rates.iter().map(|rate| rate.nano_cores).sum();
        let window = rates.iter().map(|rate| rate.window).max();
        cpu["usageNanoCores"] = nano_cores.into();
        cpu["windowSeconds"] = window.unwrap_or_default().as_secs_f64().into();
    }
    cpu
}

fn memory(all: &[&Used]) -> Value {
    let bytes: u64 = all.iter().map(|used| used.memory_bytes).sum();
    json!({
        "time": all.iter().map(|used| used.time).min(),
        "usageBytes": bytes,
        "workingSetBytes": bytes,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::*;
    use crate::usage::{Place, disk::VolumeUse, series::Rate};

    pub(crate) fn used(millis: u64, memory_bytes: u64, nano_cores: Option<u64>) -> Used {
        Used {
            time: Timestamp::UNIX_EPOCH,
            cpu: Duration::from_millis(millis),
            memory_bytes,
            rate: nano_cores.map(|nano_cores| Rate {
                nano_cores,
                window: Duration::from_millis(15_250),
            }),
        }
    }

    pub(crate) fn container(pod: &str, name: &str, used: Used) -> ContainerUsage {
        ContainerUsage {
            place: Place {
                namespace: "ns".to_owned(),
                pod: pod.to_owned(),
                uid: format!("{pod}-uid"),
                container: name.to_owned(),
            },
            started_at: Timestamp::UNIX_EPOCH,
            used,
        }
    }

    /// A pod that runs nothing, with two kinds of volumes.
    fn pod_disk() -> PodDisk {
        let volume = |name: &str, claim: Option<&str>| VolumeUse {
            name: name.to_owned(),
            claim: claim.map(str::to_owned),
            taken: Taken {
                bytes: 50,
                inodes: 2,
            },
            space: Space::default(),
            ephemeral: claim.is_none(),
        };
        PodDisk {
            pod: runtimes::PodRef {
                namespace: "ns".to_owned(),
                name: "z".to_owned(),
                uid: "z-uid".to_owned(),
            },
            logs: BTreeMap::from([(
                "c".to_owned(),
                Taken {
                    bytes: 7,
                    inodes: 1,
                },
            )]),
            roots: BTreeMap::new(),
            volumes: vec![volume("scratch", None), volume("data", Some("claim"))],
        }
    }

    #[test]
    fn what_is_on_disk_is_told_of_pods_that_do_not_run_too() {
        let disk = DiskUsage {
            time: Timestamp::UNIX_EPOCH,
            space: Space::default(),
            pods: vec![pod_disk()],
        };
        let summary = of("n1", Host::default(), &NodeUsage::default(), &disk);
        expect![[r#"{"containers":[],"ephemeral-storage":{"availableBytes":0,"capacityBytes":0,"inodesUsed":3,"time":"1970-01-01T00:00:00Z","usedBytes":57},"podRef":{"name":"z","namespace":"ns","uid":"z-uid"},"volume":[{"availableBytes":0,"capacityBytes":0,"inodesUsed":2,"name":"scratch","time":"1970-01-01T00:00:00Z","usedBytes":50},{"availableBytes":0,"capacityBytes":0,"inodesUsed":2,"name":"data","pvcRef":{"name":"claim","namespace":"ns"},"time":"1970-01-01T00:00:00Z","usedBytes":50}]}"#]].assert_eq(&summary["pods"][0].to_string());
    }

    #[test]
    fn a_pod_is_the_sum_of_its_containers_and_has_a_rate_when_all_of_them_do() {
        let usage = NodeUsage {
            node: Some(used(9000, 4096, Some(700))),
            containers: vec![
                container("a", "c", used(10, 100, Some(1))),
                container("a", "d", used(20, 200, Some(2))),
                container("b", "c", used(30, 300, None)),
            ],
        };
        let host = Host {
            available_bytes: 8192,
            disk: Room {
                bytes: 100,
                free_bytes: 40,
                inodes: 10,
                free_inodes: 4,
            },
            threads: (7, 900),
            ..Host::default()
        };
        let disks = DiskUsage {
            time: Timestamp::UNIX_EPOCH,
            space: Space {
                capacity_bytes: 1000,
                available_bytes: 400,
            },
            pods: vec![pod_disk()],
        };
        let summary = of("n1", host, &usage, &disks);
        expect![[r#"{"cpu":{"time":"1970-01-01T00:00:00Z","usageCoreNanoSeconds":9000000000,"usageNanoCores":700,"windowSeconds":15.25},"fs":{"availableBytes":40,"capacityBytes":100,"inodes":10,"inodesFree":4,"inodesUsed":6,"time":"1970-01-01T00:00:00Z","usedBytes":60},"memory":{"availableBytes":8192,"time":"1970-01-01T00:00:00Z","usageBytes":4096,"workingSetBytes":4096},"nodeName":"n1","rlimit":{"curproc":7,"maxpid":900,"time":"1970-01-01T00:00:00Z"},"runtime":{"containerFs":{"availableBytes":40,"capacityBytes":100,"inodes":10,"inodesFree":4,"inodesUsed":6,"time":"1970-01-01T00:00:00Z","usedBytes":60},"imageFs":{"availableBytes":40,"capacityBytes":100,"inodes":10,"inodesFree":4,"inodesUsed":6,"time":"1970-01-01T00:00:00Z","usedBytes":60}},"swap":{"swapAvailableBytes":0,"swapUsageBytes":0,"time":"1970-01-01T00:00:00Z"}}"#]]
        .assert_eq(&summary["node"].to_string());
        let pods: String = summary["pods"]
            .as_array()
            .expect("pods")
            .iter()
            .map(|pod| {
                format!(
                    "{} {} {} {}\n",
                    pod["podRef"],
                    pod["cpu"],
                    pod["memory"]["workingSetBytes"],
                    pod["containers"].as_array().map_or(0, Vec::len)
                )
            })
            .collect();
        expect![[r#"
            {"name":"a","namespace":"ns","uid":"a-uid"} {"time":"1970-01-01T00:00:00Z","usageCoreNanoSeconds":30000000,"usageNanoCores":3,"windowSeconds":15.25} 300 2
            {"name":"b","namespace":"ns","uid":"b-uid"} {"time":"1970-01-01T00:00:00Z","usageCoreNanoSeconds":30000000} 300 1
            {"name":"z","namespace":"ns","uid":"z-uid"} null null 0
        "#]]
        .assert_eq(&pods);
    }
}
