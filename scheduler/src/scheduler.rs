//! The loop: watches in, decisions, bindings out.
//!
//! One task owns the snapshot and the queue; the watches decode beside it. A decision is assumed at once, and its pod
//! queued to be bound: a bounded number of bindings is under way, and while too many wait for one, nothing is decided. A
//! binding that fails takes the assumption back and the pod is tried again. A pod that a plugin makes wait, for a permit
//! or for its volumes, takes no slot.
//!
//! [`feed`]: what the watches say. [`binding`]: what follows a decision. [`preempting`]: what follows if no node admits
//! the pod.

mod binding;
mod budgets;
mod feed;
mod owners;
mod preempting;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::Config;
use crate::decision::{Decision, Rotation, Unschedulable, schedule};
use crate::metrics;
use crate::pod::Pod;
use crate::prebind::WaitingPods;
use crate::profile::Profile;
use crate::queue::{Attempt, Queue};
use crate::report::{Outcome, Reporter, Writer};
use crate::snapshot::Snapshot;
use crate::told::Told;
use binding::Bound;
use feed::{Feeds, Listings};

/// Decisions between two looks at the watches.
const BATCH: usize = 32;
/// Changes taken in between two decisions.
const CHANGES: usize = 512;
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
        let mut feeds = Feeds::start(&self.client, &self.config);
        let mut changes = Vec::with_capacity(CHANGES);
        let (reporter, writer) = Writer::new(self.client.clone(), &self.config);
        let mut reports = JoinSet::new();
        reports.spawn(writer.run());
        let mut state = State::new(self.client, self.config, reporter);

        loop {
            state.turn(Instant::now());
            metrics::pending(state.queue.counts());
            let (nodes, pods) = (state.snapshot.candidates().len(), state.snapshot.counts());
            metrics::cached(nodes, pods);
            let tick = state.queue.next_tick().into_iter();
            let tick = tick.chain(state.waiting.next_due()).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(outcome) = state.bindings.join_next() => {
                    state.settle(outcome.context("a binding's task")?);
                    while let Some(outcome) = state.bindings.try_join_next() {
                        state.settle(outcome.context("a binding's task")?);
                    }
                }
                Some(outcome) = state.evictions.join_next() => {
                    state.evicted(outcome.context("an eviction's task")?);
                }
                count = feeds.changes.recv_many(&mut changes, CHANGES) => {
                    if count == 0 {
                        bail!("the watches ended");
                    }
                    for change in changes.drain(..) {
                        state.see(change);
                    }
                }
                ended = feeds.tasks.join_next() => bail!("a watch ended: {ended:?}"),
                () = sleep_until(tick) => {}
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
        while state.evictions.join_next().await.is_some() {}
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
    profiles: HashMap<Arc<str>, Arc<Profile>>,
    snapshot: Snapshot,
    queue: Queue,
    rotation: Rotation,
    /// Pods that have their node and wait for a slot.
    to_bind: VecDeque<(Arc<Pod>, Arc<str>)>,
    bindings: JoinSet<Bound>,
    /// Pods that make room for another: the uid of that one.
    evictions: JoinSet<Arc<str>>,
    reporter: Reporter,
    listings: Listings,
    /// Pods that a plugin makes wait before they are bound.
    waiting: WaitingPods,
    /// When each pod that has its node came, and how often it was tried.
    attempts: HashMap<Arc<str>, (Instant, u32)>,
}

impl State {
    fn new(client: Client, config: Config, reporter: Reporter) -> Self {
        let profiles = config.profiles.iter();
        Self {
            client,
            profiles: profiles
                .map(|profile| (Arc::clone(&profile.name), Arc::clone(profile)))
                .collect(),
            snapshot: Snapshot::default(),
            queue: Queue::new(config.first_backoff, config.longest_backoff),
            rotation: Rotation::new(config.seed),
            config,
            to_bind: VecDeque::new(),
            bindings: JoinSet::new(),
            evictions: JoinSet::new(),
            reporter,
            listings: Listings::default(),
            waiting: WaitingPods::default(),
            attempts: HashMap::new(),
        }
    }

    /// What is done between two looks at what happened. The clock is looked at here, and not only when there is nothing
    /// else to do: under load that is never.
    fn turn(&mut self, now: Instant) {
        self.queue.tick(now);
        self.advance(now);
        self.decide(now);
        self.start_bindings();
    }

    fn can_decide(&self) -> bool {
        self.listings.are_complete()
            && self.queue.is_ready()
            && self.to_bind.len() < self.config.bind_queue.max(1)
            && self.evictions.len() < self.config.bind_concurrency.max(1)
    }

    /// The profile that decides for a pod.
    fn profile(&self, pod: &Pod) -> Option<Arc<Profile>> {
        self.profiles.get(&pod.scheduler).cloned()
    }

    /// Decides for the pods whose turn it is, as far as there is room for their bindings.
    fn decide(&mut self, now: Instant) {
        for _ in 0..BATCH {
            if !self.can_decide() {
                return;
            }
            let Some(attempt) = self.queue.pop(now) else {
                return;
            };
            let Some(profile) = self.profile(&attempt.pod) else {
                self.queue.remove(&attempt.pod.uid);
                continue;
            };
            let Attempt { pod, number, since } = attempt;
            let begun = Instant::now();
            let decision = schedule(&profile, &self.snapshot, &pod, &mut self.rotation);
            let seconds = begun.elapsed().as_secs_f64();
            match decision {
                Decision::Node(node) => {
                    metrics::decided(&profile.name, "scheduled", seconds);
                    self.attempts.insert(Arc::clone(&pod.uid), (since, number));
                    self.place(&profile, pod, node, now);
                }
                Decision::Unschedulable(why) => {
                    metrics::decided(&profile.name, "unschedulable", seconds);
                    self.park(&profile, &pod, why, now);
                }
            }
        }
    }

    fn park(&mut self, profile: &Profile, pod: &Arc<Pod>, why: Unschedulable, now: Instant) {
        metrics::attempted(&profile.name, "unschedulable");
        let message = why.to_string();
        debug!(
            namespace = &*pod.namespace,
            name = &*pod.name,
            message,
            "unschedulable"
        );
        let rejected_by = profile.named(|name| why.plugins.contains(name));
        self.queue.park(&pod.uid, rejected_by, why.nodes > 0, now);
        self.make_room(pod, why.remedy);
        let told = Told {
            message: Some(message.clone()),
            nominated: self.snapshot.nomination(&pod.uid).cloned(),
        };
        let status = self.queue.amend(&pod.uid, told);
        self.reporter
            .report(pod, Outcome::Failed { message, status });
    }
}
