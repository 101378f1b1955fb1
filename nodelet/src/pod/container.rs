//! What is known of one container of a pod. Plain data: [`PodState`](super::state::PodState) changes it.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// First delay before a restart or another pull, doubled up to [`LONGEST_DELAY`].
pub(crate) const FIRST_DELAY: Duration = Duration::from_secs(10);
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// How long an error of a pull or a start is shown before the back-off that follows it.
pub(crate) const ERROR_SHOWN: Duration = Duration::from_secs(2);
/// A container that ran this long starts with a clean slate.
pub(crate) const STEADY: SignedDuration = SignedDuration::from_mins(10);

/// What a container is to its pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the pod.
    Sidecar,
    Main,
    /// Added to the pod while it runs, to look at it; started once.
    Ephemeral,
}

/// Why a container is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// Its pod ends.
    PodEnds,
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// Its spec names another image now.
    Changed,
    /// Its postStart hook failed.
    PostStart,
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
    PostStartHookError,
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
            Reason::PostStartHookError => "PostStartHookError",
            Reason::CrashLoopBackOff => "CrashLoopBackOff",
        }
    }
}

/// Why a start did not lead to a running container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StartFailure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// Of the container that was made and could not be started; otherwise empty.
    pub(crate) container_id: String,
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
    /// It ran in a process before this one (since when, if that is known). Starting it again would be the same
    /// container if it holds no state; otherwise it has ended.
    Lost {
        since: Option<Timestamp>,
        under_way: bool,
    },
    /// On its way from image to running. `shown` is why it waits, until then; a restart that nothing holds up shows
    /// how the attempt before ended.
    Starting {
        shown: Option<Box<StartFailure>>,
    },
    /// Runs, and its postStart hook is not over; `begun` once that runs.
    PostStart {
        since: Timestamp,
        begun: bool,
    },
    Running {
        since: Timestamp,
    },
    /// Asked to end.
    Stopping(Stopping),
    /// `at` is when the worker learned of it: restarts are counted from there.
    Exited {
        ended: Box<Ended>,
        at: Timestamp,
    },
}

/// A container that is to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stopping {
    /// Since when it has run; `None` if it was still on its way.
    pub(crate) since: Option<Timestamp>,
    pub(crate) why: Why,
    /// What it was given, from then on, and when that is over.
    pub(crate) grace: Duration,
    pub(crate) until: Timestamp,
    pub(crate) step: Step,
}

/// How far the end of a container is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Its preStop hook runs.
    PreStop,
    /// Next is the runtime; a sidecar waits for those that it serves.
    Turn,
    /// The runtime has been told.
    Signalled,
}

/// One container of the pod.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// The last part of the container's id.
    pub(crate) attempt: u32,
    /// A container of this attempt was made: the next start is another attempt.
    pub(crate) used: bool,
    pub(crate) state: State,
    pub(crate) last: Option<Box<Ended>>,
    /// The image of the newest start, as the spec named it.
    pub(crate) image: Box<str>,
    pub(crate) image_id: String,
    /// `wasm://<id>`, once there is one.
    pub(crate) container_id: String,
    /// Its startup probe has passed, or it has none.
    pub(crate) started: bool,
    /// Its readiness probe passes, or it has none.
    pub(crate) passes: bool,
    /// It has to end, its pod goes on.
    pub(crate) condemned: Option<Why>,
    /// It starts again whatever its policy says: its spec changed.
    pub(crate) redo: bool,
    /// What its postStart hook failed of.
    pub(crate) hook_failure: Option<Box<str>>,
    pub(super) restart_delay: Duration,
    pub(super) pull_delay: Duration,
    pub(super) config_delay: Duration,
}

impl Container {
    pub(super) fn new(name: &str, role: Role, reason: Reason, now: Timestamp) -> Container {
        Container {
            name: name.into(),
            role,
            attempt: 0,
            used: false,
            state: waiting(reason, now),
            last: None,
            image: "".into(),
            image_id: String::new(),
            container_id: String::new(),
            started: false,
            passes: false,
            condemned: None,
            redo: false,
            hook_failure: None,
            restart_delay: Duration::ZERO,
            pull_delay: Duration::ZERO,
            config_delay: Duration::ZERO,
        }
    }

    /// Whether something of it may be running.
    pub(crate) fn alive(&self) -> bool {
        match &self.state {
            State::Starting { .. }
            | State::PostStart { .. }
            | State::Running { .. }
            | State::Stopping(_) => true,
            State::Lost { under_way, .. } => *under_way,
            State::Waiting { .. } | State::Exited { .. } => false,
        }
    }

    /// Since when it runs, as its status tells: also while it is being ended.
    pub(crate) fn running_since(&self) -> Option<Timestamp> {
        match &self.state {
            State::Running { since } => Some(*since),
            State::Stopping(stopping) => stopping.since,
            State::Lost { since, .. } => Some(since.unwrap_or_default()),
            _ => None,
        }
    }

    /// Runs, and nothing ends it.
    pub(crate) fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// `started` in its status.
    pub(crate) fn is_started(&self) -> bool {
        let lost = matches!(self.state, State::Lost { .. });
        self.running_since().is_some() && self.started && !lost
    }

    /// `ready` in its status; an init container is ready once it is done.
    pub(crate) fn is_ready(&self) -> bool {
        match self.role {
            Role::Init => self.exit_code() == Some(0),
            Role::Ephemeral => false,
            Role::Sidecar | Role::Main => self.is_started() && self.passes,
        }
    }

    /// Its exit code, if it has ended.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        match &self.state {
            State::Exited { ended, .. } => Some(ended.code),
            _ => None,
        }
    }

    /// Whether it has ever run.
    pub(crate) fn ran(&self) -> bool {
        self.used || self.last.is_some() || self.running_since().is_some()
    }

    /// `restartCount`: an attempt counts once its container has been made.
    pub(crate) fn restart_count(&self) -> u32 {
        if self.used {
            self.attempt
        } else {
            self.attempt.saturating_sub(1)
        }
    }

    /// How long the next restart waits after an exit.
    pub(crate) fn restart_delay(&self) -> Duration {
        self.restart_delay
    }

    /// How the newest attempt that has ended ended.
    pub(crate) fn newest_end(&self) -> Option<&Ended> {
        match &self.state {
            State::Exited { ended, .. } => Some(ended),
            _ => self.last.as_deref(),
        }
    }
}

pub(super) fn waiting(reason: Reason, now: Timestamp) -> State {
    State::Waiting {
        reason,
        message: String::new(),
        since: now,
        retry_at: None,
    }
}

/// The end of a container that nobody saw end.
pub(super) fn lost(container_id: String, started_at: Option<Timestamp>) -> Box<Ended> {
    Box::new(Ended {
        code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container could not be located when the pod was terminated".to_owned(),
        container_id,
        started_at,
        finished_at: None,
    })
}

pub(super) fn doubled(delay: Duration, first: Duration, longest: Duration) -> Duration {
    if delay.is_zero() {
        first
    } else {
        (delay * 2).min(longest)
    }
}

/// Whole seconds as Go prints a duration: `40s`, `2m40s`, `5m0s`.
pub(super) fn go_duration(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
