//! Pod addresses and the service data plane of one node.
//!
//! - [`range`]: an IPv4 range; [`pool`]: which pod has which address of the node's.
//! - [`directory`]: Services and their ready endpoints in memory; [`feed`]: the watches that fill it.
//! - [`handle`]: the way in, a [`runtimes::PodNetwork`]; [`dns`]: the names that pods see, and the node's
//!   DNS server.
//! - [`policy`]: NetworkPolicies, and whether a pod may take part in some traffic.
//! - [`ruleset`]: the nftables text, pure; [`nft`] and [`firewall`]: applying it (privileged).
//! - [`namespace`], [`links`], [`nodes`]: the Wasm pods' network namespace and the routes to pods.
//! - [`isolation`]: pods with a network namespace of their own, for containers (privileged).
//! - [`proxy`]: ClusterIPs served from within the process (rootless).
//! - [`gateway`]: HTTP from outside, and from pods to Functions.
//!
//! Reads Service, EndpointSlice, Node and NetworkPolicy objects, and while there are policies Pods and
//! Namespaces; writes none. Never opens a pod's own sockets: the
//! runtime does, on a thread that [`runtimes::PodNetwork::enter`] moved.

mod directory;
mod dns;
mod feed;
mod firewall;
pub mod gateway;
mod handle;
mod isolation;
mod links;
pub mod metrics;
mod names;
mod namespace;
mod nft;
mod nodes;
mod policy;
mod pool;
mod proxy;
mod range;
mod ruleset;
mod task;

use std::{net::Ipv4Addr, path::PathBuf, pin::pin, sync::Arc};

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use handle::Handle;
pub use range::Range;

use crate::{
    directory::Update,
    feed::{Change, changes},
    handle::Shared,
    names::Names,
    namespace::Namespace,
};

/// What the host lets the network do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A network namespace for Wasm pods, and nftables for Services: needs root, or root in a user
    /// and network namespace of its own.
    Privileged,
    /// Addresses of 127/8, and a proxy in the process for Services: needs nothing, and hides pods
    /// from no user of the host.
    Rootless,
}

impl Mode {
    /// Where pods' private loopback addresses are from; the host's own 127.0.0.1 is in neither.
    fn loopback_range(self) -> Range {
        let text = match self {
            Self::Privileged => "127.64.0.0/10",
            Self::Rootless => "127.44.0.0/16",
        };
        text.parse().expect("it is a range")
    }
}

/// What a network is started with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The Node object's name; what is made on the host is named by its hash.
    pub node_name: String,
    pub mode: Mode,
    /// This node's pods. `None`: taken from `Node.spec.podCIDR` once it is there, or from
    /// [`Handle::set_pod_range`].
    pub pod_range: Option<Range>,
    /// All nodes' pods; `10.64.0.0/10`, rootless `127.42.0.0/16`.
    pub cluster_pod_range: Range,
    /// ClusterIPs; `10.43.0.0/16`, rootless `127.43.0.0/16`.
    pub service_range: Range,
    /// `cluster.local`
    pub cluster_domain: String,
    /// Whether the node has a gateway, which Services of Functions lead to.
    pub gateway: bool,
    /// The node's directory for state. Nothing is kept there so far: what must outlive the process
    /// is in the kernel.
    pub state_dir: PathBuf,
}

impl Config {
    /// The cluster's DNS address: the tenth of the Service range, where there is a server for it.
    pub(crate) fn dns_address(&self) -> Option<Ipv4Addr> {
        let address = self.service_range.nth(10);
        address.filter(|_| self.mode == Mode::Privileged)
    }

    fn validate(&self) -> anyhow::Result<()> {
        let (pods, services) = (self.cluster_pod_range, self.service_range);
        if pods.covers(&services) || services.covers(&pods) {
            bail!(
                "the cluster's pod range {pods} and its service range {services} must not overlap"
            );
        }
        let loopback = self.mode.loopback_range();
        if pods.size() > loopback.size() {
            let prefix = loopback.prefix();
            bail!("the cluster's pod range {pods} must be /{prefix} or smaller");
        }
        let within = |range: &Range| range.base().is_loopback();
        match self.mode {
            Mode::Rootless if !within(&pods) || !within(&services) => {
                bail!(
                    "rootless, the pod range {pods} and the service range {services} must be of 127.0.0.0/8"
                )
            }
            Mode::Privileged if within(&pods) || within(&services) => {
                bail!(
                    "as root, neither the pod range {pods} nor the service range {services} can be of 127.0.0.0/8"
                )
            }
            _ => Ok(()),
        }
    }
}

