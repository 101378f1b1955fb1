//! Registers the Node and keeps its status and Lease current.
//!
//! Watches its own Node: one that was deleted is registered anew at once, and a pod range that is assigned makes the
//! node Ready at once. Patches status only; never taints, never the spec.

use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Node, NodeStatus},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use runtimes::Images;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::object::{self, Health, Pressures};
use crate::{
    clock::Clock,
    config::Config,
    deadline::{API_DEADLINE, CallError, call},
    events::{Note, Sink},
};

/// Where Leases of nodes live.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Between tries while the API refuses.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Reports this node to the API.
pub(crate) struct Reporter {
    pub(crate) config: Arc<Config>,
    pub(crate) client: Client,
    /// `containerRuntimeVersion` of each runtime.
    pub(crate) runtimes: Vec<String>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) events: Sink,
    pub(crate) clock: Clock,
    /// The Node as the API last gave it.
    pub(crate) node: watch::Sender<Option<Arc<Node>>>,
}

/// What was written last.
struct Reported {
    health: Health,
    status: NodeStatus,
    at: Instant,
}

impl Reporter {
    /// Reports until `stop`, then says that the node is not ready.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        self.note(false, "Starting", "Starting kubelet.".to_owned());
        let lease = self.renew(&stop);
        let report = self.report(&stop);
        tokio::join!(lease, report);
        Ok(())
    }

    async fn report(&self, stop: &CancellationToken) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let selector = format!("metadata.name={}", self.config.node_name);
        let events =
            watcher(nodes.clone(), watcher::Config::default().fields(&selector)).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut reported: Option<Reported> = None;
        let mut pressures = Pressures::default();
        let mut look = tokio::time::interval(self.config.status_period);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut listed = None;
        // Before it is known what the Node says, it would be told anew what has long been so.
        let mut is_known = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => {}
                Some(event) = events.next() => match event {
                    Ok(watcher::Event::Init) => listed = None,
                    Ok(watcher::Event::InitApply(node)) => listed = Some(node),
                    Ok(watcher::Event::InitDone) => {
                        is_known = true;
                        self.see(listed.take());
                    }
                    Ok(watcher::Event::Apply(node)) => self.see(Some(node)),
                    Ok(watcher::Event::Delete(_)) => {
                        info!(node = self.config.node_name, "the Node was deleted: registering anew");
                        reported = None;
                        self.see(None);
                    }
                    Err(error) => debug!(%error, "watch the Node"),
                },
            }
            if !is_known {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                outcome = self.update(&nodes, &mut reported, &mut pressures) => if let Err(error) = outcome {
                    warn!(error = format!("{error:#}"), node = self.config.node_name, "report the node");
                    look.reset_after(RETRY);
                }
            }
        }
        self.resign(&nodes, reported).await;
    }

    fn see(&self, node: Option<Node>) {
        self.node.send_replace(node.map(Arc::new));
    }

    /// Writes the status if it changed or is old; registers the Node first if it is not there.
    async fn update(
        &self,
        nodes: &Api<Node>,
        reported: &mut Option<Reported>,
        pressures: &mut Pressures,
    ) -> anyhow::Result<()> {
        let now = self.clock.now();
        let node = self.node.borrow().clone();
        let range = node
            .as_ref()
            .and_then(|node| node.spec.as_ref())
            .and_then(|spec| spec.pod_cidr.clone());
        let health = object::health(&self.config, range.as_deref());
        let health = pressures.hold(health, self.config.pressure_period, Instant::now());
        let before = reported.as_ref().map(|last| last.status.clone());
        let images = match tokio::time::timeout(API_DEADLINE, self.images.list()).await {
            Ok(Ok(images)) => object::images(&images, self.config.max_images),
            // The next look will tell.
            _ => before
                .as_ref()
                .and_then(|status| status.images.clone())
                .unwrap_or_default(),
        };
        if let Some(last) = reported
            && last.health == health
            && last.status.images.as_ref() == Some(&images)
            && last.at.elapsed() < self.config.report_period
        {
            return Ok(());
        }
        let before = before.or_else(|| node.as_ref().and_then(|node| node.status.clone()));
        let status = object::status(
            &self.config,
            &self.runtimes,
            images,
            &health,
            before.as_ref(),
            now,
        );
        if reported.is_none() {
            self.register(nodes, &status).await?;
        }
        match self.patch(nodes, &status).await {
            Err(error) if error.code() == Some(404) => {
                self.register(nodes, &status).await?;
                self.patch(nodes, &status)
                    .await
                    .context("write the status of the Node")?;
            }
            outcome => outcome.context("write the status of the Node")?,
        }
        let was_ready = reported
            .as_ref()
            .map(|last| last.health.not_ready.is_none());
        let ready = health.not_ready.is_none();
        if was_ready.is_none() {
            // As a kubelet says them when a node begins; a condition that is true is told below.
            let begins = [
                (health.memory_pressure, "NodeHasSufficientMemory"),
                (health.disk_pressure, "NodeHasNoDiskPressure"),
                (health.pid_pressure, "NodeHasSufficientPID"),
            ];
            for (_, reason) in begins.iter().filter(|(pressure, _)| !pressure) {
                self.note_status(reason);
            }
        }
        if was_ready != Some(ready) && (ready || was_ready.is_some()) {
            let reason = if ready { "NodeReady" } else { "NodeNotReady" };
            self.note_status(reason);
        }
        *reported = Some(Reported {
            health,
            status,
            at: Instant::now(),
        });
        Ok(())
    }

    fn note_status(&self, reason: &'static str) {
        let message = format!("Node {} status is now: {reason}", self.config.node_name);
        self.note(false, reason, message);
    }

    /// Creates the Node, or brings the labels of the one that is there up to date.
    async fn register(&self, nodes: &Api<Node>, status: &NodeStatus) -> anyhow::Result<()> {
        let name = &self.config.node_name;
        let node = object::node(&self.config, status.clone());
        match call(nodes.create(&PostParams::default(), &node)).await {
            Ok(node) => {
                info!(node = name, "registered the node");
                self.see(Some(node));
                Ok(())
            }
            Err(error) if error.code() == Some(409) => {
                let label = async {
                    let found = call(nodes.get(name)).await?;
                    let own = object::labels(&self.config);
                    let mut labels = json!(own);
                    // What it could run before, and cannot now.
                    for label in found.labels().keys() {
                        if label.starts_with(object::RUNTIME_LABELS) && !own.contains_key(label) {
                            labels[label] = Value::Null;
                        }
                    }
                    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
                    call(nodes.patch(name, &PatchParams::default(), &patch)).await
                };
                let node = label.await;
                self.see(Some(
                    node.with_context(|| format!("label the Node {name}"))?,
                ));
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("register the Node {name}")),
        }
    }

    async fn patch(&self, nodes: &Api<Node>, status: &NodeStatus) -> Result<(), CallError> {
        let mut status = serde_json::to_value(status).unwrap_or_default();
        // Addresses merge by type: an old one of ours must not stay in the list.
        if let Some(Value::Array(addresses)) = status.get_mut("addresses") {
            addresses.insert(0, json!({"$patch": "replace"}));
        }
        let patch = Patch::Strategic(json!({"status": status}));
        call(nodes.patch_status(&self.config.node_name, &PatchParams::default(), &patch))
            .await
            .map(drop)
    }

    /// Tells the API that this node takes no more pods.
    async fn resign(&self, nodes: &Api<Node>, reported: Option<Reported>) {
        let Some(Reported {
            mut health, status, ..
        }) = reported
        else {
            return;
        };
        health.not_ready = Some("the node is shutting down".to_owned());
        let status = object::status(
            &self.config,
            &self.runtimes,
            status.images.clone().unwrap_or_default(),
            &health,
            Some(&status),
            self.clock.now(),
        );
        let patch = tokio::time::timeout(API_DEADLINE / 5, self.patch(nodes, &status)).await;
        if !matches!(patch, Ok(Ok(()))) {
            debug!(
                node = self.config.node_name,
                "could not say that the node is shutting down"
            );
        }
    }

    async fn renew(&self, stop: &CancellationToken) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let mut node = self.node.subscribe();
        // A Lease belongs to its Node.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = node.wait_for(Option::is_some) => {}
        }
        loop {
            let delay = match self.write_lease(&leases).await {
                Ok(()) => self.config.lease_period,
                Err(error) => {
                    debug!(%error, node = self.config.node_name, "renew the Lease of the node");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    async fn write_lease(&self, leases: &Api<Lease>) -> Result<(), CallError> {
        let name = &self.config.node_name;
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs()).ok(),
            renew_time: Some(MicroTime(self.clock.now())),
            ..LeaseSpec::default()
        };
        let patch = Patch::Merge(json!({"spec": spec}));
        match call(leases.patch(name, &PatchParams::default(), &patch)).await {
            Err(error) if error.code() == Some(404) => {}
            outcome => return outcome.map(drop),
        }
        let uid = self
            .node
            .borrow()
            .as_ref()
            .and_then(|node| node.metadata.uid.clone());
        let owner = uid.map(|uid| {
            vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid,
                ..OwnerReference::default()
            }]
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: owner,
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        call(leases.create(&PostParams::default(), &lease))
            .await
            .map(drop)
    }

    fn note(&self, warning: bool, reason: &'static str, message: String) {
        let name = self.config.node_name.clone();
        self.events.send(Note {
            kind: "Node",
            namespace: String::new(),
            uid: name.clone(),
            name,
            field: None,
            warning,
            reason,
            message,
        });
    }
}
