//! Reading pods: what several controllers ask of one.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};
use kube::ResourceExt;

use crate::cache::IndexFn;
use crate::context::{namespace, orphan, owner};
use crate::key::Key;

/// `owner`: by controller; `orphans`: those of a namespace that have none; `namespace`; `node`;
/// `claim`: by the PersistentVolumeClaims that they use.
pub(crate) const INDEXES: &[(&str, IndexFn<Pod>)] = &[
    ("owner", owner::<Pod>),
    ("orphans", orphan::<Pod>),
    ("namespace", namespace::<Pod>),
    ("node", |pod| {
        node(pod).map(str::to_owned).into_iter().collect()
    }),
    ("claim", |pod| {
        claims(pod).iter().map(Key::to_string).collect()
    }),
];

/// Takes out what no controller reads: ten thousand pods stay in memory.
pub(crate) fn strip(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|volume| {
                volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
            });
        }
        spec.init_containers = None;
        for container in &mut spec.containers {
            let (name, ports) = (std::mem::take(&mut container.name), container.ports.take());
            *container = Container {
                name,
                ports,
                ..Container::default()
            };
        }
    }
    let counted = crate::job::tracked(pod);
    if let Some(status) = &mut pod.status {
        for statuses in [
            &mut status.container_statuses,
            &mut status.init_container_statuses,
        ] {
            *statuses = statuses.take().filter(|_| counted).map(ends);
        }
    }
}

/// What a Job reads of its pods' containers: how often they were started again, and how they ended.
fn ends(statuses: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let end = |status: ContainerStatus| ContainerStatus {
        name: status.name,
        restart_count: status.restart_count,
        state: status.state.and_then(|state| state.terminated).map(|end| {
            let terminated = Some(ContainerStateTerminated {
                exit_code: end.exit_code,
                finished_at: end.finished_at,
                ..ContainerStateTerminated::default()
            });
            ContainerState {
                terminated,
                ..ContainerState::default()
            }
        }),
        ..ContainerStatus::default()
    };
    statuses.into_iter().map(end).collect()
}

pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// The PersistentVolumeClaims that a pod uses.
pub(crate) fn claims(pod: &Pod) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let named = volumes.filter_map(|volume| match &volume.persistent_volume_claim {
        Some(claim) => Some(claim.claim_name.clone()),
        None => volume
            .ephemeral
            .as_ref()
            .map(|_| ephemeral_claim(pod, &volume.name)),
    });
    named.map(|name| Key::new(namespace, &name)).collect()
}

/// The name of the claim that is made for an ephemeral volume.
pub(crate) fn ephemeral_claim(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", pod.name_any())
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Whether the pod ran and will not again.
pub(crate) fn ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod has neither ended nor been asked to.
pub(crate) fn active(pod: &Pod) -> bool {
    !ended(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod has been asked to end and has not yet.
pub(crate) fn terminating(pod: &Pod) -> bool {
    !ended(pod) && pod.metadata.deletion_timestamp.is_some()
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

pub(crate) fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Since when the pod has been ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether the pod has been ready for so many seconds.
pub(crate) fn available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if min_ready_seconds <= 0 {
        return ready(pod);
    }
    ready_since(pod)
        .is_some_and(|since| now.duration_since(since).as_secs() >= i64::from(min_ready_seconds))
}

pub(crate) fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod
        .annotations()
        .get("controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}
