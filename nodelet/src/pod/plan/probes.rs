//! Which probes run now.
//!
//! A container's startup probe first and alone; then its liveness probe, for as long as the container is to go on, and
//! its readiness probe, for as long as it runs.

use super::ending;
use crate::pod::{
    container::{Container, Probed, State},
    state::PodState,
};

/// Every probe that should be running: of which container, in which attempt.
pub(crate) fn probes(state: &PodState) -> Vec<(usize, u32, Probed)> {
    let mut probes = Vec::new();
    if !state.has_probes() {
        return probes;
    }
    let ends = ending(state).is_some();
    for (place, container) in state.containers.iter().enumerate() {
        for probed in wanted(container, ends) {
            if state.probe(place, *probed).is_some() {
                probes.push((place, container.attempt, *probed));
            }
        }
    }
    probes
}

fn wanted(container: &Container, ends: bool) -> &'static [Probed] {
    match (&container.state, container.started) {
        (State::Running { .. }, false) if !ends => &[Probed::Startup],
        (State::Running { .. }, true) if !ends && container.condemned.is_none() => {
            &[Probed::Liveness, Probed::Readiness]
        }
        (State::Running { .. } | State::Stopping(_), true) => &[Probed::Readiness],
        _ => &[],
    }
}
