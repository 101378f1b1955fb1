//! A pod that is to end, and a container that is.
//!
//! All preStop hooks run at once. Main containers are told to end as soon as theirs is over; sidecars one after another
//! once nothing is left that they serve, the last one first. Whoever's time is up is told in any case.

use std::time::Duration;

use jiff::Timestamp;

use super::{Action, LEAST_GRACE, Plan};
use crate::pod::{
    container::{Container, Role, State, Step, Stopping, Why},
    state::{PodState, Removal, Sandbox},
};

pub(super) fn plan(state: &PodState, grace: Duration, now: Timestamp, plan: &mut Plan) {
    for (place, container) in state.containers.iter().enumerate() {
        match &container.state {
            State::Stopping(stopping) if stopping.grace > grace => {
                plan.actions.push(Action::Hasten(place, grace));
            }
            State::Stopping(stopping) => plan_stopping(state, place, stopping, now, plan),
            _ if container.alive() => {
                plan.actions.push(Action::Stop(place, Why::PodEnds, grace));
            }
            _ => {}
        }
    }
    if state.containers.iter().any(Container::alive) {
        return;
    }
    match state.sandbox {
        // Torn down although never set up: containers of an earlier process may be left.
        Sandbox::Ready(_) | Sandbox::Wanted | Sandbox::Refused { .. } => {
            plan.actions.push(Action::TearDown);
        }
        Sandbox::SettingUp | Sandbox::TearingDown => {}
        Sandbox::TornDown if state.gone => plan.actions.push(Action::Forget),
        Sandbox::TornDown if state.deleted() => match state.removal {
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

/// One container that is being ended.
pub(super) fn plan_stopping(
    state: &PodState,
    place: usize,
    stopping: &Stopping,
    now: Timestamp,
    plan: &mut Plan,
) {
    let ready = match stopping.step {
        Step::Signalled => return,
        Step::PreStop => false,
        Step::Turn => has_turn(state, place, stopping),
    };
    if ready || plan.due(stopping.until, now) {
        let left = Duration::try_from(stopping.until.duration_since(now)).unwrap_or_default();
        plan.actions
            .push(Action::Signal(place, left.max(LEAST_GRACE)));
    }
}

/// A sidecar goes after the containers that it serves: the main ones, and the sidecars that started after it.
fn has_turn(state: &PodState, place: usize, stopping: &Stopping) -> bool {
    let served = |(other, role): (usize, Role)| match role {
        Role::Main | Role::Init => true,
        Role::Sidecar => other > place,
        Role::Ephemeral => false,
    };
    let sidecar = state.containers[place].role == Role::Sidecar;
    let alone = stopping.why != Why::PodEnds || stopping.since.is_none();
    !sidecar
        || alone
        || !state
            .containers
            .iter()
            .enumerate()
            .any(|(other, container)| container.alive() && served((other, container.role)))
}
