//! `status.phase`.

use super::ended;
use crate::pod::{
    container::{Container, Role, State},
    plan::init_failed,
    state::PodState,
};

/// The pod's phase, from its containers. One that nothing follows is not told before everything has ended: until then
/// the pod holds what the node gave it.
pub(crate) fn phase(state: &PodState) -> &'static str {
    let ended = ended(state);
    if let Some(over) = &state.over
        && ended
    {
        return over.phase;
    }
    let phase = by_containers(state, ended);
    match phase {
        "Succeeded" | "Failed" if !ended => "Running",
        // Deleted before it had come to an end of its own.
        "Pending" | "Running" if ended && state.deleted() => "Failed",
        phase => phase,
    }
}

fn by_containers(state: &PodState, ended: bool) -> &'static str {
    if init_failed(state) {
        return if ended { "Failed" } else { "Pending" };
    }
    let begun = state.begun();
    let held = |container: &Container| match container.role {
        Role::Init => !begun && container.exit_code() != Some(0) && !failing(container),
        Role::Sidecar => !begun && !seen(container),
        Role::Main => !seen(container),
        Role::Ephemeral => false,
    };
    if state.containers.iter().any(held) {
        return "Pending";
    }
    let mut counted = state
        .containers
        .iter()
        .filter(|container| matches!(container.role, Role::Main | Role::Sidecar));
    if counted.any(|container| container.running_since().is_some()) {
        let starting = |container: &Container| {
            container.role == Role::Sidecar
                && container.running_since().is_some()
                && !container.is_started()
        };
        let pending = !begun && state.containers.iter().any(starting);
        return if pending { "Pending" } else { "Running" };
    }
    if !begun {
        return "Pending";
    }
    let mut mains = state
        .containers
        .iter()
        .enumerate()
        .filter(|(_, container)| container.role == Role::Main);
    let restarting = |(place, container): (usize, &Container)| {
        let code = container.newest_end().map_or(0, |end| end.code);
        matches!(container.state, State::Starting { .. }) || state.restarts(place, code)
    };
    if !state.deleted() && mains.clone().any(restarting) {
        return "Running";
    }
    let failed = |(_, container): (usize, &Container)| {
        container.newest_end().is_none_or(|end| end.code != 0)
    };
    if mains.any(failed) {
        "Failed"
    } else {
        "Succeeded"
    }
}

/// Whether its status tells of an attempt that has run.
fn seen(container: &Container) -> bool {
    container.running_since().is_some() || container.newest_end().is_some()
}

/// An init container that waits for its next try.
fn failing(container: &Container) -> bool {
    let waits = matches!(
        container.state,
        State::Waiting { .. } | State::Starting { .. } | State::Exited { .. }
    );
    waits && container.newest_end().is_some_and(|end| end.code != 0)
}
