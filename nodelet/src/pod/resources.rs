//! What a container and its pod are promised and may use, and who goes first when the host runs out of memory. Pure.
//!
//! Sums and scores are the kubelet's.

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use runtimes::{Limits, PodResources, Qos};
use std::collections::BTreeMap;

use super::{container::Role, status::qos_class};
use crate::{admission::Amounts, quantity};

/// Of a container without which the node, or its promise, would not hold.
const LEAST_SCORE: i64 = -997;
/// Of a container that was promised nothing.
const HIGHEST_SCORE: i64 = 1_000;
/// From this priority on a pod belongs to the system.
const SYSTEM_PRIORITY: i32 = 2_000_000_000;

type Resources = BTreeMap<String, Quantity>;

/// `resources.limits` of a container.
pub(crate) fn limits(container: &Container) -> Limits {
    let resources = container.resources.as_ref();
    of(resources.and_then(|resources| resources.limits.as_ref()))
}

/// `resources.requests` of a container; what has only a limit is promised that.
pub(crate) fn requests(container: &Container) -> Limits {
    let resources = container.resources.as_ref();
    let asked = of(resources.and_then(|resources| resources.requests.as_ref()));
    let limits = limits(container);
    Limits {
        memory_bytes: asked.memory_bytes.or(limits.memory_bytes),
        cpu_millis: asked.cpu_millis.or(limits.cpu_millis),
    }
}

fn of(resources: Option<&Resources>) -> Limits {
    let amount = |name: &str| {
        let amount = resources.and_then(|resources| resources.get(name));
        amount.map(|quantity| quantity.0.as_str())
    };
    Limits {
        memory_bytes: amount("memory").and_then(quantity::units),
        cpu_millis: amount("cpu").and_then(quantity::millis),
    }
}

/// What the pod as a whole is promised and may use, with its overhead.
pub(crate) fn of_pod(pod: &Pod) -> PodResources {
    let some = |amount: u64| (amount > 0).then_some(amount);
    let requested = Amounts::requested(pod);
    let limited = Amounts::limited(pod);
    let bounded = |pick: fn(&Limits) -> Option<u64>| {
        let own = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let own = of(own.and_then(|own| own.limits.as_ref()));
        pick(&own).is_some() || all(pod).all(|container| pick(&limits(container)).is_some())
    };
    let (memory, cpu) = (
        bounded(|limits| limits.memory_bytes.filter(|bytes| *bytes > 0)),
        bounded(|limits| limits.cpu_millis.filter(|millis| *millis > 0)),
    );
    PodResources {
        qos: match qos_class(pod) {
            "Guaranteed" => Qos::Guaranteed,
            "Burstable" => Qos::Burstable,
            _ => Qos::BestEffort,
        },
        requests: Limits {
            memory_bytes: some(requested.memory),
            cpu_millis: some(requested.cpu),
        },
        limits: Limits {
            memory_bytes: some(limited.memory).filter(|_| memory),
            cpu_millis: some(limited.cpu).filter(|_| cpu),
        },
    }
}

fn all(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    })
}

/// `oom_score_adj` of a container on a host with that much memory.
pub(crate) fn oom_score_adj(
    pod: &Pod,
    container: &Container,
    role: Role,
    capacity_bytes: u64,
) -> i32 {
    let score = match qos_class(pod) {
        _ if is_node_critical(pod) => LEAST_SCORE,
        "Guaranteed" => LEAST_SCORE,
        "BestEffort" => HIGHEST_SCORE,
        _ => {
            let promised = |container: &Container| requests(container).memory_bytes.unwrap_or(0);
            let mut promise = promised(container);
            // Who serves the others does not go before them.
            if role == Role::Sidecar {
                let mains = pod.spec.iter().flat_map(|spec| &spec.containers);
                promise = promise.max(mains.map(promised).min().unwrap_or(0));
            }
            let promise = i128::from(promise) * i128::from(HIGHEST_SCORE);
            let part = promise / i128::from(capacity_bytes.max(1));
            let part = i64::try_from(part).unwrap_or(HIGHEST_SCORE);
            (HIGHEST_SCORE - part).clamp(HIGHEST_SCORE + LEAST_SCORE, HIGHEST_SCORE - 1)
        }
    };
    i32::try_from(score).expect("it is between -997 and 1000")
}

fn is_node_critical(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        spec.priority_class_name.as_deref() == Some("system-node-critical")
            && spec
                .priority
                .is_none_or(|priority| priority >= SYSTEM_PRIORITY)
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    const GIB: u64 = 1 << 30;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).expect("a pod")
    }

    /// Class, requests and limits of the pod, and each container's score on a host of 4 GiB.
    #[track_caller]
    fn check(spec: Value, want: Expect) {
        let pod = pod(spec);
        let PodResources {
            qos,
            requests,
            limits,
        } = of_pod(&pod);
        let shown = |limits: Limits| format!("{:?} {:?}", limits.cpu_millis, limits.memory_bytes);
        let mut got = format!("{qos:?}: {} of {}", shown(requests), shown(limits));
        for container in all(&pod) {
            let role = match container.restart_policy.as_deref() {
                Some(_) => Role::Sidecar,
                None => Role::Main,
            };
            got += &format!(", {}", oom_score_adj(&pod, container, role, 4 * GIB));
        }
        want.assert_eq(&got);
    }

    fn resources(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn a_pod_is_the_sum_of_its_containers_and_its_overhead() {
        check(
            json!({"containers": [{"name": "c"}]}),
            expect!["BestEffort: None None of None None, 1000"],
        );
        let all = json!({"cpu": "500m", "memory": "1Gi"});
        let spec = json!({"containers": [resources(all.clone(), all.clone()), resources(json!({}), all.clone())], "overhead": {"memory": "1Mi"}});
        check(
            spec,
            expect![
                "Guaranteed: Some(500) Some(1074790400) of Some(1000) Some(2148532224), -997, -997"
            ],
        );
        let init = resources(json!({"memory": "3Gi"}), json!({"memory": "3Gi"}));
        let spec = json!({"initContainers": [init], "containers": [resources(json!({"memory": "1Gi"}), json!({"memory": "2Gi"}))]});
        check(
            spec,
            expect!["Burstable: None Some(3221225472) of None Some(3221225472), 250, 750"],
        );
    }

    #[test]
    fn a_limit_that_one_container_has_not_is_no_limit_of_the_pod() {
        let spec = json!({"containers": [
            resources(json!({"memory": "4Gi"}), json!({"memory": "4Gi", "cpu": "1"})),
            resources(json!({"memory": "1"}), json!({"cpu": "1"})),
        ]});
        check(
            spec,
            expect!["Burstable: None Some(4294967297) of Some(2000) None, 3, 999"],
        );
    }

    #[test]
    fn a_sidecar_does_not_go_before_those_that_it_serves_and_a_critical_pod_goes_last() {
        let sidecar = json!({"name": "s", "restartPolicy": "Always"});
        let main = resources(json!({"memory": "1Gi"}), json!({}));
        let spec = json!({"initContainers": [sidecar], "containers": [main]});
        check(
            spec,
            expect!["Burstable: None Some(1073741824) of None None, 750, 750"],
        );
        let critical = json!({"containers": [{"name": "c"}], "priorityClassName": "system-node-critical", "priority": 2_000_001_000});
        check(
            critical,
            expect!["BestEffort: None None of None None, -997"],
        );
    }
}
