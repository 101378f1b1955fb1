//! The status of each container.

use k8s_openapi::{
    api::core::v1::{
        Container as ContainerFields, ContainerState, ContainerStateRunning,
        ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::pod::{
    container::{Container, Ended, Reason, Role, State, Stopping, lost},
    state::{PodState, Sandbox},
};

/// What the messages of a pod's containers may take together, in bytes.
const MESSAGES: usize = 12 << 10;

/// The statuses of the containers whose role is wanted; `None` if there are none.
pub(super) fn statuses(state: &PodState, wanted: fn(Role) -> bool) -> Option<Vec<ContainerStatus>> {
    let list: Vec<ContainerStatus> = state
        .containers
        .iter()
        .enumerate()
        .filter(|(_, container)| wanted(container.role))
        .map(|(place, container)| container_status(state, place, container))
        .collect();
    (!list.is_empty()).then_some(list)
}

fn container_status(state: &PodState, place: usize, container: &Container) -> ContainerStatus {
    let fields = state.fields(place).unwrap_or_default();
    let most = MESSAGES / state.containers.len().max(1);
    let made = !container.container_id.is_empty();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let image = if made && container.ran() && !container.image.is_empty() {
        container.image.to_string()
    } else {
        fields.image.clone().unwrap_or_default()
    };
    ContainerStatus {
        name: container.name.to_string(),
        image,
        image_id: container.image_id.clone(),
        container_id: some(&container.container_id),
        ready: container.is_ready(),
        started: (container.role != Role::Ephemeral).then(|| container.is_started()),
        restart_count: i32::try_from(container.restart_count()).unwrap_or(i32::MAX),
        state: Some(container_state(state, container, most)),
        last_state: Some(last_state(state, container, most)),
        allocated_resources: made
            .then(|| fields.resources.as_ref()?.requests.clone())
            .flatten(),
        resources: made.then(|| fields.resources.clone().unwrap_or_default()),
        volume_mounts: volume_mounts(&fields),
        ..ContainerStatus::default()
    }
}

fn container_state(pod: &PodState, container: &Container, most: usize) -> ContainerState {
    match &container.state {
        // Nothing is going to start it any more.
        State::Waiting { .. } if never_starts(pod, container) => match &container.last {
            Some(ended) => terminated(ended, most),
            None => terminated(&lost(String::new(), None), most),
        },
        State::Waiting {
            reason, message, ..
        } => waiting(reason.as_str(), message),
        State::Starting { shown: Some(shown) } => waiting(shown.reason.as_str(), &shown.message),
        State::Starting { shown: None } => match &container.last {
            Some(ended) => terminated(ended, most),
            None => waiting(Reason::ContainerCreating.as_str(), ""),
        },
        State::PostStart { .. } | State::Stopping(Stopping { since: None, .. }) => {
            waiting(Reason::ContainerCreating.as_str(), "")
        }
        State::Running { since }
        | State::Stopping(Stopping {
            since: Some(since), ..
        }) => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            }),
            ..ContainerState::default()
        },
        State::Lost { since, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: since.map(Time),
            }),
            ..ContainerState::default()
        },
        State::Exited { ended, .. } => terminated(ended, most),
    }
}

/// How the attempt before the one that `state` tells of ended.
fn last_state(pod: &PodState, container: &Container, most: usize) -> ContainerState {
    match (&container.state, &container.last) {
        (State::Starting { shown: None }, _) | (_, None) => ContainerState::default(),
        (State::Waiting { .. }, _) if never_starts(pod, container) => ContainerState::default(),
        (_, Some(ended)) => terminated(ended, most),
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    }
}

/// A pod that was deleted, or has been ended, has no container that may still start, if it came as far as starting any.
fn never_starts(pod: &PodState, container: &Container) -> bool {
    let initialized = pod.begun()
        || pod
            .containers
            .iter()
            .filter(|container| matches!(container.role, Role::Init | Role::Sidecar))
            .all(|init| init.exit_code() == Some(0));
    let ended = pod.deleted() || pod.over.is_some();
    ended && pod.sandbox == Sandbox::TornDown && container.role == Role::Main && initialized
}

fn terminated(ended: &Ended, most: usize) -> ContainerState {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: ended.code,
            reason: some(&ended.reason),
            message: some(start_of(&ended.message, most)),
            container_id: some(&ended.container_id),
            started_at: ended.started_at.map(Time),
            finished_at: ended.finished_at.map(Time),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

/// At most that many bytes, no character cut in two.
fn start_of(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn volume_mounts(fields: &ContainerFields) -> Option<Vec<VolumeMountStatus>> {
    let mounts: Vec<VolumeMountStatus> = fields
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| {
            let read_only = mount.read_only.filter(|read_only| *read_only);
            VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only,
                recursive_read_only: read_only.map(|_| "Disabled".to_owned()),
                volume_status: None,
            }
        })
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}
