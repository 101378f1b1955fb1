//! The loop: watches in, decisions, bindings out.
//!
//! One task owns the snapshot and the queue. A decision is assumed at once and its binding goes out
//! beside others; while all slots for bindings are taken, nothing is decided, so nothing piles up
//! between the two. A binding that fails takes the assumption back and the pod is tried again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1 as core;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::decision::{Decision, Unschedulable, schedule};
use crate::metrics;
use crate::node::Node;
use crate::pod::{self, Pod, Standing};
use crate::queue::{Queue, Wake};
use crate::report::{Condition, Outcome, Reporter, Writer};
use crate::snapshot::Snapshot;

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
        tokio::pin!(pods, nodes);
        let (reporter, writer) = Writer::new(self.client.clone(), &self.config);
        let mut reports = JoinSet::new();
        reports.spawn(writer.run());
        let mut state = State::new(self.client, self.config, reporter);

        loop {
            state.decide(Instant::now());
            metrics::pending(state.queue.counts());
            let tick = state.queue.next_tick();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(outcome) = state.bindings.join_next() => {
                    state.settle(outcome.context("a binding's task")?);
                }
                event = pods.next() => state.see_pod(event.context("the watch of pods ended")?),
                event = nodes.next() => state.see_node(event.context("the watch of nodes ended")?),
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

/// A watch that goes on for ever; its failures are told here and retried with back-off.
fn events<K>(api: Api<K>, resource: &'static str) -> impl Stream<Item = Event<K>>
where
    K: kube::Resource
        + k8s_openapi::serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + 'static,
{
    watch(api, watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| {
            let event = event
                .inspect_err(|error| {
                    warn!(
                        resource,
                        error = error as &dyn std::error::Error,
                        "watch interrupted"
                    );
                })
                .ok();
            std::future::ready(event)
        })
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A binding that ended.
struct Bound {
    pod: Arc<Pod>,
    node: Arc<str>,
    outcome: anyhow::Result<()>,
}

/// Everything the loop owns.
struct State {
    client: Client,
    config: Config,
    snapshot: Snapshot,
    queue: Queue,
    ties: SmallRng,
    bindings: JoinSet<Bound>,
    reporter: Reporter,
    pods: Listing,
    nodes: Listing,
}

/// How far a watch is with its list. Until both are complete once, nothing is decided.
#[derive(Default)]
struct Listing {
    complete: bool,
    seen: HashSet<String>,
}

impl State {
    fn new(client: Client, config: Config, reporter: Reporter) -> Self {
        Self {
            client,
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            ties: SmallRng::seed_from_u64(config.seed),
            config,
            bindings: JoinSet::new(),
            reporter,
            pods: Listing::default(),
            nodes: Listing::default(),
        }
    }

    fn can_decide(&self) -> bool {
        self.pods.complete
            && self.nodes.complete
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
            let decision = schedule(&self.snapshot, &pod, &mut self.ties);
            metrics::decided(begun.elapsed().as_secs_f64());
            match decision {
                Decision::Node(node) => self.bind(pod, node),
                Decision::Unschedulable(why) => self.park(&pod, &why, now),
            }
        }
    }

    fn bind(&mut self, pod: Arc<Pod>, node: Arc<str>) {
        self.snapshot.assume(&pod, &node);
        let (client, timeout) = (self.client.clone(), self.config.request_timeout);
        self.bindings.spawn(async move {
            let outcome = match tokio::time::timeout(timeout, bind(client, &pod, &node)).await {
                Ok(outcome) => outcome.map_err(anyhow::Error::from),
                Err(_) => Err(anyhow::anyhow!("no answer within {timeout:?}")),
            };
            Bound { pod, node, outcome }
        });
    }

    fn park(&mut self, pod: &Arc<Pod>, why: &Unschedulable, now: Instant) {
        metrics::attempted("unschedulable");
        let message = why.to_string();
        debug!(
            namespace = pod.namespace,
            name = pod.name,
            message,
            "unschedulable"
        );
        self.queue
            .park(&pod.uid, why.lacks_room, why.nodes > 0, now);
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

    /// Takes in how a binding ended. One that succeeded stays assumed until the watch shows it.
    fn settle(&mut self, bound: Bound) {
        let Bound { pod, node, outcome } = bound;
        match outcome {
            Ok(()) => {
                metrics::attempted("scheduled");
                debug!(namespace = pod.namespace, name = pod.name, %node, "bound");
                self.reporter.report(&pod, Outcome::Scheduled(node));
            }
            Err(error) => {
                metrics::attempted("error");
                let now = Instant::now();
                warn!(namespace = pod.namespace, name = pod.name, %node, "binding failed: {error:#}");
                if self.snapshot.forget(&pod.uid) {
                    self.queue.wake(Wake::Room, now);
                }
                self.queue.retry(&pod.uid, now);
                let message = format!("binding to {node} failed: {error:#}");
                let condition = Condition::Kept;
                self.reporter
                    .report(&pod, Outcome::Failed { message, condition });
            }
        }
    }

    fn see_pod(&mut self, event: Event<core::Pod>) {
        match event {
            Event::Init => self.pods.seen.clear(),
            Event::InitApply(pod) => {
                self.pods.seen.extend(pod.metadata.uid.clone());
                self.put_pod(&pod);
            }
            Event::Apply(pod) => self.put_pod(&pod),
            Event::Delete(pod) => self.remove_pod(pod.metadata.uid.as_deref().unwrap_or_default()),
            Event::InitDone => {
                let seen = std::mem::take(&mut self.pods.seen);
                self.queue.retain(|uid| seen.contains(uid));
                let gone: Vec<_> = self
                    .snapshot
                    .pods()
                    .filter(|uid| !seen.contains(&***uid))
                    .cloned()
                    .collect();
                for uid in gone {
                    self.remove_pod(&uid);
                }
                self.pods.complete = true;
                info!(pods = seen.len(), "pods listed");
            }
        }
    }

    fn put_pod(&mut self, object: &core::Pod) {
        let pod = Pod::from(object);
        match Standing::of(object, &self.config.scheduler_name) {
            Standing::Placed(node) => {
                self.queue.remove(&pod.uid);
                self.snapshot.place(&pod, &node);
            }
            Standing::Pending => self.queue.offer(pod, pod::reported(object)),
            Standing::Aside => {
                self.queue.remove(&pod.uid);
                // A pod that is being bound keeps its room until that has ended.
                if pod.node.is_some() || !self.snapshot.is_assumed(&pod.uid) {
                    self.remove_pod(&pod.uid);
                }
            }
        }
    }

    fn remove_pod(&mut self, uid: &str) {
        self.queue.remove(uid);
        if self.snapshot.remove(uid) {
            self.queue.wake(Wake::Room, Instant::now());
        }
    }

    fn see_node(&mut self, event: Event<core::Node>) {
        match event {
            Event::Init => self.nodes.seen.clear(),
            Event::InitApply(node) => {
                self.nodes.seen.extend(node.metadata.name.clone());
                self.put_node(&node);
            }
            Event::Apply(node) => self.put_node(&node),
            Event::Delete(node) => self
                .snapshot
                .remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            Event::InitDone => {
                let seen = std::mem::take(&mut self.nodes.seen);
                self.snapshot.retain_nodes(|name| seen.contains(name));
                self.nodes.complete = true;
                info!(nodes = seen.len(), "nodes listed");
            }
        }
    }

    fn put_node(&mut self, object: &core::Node) {
        if self.snapshot.put_node(Node::from(object)) {
            self.queue.wake(Wake::Node, Instant::now());
        }
    }
}

/// Posts the binding; the uid makes sure that it is this pod that is bound.
async fn bind(client: Client, pod: &Pod, node: &str) -> kube::Result<()> {
    let pods: Api<core::Pod> = Api::namespaced(client, &pod.namespace);
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": { "namespace": pod.namespace, "name": pod.name, "uid": &*pod.uid },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    let bound: kube::Result<Value> = pods
        .create_subresource("binding", &pod.name, &PostParams::default(), &binding)
        .await;
    bound.map(drop)
}
