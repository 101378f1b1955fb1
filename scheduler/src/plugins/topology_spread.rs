//! Pods and their like are spread over domains of nodes: zones, nodes, whatever label divides them.
//!
//! Pure. What Kubernetes does in PodTopologySpread. Required rules keep pods from domains that have too many of them
//! already ([`filter`]), the others rank nodes ([`score`]). Pods without rules of their own get the default ones,
//! which count the pods of the Services and of the owner that select the pod.

mod domains;
mod filter;
mod score;

use std::borrow::Cow;
use std::sync::Arc;

use crate::census::{Matcher, Namespaces, Scope, Slot, Topology};
use crate::framework::{Change, ChangeKind, Filter, Plugin, Reason, Refused, Score};
use crate::node::Node;
use crate::placed::Placed;
use crate::pod::{Labels, Pod, Spread};
use crate::snapshot::{Candidate, Snapshot};

use super::arguments::{Defaulting, PodTopologySpreadArgs};
use super::{node_affinity, taint_toleration};

pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

const SKEWED: Reason<'_> = Reason::Says("node(s) didn't match pod topology spread constraints");
const UNLABELLED: Reason<'_> =
    Reason::Says("node(s) didn't match pod topology spread constraints (missing required label)");

/// The plugin.
pub(crate) struct PodTopologySpread {
    defaults: Vec<Spread>,
    /// Whether the defaults are Kubernetes' own: then nodes without a label of theirs are ranked by the others.
    system: bool,
}

impl Default for PodTopologySpread {
    /// Kubernetes' own defaults.
    fn default() -> Self {
        let prefers = |key: &str, max_skew| Spread::default_rule(key, max_skew, false);
        Self {
            defaults: vec![prefers(HOSTNAME, 3), prefers(ZONE, 5)],
            system: true,
        }
    }
}

impl PodTopologySpread {
    pub(super) fn new(args: PodTopologySpreadArgs) -> Self {
        match args.defaulting_type {
            // The other one was refused.
            Defaulting::System | Defaulting::Unknown(_) => Self::default(),
            Defaulting::List => Self {
                defaults: args.rules(),
                system: false,
            },
        }
    }

    /// The rules of a pod, required ones or the others.
    fn rules<'a>(
        &'a self,
        snapshot: &Snapshot,
        pod: &'a Pod,
        required: bool,
    ) -> Vec<Cow<'a, Spread>> {
        let wanted = |rule: &&'a Spread| rule.required == required;
        if !pod.spreads.is_empty() {
            let own = pod.spreads.iter().filter(wanted);
            return own.map(Cow::Borrowed).collect();
        }
        if !self.defaults.iter().any(|rule| wanted(&rule)) {
            return Vec::new();
        }
        let selector = snapshot.owners.selector(pod);
        if selector.is_everything() {
            return Vec::new();
        }
        let defaults = self.defaults.iter().filter(wanted);
        let defaults = defaults.map(|rule| Spread {
            selector: selector.clone(),
            ..rule.clone()
        });
        defaults.map(Cow::Owned).collect()
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn pre_filter<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        let rules = self.rules(snapshot, pod, true);
        Ok((!rules.is_empty()).then(|| Box::new(filter::Bounds::new(snapshot, pod, rules)) as _))
    }

    fn pre_score<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
        admitted: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        let rules = self.rules(snapshot, pod, false);
        let whole = !pod.spreads.is_empty() || !self.system;
        (!rules.is_empty())
            .then(|| Box::new(score::Crowds::new(snapshot, pod, &rules, whole, admitted)) as _)
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        !matches!(kind, ChangeKind::Storage | ChangeKind::Namespace)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        // Which pods the defaults count is not known here.
        let defaulted = pod.spreads.is_empty();
        let counts = |other: &Placed| {
            let mut rules = pod.spreads.iter().filter(|rule| rule.required);
            other.namespace == pod.namespace
                && (defaulted || rules.any(|rule| rule.selector.selects(&other.labels)))
        };
        let keys = || {
            let rules = if defaulted {
                &self.defaults
            } else {
                &pod.spreads
            };
            let rules = rules.iter().filter(|rule| rule.required);
            rules.map(|rule| &*rule.topology_key)
        };
        let whole = |node: &Node| keys().all(|key| node.labels.contains_key(key));
        match change {
            Change::PodPlaced(other) | Change::PodRemoved { pod: other, .. } => counts(other),
            Change::PodChanged { old, new, .. } => {
                counts(old) != counts(new) || (counts(new) && old.deleting != new.deleting)
            }
            Change::NodeAdded(node) | Change::NodeRemoved(node) => whole(node),
            Change::NodeChanged { old, new } => {
                let moved = keys().any(|key| old.labels.get(key) != new.labels.get(key));
                (whole(old) || whole(new)) && (moved || old.taints != new.taints)
            }
            Change::Storage | Change::Namespace => false,
        }
    }
}

