//! What a pod worker knows: the pod as the API last gave it, its address, and how each container fares.
//!
//! Changed only by [`PodState::observe`] (something happened) and [`PodState::begin`] (the worker took an action
//! of the plan). Pure: no IO, no clock.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as ContainerFields, ContainerStatus, Pod};
use runtimes::{ContainerId, Exit, PodAddress, PodRef};

use super::plan::Action;

/// First delay before a restart or another pull, doubled up to [`LONGEST_DELAY`].
pub(crate) const FIRST_DELAY: Duration = Duration::from_secs(10);
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// A container that ran this long starts with a clean slate.
pub(crate) const STEADY: SignedDuration = SignedDuration::from_mins(10);
/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`.
pub(crate) const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(2);
/// First delay before reading a missing ConfigMap or Secret again, doubled up to [`LONGEST_CONFIG_DELAY`].
const FIRST_CONFIG_DELAY: Duration = Duration::from_secs(1);
const LONGEST_CONFIG_DELAY: Duration = Duration::from_secs(30);

/// Why a pod failed that took more of the node than it may.
pub(crate) const EVICTED: &str = "Evicted";

/// What a container is to its pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the pod.
    Sidecar,
    Main,
}

/// How a container ended, for `state.terminated`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) container_id: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

/// Why a container is not running yet; `as_str` is what `state.waiting.reason` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    PodInitializing,
    ContainerCreating,
    InvalidImageName,
    ErrImageNeverPull,
    ErrImagePull,
    ImagePullBackOff,
    CreateContainerConfigError,
    CreateContainerError,
    RunContainerError,
    CrashLoopBackOff,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::PodInitializing => "PodInitializing",
            Reason::ContainerCreating => "ContainerCreating",
            Reason::InvalidImageName => "InvalidImageName",
            Reason::ErrImageNeverPull => "ErrImageNeverPull",
            Reason::ErrImagePull => "ErrImagePull",
            Reason::ImagePullBackOff => "ImagePullBackOff",
            Reason::CreateContainerConfigError => "CreateContainerConfigError",
            Reason::CreateContainerError => "CreateContainerError",
            Reason::RunContainerError => "RunContainerError",
            Reason::CrashLoopBackOff => "CrashLoopBackOff",
        }
    }
}

/// Where a container is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Not running; tried (again) at `retry_at`, or as soon as its turn comes.
    Waiting {
        reason: Reason,
        message: String,
        since: Timestamp,
        retry_at: Option<Timestamp>,
    },
    /// On its way from image to running. `reason` is what is shown meanwhile.
    Starting {
        reason: Reason,
    },
    Running {
        since: Timestamp,
    },
    /// Asked to end, within `grace`.
    Stopping {
        since: Option<Timestamp>,
        grace: Duration,
    },
    /// `at` is when the worker learned of it: restarts are counted from there.
    Exited {
        ended: Ended,
        at: Timestamp,
    },
}

/// One container of the pod.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// `restartCount`, and the last part of the container's id.
    pub(crate) attempt: u32,
    /// A container of this attempt was made: the next start is another attempt.
    pub(crate) used: bool,
    pub(crate) state: State,
    pub(crate) last: Option<Ended>,
    pub(crate) image_id: String,
    /// `wasm://<id>`, once there is one.
    pub(crate) container_id: String,
    restart_delay: Duration,
    pull_delay: Duration,
    config_delay: Duration,
}

impl Container {
    fn new(name: &str, role: Role, now: Timestamp) -> Container {
        Container {
            name: name.into(),
            role,
            attempt: 0,
            used: false,
            state: waiting(Reason::ContainerCreating, now),
            last: None,
            image_id: String::new(),
            container_id: String::new(),
            restart_delay: Duration::ZERO,
            pull_delay: Duration::ZERO,
            config_delay: Duration::ZERO,
        }
    }

    /// Whether something of it may be running.
    pub(crate) fn alive(&self) -> bool {
        matches!(
            self.state,
            State::Starting { .. } | State::Running { .. } | State::Stopping { .. }
        )
    }

    pub(crate) fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// How long the next restart waits after an exit.
    pub(crate) fn restart_delay(&self) -> Duration {
        self.restart_delay
    }
}

fn waiting(reason: Reason, now: Timestamp) -> State {
    State::Waiting {
        reason,
        message: String::new(),
        since: now,
        retry_at: None,
    }
}

/// The pod's place on the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sandbox {
    Wanted,
    /// Being set up.
    SettingUp,
    /// Refused; tried again then.
    Refused {
        retry_at: Timestamp,
    },
    Ready(PodAddress),
    TearingDown,
    TornDown,
}

