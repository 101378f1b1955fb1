//! The pods bound to this node: one watch, one worker a pod.
//!
//! A worker is named by its pod's uid: a new pod of the same name is another pod. Static pods have workers like any
//! others; their mirrors have none. What runs from before this process is handed to its pod's worker; what no pod
//! owns any more is ended ([`orphans`]).

mod orphans;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use runtimes::{ContainerId, PodRef};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admission::{Amounts, HostPort, Place, Refusal, admit},
    node::object,
    pod::{
        state::{Held, Over},
        worker::{ContainerView, Context, Wanted, Worker},
    },
    static_pods::{StaticPods, first_seen},
};

/// The way to a worker.
struct Entry {
    namespace: String,
    name: String,
    wanted: watch::Sender<Wanted>,
    views: watch::Receiver<Vec<ContainerView>>,
    requested: Amounts,
    ports: Vec<HostPort>,
}

/// The pods of this node, by uid; shared with the server.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

/// How many there are.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) desired_pods: usize,
    pub(crate) running_pods: usize,
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) exited: usize,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pods").finish_non_exhaustive()
    }
}

impl Pods {
    /// Counts pods and their containers.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.lock().values() {
            let views = entry.views.borrow();
            let running = views.iter().filter(|view| view.running).count();
            let exited = |view: &&ContainerView| !view.running && view.ended.is_some();
            let exited = views.iter().filter(exited).count();
            counts.desired_pods += 1;
            counts.running_pods += usize::from(running > 0);
            counts.running += running;
            counts.exited += exited;
            counts.waiting += views.len() - running - exited;
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pod, as the API last gave it.
    pub(crate) fn list(&self) -> Vec<Arc<Pod>> {
        let entries = self.lock();
        entries
            .values()
            .map(|entry| pod_of(&entry.wanted.borrow()).clone())
            .collect()
    }

    /// What the pods take that have not ended.
    fn in_use(&self) -> Amounts {
        let entries = self.lock();
        let running = entries
            .values()
            .filter(|entry| !ended(pod_of(&entry.wanted.borrow())));
        running.fold(Amounts::default(), |sum, entry| sum + entry.requested)
    }

    /// The node's ports that pods have which have not ended and are still wanted.
    fn host_ports(&self) -> Vec<HostPort> {
        let entries = self.lock();
        let with_ports = entries.values().filter(|entry| !entry.ports.is_empty());
        let running = with_ports
            .filter(|entry| matches!(&*entry.wanted.borrow(), Wanted::Pod(pod) if !ended(pod)));
        running.flat_map(|entry| entry.ports.clone()).collect()
    }

    /// Every container that runs: its pod, its name and its id.
    pub(crate) fn running(&self) -> Vec<(PodRef, Arc<str>, ContainerId)> {
        let mut running = Vec::new();
        for (uid, entry) in self.lock().iter() {
            for view in entry.views.borrow().iter().filter(|view| view.running) {
                let Some(attempt) = view.attempt else {
                    continue;
                };
                let pod = PodRef {
                    namespace: entry.namespace.clone(),
                    name: entry.name.clone(),
                    uid: uid.clone(),
                };
                let id = ContainerId(format!("{uid}/{}/{attempt}", view.name).into());
                running.push((pod, view.name.clone(), id));
            }
        }
        running
    }

    /// A pod, as the API last gave it.
    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Pod>> {
        let entries = self.lock();
        let entry = entries.get(uid)?;
        Some(pod_of(&entry.wanted.borrow()).clone())
    }

    /// A pod and how its containers are. Of two of the same name, the newer.
    pub(crate) fn find(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<(PodRef, watch::Receiver<Vec<ContainerView>>)> {
        let entries = self.lock();
        let (uid, entry) = entries
            .iter()
            .filter(|(_, entry)| entry.namespace == namespace && entry.name == name)
            .max_by_key(|(_, entry)| {
                pod_of(&entry.wanted.borrow())
                    .metadata
                    .creation_timestamp
                    .clone()
                    .map(|t| t.0)
            })?;
        let pod = PodRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.clone(),
        };
        Some((pod, entry.views.clone()))
    }
}

/// Whether a node has answered for the pod before.
fn known(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|status| status.start_time.is_some()) || ended(pod)
}