/// The network of one node, to be [run](Network::run).
pub struct Network {
    shared: Arc<Shared>,
    client: Client,
}

impl Network {
    /// Prepares the host: the namespace and its link, made or adopted, and the routes if the node's
    /// range is known. Call it in the runtime that will run it, outside of any pod's namespace.
    ///
    /// # Errors
    /// A configuration that cannot be, or a host that refuses.
    pub async fn start(config: Config, client: Client) -> anyhow::Result<(Handle, Self)> {
        config.validate()?;
        let names = Names::of_node(&config.node_name);
        let namespace = match config.mode {
            Mode::Rootless => None,
            Mode::Privileged => {
                nft::check().await?;
                let namespace = Namespace::ensure(&names.namespace, || Ok(()))?;
                links::ensure_link(&names, &namespace)
                    .await
                    .context("link the Wasm pods' namespace to the host")?;
                Some(namespace)
            }
        };
        let range = config.pod_range;
        let shared = Arc::new(Shared::new(config, namespace));
        let handle = Handle(shared.clone());
        if let Some(range) = range {
            handle.set_pod_range(range).await?;
        }
        Ok((handle, Self { shared, client }))
    }

    /// Follows Services, endpoints, policies and nodes until `stop`. What it made on the host stays, so that
    /// pods of other runtimes keep their network and the next start adopts it.
    ///
    /// # Errors
    /// One of its tasks failed for good.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { shared, client } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_services(shared.clone(), Api::all(client.clone())));
        tasks.spawn(follow_slices(shared.clone(), Api::all(client.clone())));
        tasks.spawn(policy::follow::run(shared.clone(), client.clone()));
        tasks.spawn(nodes::run(shared.clone(), Api::all(client)));
        match shared.config.mode {
            Mode::Privileged => {
                tasks.spawn(isolation::run(shared.clone()));
                tasks.spawn(dns::server::run(shared.clone()));
                tasks.spawn(policy::enforce::run(shared.clone()));
                tasks.spawn(firewall::run(shared))
            }
            Mode::Rootless => tasks.spawn(proxy::run(shared)),
        };
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            ended = tasks.join_next() => ended,
        };
        tasks.shutdown().await;
        match ended {
            None => Ok(()),
            Some(ended) => {
                ended.context("a task of the network panicked")??;
                bail!("a watch of the network ended");
            }
        }
    }
}

/// Takes what a node made on this host away: namespace, link, routes and rules. Nothing there is no
/// error. Stop the node's network first: running, it would put its rules back.
///
/// # Errors
/// The host refuses.
pub async fn teardown(node_name: &str) -> anyhow::Result<()> {
    let names = Names::of_node(node_name);
    // Made first so that there is one to remove.
    for table in [&names.table, &names.policies] {
        nft::apply(&format!("table ip {table}\ndelete table ip {table}\n")).await?;
    }
    isolation::teardown(&names).await?;
    links::remove(&names).await?;
    Namespace::remove(&names.namespace).context("remove the network namespace")
}

async fn follow_services(shared: Arc<Shared>, api: Api<Service>) -> anyhow::Result<()> {
    let mut changes = pin!(changes(api));
    while let Some(change) = changes.next().await {
        shared.update(match change {
            Change::All(all) => Update::Services(all),
            Change::Put(service) => Update::Service(service),
            Change::Gone(service) => Update::ServiceGone(service),
        });
    }
    Ok(())
}

async fn follow_slices(shared: Arc<Shared>, api: Api<EndpointSlice>) -> anyhow::Result<()> {
    let mut changes = pin!(changes(api));
    while let Some(change) = changes.next().await {
        shared.update(match change {
            Change::All(all) => Update::Slices(all),
            Change::Put(slice) => Update::Slice(slice),
            Change::Gone(slice) => Update::SliceGone(slice),
        });
    }
    Ok(())
}
