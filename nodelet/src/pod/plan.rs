//! What to do next for a pod. Pure: same state, same plan.
//!
//! The worker takes every action of the plan at once ([`PodState::begin`]) and plans again when something happened or
//! at `wake_at`; a plan of a state in which everything that can be done is under way is empty.

mod end;
mod probes;
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use super::{
    container::{Role, Why},
    state::{EVICTED, PodState},
};
pub(crate) use probes::probes;

/// `terminationGracePeriodSeconds` where the pod has none.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// What a container has in any case between being told to end and being killed.
pub(crate) const LEAST_GRACE: Duration = Duration::from_secs(2);

/// How long an evicted pod has, whatever its own grace period.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// One thing to do. Places are indices into [`PodState::containers`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Give the pod its address and log directory.
    SetUp,
    /// Bring a container from image to running.
    Start(usize),
    /// Start a container that was lost with an earlier process as if nothing had happened, if it is one that can be.
    Resume(usize),
    /// Run a container's postStart hook.
    PostStart(usize),
    /// Begin to end a container, or what is on its way to be one: its preStop hook comes first.
    Stop(usize, Why, Duration),
    /// Less time than was given before.
    Hasten(usize, Duration),
    /// Tell the runtime to end a container within that time.
    Signal(usize, Duration),
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
        Some(grace) => end::plan(state, grace, now, &mut plan),
        None => run::plan(state, now, &mut plan),
    }
    plan
}

/// How long containers may take to end, if the pod is to end.
pub(crate) fn ending(state: &PodState) -> Option<Duration> {
    if state.deleted() {
        let given = state.pod.metadata.deletion_grace_period_seconds;
        return Some(seconds(given).unwrap_or_else(|| grace(state)));
    }
    (state.over.is_some() || complete(state)).then(|| grace(state))
}

/// The pod's `terminationGracePeriodSeconds`, or less if it was evicted.
fn grace(state: &PodState) -> Duration {
    let given = state
        .spec()
        .and_then(|spec| spec.termination_grace_period_seconds);
    let given = seconds(given).unwrap_or(DEFAULT_GRACE);
    let over = state.over.as_ref();
    match over.and_then(|over| over.reason.as_deref()) {
        Some(EVICTED) => given.min(EVICTION_GRACE),
        _ => given,
    }
}

fn seconds(seconds: Option<i64>) -> Option<Duration> {
    let seconds = u64::try_from(seconds?).ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether the containers have come to an end that no restart follows.
pub(crate) fn complete(state: &PodState) -> bool {
    let for_good = |place: usize| {
        let code = state.containers[place].exit_code();
        code.is_some_and(|code| !state.restarts(place, code))
    };
    let mut mains = of_role(state, Role::Main).peekable();
    init_failed(state) || (mains.peek().is_some() && mains.all(for_good))
}

/// Whether an init container has failed and is not tried again, and nothing has run that it should have come before.
pub(crate) fn init_failed(state: &PodState) -> bool {
    !state.begun()
        && of_role(state, Role::Init).any(|place| {
            let code = state.containers[place].exit_code();
            code.is_some_and(|code| code != 0 && !state.restarts(place, code))
        })
}

fn of_role(state: &PodState, role: Role) -> impl Iterator<Item = usize> + '_ {
    let places = 0..state.containers.len();
    places.filter(move |place| state.containers[*place].role == role)
}
