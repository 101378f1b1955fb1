//! Which probes run now.
//!
//! A container's startup probe first and alone; then its liveness probe, for as long as the container is to go on, and
//! its readiness probe, for as long as it runs.

use super::ending;
use crate::{
    pod::{
        container::{Container, State},
        state::PodState,
    },
    probe::Kind,
};

/// Every probe that should be running: of which container, in which attempt.
pub(crate) fn probes(state: &PodState) -> Vec<(usize, u32, Kind)> {
    let mut probes = Vec::new();
    if !state.has_probes() {
        return probes;
    }
    let ends = ending(state).is_some();
    for (place, container) in state.containers.iter().enumerate() {
        for kind in wanted(container, ends) {
            if state.probe(place, *kind).is_some() {
                probes.push((place, container.attempt, *kind));
            }
        }
    }
    probes
}

fn wanted(container: &Container, ends: bool) -> &'static [Kind] {
    match (&container.state, container.started) {
        (State::Running { .. }, false) if !ends => &[Kind::Startup],
        (State::Running { .. }, true) if !ends && container.condemned.is_none() => {
            &[Kind::Liveness, Kind::Readiness]
        }
        (State::Running { .. } | State::Stopping(_), true) => &[Kind::Readiness],
        _ => &[],
    }
}
