//! What the API is told of a pod. Pure.
//!
//! [`status`] derives phase, conditions and container statuses from a [`PodState`]; [`Written`] remembers what the
//! API was told last and answers the strategic merge patch that brings it up to date. Conditions of other writers
//! (readiness gates, `DisruptionTarget`) are never in the patch.

mod conditions;
mod containers;
mod phase;
mod qos;
mod written;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{HostIP, PodIP, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    container::{Container, Role},
    state::PodState,
};
pub(crate) use conditions::{Transitions, transitions};
pub(crate) use phase::phase;
pub(crate) use qos::qos_class;
pub(crate) use written::{Written, to_map};

/// The status of the pod, now.
pub(crate) fn status(
    state: &PodState,
    host: &[IpAddr],
    transitions: &mut Transitions,
    now: Timestamp,
) -> PodStatus {
    let phase = phase(state);
    let over = state.over.as_ref().filter(|over| over.phase == phase);
    let base = PodStatus {
        phase: Some(phase.to_owned()),
        reason: over.and_then(|over| over.reason.clone()),
        message: over.and_then(|over| over.message.clone()),
        start_time: Some(Time(state.started_at)),
        qos_class: Some(qos_class(&state.pod).to_owned()),
        observed_generation: state.pod.metadata.generation,
        ..PodStatus::default()
    };
    if over.is_some_and(|over| over.rejected) {
        return base;
    }
    let statuses = |wanted: fn(Role) -> bool| containers::statuses(state, wanted);
    PodStatus {
        host_ip: host.first().map(IpAddr::to_string),
        host_ips: Some(
            host.iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        pod_ip: state.ip.map(|ip| ip.to_string()),
        pod_ips: state.ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        conditions: Some(conditions::conditions(state, phase, transitions, now)),
        init_container_statuses: statuses(|role| matches!(role, Role::Init | Role::Sidecar)),
        container_statuses: statuses(|role| role == Role::Main),
        ephemeral_container_statuses: statuses(|role| role == Role::Ephemeral),
        ..base
    }
}

/// Whether nothing of the pod runs any more.
fn ended(state: &PodState) -> bool {
    !state.containers.iter().any(Container::alive)
}
