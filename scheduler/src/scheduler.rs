//! The loop: watches in, decisions, bindings out.
//!
//! One task owns the snapshot and the queue. A decision is assumed at once and its binding goes out
//! beside others; while all slots for bindings are taken, nothing is decided, so nothing piles up
//! between the two. A binding that fails takes the assumption back and the pod is tried again. A pod
//! whose claims have no volumes yet asks for them first and waits, which takes no slot.
//!
//! [`feed`]: what the watches say. [`binding`]: what follows a decision.

mod binding;
mod feed;
mod owners;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::Config;
use crate::decision::{Decision, Unschedulable, schedule};
use crate::metrics;
use crate::pod::Pod;
use crate::prebind::WaitingPods;
use crate::profile::Profile;
use crate::queue::Queue;
use crate::report::{Condition, Outcome, Reporter, Writer};
use crate::snapshot::Snapshot;
use binding::Bound;
use feed::{Listing, events};
use owners::owner_events;

/// Decisions between two looks at the watches.
const BATCH: usize = 16;
/// How long bindings and events under way have to end once the scheduler is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Places pods on nodes.
pub struct Scheduler {
    client: Client,
    config: Config,
}

impl Scheduler {
    /// A scheduler that reads and writes through `client`.
    pub fn new(client: Client, config: Config) -> Self {
        Self { client, config }
    }

    /// Places pods until told to stop; then lets what is under way end.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let pods = events(Api::<core::Pod>::all(self.client.clone()), "pods");
        let nodes = events(Api::<core::Node>::all(self.client.clone()), "nodes");
        let claims = Api::<core::PersistentVolumeClaim>::all(self.client.clone());
        let claims = events(claims, "persistentvolumeclaims");
        let volumes = Api::<core::PersistentVolume>::all(self.client.clone());
        let volumes = events(volumes, "persistentvolumes");
        let classes = events(
            Api::<StorageClass>::all(self.client.clone()),
            "storageclasses",
        );
        let namespaces = Api::<core::Namespace>::all(self.client.clone());
        let namespaces = events(namespaces, "namespaces");
        let owners = owner_events(&self.client);
        tokio::pin!(pods, nodes, claims, volumes, classes, namespaces, owners);
        let (reporter, writer) = Writer::new(self.client.clone(), &self.config);
        let mut reports = JoinSet::new();
        reports.spawn(writer.run());
        let mut state = State::new(self.client, self.config, reporter);

        loop {
            state.advance(Instant::now());
            state.decide(Instant::now());
            metrics::pending(state.queue.counts());
            let tick = state.queue.next_tick().into_iter();
            let tick = tick.chain(state.waiting.next_due()).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(outcome) = state.bindings.join_next() => {
                    state.settle(outcome.context("a binding's task")?);
                }
                event = pods.next() => state.see_pod(event.context("the watch of pods ended")?),
                event = nodes.next() => state.see_node(event.context("the watch of nodes ended")?),
                event = claims.next() => state.see_claim(event.context("the watch of claims ended")?),
                event = volumes.next() => state.see_volume(event.context("the watch of volumes ended")?),
                event = classes.next() => state.see_class(event.context("the watch of classes ended")?),
                event = namespaces.next() => {
                    state.see_namespace(event.context("the watch of namespaces ended")?);
                }
                event = owners.next() => state.see_owner(event.context("the watches of owners ended")?),
                () = sleep_until(tick) => state.queue.tick(Instant::now()),
                () = std::future::ready(()), if state.can_decide() => {}
            }
        }
        drain(state, reports).await;
        Ok(())
    }
}

/// Lets the bindings and reports under way end, but not for long.
async fn drain(mut state: State, mut reports: JoinSet<()>) {
    let ended = tokio::time::timeout(DRAIN, async {
        while let Some(Ok(bound)) = state.bindings.join_next().await {
            state.settle(bound);
        }
        drop(state);
        while reports.join_next().await.is_some() {}
    });
    if ended.await.is_err() {
        warn!("stopped before every binding and event was written");
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Everything the loop owns.
struct State {
    client: Client,
    config: Config,
    profile: Profile,
    snapshot: Snapshot,
    queue: Queue,
    ties: SmallRng,
    bindings: JoinSet<Bound>,
    reporter: Reporter,
    pods: Listing,
    nodes: Listing,
    claims: Listing,
    volumes: Listing,
    classes: Listing,
    namespaces: Listing,
    owners: owners::Listings,
    /// Pods that wait for their volumes.
    waiting: WaitingPods,
    /// Whether anything changed that they wait for.
    stirred: bool,
}

impl State {
    fn new(client: Client, config: Config, reporter: Reporter) -> Self {
        Self {
            client,
            profile: Profile::new(&config.scheduler_name),
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            ties: SmallRng::seed_from_u64(config.seed),
            config,
            bindings: JoinSet::new(),
            reporter,
            pods: Listing::default(),
            nodes: Listing::default(),
            claims: Listing::default(),
            volumes: Listing::default(),
            classes: Listing::default(),
            namespaces: Listing::default(),
            owners: owners::Listings::default(),
            waiting: WaitingPods::default(),
            stirred: false,
        }
    }

    fn can_decide(&self) -> bool {
        let watches = [
            &self.pods,
            &self.nodes,
            &self.claims,
            &self.volumes,
            &self.classes,
            &self.namespaces,
        ];
        watches.iter().all(|watch| watch.complete)
            && self.owners.are_complete()
            && self.queue.is_ready()
            && self.bindings.len() < self.config.bind_concurrency.max(1)
    }

    /// Decides for the pods whose turn it is, as far as there are slots for bindings.
    fn decide(&mut self, now: Instant) {
        for _ in 0..BATCH {
            if !self.can_decide() {
                return;
            }
            let Some(pod) = self.queue.pop(now) else {
                return;
            };
            let begun = Instant::now();
            let decision = schedule(&self.profile, &self.snapshot, &pod, &mut self.ties);
            metrics::decided(begun.elapsed().as_secs_f64());
            match decision {
                Decision::Node(node) => self.place(pod, node, now),
                Decision::Unschedulable(why) => self.park(&pod, why, now),
            }
        }
    }

    fn park(&mut self, pod: &Arc<Pod>, why: Unschedulable, now: Instant) {
        metrics::attempted("unschedulable");
        let message = why.to_string();
        debug!(
            namespace = &*pod.namespace,
            name = &*pod.name,
            message,
            "unschedulable"
        );
        self.queue.park(&pod.uid, why.plugins, why.nodes > 0, now);
        let condition = match self.queue.reported(&pod.uid) {
            None => Condition::Set,
            Some(reported) if reported == message => Condition::Kept,
            Some(_) => Condition::Reworded,
        };
        let failed = Outcome::Failed {
            message: message.clone(),
            condition,
        };
        if self.reporter.report(pod, failed) {
            self.queue.set_reported(&pod.uid, &message);
        }
    }
}
