//! Reading pods: what several controllers ask of one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
    PodSpec, ResourceRequirements,
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
    let sidecar = |name: &str| {
        let spec = pod.spec.as_ref();
        let mut sidecars = spec.into_iter().flat_map(sidecars);
        sidecars.any(|container| container.name == name)
    };
    let counted = crate::job::tracked(pod);
    if let Some(status) = &mut pod.status {
        let (main, initial) = (
            status.container_statuses.take(),
            status.init_container_statuses.take(),
        );
        (status.container_statuses, status.init_container_statuses) = if counted {
            (main.map(ends), initial.map(ends))
        } else {
            (restarted(main, |_| true), restarted(initial, sidecar))
        };
        status.host_ip = None;
        status.host_ips = None;
        status.qos_class = None;
    }
    if let Some(spec) = &mut pod.spec {
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(|volume| {
                volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
            });
            volumes.shrink_to_fit();
        }
        // An empty list may hold the memory of what was in it: every pod has a volume with its token.
        spec.volumes.take_if(|left| left.is_empty());
        spec.dns_policy = None;
        spec.image_pull_secrets = None;
        spec.preemption_policy = None;
        spec.scheduler_name = None;
        spec.security_context = None;
        spec.service_account = None;
        spec.service_account_name = None;
        if let Some(containers) = &mut spec.init_containers {
            containers.retain(is_sidecar);
            containers.shrink_to_fit();
        }
        spec.init_containers.take_if(|left| left.is_empty());
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            *container = Container {
                name: std::mem::take(&mut container.name),
                ports: container.ports.take(),
                restart_policy: container.restart_policy.take(),
                resources: container.resources.take().and_then(requests),
                ..Container::default()
            };
        }
        spec.resources = spec.resources.take().and_then(requests);
    }
}

/// How often containers restarted that did.
fn restarted(
    statuses: Option<Vec<ContainerStatus>>,
    keep: impl Fn(&str) -> bool,
) -> Option<Vec<ContainerStatus>> {
    let mut statuses = statuses?;
    statuses.retain(|status| status.restart_count > 0 && keep(&status.name));
    let counts = statuses.into_iter().map(|status| ContainerStatus {
        name: status.name,
        restart_count: status.restart_count,
        ..ContainerStatus::default()
    });
    let counts: Vec<_> = counts.collect();
    Some(counts).filter(|counts| !counts.is_empty())
}

/// What is requested of the resources that autoscalers look at.
fn requests(resources: ResourceRequirements) -> Option<ResourceRequirements> {
    let mut requests = resources.requests?;
    requests.retain(|resource, _| matches!(resource.as_str(), "cpu" | "memory"));
    (!requests.is_empty()).then(|| ResourceRequirements {
        requests: Some(requests),
        ..ResourceRequirements::default()
    })
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The init containers that go on beside the others.
pub(crate) fn sidecars(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let containers = spec.init_containers.iter().flatten();
    containers.filter(|container| is_sidecar(container))
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

/// How long a ready pod must still stay so to be available.
pub(crate) fn until_available(
    pod: &Pod,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    if available(pod, min_ready_seconds, now) {
        return None;
    }
    let left = i64::from(min_ready_seconds) - now.duration_since(ready_since(pod)?).as_secs();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)))
}

pub(crate) fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod
        .annotations()
        .get("controller.kubernetes.io/pod-deletion-cost");
    let plain = cost.filter(|cost| cost.as_str() == "0" || !cost.starts_with(['+', '0']));
    plain.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn little_is_kept_of_an_ordinary_pod() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {
                "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "b"}],
                    "volumeMounts": [{"name": "token", "mountPath": "/var/run"}]}],
                "initContainers": [{"name": "once", "image": "i"}],
                "volumes": [{"name": "token", "projected": {"sources": []}}],
                "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                "securityContext": {}, "serviceAccountName": "default", "serviceAccount": "default",
                "preemptionPolicy": "PreemptLowerPriority", "nodeName": "n",
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.0.0.2",
                "qosClass": "BestEffort", "containerStatuses": [{"name": "c", "image": "i",
                    "imageID": "i", "ready": true, "restartCount": 0}]},
        }))
        .unwrap();
        strip(&mut pod);
        let left = json!({"spec": pod.spec, "status": pod.status}).to_string();
        expect![[r#"{"spec":{"containers":[{"name":"c"}],"nodeName":"n"},"status":{"phase":"Running","podIP":"10.0.0.1"}}"#]]
            .assert_eq(&left);
    }
}
