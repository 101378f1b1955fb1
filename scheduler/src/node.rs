//! What is kept of a node: what a decision reads, nothing else.
//!
//! Pure. Equal digests mean that nothing of interest to the scheduler changed, so heartbeats are told
//! from changes by comparing them.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::pod::Labels;
use crate::quantity;
use crate::resources::Resources;

/// A node as its object describes it, without what runs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.labels`
    pub labels: Arc<Labels>,
    /// `spec.taints`
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`
    pub unschedulable: bool,
    /// `status.allocatable`, without the number of pods.
    pub allocatable: Resources,
    /// How many pods the node takes.
    pub pods: usize,
    /// Names of the images that are there, and their sizes in bytes.
    pub images: Vec<(Arc<str>, i64)>,
}

/// A taint, as far as scheduling goes. Displays as events show it: `{key: value}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: Effect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}: {}}}", self.key, self.value)
    }
}

impl From<&core::Node> for Node {
    fn from(node: &core::Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let offered = status
            .and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()))
            .cloned()
            .unwrap_or_default();
        let pods = offered
            .get("pods")
            .and_then(|text| quantity::units(&text.0));
        let taints = spec
            .and_then(|spec| spec.taints.as_deref())
            .unwrap_or_default();
        Self {
            name: node.metadata.name.clone().unwrap_or_default().into(),
            labels: Arc::new(node.metadata.labels.clone().unwrap_or_default()),
            taints: taints.iter().filter_map(taint).collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable) == Some(true),
            allocatable: Resources::parse(&offered),
            pods: pods
                .and_then(|pods| usize::try_from(pods).ok())
                .unwrap_or_default(),
            images: status.map(images).unwrap_or_default(),
        }
    }
}

fn images(status: &core::NodeStatus) -> Vec<(Arc<str>, i64)> {
    let images = status.images.iter().flatten();
    let named = images.flat_map(|image| {
        let size = image.size_bytes.unwrap_or_default();
        let names = image.names.iter().flatten();
        names.map(move |name| (Arc::from(name.as_str()), size))
    });
    named.collect()
}

fn taint(taint: &core::Taint) -> Option<Taint> {
    Some(Taint {
        key: taint.key.clone(),
        value: taint.value.clone().unwrap_or_default(),
        effect: Effect::parse(&taint.effect)?,
    })
}