/// How far the pod's deletion from the API is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    Wanted,
    UnderWay,
    Failed { retry_at: Timestamp },
    Done,
}

/// The pod has been ended by other means than its containers' own ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Over {
    pub(crate) phase: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

/// Why a start did not lead to a running container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StartFailure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// A container that has been started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Started {
    pub(crate) image_id: String,
    pub(crate) container_id: String,
}

/// Something that happened to the pod.
#[derive(Clone, Debug)]
pub(crate) enum Observation {
    SandboxReady(PodAddress),
    SandboxRefused {
        retry_in: Duration,
    },
    TornDown,
    /// The container at this place has been started.
    Started(usize, Started),
    StartFailed(usize, StartFailure),
    Exited(usize, Exit),
    /// Stopped before there was anything to stop, or its runtime knows no more of it.
    Lost(usize),
    Removed,
    RemovalFailed {
        retry_in: Duration,
    },
}

/// What a pod worker knows.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    /// As the API last gave it, without status and managed fields.
    pub(crate) pod: Arc<Pod>,
    /// The API has it no more.
    pub(crate) gone: bool,
    pub(crate) sandbox: Sandbox,
    /// Init containers first, in order.
    pub(crate) containers: Vec<Container>,
    pub(crate) started_at: Timestamp,
    /// The IP that status shows, kept when the address is freed.
    pub(crate) ip: Option<std::net::IpAddr>,
    pub(crate) over: Option<Over>,
    pub(crate) removal: Removal,
}

impl PodState {
    /// A pod seen for the first time by this process. `running` answers, for a container's name, the attempt that
    /// still lives in a runtime; what the API's status says was running and does not live was lost with the
    /// process before.
    pub(crate) fn new(
        pod: Arc<Pod>,
        running: impl Fn(&str) -> Option<u32>,
        now: Timestamp,
    ) -> PodState {
        let status = pod.status.clone().unwrap_or_default();
        let seen: Vec<ContainerStatus> =
            [status.init_container_statuses, status.container_statuses]
                .into_iter()
                .flatten()
                .flatten()
                .collect();
        let mut containers: Vec<Container> = roles(&pod)
            .map(|(fields, role)| Container::new(&fields.name, role, now))
            .collect();
        for container in &mut containers {
            if let Some(status) = seen.iter().find(|status| *status.name == *container.name) {
                restore(container, status, now);
            }
            if let Some(attempt) = running(&container.name) {
                container.attempt = attempt;
                container.used = true;
                container.state = State::Running { since: now };
            }
        }
        let mut state = PodState {
            gone: false,
            sandbox: Sandbox::Wanted,
            containers,
            started_at: status.start_time.map_or(now, |time| time.0),
            ip: status.pod_ip.and_then(|ip| ip.parse().ok()),
            over: over(&pod),
            removal: Removal::Wanted,
            pod,
        };
        state.show_initializing(now);
        state
    }

    /// The pod as the API now has it.
    pub(crate) fn update(&mut self, pod: Arc<Pod>) {
        // Evicted, or ended by somebody else: nothing leads back from there.
        if self.over.is_none() {
            self.over = over(&pod);
        }
        self.pod = pod;
    }

