//! The loop: watches in, decisions, bindings out.
//!
//! One task owns the snapshot and the queue. A decision is assumed at once and its binding goes out
//! beside others; while all slots for bindings are taken, nothing is decided, so nothing piles up
//! between the two. A binding that fails takes the assumption back and the pod is tried again. A pod
//! whose claims have no volumes yet asks for them first and waits, which takes no slot.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
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
use crate::prebind::{self, Progress, WaitingPods};
use crate::queue::{Queue, Wake};
use crate::report::{Condition, Outcome, Reporter, Writer};
use crate::snapshot::Snapshot;
use crate::storage::{Claim, Class, Volume};

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
        tokio::pin!(pods, nodes, claims, volumes, classes);
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

/// A binding that ended, or what had to be asked for before it.
struct Bound {
    pod: Arc<Pod>,
    node: Arc<str>,
    stage: Stage,
    outcome: anyhow::Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The pod's volumes were asked for.
    Volumes,
    /// The pod was bound.
    Pod,
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
    claims: Listing,
    volumes: Listing,
    classes: Listing,
    /// Pods that wait for their volumes.
    waiting: WaitingPods,
    /// Whether anything changed that they wait for.
    stirred: bool,
}

/// How far a watch is with its list. Until all are complete once, nothing is decided.
#[derive(Default)]
struct Listing {
    complete: bool,
    seen: HashSet<String>,
}

/// What an event says.
enum Seen<K> {
    Nothing,
    Put(K),
    Gone(String),
    /// All that there is.
    Listed(HashSet<String>),
}

