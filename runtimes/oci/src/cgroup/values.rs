//! From requests and limits to the kernel's figures, as the kubelet counts. Pure.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxCpu, LinuxCpuBuilder, LinuxMemory, LinuxMemoryBuilder, LinuxResources,
};
use runtimes::{ContainerSpec, PodResources, Qos};

use super::layout::Layout;

/// What somebody gets who asks for nothing, and the most that can be asked for.
pub(crate) const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;
const SHARES_A_CORE: u64 = 1024;

/// In which a quota may be used up, in microseconds.
pub(crate) const PERIOD: u64 = 100_000;
const LEAST_QUOTA: u64 = 1000;
/// The kernel's bound.
const MOST_QUOTA: u64 = (1 << 44) - 1;

/// `cpu.shares` for thousandths of a core.
pub(crate) fn shares(millis: u64) -> u64 {
    (millis.saturating_mul(SHARES_A_CORE) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
}

/// `cpu.weight` for `cpu.shares`: from 2–262144 to 1–10000, by KEP-2254.
pub(crate) fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(LEAST_SHARES, MOST_SHARES);
    1 + (shares - LEAST_SHARES) * 9999 / (MOST_SHARES - LEAST_SHARES)
}

/// Microseconds in a [`PERIOD`] for thousandths of a core.
pub(crate) fn quota(millis: u64) -> u64 {
    (millis.saturating_mul(PERIOD) / 1000).clamp(LEAST_QUOTA, MOST_QUOTA)
}

/// A pod's `cpu.shares`.
pub(crate) fn pod_shares(resources: &PodResources) -> u64 {
    match resources.qos {
        Qos::BestEffort => LEAST_SHARES,
        Qos::Guaranteed | Qos::Burstable => shares(resources.requests.cpu_millis.unwrap_or(0)),
    }
}

/// A container's part of runc's configuration.
pub(crate) fn of_container(
    spec: &ContainerSpec,
    layout: &Layout,
    counts_swap: bool,
) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_cpu(Some(cpu(spec)));
    resources.set_memory(memory(spec, counts_swap));
    resources.set_unified(unified(layout, counts_swap));
    resources
}

fn cpu(spec: &ContainerSpec) -> LinuxCpu {
    let requested = spec.requests.cpu_millis.or(spec.limits.cpu_millis);
    let mut cpu = LinuxCpuBuilder::default().shares(shares(requested.unwrap_or(0)));
    if let Some(millis) = spec.limits.cpu_millis {
        cpu = cpu
            .quota(i64::try_from(quota(millis)).unwrap_or(i64::MAX))
            .period(PERIOD);
    }
    cpu.build().expect("every field is optional")
}

/// The limit to memory is the one to memory and swap together.
fn memory(spec: &ContainerSpec, counts_swap: bool) -> Option<LinuxMemory> {
    let limit = i64::try_from(spec.limits.memory_bytes?).unwrap_or(i64::MAX);
    let mut memory = LinuxMemoryBuilder::default().limit(limit);
    if counts_swap {
        memory = memory.swap(limit);
    }
    Some(memory.build().expect("every field is optional"))
}

/// On version 2 a container ends as one when memory runs out, and has no swap whether its memory is limited
/// or not.
fn unified(layout: &Layout, counts_swap: bool) -> Option<HashMap<String, String>> {
    if !matches!(layout, Layout::V2 { .. }) {
        return None;
    }
    let mut files = HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
    if counts_swap {
        files.insert("memory.swap.max".to_owned(), "0".to_owned());
    }
    Some(files)
}