    /// The pod's names.
    pub(crate) fn pod_ref(&self) -> PodRef {
        let metadata = &self.pod.metadata;
        PodRef {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// The fields of the container at this place.
    pub(crate) fn fields(&self, place: usize) -> Option<&ContainerFields> {
        roles(&self.pod).nth(place).map(|(fields, _)| fields)
    }

    /// The id of the container at this place in its present attempt.
    pub(crate) fn id(&self, place: usize) -> ContainerId {
        let container = &self.containers[place];
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        ContainerId(format!("{uid}/{}/{}", container.name, container.attempt).into())
    }

    /// Whether containers are started again after `code`.
    pub(crate) fn restarts(&self, role: Role, code: i32) -> bool {
        let policy = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        match (role, policy.unwrap_or("Always")) {
            (Role::Sidecar, _) | (Role::Main, "Always") => true,
            (Role::Init, "Always") | (_, "OnFailure") => code != 0,
            _ => false,
        }
    }

    /// Takes an action of the plan: what is now under way is not planned again.
    pub(crate) fn begin(&mut self, action: &Action, now: Timestamp) {
        match action {
            Action::SetUp => self.sandbox = Sandbox::SettingUp,
            Action::TearDown => self.sandbox = Sandbox::TearingDown,
            Action::Start(place) => self.begin_start(*place),
            Action::Stop(place, grace) => {
                let container = &mut self.containers[*place];
                let since = match container.state {
                    State::Running { since } => Some(since),
                    State::Stopping { since, .. } => since,
                    _ => None,
                };
                container.state = State::Stopping {
                    since,
                    grace: *grace,
                };
            }
            Action::BackOffRestart(place, retry_at) => {
                self.back_off_restart(*place, *retry_at, now);
            }
            Action::BackOffPull(place) => {
                let image = self
                    .fields(*place)
                    .and_then(|fields| fields.image.clone())
                    .unwrap_or_default();
                if let State::Waiting {
                    reason, message, ..
                } = &mut self.containers[*place].state
                {
                    *reason = Reason::ImagePullBackOff;
                    *message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
                }
            }
            Action::Expire => {
                self.over = Some(Over {
                    phase: "Failed",
                    reason: Some("DeadlineExceeded".to_owned()),
                    message: Some(
                        "Pod was active on the node longer than the specified deadline".to_owned(),
                    ),
                });
            }
            Action::Remove => self.removal = Removal::UnderWay,
            Action::Forget => {}
        }
    }

    fn begin_start(&mut self, place: usize) {
        let container = &mut self.containers[place];
        let shown = match (&container.state, container.last.is_some()) {
            (State::Waiting { reason, .. }, false) => *reason,
            _ => Reason::ContainerCreating,
        };
        if let State::Exited { ended, .. } = &container.state {
            container.last = Some(ended.clone());
        }
        if container.used {
            container.attempt += 1;
            container.used = false;
            container.restart_delay = doubled(container.restart_delay, FIRST_DELAY, LONGEST_DELAY);
        }
        container.state = State::Starting { reason: shown };
    }

    fn back_off_restart(&mut self, place: usize, retry_at: Timestamp, now: Timestamp) {
        let pod = self.pod_ref();
        let container = &mut self.containers[place];
        let message = format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            go_duration(container.restart_delay),
            container.name,
            pod.name,
            pod.namespace,
            pod.uid
        );
        let state = State::Waiting {
            reason: Reason::CrashLoopBackOff,
            message,
            since: now,
            retry_at: Some(retry_at),
        };
        if let State::Exited { ended, .. } = std::mem::replace(&mut container.state, state) {
            container.last = Some(ended);
        }
    }

    /// Takes in what happened.
    pub(crate) fn observe(&mut self, observation: Observation, now: Timestamp) {
        match observation {
            Observation::SandboxReady(address) => {
                self.ip = Some(address.ip);
                self.sandbox = Sandbox::Ready(address);
            }
            Observation::SandboxRefused { retry_in } => {
                self.sandbox = Sandbox::Refused {
                    retry_at: now + retry_in,
                }
            }
            Observation::TornDown => self.sandbox = Sandbox::TornDown,
            Observation::Started(place, started) => {
                let container = &mut self.containers[place];
                container.used = true;
                container.image_id = started.image_id;
                container.container_id = started.container_id;
                container.pull_delay = Duration::ZERO;
                container.config_delay = Duration::ZERO;
                if matches!(container.state, State::Starting { .. }) {
                    container.state = State::Running { since: now };
                }
                self.show_initializing(now);
            }
            Observation::StartFailed(place, failure) => self.start_failed(place, failure, now),
            Observation::Exited(place, exit) => {
                let container = &mut self.containers[place];
                let ran_since = match container.state {
                    State::Running { since } => Some(since),
                    State::Stopping { since, .. } => since,
                    _ => None,
                };
                if ran_since.is_some_and(|since| now.duration_since(since) >= STEADY) {
                    container.restart_delay = Duration::ZERO;
                }
                let ended = Ended {
                    code: exit.code,
                    reason: exit.reason.to_owned(),
                    message: exit.message,
                    container_id: container.container_id.clone(),
                    started_at: Timestamp::try_from(exit.started_at).ok(),
                    finished_at: Timestamp::try_from(exit.finished_at).ok(),
                };
                container.used = true;
                container.state = State::Exited { ended, at: now };
                self.show_initializing(now);
            }
            Observation::Lost(place) => {
                let container = &mut self.containers[place];
                let ended = lost(container.container_id.clone(), now);
                container.state = State::Exited { ended, at: now };
            }
            Observation::Removed => self.removal = Removal::Done,
            Observation::RemovalFailed { retry_in } => {
                self.removal = Removal::Failed {
                    retry_at: now + retry_in,
                }
            }
        }
    }

    fn start_failed(&mut self, place: usize, failure: StartFailure, now: Timestamp) {
        let restarts = self.restarts(self.containers[place].role, 128);
        let container = &mut self.containers[place];
        let delay = match failure.reason {
            Reason::CreateContainerConfigError => {
                container.config_delay = doubled(
                    container.config_delay,
                    FIRST_CONFIG_DELAY,
                    LONGEST_CONFIG_DELAY,
                );
                container.config_delay
            }
            Reason::RunContainerError => {
                container.used = true;
                container.restart_delay.max(FIRST_DELAY)
            }
            _ => {
                container.pull_delay = doubled(container.pull_delay, FIRST_DELAY, LONGEST_DELAY);
                container.pull_delay
            }
        };
        if failure.reason == Reason::RunContainerError {
            let ended = Ended {
                code: 128,
                reason: "StartError".to_owned(),
                message: failure.message.clone(),
                container_id: container.container_id.clone(),
                started_at: None,
                finished_at: Some(now),
            };
            if !restarts {
                container.state = State::Exited { ended, at: now };
                return;
            }
            container.last = Some(ended);
        }
        container.state = State::Waiting {
            reason: failure.reason,
            message: failure.message,
            since: now,
            retry_at: Some(now + delay),
        };
    }

    /// Main containers show `PodInitializing` for as long as init containers have not done their part.
    fn show_initializing(&mut self, now: Timestamp) {
        let wanted = if self.initialized() {
            Reason::ContainerCreating
        } else {
            Reason::PodInitializing
        };
        for container in self
            .containers
            .iter_mut()
            .filter(|container| container.role == Role::Main)
        {
            if let State::Waiting {
                reason: Reason::ContainerCreating | Reason::PodInitializing,
                ..
            } = container.state
            {
                container.state = waiting(wanted, now);
            }
        }
    }

    /// Whether every init container has done its part.
    pub(crate) fn initialized(&self) -> bool {
        self.containers.iter().all(initialized)
    }
}

/// How the pod has ended, if the API says that it has.
fn over(pod: &Pod) -> Option<Over> {
    let status = pod.status.as_ref()?;
    let phase = match status.phase.as_deref() {
        Some("Succeeded") => "Succeeded",
        Some("Failed") => "Failed",
        _ => return None,
    };
    Some(Over {
        phase,
        reason: status.reason.clone(),
        message: status.message.clone(),
    })
}

/// Whether this container no longer holds the ones after it back.
pub(crate) fn initialized(container: &Container) -> bool {
    match container.role {
        Role::Init => matches!(&container.state, State::Exited { ended, .. } if ended.code == 0),
        Role::Sidecar => container.used,
        Role::Main => true,
    }
}

/// The pod's containers in the order of [`PodState::containers`].
fn roles(pod: &Pod) -> impl Iterator<Item = (&ContainerFields, Role)> {
    let spec = pod.spec.as_ref();
    let init = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let main = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let role = |fields: &ContainerFields| match fields.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    };
    init.iter()
        .map(move |fields| (fields, role(fields)))
        .chain(main.iter().map(|fields| (fields, Role::Main)))
}

