//! The task that looks after one pod.
//!
//! Takes the pod's newest version from a mailbox that holds one, asks [`plan`] what to do, has it done by futures that
//! it owns, and writes the status whenever that changed. Never waits for anything but the next thing to happen.

mod ending;
mod hooks;
mod probing;
mod writing;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use runtimes::{ContainerId, Images, PodNetwork, PodRef, Runtime, RuntimeError};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    container::Container,
    place,
    plan::{Action, ending, plan},
    start::Start,
    state::{Held, Observation, Over, PodState, Sandbox},
};
use crate::{
    clock::Clock,
    config::Config,
    deadline::call,
    events::Sink,
    functions::Table,
    logs,
    probe::Probes,
    services::Services,
    static_pods::Mirrors,
    volume::{self, Volumes},
};
use probing::Probing;
use writing::Writing;

/// Between tries to set a pod up, and to end it.
const SETUP_RETRY: Duration = Duration::from_secs(5);
const REMOVAL_RETRY: Duration = Duration::from_secs(1);
/// Beyond the grace period, what a runtime may take to end a container.
pub(crate) const STOP_SLACK: Duration = Duration::from_secs(10);

/// What every worker shares.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Arc<Config>,
    pub(crate) runtimes: Vec<Arc<dyn Runtime>>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) services: Services,
    pub(crate) volumes: Volumes,
    pub(crate) events: Sink,
    pub(crate) clock: Clock,
    pub(crate) starts: Semaphore,
    /// Statuses of pods on their way at once: the apiserver has others to answer.
    pub(crate) writes: Semaphore,
    pub(crate) probes: Probes,
    pub(crate) mirrors: Mirrors,
    pub(crate) functions: Table,
}

impl Context {
    /// The node's allocatable resources, by name.
    pub(crate) fn allocatable(&self) -> BTreeMap<String, String> {
        let resources = crate::node::object::allocatable(&self.config);
        resources
            .into_iter()
            .map(|(name, quantity)| (name, quantity.0))
            .collect()
    }
}

/// What the API wants of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    Pod(Arc<Pod>),
    /// The API has it no more; this is how it last was.
    Gone(Arc<Pod>),
}

/// What the server tells of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ContainerView {
    pub(crate) name: Arc<str>,
    /// The newest attempt that has a log.
    pub(crate) attempt: Option<u32>,
    pub(crate) running: bool,
    /// Why it waits.
    pub(crate) waiting: Option<&'static str>,
    /// The newest attempt that has ended.
    pub(crate) ended: Option<u32>,
}

pub(crate) type Views = Vec<ContainerView>;
type Work = BoxFuture<'static, Option<Observation>>;

/// One pod's worker.
pub(crate) struct Worker {
    context: Arc<Context>,
    state: PodState,
    pod_ref: PodRef,
    wanted: watch::Receiver<Wanted>,
    work: FuturesUnordered<Work>,
    /// Cancels the start or the hook under way of each container.
    under_way: BTreeMap<usize, AbortHandle>,
    probing: Probing,
    writing: Writing,
    refused: Option<String>,
    /// Ends the set-up under way, which may wait for long.
    set_up: CancellationToken,
}

impl Worker {
    /// A worker for a pod; `held` are its containers that runtimes have from an earlier process. One that the node
    /// does not take is `over` before it begins.
    pub(crate) fn new(
        context: Arc<Context>,
        pod: Arc<Pod>,
        held: &[Held],
        over: Option<Over>,
        wanted: watch::Receiver<Wanted>,
        views: watch::Sender<Views>,
    ) -> Worker {
        let now = context.clock.now();
        let mut state = PodState::new(pod, held, now);
        state.over = state.over.or(over);
        let worker = Worker {
            pod_ref: state.pod_ref(),
            writing: Writing::new(&state, views, now),
            work: FuturesUnordered::new(),
            under_way: BTreeMap::new(),
            probing: Probing::default(),
            refused: None,
            set_up: CancellationToken::new(),
            context,
            state,
            wanted,
        };
        for (place, container) in worker.state.containers.iter().enumerate() {
            if container.running() {
                worker.work.push(worker.wait(place));
            }
        }
        worker
    }

