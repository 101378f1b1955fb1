//! What the node does not take, although somebody bound it here: the kubelet's own look at a pod before its first
//! container. Pure.
//!
//! A pod that is refused has failed; its reason and message are those of Kubernetes.

mod affinity;
mod ports;

use std::{
    collections::BTreeMap,
    ops::{Add, Sub},
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, Taint, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};

pub(crate) use self::ports::HostPort;
use crate::{config::ReservedPort, pod::security::sysctl, quantity};

/// An amount of each resource that is counted: millicores, bytes, bytes, pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amounts {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) ephemeral_storage: u64,
    pub(crate) pods: u64,
}

type Resources = BTreeMap<String, Quantity>;

impl Amounts {
    /// What a list of resources says; an amount that is absent is 0.
    pub(crate) fn of(resources: &Resources) -> Amounts {
        let get = |name: &str, units: fn(&str) -> Option<u64>| {
            let amount = resources.get(name).and_then(|amount| units(&amount.0));
            amount.unwrap_or(0)
        };
        Amounts {
            cpu: get("cpu", quantity::millis),
            memory: get("memory", quantity::units),
            ephemeral_storage: get("ephemeral-storage", quantity::units),
            pods: get("pods", quantity::units),
        }
    }

    /// What a pod takes of a node: its containers side by side, or its init containers one by one, whichever is more.
    pub(crate) fn requested(pod: &Pod) -> Amounts {
        let Some(spec) = &pod.spec else {
            return Amounts::default();
        };
        let requests = |resources: &ResourceRequirements| resources.requests.clone();
        let amounts = containers(spec, requests).larger(pod_level(spec, requests));
        let overhead = spec.overhead.as_ref().map(Amounts::of).unwrap_or_default();
        Amounts {
            pods: 1,
            ..amounts + overhead
        }
    }

    /// What a pod may take, as far as its containers have limits; its overhead is on top of these.
    pub(crate) fn limited(pod: &Pod) -> Amounts {
        let Some(spec) = &pod.spec else {
            return Amounts::default();
        };
        let limits = |resources: &ResourceRequirements| resources.limits.clone();
        let own = pod_level(spec, limits);
        let amounts = containers(spec, limits);
        let overhead = spec.overhead.as_ref().map(Amounts::of).unwrap_or_default();
        // What the pod says of itself comes before the sum of its containers.
        let amounts = own.map(amounts, |own, sum| if own > 0 { own } else { sum });
        amounts.map(overhead, |amount, more| match amount {
            0 => 0,
            _ => amount.saturating_add(more),
        })
    }

    fn larger(self, other: Amounts) -> Amounts {
        Amounts {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
            ephemeral_storage: self.ephemeral_storage.max(other.ephemeral_storage),
            pods: self.pods.max(other.pods),
        }
    }

    fn map(self, other: Amounts, each: fn(u64, u64) -> u64) -> Amounts {
        Amounts {
            cpu: each(self.cpu, other.cpu),
            memory: each(self.memory, other.memory),
            ephemeral_storage: each(self.ephemeral_storage, other.ephemeral_storage),
            pods: each(self.pods, other.pods),
        }
    }
}

impl Add for Amounts {
    type Output = Amounts;

    fn add(self, other: Amounts) -> Amounts {
        self.map(other, u64::saturating_add)
    }
}

impl Sub for Amounts {
    type Output = Amounts;

    fn sub(self, other: Amounts) -> Amounts {
        self.map(other, u64::saturating_sub)
    }
}

/// Requests or limits.
type Pick = fn(&ResourceRequirements) -> Option<Resources>;

fn containers(spec: &PodSpec, pick: Pick) -> Amounts {
    let amount = |container: &Container| {
        let resources = container.resources.as_ref().and_then(pick);
        resources.as_ref().map(Amounts::of).unwrap_or_default()
    };
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars + amount(container);
            most = most.larger(sidecars);
        } else {
            most = most.larger(sidecars + amount(container));
        }
    }
    let mains = spec.containers.iter().map(amount);
    most.larger(mains.fold(sidecars, Add::add))
}

/// `spec.resources`, which bounds its containers together.
fn pod_level(spec: &PodSpec, pick: Pick) -> Amounts {
    let resources = spec.resources.as_ref().and_then(pick);
    resources.as_ref().map(Amounts::of).unwrap_or_default()
}

/// The node, as far as pods care.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) taints: &'a [Taint],
    pub(crate) allocatable: Amounts,
    /// What the pods take that are here.
    pub(crate) used: Amounts,
    /// Kernel parameters that pods may set beyond the safe ones.
    pub(crate) sysctls: &'a [String],
    /// The node's ports that its pods have.
    pub(crate) taken_ports: &'a [HostPort],
    /// Those that no pod gets.
    pub(crate) reserved_ports: &'a [ReservedPort],
}

/// Why a pod is not taken: its status' reason, and an Event's message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Refuses a pod that this node cannot run.
pub(crate) fn admit(pod: &Pod, place: &Place<'_>) -> Result<(), Refusal> {
    let refuse = |reason, message: &str| {
        Err(Refusal {
            reason,
            message: message.to_owned(),
        })
    };
    let labelled = pod.metadata.labels.as_ref();
    let wanted = labelled.and_then(|labels| labels.get("kubernetes.io/os"));
    if wanted.is_some_and(|os| Some(os) != place.labels.get("kubernetes.io/os")) {
        return refuse(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    let Some(spec) = &pod.spec else {
        return Ok(());
    };
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return refuse(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        );
    }
    if let Some(message) = sysctl::refusal(spec, place.sysctls) {
        return refuse("SysctlForbidden", &message);
    }
    fits(Amounts::requested(pod), place)?;
    if !affinity::matches(spec, place.name, place.labels) {
        return refuse(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
    ports::free(pod, place)?;
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut taints = place.taints.iter();
    if taints.any(|taint| taint.effect == "NoExecute" && !tolerated(taint, tolerations)) {
        return refuse(
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        );
    }
    Ok(())
}

fn fits(requested: Amounts, place: &Place<'_>) -> Result<(), Refusal> {
    let (used, allocatable) = (place.used, place.allocatable);
    let named = |amounts: Amounts| {
        [
            ("OutOfpods", "pods", amounts.pods),
            ("OutOfcpu", "cpu", amounts.cpu),
            ("OutOfmemory", "memory", amounts.memory),
            (
                "OutOfephemeral-storage",
                "ephemeral-storage",
                amounts.ephemeral_storage,
            ),
        ]
    };
    let sums = named(used).into_iter().zip(named(allocatable));
    for ((reason, name, requested), ((.., used), (.., capacity))) in
        named(requested).into_iter().zip(sums)
    {
        if requested > 0 && used.saturating_add(requested) > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Err(Refusal { reason, message });
        }
    }
    Ok(())
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let same_key = key.is_empty() || key == taint.key;
        let same_effect = effect.is_empty() || effect == taint.effect;
        same_key
            && same_effect
            && match toleration.operator.as_deref() {
                Some("Exists") => true,
                _ => !key.is_empty() && value == taint.value.as_deref().unwrap_or_default(),
            }
    })
}

#[cfg(test)]
mod tests;
