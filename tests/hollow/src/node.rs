//! One node: a real nodelet above fakes.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use anyhow::Result;
use kube::Client;
use nodelet::{Capacity, Config, Nodelet, PodRange};
use runtimes::{
    Runtime,
    fake::{FakeImages, FakeNetwork, FakeRuntime},
};

/// What each node has: what a node of Kubernetes' own benchmarks of the scheduler has.
const CPU_MILLIS: u64 = 4_000;
const MEMORY_BYTES: u64 = 32 << 30;
const MAX_PODS: u32 = 110;

/// Pods' addresses begin here, and each node has 1,024 of them.
const PODS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const RANGE_BITS: u32 = 10;
/// Nodes' own addresses begin here.
const NODES: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);

/// A nodelet for the node of that name, the `place`th of all, that keeps what it must in `directory`.
pub(crate) fn hollow(
    client: Client,
    name: &str,
    place: usize,
    directory: &Path,
) -> Result<Nodelet> {
    let place = u32::try_from(place)?;
    let own: IpAddr = Ipv4Addr::from_bits(NODES.to_bits() + place).into();
    let range = Ipv4Addr::from_bits(PODS.to_bits() + (place << RANGE_BITS));
    let config = Config {
        pod_range: PodRange::Fixed(format!("{range}/{}", 32 - RANGE_BITS)),
        capacity: Capacity {
            cpu_millis: Some(CPU_MILLIS),
            memory_bytes: Some(MEMORY_BYTES),
            ..Capacity::default()
        },
        max_pods: MAX_PODS,
        // It would be a mount for each node.
        memory_dir: None,
        ..Config::new(name, vec![own], directory)
    };
    let runtimes: Vec<Arc<dyn Runtime>> = vec![Arc::new(FakeRuntime::new())];
    let images = Arc::new(FakeImages::new());
    let network = Arc::new(FakeNetwork::after(range));
    let (nodelet, _handle) = Nodelet::new(client, config, runtimes, images, network)?;
    Ok(nodelet)
}
