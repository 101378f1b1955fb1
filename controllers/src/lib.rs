//! The controllers: each makes one kind of promise of the Kubernetes API come true.
//!
//! They speak to the apiserver through a [`kube::Client`] and hold nothing that a restart would
//! lose. In reading order: the crate [`reconcile`]; [`cache`], [`events`], [`context`]; then
//! one file a controller, [`access`] for those of identities and [`volume`] for those of storage.

mod access;
mod autoscaler;
mod cache;
mod chart_release;
mod clock;
#[cfg(test)]
mod cluster;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod events;
#[cfg(test)]
mod fake_api;
mod garbage_collector;
mod history;
mod inventory;
mod job;
mod manager;
pub mod metrics;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod;
mod pod_control;
mod pod_gc;
mod quantity;
mod replicaset;
mod scale;
mod selector;
mod statefulset;
mod taint;
mod taint_eviction;
mod template;
#[cfg(test)]
mod tests;
mod ttl_after_finished;
mod volume;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use reconcile::{error, key, queue};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::context::Context;
use crate::events::EventWriter;
use crate::inventory::Inventory;
use crate::manager::Manager;
use crate::queue::Queue;

pub use access::authority;
pub use autoscaler::Autoscaling;
pub use error::Error;
pub use key::Key;

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// First address of the range that pods get theirs from.
    pub pod_range: Ipv4Addr,
    /// Its prefix length.
    pub pod_range_prefix: u8,
    /// The prefix length of the part that each node gets.
    pub node_prefix: u8,
    /// How long a node may be silent before it counts as lost.
    pub node_grace: Duration,
    /// Signs tokens and certificates. `None`: no controller of identities runs.
    pub authority: Option<Arc<dyn authority::Authority>>,
    /// Pods that have ended and are kept; beyond that the oldest are deleted. 0 keeps all.
    pub ended_pods: usize,
    /// How many objects a controller works on at a time.
    pub workers: usize,
    /// How HorizontalPodAutoscalers work.
    pub autoscaling: Autoscaling,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pod_range: Ipv4Addr::new(10, 64, 0, 0),
            pod_range_prefix: 10,
            node_prefix: 18,
            node_grace: Duration::from_secs(50),
            authority: None,
            ended_pods: 12_500,
            workers: 8,
            autoscaling: Autoscaling::default(),
        }
    }
}

/// All controllers, ready to run.
pub struct Controllers {
    client: Client,
    config: Config,
}

impl Controllers {
    /// The client's identity should be `system:kube-controller-manager`.
    pub fn new(client: Client, config: Config) -> Self {
        Self { client, config }
    }

    /// Runs every controller until `stop`, then lets them finish what they have in hand.
    ///
    /// # Errors
    /// When a controller ended in a panic.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (recorder, writer) = EventWriter::new(self.client.clone());
        let context = Context::new(self.client, self.config, recorder);
        let inventory = Inventory::new(context.client.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(stop.clone()));
        if let Some(authority) = context.config.authority.clone() {
            let access = Access::new(context.clone(), authority);
            context.namespaces.listen(access.on_namespace());
            tasks.spawn(access.run(stop.clone()));
        }
        let mut manager = Manager::new(context.clone(), inventory.clone());
        start(&mut manager);
        context.watch(&mut tasks, &stop);
        tasks.spawn(inventory.run(stop.clone()));
        tokio::select! {
            () = stop.cancelled() => {}
            () = context.ready() => manager.run(&mut tasks, &stop),
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("run a controller")?;
        }
        Ok(())
    }
}

/// Adds every controller that watches through the context.
fn start(manager: &mut Manager) {
    replicaset::start(manager);
    deployment::start(manager);
    daemonset::start(manager);
    statefulset::start(manager);
    job::start(manager);
    cronjob::start(manager);
    chart_release::start(manager);
    ttl_after_finished::start(manager);
    endpointslice::start(manager);
    endpoints::start(manager);
    disruption::start(manager);
    autoscaler::start(manager);
    node_ipam::start(manager);
    node_lifecycle::start(manager);
    taint_eviction::start(manager);
    pod_gc::start(manager);
    volume::start(manager);
    let (garbage, namespaces) = (Queue::new("garbage-collector"), Queue::new("namespace"));
    let on_change = namespace::on_change(&manager.context, &namespaces);
    manager.inventory.listen(garbage.clone(), on_change);
    namespace::start(manager, namespaces);
    garbage_collector::start(manager, garbage);
}