impl Listing {
    fn see<K>(&mut self, event: Event<K>, key: impl Fn(&K) -> String) -> Seen<K> {
        match event {
            Event::Init => {
                self.seen.clear();
                Seen::Nothing
            }
            Event::InitApply(object) => {
                self.seen.insert(key(&object));
                Seen::Put(object)
            }
            Event::Apply(object) => Seen::Put(object),
            Event::Delete(object) => Seen::Gone(key(&object)),
            Event::InitDone => {
                self.complete = true;
                Seen::Listed(std::mem::take(&mut self.seen))
            }
        }
    }
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
            claims: Listing::default(),
            volumes: Listing::default(),
            classes: Listing::default(),
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
        ];
        watches.iter().all(|watch| watch.complete)
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
                Decision::Node(node) => self.place(pod, node, now),
                Decision::Unschedulable(why) => self.park(&pod, &why, now),
            }
        }
    }

    /// Binds a pod, or asks for its volumes first.
    fn place(&mut self, pod: Arc<Pod>, node: Arc<str>, now: Instant) {
        let fates = self.snapshot.fates(&pod, &node);
        self.snapshot.assume(&pod, &node);
        let ready = |claim: &crate::pod::PodClaim| {
            let claim = self.snapshot.storage.claim(&claim.key);
            claim.is_some_and(Claim::is_ready)
        };
        if pod.claims.iter().all(ready) {
            self.bind(pod, node);
            return;
        }
        let storage = &mut self.snapshot.storage;
        let writes = prebind::writes(storage, &fates);
        for (claim, fate) in fates {
            storage.assume(&claim, &pod.uid, fate);
        }
        if writes.is_empty() {
            self.waiting.add(pod, node, now);
            self.stirred = true;
            return;
        }
        let client = self.client.clone();
        let stage = Stage::Volumes;
        self.start(pod, node, stage, async move {
            prebind::write(client, writes).await
        });
    }

    fn bind(&mut self, pod: Arc<Pod>, node: Arc<str>) {
        let client = self.client.clone();
        let (bound, target) = (Arc::clone(&pod), Arc::clone(&node));
        let write = async move { bind(client, &bound, &target).await };
        self.start(pod, node, Stage::Pod, write);
    }

    fn start(
        &mut self,
        pod: Arc<Pod>,
        node: Arc<str>,
        stage: Stage,
        write: impl Future<Output = kube::Result<()>> + Send + 'static,
    ) {
        let timeout = self.config.request_timeout;
        self.bindings.spawn(async move {
            let outcome = match tokio::time::timeout(timeout, write).await {
                Ok(outcome) => outcome.map_err(anyhow::Error::from),
                Err(_) => Err(anyhow::anyhow!("no answer within {timeout:?}")),
            };
            Bound {
                pod,
                node,
                stage,
                outcome,
            }
        });
    }

    /// Binds the pods whose volumes are there, and decides those again whose will not come.
    fn advance(&mut self, now: Instant) {
        if !self.stirred && self.waiting.next_due().is_none_or(|due| due > now) {
            return;
        }
        self.stirred = false;
        let snapshot = &self.snapshot;
        let node = |name: &str| snapshot.node(name).cloned();
        for (waiting, progress) in self.waiting.settled(&snapshot.storage, node, now) {
            match progress {
                Progress::Failed(why) => {
                    let why = anyhow::anyhow!(
                        "running PreBind plugin \"VolumeBinding\": binding volumes: {why}"
                    );
                    self.fail(&waiting.pod, why);
                }
                Progress::Ready | Progress::Under => self.bind(waiting.pod, waiting.node),
            }
        }
    }

    /// Takes the decision for a pod back; it is tried again.
    fn fail(&mut self, pod: &Arc<Pod>, error: anyhow::Error) {
        metrics::attempted("error");
        let now = Instant::now();
        warn!(
            namespace = pod.namespace,
            name = pod.name,
            "not bound: {error:#}"
        );
        self.snapshot.storage.forget(&pod.uid);
        if self.snapshot.forget(&pod.uid) {
            self.queue.wake(Wake::Room, now);
        }
        self.queue.retry(&pod.uid, now);
        let message = format!("{error:#}");
        let condition = Condition::Kept;
        self.reporter
            .report(pod, Outcome::Failed { message, condition });
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
        let Bound {
            pod,
            node,
            stage,
            outcome,
        } = bound;
        match outcome {
            Ok(()) if stage == Stage::Volumes => {
                if self.snapshot.is_assumed(&pod.uid) {
                    self.waiting.add(pod, node, Instant::now());
                    self.stirred = true;
                }
            }
            Ok(()) => {
                self.snapshot.storage.forget(&pod.uid);
                metrics::attempted("scheduled");
                debug!(namespace = pod.namespace, name = pod.name, %node, "bound");
                self.reporter.report(&pod, Outcome::Scheduled(node));
            }
            Err(error) => {
                let error = match stage {
                    Stage::Volumes => {
                        error.context("running PreBind plugin \"VolumeBinding\": binding volumes")
                    }
                    Stage::Pod => error.context(format!("binding to {node} failed")),
                };
                self.fail(&pod, error);
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
                if self.waiting.remove(&pod.uid).is_some() {
                    self.snapshot.storage.forget(&pod.uid);
                    self.remove_pod(&pod.uid);
                }
                // A pod that is being bound keeps its room until that has ended.
                if pod.node.is_some() || !self.snapshot.is_assumed(&pod.uid) {
                    self.remove_pod(&pod.uid);
                }
            }
        }
    }

    fn remove_pod(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.waiting.remove(uid);
        self.snapshot.storage.forget(uid);
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

    fn see_claim(&mut self, event: Event<core::PersistentVolumeClaim>) {
        let key = |claim: &core::PersistentVolumeClaim| {
            format!(
                "{}/{}",
                claim.namespace().unwrap_or_default(),
                claim.name_any()
            )
        };
        let storage = &mut self.snapshot.storage;
        let changed = match self.claims.see(event, key) {
            Seen::Nothing => false,
            Seen::Put(claim) => storage.put_claim(Claim::from(&claim)),
            Seen::Gone(key) => {
                storage.remove_claim(&key);
                true
            }
            Seen::Listed(all) => {
                storage.retain_claims(|key| all.contains(key));
                true
            }
        };
        self.stir(changed);
    }

    fn see_volume(&mut self, event: Event<core::PersistentVolume>) {
        let storage = &mut self.snapshot.storage;
        let changed = match self.volumes.see(event, ResourceExt::name_any) {
            Seen::Nothing => false,
            Seen::Put(volume) => storage.put_volume(Volume::from(&volume)),
            Seen::Gone(name) => {
                storage.remove_volume(&name);
                true
            }
            Seen::Listed(all) => {
                storage.retain_volumes(|name| all.contains(name));
                true
            }
        };
        self.stir(changed);
    }

    fn see_class(&mut self, event: Event<StorageClass>) {
        let storage = &mut self.snapshot.storage;
        let changed = match self.classes.see(event, ResourceExt::name_any) {
            Seen::Nothing => false,
            Seen::Put(class) => storage.put_class(class.name_any(), Class::from(&class)),
            Seen::Gone(name) => {
                storage.remove_class(&name);
                true
            }
            Seen::Listed(all) => {
                storage.retain_classes(|name| all.contains(name));
                true
            }
        };
        self.stir(changed);
    }

    /// After a change of storage: pods that wait for it, and those that none helped, are looked at again.
    fn stir(&mut self, changed: bool) {
        if changed {
            self.stirred = true;
            self.queue.wake(Wake::Storage, Instant::now());
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
