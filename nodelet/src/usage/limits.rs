//! Which pods take more of the node's disk than they may. Pure.
//!
//! As the kubelet judges, in its words: `sizeLimit` of each `emptyDir`, then the pod's limits of `ephemeral-storage`
//! together, then each container's logs and root by its own.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::disk::PodDisk;
use crate::quantity;

const RESOURCE: &str = "ephemeral-storage";

/// Whether there is anything to hold the pod to.
pub(crate) fn has_any(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let mut volumes = spec.volumes.iter().flatten();
    let mut containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    volumes.any(|volume| {
        let empty = volume.empty_dir.as_ref();
        empty.is_some_and(|empty| empty.size_limit.is_some())
    }) || containers.any(|container| limit(container).is_some())
}

/// Why the pod is to be evicted.
pub(crate) fn exceeded(pod: &Pod, used: &PodDisk) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    for volume in spec.volumes.iter().flatten() {
        let limit = volume
            .empty_dir
            .as_ref()
            .and_then(|empty| empty.size_limit.as_ref());
        let Some(limit) = limit else { continue };
        let found = used.volumes.iter().find(|other| other.name == volume.name);
        let bytes = found.map_or(0, |found| found.taken.bytes);
        if quantity::units(&limit.0).is_some_and(|most| most > 0 && bytes > most) {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name, limit.0
            ));
        }
    }
    if let Some(most) = pod_limit(pod)
        && used.ephemeral().bytes > most
    {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
            quantity::binary(most)
        ));
    }
    spec.containers.iter().find_map(|container| {
        let most = limit(container)?;
        let parts = [&used.logs, &used.roots].map(|part| part.get(&container.name));
        let bytes: u64 = parts.into_iter().flatten().map(|part| part.bytes).sum();
        (bytes > quantity::units(most)?).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit {most:?}. ",
                container.name
            )
        })
    })
}

fn limit(container: &Container) -> Option<&str> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get(RESOURCE).map(|limit| limit.0.as_str())
}

/// What the containers that run together may take, or the init container that may take most; `None` if nobody says.
fn pod_limit(pod: &Pod) -> Option<u64> {
    let spec = pod.spec.as_ref()?;
    let of = |container: &Container| limit(container).and_then(quantity::units);
    let init = || spec.init_containers.iter().flatten();
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let together = spec.containers.iter().chain(init().filter(is_sidecar));
    let together = together.filter_map(of).reduce(u64::saturating_add);
    let alone = init().filter(|container| !is_sidecar(container));
    let most = together.into_iter().chain(alone.filter_map(of)).max()?;
    let overhead = spec.overhead.as_ref().and_then(|all| all.get(RESOURCE));
    let overhead = overhead.and_then(|overhead| quantity::units(&overhead.0));
    Some(most.saturating_add(overhead.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use runtimes::PodRef;
    use serde_json::{Value, json};

    use super::*;
    use crate::usage::disk::{Space, Taken, VolumeUse};

    #[track_caller]
    fn check(spec: Value, volume_bytes: u64, log_bytes: u64, expected: &str) {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        let taken = |bytes| Taken { bytes, inodes: 1 };
        let used = PodDisk {
            pod: PodRef {
                namespace: "ns".to_owned(),
                name: "web".to_owned(),
                uid: "u".to_owned(),
            },
            logs: [("c".to_owned(), taken(log_bytes))].into(),
            roots: std::collections::BTreeMap::new(),
            volumes: vec![VolumeUse {
                name: "x".to_owned(),
                claim: None,
                taken: taken(volume_bytes),
                space: Space::default(),
                ephemeral: true,
            }],
        };
        assert_eq!(exceeded(&pod, &used).unwrap_or_default(), expected);
        assert!(expected.is_empty() || has_any(&pod));
    }

    #[test]
    fn what_a_container_writes_to_its_root_counts() {
        let pod = json!({"spec": {"containers": [container("c", "10Mi")]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let used = |mebibytes: u64| {
            let root = Taken {
                bytes: mebibytes << 20,
                inodes: 0,
            };
            PodDisk {
                pod: PodRef {
                    namespace: "ns".to_owned(),
                    name: "web".to_owned(),
                    uid: "u".to_owned(),
                },
                logs: std::collections::BTreeMap::new(),
                roots: [("c".to_owned(), root)].into(),
                volumes: Vec::new(),
            }
        };
        assert_eq!(exceeded(&pod, &used(10)), None);
        assert_eq!(
            exceeded(&pod, &used(11)).expect("it is too much"),
            "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
        );
    }

    fn container(name: &str, limit: &str) -> Value {
        json!({"name": name, "image": "i", "resources": {"limits": {"ephemeral-storage": limit}}})
    }

    #[test]
    fn a_pod_is_held_to_its_limits_in_the_kubelets_words() {
        let empty =
            json!({"containers": [], "volumes": [{"name": "x", "emptyDir": {"sizeLimit": "1Mi"}}]});
        check(empty.clone(), 1 << 20, 0, "");
        let message = "Usage of EmptyDir volume \"x\" exceeds the limit \"1Mi\". ";
        check(empty, (1 << 20) + 1, 0, message);
        let two = json!({"containers": [container("c", "1Mi"), container("d", "512Ki")]});
        check(two.clone(), 1 << 20, 1 << 19, "");
        check(
            two.clone(),
            1 << 20,
            (1 << 19) + 1,
            "Pod ephemeral local storage usage exceeds the total limit of containers 1536Ki. ",
        );
        check(
            two,
            0,
            (1 << 20) + 1,
            "Container c exceeded its local ephemeral storage limit \"1Mi\". ",
        );
        check(
            json!({"containers": [{"name": "c", "image": "i"}]}),
            1 << 40,
            1 << 40,
            "",
        );
    }

    #[test]
    fn an_init_container_alone_may_take_more_than_the_others_together() {
        let spec = json!({"containers": [container("c", "1Mi")], "initContainers": [container("i", "1Gi")]});
        check(spec, 1 << 29, 0, "");
    }
}