/// Whether the API's status says that nothing of the pod runs any more.
fn ended(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn pod_of(wanted: &Wanted) -> &Arc<Pod> {
    match wanted {
        Wanted::Pod(pod) | Wanted::Gone(pod) => pod,
    }
}

/// Watches the node's pods and runs their workers.
pub(crate) struct Loop {
    context: Arc<Context>,
    pods: Pods,
    static_pods: StaticPods,
    workers: JoinSet<String>,
    /// Containers that runtimes have from an earlier process, by pod uid.
    held: HashMap<String, Vec<Held>>,
    /// Whether what no pod owns has been looked for.
    swept: bool,
    /// Ends it.
    sweeping: JoinSet<()>,
    node: watch::Receiver<Option<Arc<Node>>>,
    allocatable: Amounts,
    /// What the pods take that have a worker: at least what those take that still may run.
    committed: Amounts,
}

impl Loop {
    pub(crate) fn new(
        context: Arc<Context>,
        pods: Pods,
        static_pods: StaticPods,
        node: watch::Receiver<Option<Arc<Node>>>,
    ) -> Loop {
        Loop {
            allocatable: Amounts::of(&object::allocatable(&context.config)),
            committed: Amounts::default(),
            node,
            context,
            pods,
            static_pods,
            workers: JoinSet::new(),
            held: HashMap::new(),
            swept: false,
            sweeping: JoinSet::new(),
        }
    }

    /// Runs until `stop`; a worker that panics is an error.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        self.adopt().await?;
        self.static_pods.read().await;
        let api: Api<Pod> = Api::all(self.context.client.clone());
        let selector = format!("spec.nodeName={}", self.context.config.node_name);
        let events = watcher(api, watcher::Config::default().fields(&selector))
            .modify(|pod| pod.metadata.managed_fields = None)
            .default_backoff();
        let mut events = std::pin::pin!(events);
        let (mut listed, mut arrived) = (HashSet::new(), Vec::new());
        loop {
            self.run_static_pods(&stop);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.static_pods.changed() => {}
                Some(ended) = self.workers.join_next(), if !self.workers.is_empty() => {
                    let uid = ended.context("a pod's worker panicked")?;
                    if let Some(entry) = self.pods.lock().remove(&uid) {
                        self.committed = self.committed - entry.requested;
                    }
                    self.static_pods.forget(&uid);
                }
                Some(swept) = self.sweeping.join_next(), if !self.sweeping.is_empty() => {
                    swept.context("the end of pods that nobody owns panicked")?;
                }
                Some(event) = events.next() => match event {
                    Ok(watcher::Event::Init) => {
                        listed.clear();
                        arrived.clear();
                        self.static_pods.list_begins();
                    }
                    Ok(watcher::Event::InitApply(pod)) => if !self.static_pods.lists(&pod) {
                        listed.extend(pod.metadata.uid.clone());
                        arrived.push(pod);
                    }
                    Ok(watcher::Event::InitDone) => {
                        self.static_pods.list_ends();
                        // First, for what they had is free.
                        self.drop_unlisted(&listed);
                        // What was taken once keeps its place, and of the others who came first.
                        arrived.sort_by_cached_key(|pod: &Pod| {
                            (!known(pod), pod.metadata.creation_timestamp.clone())
                        });
                        for pod in arrived.drain(..) {
                            self.apply(pod, &stop);
                        }
                        self.sweep(&listed).await;
                    }
                    Ok(watcher::Event::Apply(pod)) => self.apply(pod, &stop),
                    Ok(watcher::Event::Delete(pod)) => self.gone(pod),
                    Err(error) => warn!(%error, "watch pods"),
                },
            }
        }
        while self.workers.join_next().await.is_some() {}
        Ok(())
    }

    /// Learns which containers there are from an earlier process.
    async fn adopt(&mut self) -> anyhow::Result<()> {
        for runtime in &self.context.runtimes {
            let containers = runtime
                .list()
                .await
                .with_context(|| format!("list the containers of {}", runtime.name()))?;
            for container in containers {
                if let Some(held) = Held::of(runtime.name(), &container) {
                    self.held.entry(container.pod.uid).or_default().push(held);
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, pod: Pod, stop: &CancellationToken) {
        if self.static_pods.sees(&pod) {
            return;
        }
        let metadata = &pod.metadata;
        let (Some(uid), Some(namespace), Some(name)) =
            (&metadata.uid, &metadata.namespace, &metadata.name)
        else {
            return;
        };
        let pod_ref = PodRef {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.clone(),
        };
        self.run_pod(pod_ref, Arc::new(pod), stop);
    }

    /// Gives a pod's worker its newest version; makes one if it has none.
    fn run_pod(&mut self, pod_ref: PodRef, pod: Arc<Pod>, stop: &CancellationToken) {
        let PodRef {
            namespace,
            name,
            uid,
        } = pod_ref;
        if let Some(entry) = self.pods.lock().get(&uid) {
            entry.wanted.send_replace(Wanted::Pod(pod));
            return;
        }
        let ports = HostPort::wanted(&pod);
        let taken = match ports.is_empty() {
            true => Vec::new(),
            false => self.pods.host_ports(),
        };
        let (over, requested, ports) = match self.admit(&uid, &pod, &taken) {
            Ok(()) => (None, Amounts::requested(&pod), ports),
            Err(refusal) => {
                let over = self.refused(&pod, refusal);
                (Some(over), Amounts::default(), Vec::new())
            }
        };
        self.committed = self.committed + requested;
        let mut entries = self.pods.lock();
        let (wanted, mailbox) = watch::channel(Wanted::Pod(pod.clone()));
        let (views, seen) = watch::channel(Vec::new());
        let held = self.held.remove(&uid).unwrap_or_default();
        let worker = Worker::new(self.context.clone(), pod, &held, over, mailbox, views);
        let stop = stop.clone();
        entries.insert(
            uid.clone(),
            Entry {
                namespace,
                name,
                wanted,
                views: seen,
                requested,
                ports,
            },
        );
        self.workers.spawn(async move {
            worker.run(stop).await;
            uid
        });
    }

    /// Starts and ends static pods as their files say, and shows them to the API. Another version of a pod waits until
    /// the one before has ended.
    fn run_static_pods(&mut self, stop: &CancellationToken) {
        let wanted: Vec<_> = self.static_pods.wanted().cloned().collect();
        let mut active = Vec::new();
        for (uid, entry) in self.pods.lock().iter() {
            if !self.context.mirrors.has(uid) {
                continue;
            }
            active.push((entry.namespace.clone(), entry.name.clone()));
            let stays = wanted.iter().any(|pod| pod.uid == *uid);
            entry.wanted.send_if_modified(|wanted| {
                let ends = !stays && matches!(wanted, Wanted::Pod(_));
                if ends {
                    *wanted = Wanted::Gone(pod_of(wanted).clone());
                }
                ends
            });
        }
        for pod in wanted {
            let metadata = &pod.pod.metadata;
            let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
                continue;
            };
            let place = (namespace.clone(), name.clone());
            if active.contains(&place) {
                continue;
            }
            let pod_ref = PodRef {
                namespace: place.0,
                name: place.1,
                uid: pod.uid.clone(),
            };
            info!(
                namespace = pod_ref.namespace,
                name = pod_ref.name,
                "run a static pod"
            );
            let pod = first_seen(&pod, &self.context.config.log_dir);
            self.run_pod(pod_ref, pod, stop);
        }
        // A worker writes what a new mirror does not show yet.
        let entries = self.pods.lock();
        for uid in self.static_pods.mirror() {
            if let Some(entry) = entries.get(&uid) {
                entry.wanted.send_modify(|_| {});
            }
        }
    }

    /// Whether the node takes a pod. One that it has taken before stays, and so does a static one.
    fn admit(&self, uid: &str, pod: &Pod, taken_ports: &[HostPort]) -> Result<(), Refusal> {
        let deleted = pod.metadata.deletion_timestamp.is_some();
        if known(pod) || deleted || self.context.mirrors.has(uid) {
            return Ok(());
        }
        let node = self.node.borrow().clone();
        let object = node.as_deref();
        let own = object::labels(&self.context.config);
        let labels = object.and_then(|node| node.metadata.labels.as_ref());
        let spec = object.and_then(|node| node.spec.as_ref());
        let mut place = Place {
            name: &self.context.config.node_name,
            labels: labels.unwrap_or(&own),
            taints: spec
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default(),
            allocatable: self.allocatable,
            used: self.committed,
            sysctls: &self.context.config.allowed_unsafe_sysctls,
            taken_ports,
            reserved_ports: &self.context.config.reserved_ports,
        };
        admit(pod, &place).or_else(|_| {
            // Some of those counted may have ended since.
            place.used = self.pods.in_use();
            admit(pod, &place)
        })
    }

    fn refused(&self, pod: &Pod, refusal: Refusal) -> Over {
        let Refusal { reason, message } = refusal;
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let pod = PodRef {
            namespace: name(&pod.metadata.namespace),
            name: name(&pod.metadata.name),
            uid: name(&pod.metadata.uid),
        };
        self.context.note(&pod, None, true, reason, message.clone());
        Over {
            phase: "Failed",
            reason: Some(reason.to_owned()),
            message: Some(format!("Pod was rejected: {message}")),
            rejected: true,
        }
    }

    fn gone(&mut self, pod: Pod) {
        if self.static_pods.loses(&pod) {
            return;
        }
        let entries = self.pods.lock();
        if let Some(entry) = pod.metadata.uid.as_ref().and_then(|uid| entries.get(uid)) {
            entry.wanted.send_replace(Wanted::Gone(Arc::new(pod)));
        }
    }

    /// Pods that went while the watch was away.
    fn drop_unlisted(&mut self, listed: &HashSet<String>) {
        for (_, entry) in self
            .pods
            .lock()
            .iter()
            .filter(|(uid, _)| !listed.contains(*uid) && !self.context.mirrors.has(uid))
        {
            let pod = pod_of(&entry.wanted.borrow()).clone();
            entry.wanted.send_replace(Wanted::Gone(pod));
        }
    }

    /// Begins to end what is left of pods that nobody has. Once: later ones end with their workers.
    async fn sweep(&mut self, listed: &HashSet<String>) {
        if std::mem::replace(&mut self.swept, true) {
            return;
        }
        let owned = |uid: &str| {
            let has_worker = self.pods.lock().contains_key(uid);
            has_worker
                || listed.contains(uid)
                || self.context.mirrors.has(uid)
                || self.context.functions.opened_here(uid)
        };
        let orphans = orphans::find(&self.context, &owned).await;
        if !orphans.is_empty() {
            info!(
                count = orphans.len(),
                "end pods that were deleted while nobody looked"
            );
            let context = self.context.clone();
            self.sweeping.spawn(orphans::end(context, orphans));
        }
    }
}
