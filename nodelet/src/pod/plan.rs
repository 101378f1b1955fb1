//! What to do next for a pod. Pure: same state, same plan.
//!
//! The worker takes every action of the plan at once ([`PodState::begin`]) and plans again when something happened or
//! at `wake_at`; a plan of a state in which everything that can be done is under way is empty.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::state::{
    PULL_ERROR_SHOWN, PodState, Reason, Removal, Role, Sandbox, State, initialized,
};

/// `terminationGracePeriodSeconds` where the pod has none.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// One thing to do. Places are indices into [`PodState::containers`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Give the pod its address and log directory.
    SetUp,
    /// Bring a container from image to running.
    Start(usize),
    /// End a container, or what is on its way to be one.
    Stop(usize, Duration),
    /// Show `CrashLoopBackOff` until then.
    BackOffRestart(usize, Timestamp),
    /// Show `ImagePullBackOff` instead of `ErrImagePull`.
    BackOffPull(usize),
    /// The pod has outlived `activeDeadlineSeconds`.
    Expire,
    /// Remove the containers from their runtimes and free the address.
    TearDown,
    /// Delete the pod from the API; only once its final status is written.
    Remove,
    /// Nothing of the pod is left: remove its logs and end the worker.
    Forget,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_at: Option<Timestamp>,
}

impl Plan {
    /// True once `at` has come; otherwise asks to be woken then.
    fn due(&mut self, at: Timestamp, now: Timestamp) -> bool {
        if at > now {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
        at <= now
    }
}

/// Decides what to do.
pub(crate) fn plan(state: &PodState, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match ending(state) {
        Some(grace) => plan_end(state, grace, now, &mut plan),
        None => plan_run(state, now, &mut plan),
    }
    plan
}

/// How long containers may take to end, if the pod is to end.
fn ending(state: &PodState) -> Option<Duration> {
    let spec = state.pod.spec.as_ref();
    let seconds = |seconds: Option<i64>| {
        seconds
            .and_then(|s| u64::try_from(s).ok())
            .map(Duration::from_secs)
    };
    let usual = seconds(spec.and_then(|spec| spec.termination_grace_period_seconds))
        .unwrap_or(DEFAULT_GRACE);
    let metadata = &state.pod.metadata;
    if metadata.deletion_timestamp.is_some() || state.gone {
        return Some(seconds(metadata.deletion_grace_period_seconds).unwrap_or(usual));
    }
    (state.over.is_some() || complete(state)).then_some(usual)
}

/// Whether the containers have come to an end that no restart follows.
pub(crate) fn complete(state: &PodState) -> bool {
    let ended_for_good = |role: Role, state_of: &State| match state_of {
        State::Exited { ended, .. } => !state.restarts(role, ended.code),
        _ => false,
    };
    let init_failed = state.containers.iter().any(|container| {
        container.role == Role::Init
            && matches!(&container.state, State::Exited { ended, .. } if ended.code != 0)
            && ended_for_good(Role::Init, &container.state)
    });
    let mut mains = state
        .containers
        .iter()
        .filter(|container| container.role == Role::Main)
        .peekable();
    init_failed
        || (mains.peek().is_some() && mains.all(|main| ended_for_good(Role::Main, &main.state)))
}

fn plan_run(state: &PodState, now: Timestamp, plan: &mut Plan) {
    if let Some(seconds) = state
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.active_deadline_seconds)
    {
        let deadline = state
            .started_at
            .saturating_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX);
        if plan.due(deadline, now) {
            plan.actions.push(Action::Expire);
            return;
        }
    }
    match state.sandbox {
        Sandbox::Wanted => plan.actions.push(Action::SetUp),
        Sandbox::Refused { retry_at } => {
            if plan.due(retry_at, now) {
                plan.actions.push(Action::SetUp);
            }
        }
        Sandbox::SettingUp | Sandbox::TearingDown | Sandbox::TornDown => {}
        Sandbox::Ready(_) => plan_containers(state, now, plan),
    }
}

fn plan_containers(state: &PodState, now: Timestamp, plan: &mut Plan) {
    for (place, container) in state.containers.iter().enumerate() {
        if !(container.role == Role::Init && initialized(container)) {
            plan_container(state, place, now, plan);
        }
        if !initialized(container) {
            return;
        }
    }
}

fn plan_container(state: &PodState, place: usize, now: Timestamp, plan: &mut Plan) {
    let container = &state.containers[place];
    match &container.state {
        State::Waiting {
            retry_at,
            reason,
            since,
            ..
        } => {
            if retry_at.is_none_or(|at| plan.due(at, now)) {
                plan.actions.push(Action::Start(place));
            } else if *reason == Reason::ErrImagePull && plan.due(*since + PULL_ERROR_SHOWN, now) {
                plan.actions.push(Action::BackOffPull(place));
            }
        }
        State::Exited { ended, at } if state.restarts(container.role, ended.code) => {
            let retry_at = *at + container.restart_delay();
            plan.actions.push(if retry_at <= now {
                Action::Start(place)
            } else {
                Action::BackOffRestart(place, retry_at)
            });
        }
        State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Exited { .. } => {}
    }
}

fn plan_end(state: &PodState, grace: Duration, now: Timestamp, plan: &mut Plan) {
    // Sidecars serve the others to the end.
    let mains_alive = state
        .containers
        .iter()
        .any(|container| container.role != Role::Sidecar && container.alive());
    for (place, container) in state.containers.iter().enumerate() {
        if container.role == Role::Sidecar && mains_alive {
            continue;
        }
        let stop = match container.state {
            State::Starting { .. } | State::Running { .. } => true,
            State::Stopping { grace: given, .. } => given > grace,
            State::Waiting { .. } | State::Exited { .. } => false,
        };
        if stop {
            plan.actions.push(Action::Stop(place, grace));
        }
    }
    if state.containers.iter().any(super::state::Container::alive) {
        return;
    }
    match state.sandbox {
        // Torn down although never set up: containers of an earlier process may be left.
        Sandbox::Ready(_) | Sandbox::Wanted | Sandbox::Refused { .. } => {
            plan.actions.push(Action::TearDown)
        }
        Sandbox::SettingUp | Sandbox::TearingDown => {}
        Sandbox::TornDown if state.gone => plan.actions.push(Action::Forget),
        Sandbox::TornDown if state.pod.metadata.deletion_timestamp.is_some() => match state.removal
        {
            Removal::Wanted => plan.actions.push(Action::Remove),
            Removal::Failed { retry_at } => {
                if plan.due(retry_at, now) {
                    plan.actions.push(Action::Remove);
                }
            }
            Removal::UnderWay | Removal::Done => {}
        },
        Sandbox::TornDown => {}
    }
}