    /// Looks after the pod until nothing is left of it, or the nodelet stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = self.context.clock.now();
            let Some(wake_at) = self.act(now) else { return };
            self.probe();
            self.publish(now);
            let wake = wake_at.into_iter().chain(self.writing.quiet_until()).min();
            let sleep = async {
                match wake {
                    Some(at) => {
                        let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                        tokio::time::sleep(left.max(Duration::from_millis(1))).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.update();
                }
                Some(observation) = self.work.next(), if !self.work.is_empty() => {
                    if let Some(observation) = observation {
                        self.observe(observation);
                    }
                }
                verdict = self.probing.next() => self.observe(verdict),
                written = self.writing.done() => {
                    let now = self.context.clock.now();
                    self.writing.learn(written, &self.pod_ref, now);
                }
                () = sleep => {}
            }
        }
    }

    fn update(&mut self) {
        let pod = match &*self.wanted.borrow_and_update() {
            Wanted::Pod(pod) => pod.clone(),
            Wanted::Gone(pod) => {
                self.state.gone = true;
                pod.clone()
            }
        };
        self.context.volumes.update(&self.pod_ref.uid, &pod);
        self.state.update(pod, self.context.clock.now());
    }

    fn observe(&mut self, observation: Observation) {
        let ended = match &observation {
            Observation::Started(place, _)
            | Observation::StartFailed(place, _)
            | Observation::PostStarted(place, _)
            | Observation::PreStopped(place)
            | Observation::Exited(place, _)
            | Observation::Lost(place) => Some(*place),
            _ => None,
        };
        if let Observation::Started(place, _) = &observation {
            self.work.push(self.wait(*place));
        }
        // What is still under way for it has no use any more.
        if let Some(handle) = ended.and_then(|place| self.under_way.remove(&place)) {
            handle.abort();
        }
        self.state.observe(observation, self.context.clock.now());
    }

    /// Takes every action of the plan, until there is none; answers when to look again, `None` if the pod is done.
    fn act(&mut self, now: Timestamp) -> Option<Option<Timestamp>> {
        if ending(&self.state).is_some() {
            self.set_up.cancel();
        }
        loop {
            let plan = plan(&self.state, now);
            let mut acted = false;
            for action in plan.actions {
                if action == Action::Forget {
                    self.forget();
                    return None;
                }
                // The final status comes first: the pod cannot be told anything once it is deleted.
                if action == Action::Remove && self.unwritten(now) {
                    continue;
                }
                self.state.begin(&action, now);
                self.take(action);
                acted = true;
            }
            if !acted {
                return Some(plan.wake_at);
            }
        }
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::SetUp => self.set_up(),
            Action::Start(place) => self.start(place, false),
            Action::Resume(place) => self.start(place, true),
            Action::PostStart(place) => self.post_start(place),
            Action::Stop(place, why, _) => self.stop(place, why),
            Action::Hasten(place, grace) => self.hasten(place, grace),
            Action::Signal(place, grace) => self.signal(place, grace),
            Action::BackOffRestart(place, _) => {
                let PodRef {
                    namespace,
                    name,
                    uid,
                } = &self.pod_ref;
                let container = &self.state.containers[place].name;
                let message = format!(
                    "Back-off restarting failed container {container} in pod {name}_{namespace}({uid})"
                );
                self.note(place, true, "BackOff", message);
            }
            Action::BackOffPull(place) => {
                let image = self.state.containers[place].image.clone();
                self.note(
                    place,
                    false,
                    "BackOff",
                    format!("Back-off pulling image {image:?}"),
                );
                self.note(place, true, "Failed", "Error: ImagePullBackOff".to_owned());
            }
            Action::Expire => {
                let message =
                    "Pod was active on the node longer than the specified deadline".to_owned();
                self.context
                    .note(&self.pod_ref, None, false, "DeadlineExceeded", message);
            }
            Action::TearDown => {
                let (context, pod, ids) = (self.context.clone(), self.pod_ref.clone(), self.ids());
                self.work.push(
                    async move {
                        tear_down(&context, &pod, &ids).await;
                        Some(Observation::TornDown)
                    }
                    .boxed(),
                );
            }
            Action::Remove => self.remove(),
            Action::Forget => {}
        }
    }

    /// The ids under which the pod's containers may still be held: of this attempt and the one before.
    fn ids(&self) -> Vec<ContainerId> {
        let uid = &self.pod_ref.uid;
        let attempts = |attempt: u32| {
            [Some(attempt), attempt.checked_sub(1)]
                .into_iter()
                .flatten()
        };
        self.state
            .containers
            .iter()
            .flat_map(|c| {
                attempts(c.attempt)
                    .map(move |attempt| ContainerId(format!("{uid}/{}/{attempt}", c.name).into()))
            })
            .collect()
    }

    fn note(&self, place: usize, warning: bool, reason: &'static str, message: String) {
        let Container { name, role, .. } = &self.state.containers[place];
        self.context
            .note_container(&self.pod_ref, name, *role, warning, reason, message);
    }

    fn set_up(&mut self) {
        if let Some((reason, message)) = refusal(&self.state.pod) {
            // Nothing on this node will change that: said once, then tried rarely.
            if self.refused.as_ref() != Some(&message) {
                self.context
                    .note(&self.pod_ref, None, true, reason, message.clone());
                self.refused = Some(message);
            }
            let retry_in = SETUP_RETRY * 60;
            self.work
                .push(async move { Some(Observation::SandboxRefused { retry_in }) }.boxed());
            return;
        }
        let (context, pod, wanted) = (self.context.clone(), self.pod_ref.clone(), self.state.ip);
        let (fields, stop) = (self.state.pod.clone(), self.set_up.clone());
        let mut containers = self.state.containers.iter();
        let holds_containers = containers
            .any(|container| container.alive() && container.container_id.starts_with("oci://"));
        self.work.push(
            async move {
                let mounted = volume::wait_until_set_up(&context, &fields, &pod);
                if stop.run_until_cancelled(mounted).await.is_none() {
                    let retry_in = Duration::ZERO;
                    return Some(Observation::SandboxRefused { retry_in });
                }
                let taken = place::take(&context, &fields, &pod, wanted, holds_containers);
                let message = match taken.await {
                    Ok(address) => return Some(Observation::SandboxReady(address)),
                    Err(message) => message,
                };
                let message = format!("Failed to create pod sandbox: {message}");
                context.note(&pod, None, true, "FailedCreatePodSandBox", message);
                Some(Observation::SandboxRefused {
                    retry_in: SETUP_RETRY,
                })
            }
            .boxed(),
        );
    }

    /// Starts a container; one that is resumed keeps its attempt, and says nothing of it.
    fn start(&mut self, place: usize, resume: bool) {
        let (Sandbox::Ready(address), Some(container)) =
            (self.state.sandbox, self.state.fields(place))
        else {
            return;
        };
        let known = &self.state.containers[place];
        let missing = self.state.target(place).filter(|target| {
            let mut containers = self.state.containers.iter();
            !containers.any(|other| *other.name == **target && other.ran())
        });
        let mut others = self.state.containers.iter().enumerate();
        let alone = !others.any(|(other, container)| other != place && container.alive());
        let start = Start {
            pod: self.state.pod.clone(),
            pod_ref: self.pod_ref.clone(),
            container: container.into_owned(),
            role: known.role,
            id: self.state.id(place),
            attempt: known.attempt,
            address,
            alone,
            target: self.target(place),
            missing_target: missing.map(str::to_owned),
        };
        let context = self.context.clone();
        let image_id = known.image_id.clone();
        let before = known.attempt.checked_sub(1).map(|attempt| {
            ContainerId(format!("{}/{}/{attempt}", self.pod_ref.uid, known.name).into())
        });
        let (handle, registration) = AbortHandle::new_pair();
        self.under_way.insert(place, handle);
        let run = async move {
            let id = start.id.clone();
            if resume {
                return match start.resume(&context, &image_id).await {
                    Some(started) => Observation::Started(place, started),
                    None => {
                        remove_container(&context, &id).await;
                        Observation::Lost(place)
                    }
                };
            }
            if let Some(before) = before {
                remove_container(&context, &before).await;
            }
            match start.run(&context).await {
                Ok(started) => Observation::Started(place, started),
                Err(failure) => {
                    // Otherwise a retry would find what could not be made or started.
                    remove_container(&context, &id).await;
                    Observation::StartFailed(place, failure)
                }
            }
        };
        self.work
            .push(Abortable::new(run, registration).map(Result::ok).boxed());
    }

    /// The container whose processes an ephemeral one looks at; a component has none.
    fn target(&self, place: usize) -> Option<ContainerId> {
        let name = self.state.target(place)?;
        let mut containers = self.state.containers.iter();
        let target = containers.position(|other| *other.name == *name)?;
        let container_id = &self.state.containers[target].container_id;
        let runs = container_id.starts_with("oci://");
        runs.then(|| self.state.id(target))
    }

    fn remove(&mut self) {
        let (client, pod) = (self.context.client.clone(), self.pod_ref.clone());
        self.work.push(async move {
            let pods: Api<Pod> = Api::namespaced(client, &pod.namespace);
            let parameters = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
                ..DeleteParams::default()
            };
            Some(match call(pods.delete(&pod.name, &parameters)).await {
                Ok(_) => Observation::Removed,
                // Gone, or another pod of that name.
                Err(error) if matches!(error.code(), Some(404 | 409)) => Observation::Removed,
                Err(error) => {
                    warn!(%error, namespace = pod.namespace, name = pod.name, "delete a pod that has ended");
                    Observation::RemovalFailed { retry_in: REMOVAL_RETRY }
                }
            })
        }.boxed());
    }

    /// Removes the logs and the pod's directory: nothing else is left of the pod.
    fn forget(&self) {
        let config = &self.context.config;
        remove_directory(&logs::pod_directory(&config.log_dir, &self.pod_ref));
        volume::remove_pod_directory(&config.pods_dir.join(&self.pod_ref.uid));
    }
}