/// The pods that a rule counts for a pod.
fn counted(rule: &Spread, pod: &Pod) -> Matcher {
    Matcher {
        scopes: vec![Scope {
            namespaces: Namespaces::These(vec![Arc::clone(&pod.namespace)]),
            selector: rule.selector.clone(),
        }],
        deleting: false,
    }
}

/// True if a rule counts pods with these labels. A selector that selects everything counts nothing, as in Kubernetes.
fn counts(rule: &Spread, labels: &Labels) -> bool {
    !rule.selector.is_everything() && rule.selector.selects(labels)
}

/// Whether a rule counts what is on a node.
fn includes(rule: &Spread, pod: &Pod, node: &Node) -> bool {
    (!rule.honors_affinity || node_affinity::admits(pod, node))
        && (!rule.honors_taints || taint_toleration::tolerates(pod, node))
}

/// Whether a rule counts what is on each node, by slot.
fn included(rule: &Spread, snapshot: &Snapshot, pod: &Pod) -> Arc<Vec<bool>> {
    let mut included = if rule.honors_affinity && node_affinity::asks(pod) {
        snapshot.census.mask(pod, |mask| {
            for node in snapshot.candidates() {
                mask[node.slot.index()] = node_affinity::admits(pod, &node.node);
            }
        })
    } else {
        Arc::new(vec![true; snapshot.census.slots()])
    };
    if rule.honors_taints {
        let included = Arc::make_mut(&mut included);
        for node in snapshot.candidates() {
            included[node.slot.index()] &= taint_toleration::tolerates(pod, &node.node);
        }
    }
    included
}

/// Whether a rule counts what is on every node that has its label.
fn includes_all(rule: &Spread, pod: &Pod) -> bool {
    (!rule.honors_affinity || !node_affinity::asks(pod)) && !rule.honors_taints
}

/// How many of the pods that a rule counts are in each of its domains. `topologies` are those of all rules whose labels
/// a node must have to count.
fn count(
    snapshot: &Snapshot,
    pod: &Pod,
    rule: &Spread,
    topologies: &[Arc<Topology>],
) -> domains::Domains {
    let topology = snapshot.census.topology(&rule.topology_key);
    let sort = counted(rule, pod);
    let nothing = rule.selector.is_everything();
    let mut others = topologies.iter();
    let alone = others.all(|other| Arc::ptr_eq(other, &topology) || other.is_everywhere());
    if alone && includes_all(rule, pod) {
        let counts = match nothing {
            true => Arc::new(vec![0; topology.len()]),
            false => snapshot.census.by_domain(&sort, &rule.topology_key),
        };
        return domains::Domains::new(counts);
    }
    let mut counts = vec![domains::ABSENT; topology.len()];
    let included = included(rule, snapshot, pod);
    let by_node = snapshot.census.by_node(&sort);
    for (slot, count) in Slot::all().zip(by_node.iter()) {
        let labelled = |other: &Arc<Topology>| other.of(slot).is_some();
        let Some(domain) = topology.of(slot) else {
            continue;
        };
        if !included[slot.index()] || !topologies.iter().all(labelled) {
            continue;
        }
        let all = &mut counts[domain];
        *all = match *all {
            domains::ABSENT => 0,
            all => all,
        };
        *all += if nothing { 0 } else { *count };
    }
    domains::Domains::new(Arc::new(counts))
}

#[cfg(test)]
mod tests;
