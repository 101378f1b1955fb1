//! The task that looks after one pod.
//!
//! Takes the pod's newest version from a mailbox that holds one, asks [`plan`] what to do, has it done by futures that
//! it owns, and writes the status whenever that changed. Never waits for anything but the next thing to happen.

use std::{collections::BTreeMap, path::Path, pin::Pin, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use runtimes::{ContainerId, Images, PodNetwork, PodRef, Runtime, RuntimeError};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::{
    plan::{Action, plan},
    start::Start,
    state::{Observation, PodState, Sandbox, State},
    status::{Transitions, Written, status, to_map, transitions},
};
use crate::{
    clock::Clock,
    config::Config,
    deadline::{CallError, call},
    events::Sink,
    logs,
    probe::Probes,
    services::Services,
    static_pods::Mirrors,
};

/// How long `ContainerCreating` waits to be written: most starts are over by then, and one write is saved.
const START_UNSEEN: Duration = Duration::from_millis(100);
/// Between tries to set a pod up, and to end it.
const SETUP_RETRY: Duration = Duration::from_secs(5);
const REMOVAL_RETRY: Duration = Duration::from_secs(1);
/// Delays between tries to write a status.
const FIRST_WRITE_DELAY: Duration = Duration::from_millis(100);
const LONGEST_WRITE_DELAY: Duration = Duration::from_secs(10);
/// Beyond the grace period, what a runtime may take to end a container.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// What every worker shares.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Arc<Config>,
    pub(crate) runtimes: Vec<Arc<dyn Runtime>>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) services: Services,
    pub(crate) events: Sink,
    pub(crate) clock: Clock,
    pub(crate) starts: Semaphore,
    pub(crate) probes: Probes,
    pub(crate) mirrors: Mirrors,
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

type Views = Vec<ContainerView>;
type Work = BoxFuture<'static, Option<Observation>>;

/// A status on its way to the API, and how writing it went.
type Write = Pin<Box<dyn Future<Output = (Map<String, Value>, Result<(), CallError>)> + Send>>;

/// One pod's worker.
pub(crate) struct Worker {
    context: Arc<Context>,
    state: PodState,
    pod_ref: PodRef,
    wanted: watch::Receiver<Wanted>,
    views: watch::Sender<Views>,
    work: FuturesUnordered<Work>,
    /// Cancels the start under way of each container.
    starts: BTreeMap<usize, AbortHandle>,
    /// The uid that the API knows the pod by; what was written to another is not written.
    api_uid: Option<String>,
    written: Written,
    transitions: Transitions,
    /// A status on its way to the API, and the outcome's use.
    write: Option<Write>,
    write_delay: Duration,
    /// No status is written before.
    quiet_until: Option<Timestamp>,
    refused: Option<String>,
}

impl Worker {
    /// A worker for a pod; `adopted` are its containers that still run, as (name, attempt).
    pub(crate) fn new(
        context: Arc<Context>,
        pod: Arc<Pod>,
        adopted: &[(String, u32)],
        wanted: watch::Receiver<Wanted>,
        views: watch::Sender<Views>,
    ) -> Worker {
        let attempt = |name: &str| {
            adopted
                .iter()
                .filter(|(other, _)| other == name)
                .map(|(_, attempt)| *attempt)
                .max()
        };
        let now = context.clock.now();
        let state = PodState::new(pod.clone(), attempt, now);
        let worker = Worker {
            pod_ref: state.pod_ref(),
            api_uid: None,
            written: Written::from_status(pod.status.as_ref()),
            transitions: transitions(&pod),
            work: FuturesUnordered::new(),
            starts: BTreeMap::new(),
            write: None,
            write_delay: FIRST_WRITE_DELAY,
            quiet_until: Some(now + START_UNSEEN),
            refused: None,
            context,
            state,
            wanted,
            views,
        };
        for (place, container) in worker.state.containers.iter().enumerate() {
            if container.running() {
                worker
                    .work
                    .push(wait(worker.context.clone(), place, worker.state.id(place)));
            }
        }
        worker
    }