/// Why this node cannot give the pod what its spec asks for: an Event's reason and message.
fn refusal(pod: &Pod) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref()?;
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    for container in containers {
        let mut devices = container.volume_devices.iter().flatten();
        if let Some(device) = devices.next() {
            let message = format!(
                "Unable to attach or mount volumes: containers[{}].volumeDevices: volume {:?} as a block device is not \
                 supported: mount it with volumeMounts",
                container.name, device.name
            );
            return Some(("FailedMount", message));
        }
    }
    None
}

/// Ends and removes one container from whichever runtime holds it.
pub(crate) async fn remove_container(context: &Context, id: &ContainerId) {
    for runtime in &context.runtimes {
        let end = async {
            match runtime.stop(id, Duration::ZERO).await {
                Ok(()) | Err(RuntimeError::NotFound(_)) => runtime.remove(id).await,
                Err(error) => Err(error),
            }
        };
        match tokio::time::timeout(STOP_SLACK, end).await {
            Ok(Ok(()) | Err(RuntimeError::NotFound(_))) => {}
            Ok(Err(error)) => warn!(%error, container = %id, "remove a container"),
            Err(_) => error!(container = %id, "a runtime did not remove a container in time"),
        }
    }
}

/// Removes the containers of a pod, frees its address and removes its volumes.
async fn tear_down(context: &Context, pod: &PodRef, ids: &[ContainerId]) {
    for id in ids {
        remove_container(context, id).await;
    }
    let uid = &pod.uid;
    if let Err(error) = context.network.remove(uid).await {
        warn!(%error, uid, "free a pod's address");
    }
    volume::tear_down(context, pod).await;
}

/// Removes a directory of a pod; one that is not there is fine.
pub(crate) fn remove_directory(directory: &Path) {
    if let Err(error) = runtimes::removal::remove(directory) {
        warn!(%error, directory = %directory.display(), "remove a directory of a pod");
    }
}