/// Brings a container back to where the API's status says it was.
fn restore(container: &mut Container, status: &ContainerStatus, now: Timestamp) {
    container.attempt = u32::try_from(status.restart_count).unwrap_or(0);
    container.image_id.clone_from(&status.image_id);
    container.container_id = status.container_id.clone().unwrap_or_default();
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref()?;
        Some(Ended {
            code: ended.exit_code,
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.clone().unwrap_or_default(),
            container_id: ended.container_id.clone().unwrap_or_default(),
            started_at: ended.started_at.as_ref().map(|time| time.0),
            finished_at: ended.finished_at.as_ref().map(|time| time.0),
        })
    };
    container.last = terminated(&status.last_state);
    container.used = container.last.is_some();
    if status
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some())
    {
        container.used = true;
        container.state = State::Exited {
            ended: lost(container.container_id.clone(), now),
            at: now,
        };
    } else if let Some(ended) = terminated(&status.state) {
        container.used = true;
        container.state = State::Exited { ended, at: now };
    }
}

/// The end of a container that nobody saw end.
fn lost(container_id: String, now: Timestamp) -> Ended {
    Ended {
        code: 137,
        reason: "Unknown".to_owned(),
        message: "The container was gone when the node looked for it".to_owned(),
        container_id,
        started_at: None,
        finished_at: Some(now),
    }
}

fn doubled(delay: Duration, first: Duration, longest: Duration) -> Duration {
    if delay.is_zero() {
        first
    } else {
        (delay * 2).min(longest)
    }
}

/// Whole seconds as Go prints a duration: `40s`, `2m40s`, `5m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
