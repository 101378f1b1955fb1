//! The controllers: each makes one kind of promise of the Kubernetes API come true.
//!
//! They speak to the apiserver through a [`kube::Client`] and hold nothing that a restart would
//! lose. In reading order: [`key`], [`error`], [`cache`], [`queue`], [`events`], [`context`]; then
//! one file a controller, [`access`] for those of identities and [`volume`] for those of storage.

mod access;
mod cache;
#[cfg(test)]
mod cluster;
mod context;
mod deployment;
mod disruption;
mod endpointslice;
mod error;
mod events;
#[cfg(test)]
mod fake_api;
mod garbage_collector;
mod inventory;
mod key;
pub mod metrics;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod;
mod pod_gc;
mod quantity;
mod queue;
mod replicaset;
mod template;
#[cfg(test)]
mod tests;
mod volume;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::context::Context;
use crate::events::EventWriter;
use crate::inventory::Inventory;

pub use access::authority;
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pod_range: Ipv4Addr::new(10, 64, 0, 0),
            pod_range_prefix: 10,
            node_prefix: 18,
            node_grace: Duration::from_secs(40),
            authority: None,
            ended_pods: 12_500,
            workers: 8,
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
        let queues = Queues::default();
        let authority = context.config.authority.clone();
        let access = authority.map(|authority| Access::new(context.clone(), authority));
        queues.listen(&context, &inventory, access.as_deref());
        if let Some(access) = access {
            tasks.spawn(access.run(stop.clone()));
        }
        watch_all(&mut tasks, &context, &inventory, &stop);
        tokio::select! {
            () = stop.cancelled() => {}
            () = context.ready() => start_all(&mut tasks, &context, &inventory, queues, &stop),
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("run a controller")?;
        }
        Ok(())
    }
}

/// One queue for each controller.
struct Queues {
    replicasets: queue::Queue<Key>,
    deployments: queue::Queue<Key>,
    services: queue::Queue<Key>,
    budgets: queue::Queue<Key>,
    ipam: queue::Queue<Key>,
    nodes: queue::Queue<Key>,
    pod_gc: queue::Queue<Key>,
    namespaces: queue::Queue<Key>,
    garbage: queue::Queue<String>,
    claims: queue::Queue<Key>,
    volumes: queue::Queue<Key>,
    claim_protection: queue::Queue<Key>,
    volume_protection: queue::Queue<Key>,
    expansion: queue::Queue<Key>,
    ephemeral: queue::Queue<Key>,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            replicasets: queue::Queue::new("replicaset"),
            deployments: queue::Queue::new("deployment"),
            services: queue::Queue::new("endpointslice"),
            budgets: queue::Queue::new("disruption"),
            ipam: queue::Queue::new("node-ipam"),
            nodes: queue::Queue::new("node-lifecycle"),
            pod_gc: queue::Queue::new("pod-garbage-collector"),
            namespaces: queue::Queue::new("namespace"),
            garbage: queue::Queue::new("garbage-collector"),
            claims: queue::Queue::new("claims"),
            volumes: queue::Queue::new("volumes"),
            claim_protection: queue::Queue::new("pvcprotection"),
            volume_protection: queue::Queue::new("pvprotection"),
            expansion: queue::Queue::new("volume_expand"),
            ephemeral: queue::Queue::new("ephemeral_volume"),
        }
    }
}

impl Queues {
    /// Says which change of which kind wakes which controller.
    fn listen(&self, context: &Arc<Context>, inventory: &Arc<Inventory>, access: Option<&Access>) {
        context.pods.listen(vec![
            replicaset::on_pod(context, &self.replicasets),
            endpointslice::on_pod(context, &self.services),
            disruption::on_pod(context, &self.budgets),
            pod_gc::on_pod(&self.pod_gc),
            volume::binding::on_pod(context, &self.claims),
            volume::protection::on_pod(&self.claim_protection),
            volume::ephemeral::on_pod(&self.ephemeral),
        ]);
        self.listen_to_storage(context);
        context.replicasets.listen(vec![
            replicaset::on_replicaset(&self.replicasets),
            deployment::on_replicaset(context, &self.deployments),
            disruption::on_scale(context, &self.budgets),
        ]);
        context.deployments.listen(vec![
            deployment::on_deployment(&self.deployments),
            disruption::on_scale(context, &self.budgets),
        ]);
        context
            .budgets
            .listen(vec![disruption::on_budget(&self.budgets)]);
        context
            .services
            .listen(vec![endpointslice::on_service(&self.services)]);
        context
            .slices
            .listen(vec![endpointslice::on_slice(&self.services)]);
        context.nodes.listen(vec![
            node_ipam::on_node(&self.ipam),
            node_lifecycle::on_node(&self.nodes),
            pod_gc::on_node(&self.pod_gc),
        ]);
        context
            .leases
            .listen(vec![node_lifecycle::on_lease(context, &self.nodes)]);
        let mut namespace_listeners = vec![namespace::on_namespace(&self.namespaces)];
        namespace_listeners.extend(access.map(Access::on_namespace));
        context.namespaces.listen(namespace_listeners);
        inventory.listen(
            self.garbage.clone(),
            namespace::on_change(context, &self.namespaces),
        );
    }
}

