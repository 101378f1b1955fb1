//! A pod that is to run: its place on the node, then its containers, in order and again and again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Plan, end, grace, seconds};
use crate::{
    pod::{
        container::{ERROR_SHOWN, Reason, Role, State, Why},
        state::{PodState, Sandbox, initialized},
    },
    probe::Kind,
};

pub(super) fn plan(state: &PodState, now: Timestamp, plan: &mut Plan) {
    let deadline = state.spec().and_then(|spec| spec.active_deadline_seconds);
    if let Some(seconds) = deadline {
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

/// Init containers hold those after them back, until a main container has run; ephemeral ones wait for nobody.
fn plan_containers(state: &PodState, now: Timestamp, plan: &mut Plan) {
    let begun = state.begun();
    let mut held = false;
    for (place, container) in state.containers.iter().enumerate() {
        let done = container.role == Role::Init && (begun || initialized(container));
        let waits = held && container.role != Role::Ephemeral;
        // What runs is looked after whoever is held.
        if !done && (!waits || container.alive()) {
            plan_container(state, place, now, plan);
        }
        held |= !begun && !initialized(container);
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
            let Some(retry_at) = retry_at.filter(|at| !plan.due(*at, now)) else {
                plan.actions.push(Action::Start(place));
                return;
            };
            let back_off = match reason {
                Reason::ErrImagePull => Action::BackOffPull(place),
                Reason::RunContainerError => Action::BackOffRestart(place, retry_at),
                _ => return,
            };
            if plan.due(*since + ERROR_SHOWN, now) {
                plan.actions.push(back_off);
            }
        }
        State::Lost { under_way, .. } => {
            if !under_way {
                plan.actions.push(Action::Resume(place));
            }
        }
        State::Exited { ended, at } if state.restarts(place, ended.code) => {
            let retry_at = *at + container.restart_delay();
            plan.actions.push(if retry_at <= now || container.redo {
                Action::Start(place)
            } else {
                Action::BackOffRestart(place, retry_at)
            });
        }
        State::PostStart { .. } | State::Running { .. } => {
            if let Some(why) = condemned(state, place) {
                let grace = kill_grace(state, place, why);
                plan.actions.push(Action::Stop(place, why, grace));
            } else if let State::PostStart { begun: false, .. } = container.state {
                plan.actions.push(Action::PostStart(place));
            }
        }
        State::Stopping(stopping) => end::plan_stopping(state, place, stopping, now, plan),
        State::Starting { .. } | State::Exited { .. } => {}
    }
}

/// Why a running container may not go on.
fn condemned(state: &PodState, place: usize) -> Option<Why> {
    let container = &state.containers[place];
    let replaced = matches!(container.role, Role::Main | Role::Sidecar)
        && container.running()
        && state.image_changed(place);
    container.condemned.or(replaced.then_some(Why::Changed))
}

/// A probe may give another grace than the pod.
fn kill_grace(state: &PodState, place: usize, why: Why) -> Duration {
    let kind = match why {
        Why::Liveness => Some(Kind::Liveness),
        Why::Startup => Some(Kind::Startup),
        Why::PodEnds | Why::Changed | Why::PostStart => None,
    };
    let given = kind
        .and_then(|kind| state.probe(place, kind))
        .and_then(|probe| probe.termination_grace_period_seconds);
    seconds(given).unwrap_or_else(|| grace(state))
}
