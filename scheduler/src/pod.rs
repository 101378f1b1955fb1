//! What is kept of a pod: what a decision reads and what names it, nothing else.
//!
//! Pure. Equal digests mean that nothing of interest to the scheduler changed.

mod affinity;
mod spread;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use crate::labels::Term;
use crate::node::{Effect, Taint};
use crate::owners::Owner;
use crate::resources::Resources;

pub use affinity::PodAffinity;
pub(crate) use affinity::PodTerm;
pub use spread::Spread;

/// The scheduler of pods that name none.
pub(crate) const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// `metadata.labels`
pub type Labels = BTreeMap<String, String>;

/// A pod as its object describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`: what identifies the pod here, for a name may be used again.
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub labels: Arc<Labels>,
    /// `spec.nodeName`
    pub node: Option<Arc<str>>,
    /// `spec.schedulerName`: whose profile decides.
    pub scheduler: Arc<str>,
    /// `spec.schedulingGates`: until there are none, it is not decided.
    pub gates: Vec<String>,
    /// `status.nominatedNodeName`: where room is being made for it.
    pub nominated: Option<Arc<str>>,
    /// Whether room may be made for it: false if `spec.preemptionPolicy` is `Never`.
    pub preempts: bool,
    /// `spec.priority`: higher ones are decided first.
    pub priority: i32,
    /// `status.startTime`
    pub started: Option<Timestamp>,
    /// Whether it has a `metadata.deletionTimestamp`.
    pub deleting: bool,
    /// What the pod takes from its node.
    pub load: Arc<Load>,
    /// Labels its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of the terms must hold.
    pub required: Option<Vec<Term>>,
    /// Preferred node affinity: terms and their weights.
    pub preferred: Vec<(i64, Term)>,
    pub tolerations: Vec<Toleration>,
    /// The PersistentVolumeClaims that it uses.
    pub claims: Vec<PodClaim>,
    /// Which pods it wants near, and which not.
    pub(crate) affinity: Option<Arc<PodAffinity>>,
    /// How it and its like are spread.
    pub(crate) spreads: Vec<Spread>,
    /// The images of its containers and volumes, with tags; one that is used twice is there twice.
    pub(crate) images: Vec<String>,
    /// What made it.
    pub(crate) owner: Option<Owner>,
}

/// A claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// `namespace/name`
    pub key: Arc<str>,
    pub name: String,
    /// Whether it is made for the pod, which then owns it.
    pub ephemeral: bool,
}

/// What a pod takes from its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// What it asks for.
    pub requested: Resources,
    /// What it is taken to need when nodes are scored.
    pub scored: Resources,
    /// Ports it needs of the host.
    pub ports: Vec<HostPort>,
    /// Claims that it uses, as `namespace/name`.
    pub claims: Vec<Arc<str>>,
}

/// A port of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `0.0.0.0` takes the port on every address.
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

/// Which taints a pod bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// `None` is every key.
    key: Option<String>,
    /// `None` is every value.
    value: Option<String>,
    /// `None` is every effect.
    effect: Option<Effect>,
}

/// Where a pod stands in its life, as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Ours to place.
    Pending,
    /// On a node, taking room there.
    Placed(Arc<str>),
    /// Takes no room and is not ours to place: finished, terminating before it was placed, or another scheduler's.
    Aside,
}

impl Standing {
    pub(crate) fn of(pod: &core::Pod, ours: impl Fn(&str) -> bool) -> Self {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let Some(spec) = &pod.spec else {
            return Self::Aside;
        };
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return Self::Aside;
        }
        if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
            return Self::Placed(node.into());
        }
        let scheduler = spec.scheduler_name.as_deref();
        if ours(scheduler.unwrap_or(DEFAULT_SCHEDULER)) && pod.metadata.deletion_timestamp.is_none()
        {
            Self::Pending
        } else {
            Self::Aside
        }
    }
}

/// The message of the condition `PodScheduled=False`, if the pod has it.
pub(crate) fn reported(pod: &core::Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| condition.message.as_deref().unwrap_or_default())
}

impl Pod {
    /// Whether another state of this pod would be decided alike: what the scheduler itself writes is no reason to try anew.
    pub(crate) fn asks_like(&self, other: &Self) -> bool {
        if self.nominated == other.nominated {
            return self == other;
        }
        let mut other = other.clone();
        other.nominated.clone_from(&self.nominated);
        *self == other
    }
}