impl Queues {
    /// The same for claims, volumes and their classes.
    fn listen_to_storage(&self, context: &Arc<Context>) {
        context.claims.listen(vec![
            volume::binding::on_claim(&self.claims),
            volume::release::on_claim(context, &self.volumes),
            volume::protection::on_claim(&self.claim_protection),
            volume::expansion::on_claim(&self.expansion),
            volume::ephemeral::on_claim(context, &self.ephemeral),
        ]);
        context.volumes.listen(vec![
            volume::binding::on_volume(context, &self.claims),
            volume::release::on_volume(&self.volumes),
            volume::protection::on_volume(&self.volume_protection),
        ]);
        context
            .classes
            .listen(vec![volume::binding::on_class(context, &self.claims)]);
    }
}

/// Starts the one watch of each kind.
fn watch_all(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    inventory: &Arc<Inventory>,
    stop: &CancellationToken,
) {
    macro_rules! watch {
        ($cache:ident, $api:expr) => {{
            let (context, stop) = (context.clone(), stop.clone());
            tasks.spawn(async move {
                let api = $api(&context);
                context
                    .$cache
                    .run(api, watcher::Config::default(), stop)
                    .await;
            });
        }};
    }
    let all = |context: &Arc<Context>| context.client.clone();
    watch!(pods, |context| kube::Api::all(all(context)));
    watch!(replicasets, |context| kube::Api::all_with(
        all(context),
        &context::replicaset_resource()
    ));
    watch!(deployments, |context| kube::Api::all_with(
        all(context),
        &context::deployment_resource()
    ));
    watch!(services, |context| kube::Api::all(all(context)));
    watch!(slices, |context| kube::Api::all(all(context)));
    watch!(budgets, |context| kube::Api::all(all(context)));
    watch!(nodes, |context| kube::Api::all(all(context)));
    watch!(leases, |context: &Arc<Context>| kube::Api::namespaced(
        all(context),
        "kube-node-lease"
    ));
    watch!(namespaces, |context| kube::Api::all(all(context)));
    watch!(claims, |context| kube::Api::all(all(context)));
    watch!(volumes, |context| kube::Api::all(all(context)));
    watch!(classes, |context| kube::Api::all(all(context)));
    tasks.spawn(inventory.clone().run(stop.clone()));
}

/// Starts the workers of each controller.
fn start_all(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    inventory: &Arc<Inventory>,
    queues: Queues,
    stop: &CancellationToken,
) {
    macro_rules! work {
        ($queue:ident, $workers:expr, $reconcile:expr) => {{
            let (context, inventory, stop) = (context.clone(), inventory.clone(), stop.clone());
            let queue = queues.$queue;
            let workers = $workers;
            tasks.spawn(async move {
                let reconcile = |key| $reconcile(context.clone(), inventory.clone(), key);
                queue.run(workers, stop, reconcile).await;
            });
        }};
    }
    let workers = context.config.workers;
    work!(replicasets, workers, |context, _, key| {
        replicaset::reconcile(context, key)
    });
    work!(deployments, workers, |context, _, key| {
        deployment::reconcile(context, key)
    });
    work!(services, workers, |context, _, key| {
        endpointslice::reconcile(context, key)
    });
    work!(budgets, workers, |context, _, key| {
        disruption::reconcile(context, key)
    });
    // One at a time: two nodes must not get the same range.
    work!(ipam, 1, |context, _, key| node_ipam::reconcile(
        context, key
    ));
    work!(nodes, workers, |context, _, key| node_lifecycle::reconcile(
        context, key
    ));
    queues.pod_gc.add(pod_gc::all());
    let missing = Arc::<pod_gc::Missing>::default();
    work!(pod_gc, 1, |context, _, key| pod_gc::reconcile(
        context,
        missing.clone(),
        key
    ));
    work!(namespaces, workers, namespace::reconcile);
    work!(garbage, workers, |_, inventory, uid| {
        garbage_collector::reconcile(inventory, uid)
    });
    let claims = queues.claims.clone();
    work!(claims, workers, |context, _, key| {
        volume::binding::reconcile(context, key)
    });
    work!(volumes, workers, |context, _, key| {
        volume::release::reconcile(context, claims.clone(), key)
    });
    work!(claim_protection, workers, |context, _, key| {
        volume::protection::reconcile_claim(context, key)
    });
    work!(volume_protection, workers, |context, _, key| {
        volume::protection::reconcile_volume(context, key)
    });
    work!(expansion, workers, |context, _, key| {
        volume::expansion::reconcile(context, key)
    });
    work!(ephemeral, workers, |context, _, key| {
        volume::ephemeral::reconcile(context, key)
    });
}