    /// Looks after the pod until nothing is left of it, or the nodelet stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let now = self.context.clock.now();
            let Some(wake_at) = self.act(now) else { return };
            self.publish(now);
            let wake = wake_at.into_iter().chain(self.quiet_until).min();
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
                (status, outcome) = poll_write(&mut self.write) => self.write_done(&status, outcome),
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
        self.state.update(pod);
    }

    fn observe(&mut self, observation: Observation) {
        let place = match &observation {
            Observation::Started(place, _)
            | Observation::StartFailed(place, _)
            | Observation::Exited(place, _)
            | Observation::Lost(place) => Some(*place),
            _ => None,
        };
        if let Observation::Started(place, _) = &observation {
            self.work
                .push(wait(self.context.clone(), *place, self.state.id(*place)));
        }
        if let Some(place) = place {
            self.starts.remove(&place);
        }
        self.state.observe(observation, self.context.clock.now());
    }

    /// Takes every action of the plan, until there is none; answers when to look again, `None` if the pod is done.
    fn act(&mut self, now: Timestamp) -> Option<Option<Timestamp>> {
        loop {
            let plan = plan(&self.state, now);
            let mut acted = false;
            for action in plan.actions {
                if action == Action::Forget {
                    self.forget();
                    return None;
                }
                // The final status comes first: the pod cannot be told anything once it is deleted.
                if action == Action::Remove && (self.write.is_some() || self.patch(now).is_some()) {
                    self.quiet_until = None;
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
            Action::Start(place) => self.start(place),
            Action::Stop(place, grace) => self.stop(place, grace),
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
                let image = self
                    .state
                    .fields(place)
                    .and_then(|fields| fields.image.clone())
                    .unwrap_or_default();
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
                let (context, uid, ids) =
                    (self.context.clone(), self.pod_ref.uid.clone(), self.ids());
                self.work.push(
                    async move {
                        tear_down(&context, &uid, &ids).await;
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
        let container = &self.state.containers[place];
        let init = container.role != super::state::Role::Main;
        self.context.note(
            &self.pod_ref,
            Some((&container.name, init)),
            warning,
            reason,
            message,
        );
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
        self.work.push(
            async move {
                let message = match tokio::time::timeout(
                    SETUP_RETRY,
                    context.network.add(&pod, wanted),
                )
                .await
                {
                    Ok(Ok(address)) => return Some(Observation::SandboxReady(address)),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!(
                        "the pod network did not answer within {} s",
                        SETUP_RETRY.as_secs()
                    ),
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

    fn start(&mut self, place: usize) {
        let (Sandbox::Ready(address), Some(container)) =
            (self.state.sandbox, self.state.fields(place))
        else {
            return;
        };
        let known = &self.state.containers[place];
        let start = Start {
            pod: self.state.pod.clone(),
            pod_ref: self.pod_ref.clone(),
            container: container.clone(),
            init: known.role != super::state::Role::Main,
            id: self.state.id(place),
            attempt: known.attempt,
            address,
        };
        let context = self.context.clone();
        let before = known.attempt.checked_sub(1).map(|attempt| {
            ContainerId(format!("{}/{}/{attempt}", self.pod_ref.uid, known.name).into())
        });
        let (handle, registration) = AbortHandle::new_pair();
        self.starts.insert(place, handle);
        let run = async move {
            if let Some(before) = before {
                remove_container(&context, &before).await;
            }
            let id = start.id.clone();
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

    fn stop(&mut self, place: usize, grace: Duration) {
        let cancelled = self
            .starts
            .remove(&place)
            .inspect(AbortHandle::abort)
            .is_some();
        let container = self.state.containers[place].name.clone();
        self.note(
            place,
            false,
            "Killing",
            format!("Stopping container {container}"),
        );
        let (context, id) = (self.context.clone(), self.state.id(place));
        self.work.push(
            async move {
                let mut found = false;
                for runtime in &context.runtimes {
                    match tokio::time::timeout(grace + STOP_SLACK, runtime.stop(&id, grace)).await {
                        Ok(Ok(())) => found = true,
                        Ok(Err(RuntimeError::NotFound(_))) => {}
                        Ok(Err(error)) => warn!(%error, container = %id, "stop a container"),
                        Err(_) => {
                            error!(container = %id, "a runtime did not end a container in time");
                        }
                    }
                }
                // A container that ran is waited for already; one that was on its way is not.
                match (found, cancelled) {
                    (true, false) => None,
                    (true, true) => exit(&context, place, &id).await,
                    (false, _) => Some(Observation::Lost(place)),
                }
            }
            .boxed(),
        );
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

    /// Removes the logs: nothing else is left of the pod.
    fn forget(&self) {
        let directory = logs::pod_directory(&self.context.config.log_dir, &self.pod_ref);
        remove_directory(&directory);
    }

    /// Starts writing the status if it changed, and tells the server how the containers are.
    fn publish(&mut self, now: Timestamp) {
        let views = self.state.containers.iter().map(view).collect::<Views>();
        self.views.send_if_modified(|old| {
            let changed = *old != views;
            *old = views;
            changed
        });
        let quiet = self.starting() || self.write_delay > FIRST_WRITE_DELAY;
        if self.quiet_until.is_some_and(|until| until <= now || !quiet) {
            self.quiet_until = None;
        }
        if self.quiet_until.is_some() || self.write.is_some() || self.state.gone {
            return;
        }
        // A static pod's mirror may be missing, or have come anew.
        let Some(uid) = self.context.mirrors.api_uid(&self.pod_ref.uid) else {
            return;
        };
        if uid != self.pod_ref.uid && self.api_uid.as_ref() != Some(&uid) {
            self.api_uid = Some(uid.clone());
            self.written = Written::from_status(None);
        }
        let Some((status, patch)) = self.patch(now) else {
            return;
        };
        let (client, pod) = (self.context.client.clone(), self.pod_ref.clone());
        self.write = Some(Box::pin(async move {
            let pods: Api<Pod> = Api::namespaced(client, &pod.namespace);
            // The uid keeps this off another pod that has taken the name.
            let body = json!({"metadata": {"uid": uid}, "status": patch});
            let outcome = call(pods.patch_status(
                &pod.name,
                &PatchParams::default(),
                &Patch::Strategic(body),
            ))
            .await;
            (status, outcome.map(drop))
        }));
    }

    /// Whether what would be written is soon to be overtaken: a first start is under way.
    fn starting(&self) -> bool {
        let quiet = |state: &State| {
            matches!(
                state,
                State::Starting { .. }
                    | State::Waiting { retry_at: None, .. }
                    | State::Running { .. }
            )
        };
        matches!(
            self.state.sandbox,
            Sandbox::SettingUp | Sandbox::Wanted | Sandbox::Ready(_)
        ) && self.state.pod.metadata.deletion_timestamp.is_none()
            && self
                .state
                .containers
                .iter()
                .all(|container| container.last.is_none() && quiet(&container.state))
            && self
                .state
                .containers
                .iter()
                .any(|container| !container.running())
    }

    fn patch(&mut self, now: Timestamp) -> Option<(Map<String, Value>, Value)> {
        let status = status(
            &self.state,
            &self.context.config.addresses,
            &mut self.transitions,
            now,
        );
        let status = to_map(&status);
        let patch = self.written.patch(&status)?;
        Some((status, patch))
    }

    fn write_done(&mut self, status: &Map<String, Value>, outcome: Result<(), CallError>) {
        self.write = None;
        match outcome {
            Ok(()) => {
                self.written.learn(status);
                self.write_delay = FIRST_WRITE_DELAY;
            }
            // Gone, or another pod of that name: the watch will say so.
            Err(error) if matches!(error.code(), Some(404 | 409)) => self.written.learn(status),
            Err(error) => {
                let PodRef {
                    namespace, name, ..
                } = &self.pod_ref;
                warn!(%error, namespace, name, "write the status of a pod");
                self.write_delay = (self.write_delay * 2).min(LONGEST_WRITE_DELAY);
                self.quiet_until = Some(self.context.clock.now() + self.write_delay);
            }
        }
    }
}

async fn poll_write<T>(write: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match write {
        Some(write) => write.await,
        None => std::future::pending().await,
    }
}

fn view(container: &super::state::Container) -> ContainerView {
    let ran = container.used || container.alive();
    let newest = if ran {
        Some(container.attempt)
    } else {
        container.attempt.checked_sub(1)
    };
    let ended = match &container.state {
        State::Exited { .. } => Some(container.attempt),
        State::Waiting { .. } if container.used && container.last.is_some() => {
            Some(container.attempt)
        }
        _ => container.attempt.checked_sub(1),
    };
    let waiting = match &container.state {
        State::Waiting { reason, .. } | State::Starting { reason } => Some(reason.as_str()),
        _ => None,
    };
    let attempt = if matches!(container.state, State::Starting { .. }) {
        container.attempt.checked_sub(1)
    } else {
        newest
    };
    ContainerView {
        name: container.name.clone(),
        attempt,
        running: container.alive(),
        waiting,
        ended,
    }
}

/// Why this node cannot give the pod what its spec asks for: an Event's reason and message.
fn refusal(pod: &Pod) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref()?;
    if spec.host_network == Some(true) {
        let message = "Failed to create pod sandbox: hostNetwork is not supported: every pod has its own address here";
        return Some(("FailedCreatePodSandBox", message.to_owned()));
    }
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    for container in containers {
        let mount = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|mount| &mount.name)
            .next();
        let device = container
            .volume_devices
            .iter()
            .flatten()
            .map(|device| &device.name)
            .next();
        if let Some(volume) = mount.or(device) {
            let message = format!(
                "Unable to attach or mount volumes: container {:?} mounts volume {volume:?}, and this node cannot give containers \
                 volumes; supported are values in env and envFrom, from ConfigMaps and Secrets too",
                container.name
            );
            return Some(("FailedMount", message));
        }
    }
    None
}

/// Waits for a container's end.
fn wait(context: Arc<Context>, place: usize, id: ContainerId) -> Work {
    async move { exit(&context, place, &id).await }.boxed()
}

async fn exit(context: &Context, place: usize, id: &ContainerId) -> Option<Observation> {
    loop {
        let mut trouble = false;
        for runtime in &context.runtimes {
            match runtime.wait(id).await {
                Ok(exit) => return Some(Observation::Exited(place, exit)),
                Err(RuntimeError::NotFound(_)) => {}
                Err(error) => {
                    debug!(%error, container = %id, "wait for a container");
                    trouble = true;
                }
            }
        }
        if !trouble {
            return Some(Observation::Lost(place));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
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

/// Removes the containers of a pod and frees its address.
async fn tear_down(context: &Context, uid: &str, ids: &[ContainerId]) {
    for id in ids {
        remove_container(context, id).await;
    }
    if let Err(error) = context.network.remove(uid).await {
        warn!(%error, uid, "free a pod's address");
    }
}

/// Removes a directory of logs; one that is not there is fine.
pub(crate) fn remove_directory(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(%error, directory = %directory.display(), "remove the logs of a pod");
    }
}
