//! A DaemonSet's nodes and pods, as its plan and its status see them.
//!
//! Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::placement::Verdict;
use super::wish::Wish;
use crate::history::REVISION_LABEL;
use crate::pod;

/// The label that numbers the templates of a DaemonSet.
pub(super) const GENERATION_LABEL: &str = "pod-template-generation";

/// All that there is to look at.
pub(super) struct View<'a> {
    pub(super) wish: &'a Wish,
    /// The nodes, in the order of their names.
    pub(super) nodes: BTreeMap<String, Verdict>,
    /// Its pods by the nodes that they are on or meant for, oldest first. Not those that have ended and
    /// are being deleted: they only wait for whoever holds them.
    pub(super) pods: BTreeMap<String, Vec<Arc<Pod>>>,
    /// Hashes of the revisions that hold today's template.
    updated: HashSet<String>,
    now: Timestamp,
}

impl<'a> View<'a> {
    pub(super) fn new(
        wish: &'a Wish,
        nodes: &[Arc<Node>],
        pods: &[Arc<Pod>],
        updated: HashSet<String>,
        now: Timestamp,
    ) -> Self {
        let nodes = nodes
            .iter()
            .map(|node| (node.name_any(), wish.placement.verdict(node)));
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in pods {
            let over = pod::ended(pod) && deleting(pod);
            if let Some(node) = target(pod).filter(|_| !over) {
                let pods = by_node.entry(node.to_owned()).or_default();
                pods.push(pod.clone());
            }
        }
        for pods in by_node.values_mut() {
            pods.sort_by_cached_key(|pod| {
                let created = pod.creation_timestamp().map(|time| time.0);
                (pod::node(pod).is_none(), created, pod.name_any())
            });
        }
        Self {
            wish,
            nodes: nodes.collect(),
            pods: by_node,
            updated,
            now,
        }
    }

    /// On how many nodes a pod should run.
    pub(super) fn desired(&self) -> usize {
        self.nodes.values().filter(|verdict| verdict.runs).count()
    }

    pub(super) fn verdict(&self, node: &str) -> Verdict {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    /// The pods of a node, oldest first.
    pub(super) fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    /// Whether a pod has today's template.
    pub(super) fn updated(&self, pod: &Pod) -> bool {
        let label = |name: &str| pod.labels().get(name);
        label(REVISION_LABEL).is_some_and(|hash| self.updated.contains(hash))
            || label(GENERATION_LABEL).is_some_and(|of| Some(of) == self.wish.generation.as_ref())
    }

    pub(super) fn available(&self, pod: &Pod) -> bool {
        pod::available(pod, self.wish.min_ready_seconds, self.now)
    }

    /// When the next pod becomes available by merely staying ready.
    pub(super) fn next_available(&self) -> Option<Duration> {
        let waiting = |pod: &Arc<Pod>| {
            let since = pod::ready_since(pod)?;
            let wait = i64::from(self.wish.min_ready_seconds);
            let left = wait - self.now.duration_since(since).as_secs();
            let left = u64::try_from(left.max(1)).unwrap_or(1);
            (!self.available(pod)).then_some(Duration::from_secs(left))
        };
        self.pods.values().flatten().filter_map(waiting).min()
    }
}

pub(super) fn deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The node that a pod is on, or else the one that its affinity names.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    pod::node(pod).or_else(|| {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let affinity = affinity.node_affinity.as_ref()?;
        let required = affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        let mut fields = required
            .node_selector_terms
            .iter()
            .flat_map(|term| term.match_fields.iter().flatten());
        let name = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
        match name.values.as_deref() {
            Some([name]) => Some(name.as_str()),
            _ => None,
        }
    })
}