impl From<&core::Pod> for Pod {
    fn from(pod: &core::Pod) -> Self {
        let none = core::PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let preferred = affinity.and_then(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        });
        let claims = claims(pod, spec);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let spreads = spec.topology_spread_constraints.iter().flatten();
        let spreads = spreads.map(|rule| Spread::parse(rule, &labels)).collect();
        Self {
            affinity: PodAffinity::parse(namespace, spec),
            spreads,
            images: images(spec),
            owner: Owner::of(pod),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            namespace: namespace.into(),
            name: pod.metadata.name.as_deref().unwrap_or_default().into(),
            labels: Arc::new(labels),
            started: pod
                .status
                .as_ref()
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            node: spec
                .node_name
                .as_deref()
                .filter(|node| !node.is_empty())
                .map(Arc::from),
            scheduler: spec
                .scheduler_name
                .as_deref()
                .unwrap_or(DEFAULT_SCHEDULER)
                .into(),
            gates: spec
                .scheduling_gates
                .iter()
                .flatten()
                .map(|gate| gate.name.clone())
                .collect(),
            nominated: pod
                .status
                .as_ref()
                .and_then(|status| status.nominated_node_name.as_deref())
                .filter(|node| !node.is_empty())
                .map(Arc::from),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            priority: spec.priority.unwrap_or_default(),
            load: Arc::new(Load {
                requested: Resources::requested(spec),
                scored: Resources::scored(spec),
                ports: host_ports(spec),
                claims: claims.iter().map(|claim| Arc::clone(&claim.key)).collect(),
            }),
            claims,
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required: required.map(|selector| {
                selector
                    .node_selector_terms
                    .iter()
                    .map(Term::from)
                    .collect()
            }),
            preferred: preferred
                .unwrap_or_default()
                .iter()
                .map(|term| (i64::from(term.weight), Term::from(&term.preference)))
                .collect(),
            tolerations: spec
                .tolerations
                .iter()
                .flatten()
                .filter_map(toleration)
                .collect(),
        }
    }
}

fn claims(pod: &core::Pod, spec: &core::PodSpec) -> Vec<PodClaim> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, own) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
    let volumes = spec.volumes.iter().flatten();
    let named = volumes.filter_map(|volume| match &volume.persistent_volume_claim {
        Some(claim) => Some((claim.claim_name.clone(), false)),
        None => {
            let made = volume.ephemeral.as_ref();
            made.map(|_| (format!("{own}-{}", volume.name), true))
        }
    });
    named
        .map(|(name, ephemeral)| PodClaim {
            key: format!("{namespace}/{name}").into(),
            name,
            ephemeral,
        })
        .collect()
}

fn images(spec: &core::PodSpec) -> Vec<String> {
    let before = spec.init_containers.iter().flatten();
    let containers = before.chain(&spec.containers);
    let containers = containers.map(|container| container.image.as_deref());
    let volumes = spec.volumes.iter().flatten();
    let volumes = volumes.filter_map(|volume| Some(volume.image.as_ref()?.reference.as_deref()));
    let images = containers.chain(volumes).map(Option::unwrap_or_default);
    images.map(tagged).collect()
}

/// The name of an image as nodes report it.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.contains(':') {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

fn toleration(toleration: &core::Toleration) -> Option<Toleration> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let value = match toleration.operator.as_deref() {
        None | Some("" | "Equal") => Some(toleration.value.clone().unwrap_or_default()),
        Some("Exists") => None,
        // The numeric operators are behind a gate that is off.
        Some(_) => return None,
    };
    let effect = match given(&toleration.effect) {
        Some(effect) => Some(Effect::parse(&effect)?),
        None => None,
    };
    Some(Toleration {
        key: given(&toleration.key),
        value,
        effect,
    })
}

impl Toleration {
    /// True if the pod bears a taint of this key, value and effect.
    pub(crate) fn covers(&self, taint: &Taint) -> bool {
        self.key.as_ref().is_none_or(|key| *key == taint.key)
            && self
                .value
                .as_ref()
                .is_none_or(|value| *value == taint.value)
            && self.effect.is_none_or(|effect| effect == taint.effect)
    }
}

impl HostPort {
    /// True if both cannot be had on one host.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address == ANY || other.address == ANY)
    }
}

fn host_ports(spec: &core::PodSpec) -> Vec<HostPort> {
    let shared = spec.host_network == Some(true);
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|port| *port > 0);
            let number = number.or(shared.then_some(port.container_port))?;
            let given = |text: &Option<String>, otherwise: &str| {
                text.clone()
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| otherwise.to_owned())
            };
            Some(HostPort {
                address: given(&port.host_ip, "0.0.0.0"),
                protocol: given(&port.protocol, "TCP"),
                port: number,
            })
        })
        .collect()
}
