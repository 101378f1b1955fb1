//! A pod that this process sees for the first time, from what the API says of it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState as ApiState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use runtimes::ContainerState;

use super::{Over, PodState, Removal, Sandbox, ephemeral, roles};
use crate::pod::container::{Container, Ended, Reason, Role, State, lost, waiting};

/// A container that a runtime has from an earlier process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) attempt: u32,
    /// `oci://<id>`.
    pub(crate) container_id: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) ended: bool,
}

impl Held {
    /// What a runtime says of a container; `None` of one that was never started.
    pub(crate) fn of(runtime: &str, container: &runtimes::ContainerStatus) -> Option<Held> {
        let (since, ended) = match &container.state {
            ContainerState::Created => return None,
            ContainerState::Running { started_at } => (*started_at, false),
            ContainerState::Exited(exit) => (exit.started_at, true),
        };
        Some(Held {
            name: container.name.clone(),
            attempt: container.id.0.rsplit('/').next()?.parse().ok()?,
            container_id: format!("{runtime}://{}", container.id),
            since: Timestamp::try_from(since).ok(),
            ended,
        })
    }
}

impl PodState {
    /// A pod seen for the first time by this process. `held` are its containers that runtimes have from an earlier
    /// process; what the API's status says was running and no runtime has was lost with that process.
    pub(crate) fn new(pod: Arc<Pod>, held: &[Held], now: Timestamp) -> PodState {
        let status = pod.status.as_ref();
        let mut state = PodState {
            gone: false,
            sandbox: Sandbox::Wanted,
            containers: Vec::new(),
            started_at: status
                .and_then(|status| status.start_time.as_ref())
                .map_or(now, |time| time.0),
            ip: status
                .and_then(|status| status.pod_ip.as_ref())
                .and_then(|ip| ip.parse().ok()),
            over: over(&pod),
            removal: Removal::Wanted,
            pod: pod.clone(),
        };
        let patience = state.patience();
        let known = roles(&pod)
            .map(|(fields, role)| (fields.name.as_str(), role))
            .chain(
                ephemeral(&pod)
                    .iter()
                    .map(|f| (f.name.as_str(), Role::Ephemeral)),
            );
        let ends = state.over.is_some() || state.deleted();
        state.containers = known
            .map(|(name, role)| {
                let mut container = Container::new(name, role, patience, now);
                let status = status.and_then(|status| status_of(status, name));
                if let Some(status) = status {
                    restore(&mut container, status, ends, patience, now);
                }
                let own = held.iter().filter(|held| held.name == name);
                let newest = own.max_by_key(|held| held.attempt);
                if let Some(held) = newest.filter(|held| !is_known_to_have_ended(held, status)) {
                    adopt(&mut container, held, now);
                }
                container
            })
            .collect();
        state
    }
}

fn status_of<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|status| status.name == name)
}

/// The end that the API's status tells of.
pub(super) fn over(pod: &Pod) -> Option<Over> {
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
        rejected: status.container_statuses.is_none() && status.init_container_statuses.is_none(),
    })
}

/// Brings a container back to where the API's status says it was.
fn restore(
    container: &mut Container,
    status: &ContainerStatus,
    pod_ends: bool,
    patience: Reason,
    now: Timestamp,
) {
    container.attempt = u32::try_from(status.restart_count).unwrap_or(0);
    container.image_id.clone_from(&status.image_id);
    container.container_id = status.container_id.clone().unwrap_or_default();
    container.started = status.started.unwrap_or(false);
    container.passes = status.ready;
    container.last = end_of(status.last_state.as_ref());
    container.used = container.last.is_some();
    let state = status.state.as_ref();
    if let Some(running) = state.and_then(|state| state.running.as_ref()) {
        container.used = true;
        container.image = status.image.as_str().into();
        let since = running.started_at.as_ref().map(|time| time.0);
        let resumes = matches!(container.role, Role::Main | Role::Sidecar) && !pod_ends;
        container.state = if resumes {
            State::Lost {
                since,
                under_way: false,
            }
        } else {
            let ended = lost(container.container_id.clone(), since);
            State::Exited { ended, at: now }
        };
    } else if let Some(ended) = end_of(state) {
        container.used = true;
        container.image = status.image.as_str().into();
        container.state = State::Exited { ended, at: now };
    } else {
        container.state = waiting(patience, now);
    }
}

/// Whether the API was told of the end of a container that its runtime still has.
fn is_known_to_have_ended(held: &Held, status: Option<&ContainerStatus>) -> bool {
    let Some(status) = status.filter(|_| held.ended) else {
        return false;
    };
    // Of a static pod nobody was told.
    let Some(state) = &status.state else {
        return false;
    };
    let last = status.last_state.as_ref();
    let backs_off = state.waiting.is_some() && last.is_some_and(|last| last.terminated.is_some());
    match u32::try_from(status.restart_count) {
        Ok(told) if told == held.attempt => state.terminated.is_some() || backs_off,
        Ok(told) => told > held.attempt,
        Err(_) => false,
    }
}

/// Its runtime has it: it runs, or how it ended is still to be learned.
fn adopt(container: &mut Container, held: &Held, now: Timestamp) {
    let since = match container.state {
        State::Lost { since, .. } if container.attempt == held.attempt => since,
        _ => None,
    };
    // The API may not have heard of it: it is as one without probes, until these say otherwise.
    if since.is_none() {
        (container.started, container.passes) = (true, true);
    }
    if container.container_id.is_empty() || container.attempt != held.attempt {
        container.container_id = held.container_id.clone();
    }
    container.attempt = held.attempt;
    container.used = true;
    container.state = State::Running {
        since: since.or(held.since).unwrap_or(now),
    };
}

fn end_of(state: Option<&ApiState>) -> Option<Box<Ended>> {
    let ContainerStateTerminated {
        exit_code,
        reason,
        message,
        container_id,
        started_at,
        finished_at,
        ..
    } = state?.terminated.as_ref()?;
    Some(Box::new(Ended {
        code: *exit_code,
        reason: reason.clone().unwrap_or_default(),
        message: message.clone().unwrap_or_default(),
        container_id: container_id.clone().unwrap_or_default(),
        started_at: started_at.as_ref().map(|time| time.0),
        finished_at: finished_at.as_ref().map(|time| time.0),
    }))
}
