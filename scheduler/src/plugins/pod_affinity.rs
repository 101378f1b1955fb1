//! Pods are placed near pods that they want to be near, and far from those that they, or that want to be far from them.
//!
//! Pure. What Kubernetes does in InterPodAffinity: [`filter`] for what is required, [`score`] for what is preferred. What
//! is near is a matter of each term's own label of nodes.

mod filter;
mod score;

use std::sync::Arc;

use crate::census::{Matcher, Namespaces, Scope};
use crate::framework::{Change, ChangeKind, Filter, Plugin, Reason, Refused, Score};
use crate::placed::Placed;
use crate::pod::{Labels, Pod, PodAffinity, PodTerm};
use crate::snapshot::{Candidate, Snapshot};

use super::arguments::InterPodAffinityArgs;

const FAR: Reason<'_> = Reason::Says("node(s) didn't match pod affinity rules");
const NEAR: Reason<'_> = Reason::Says("node(s) didn't match pod anti-affinity rules");
const UNWANTED: Reason<'_> =
    Reason::Says("node(s) didn't satisfy existing pods anti-affinity rules");

/// The plugin.
pub(crate) struct InterPodAffinity {
    /// What it weighs, when nodes are ranked, that a placed pod requires to be near the new one.
    pub(crate) hard_weight: i64,
    /// Whether nodes are not ranked by what placed pods want, for pods that prefer nothing themselves.
    pub(crate) ignores_others: bool,
}

#[cfg(test)]
impl Default for InterPodAffinity {
    fn default() -> Self {
        Self::new(InterPodAffinityArgs::default())
    }
}

impl InterPodAffinity {
    pub(super) fn new(args: InterPodAffinityArgs) -> Self {
        Self {
            hard_weight: args.hard_pod_affinity_weight,
            ignores_others: args.ignore_preferred_terms_of_existing_pods,
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn pre_filter<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        let rules = filter::Rules::new(snapshot, pod);
        Ok(rules.map(|rules| Box::new(rules) as _))
    }

    fn pre_score<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
        _: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        let likings = score::Likings::new(self, snapshot, pod)?;
        Some(Box::new(likings))
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        !matches!(kind, ChangeKind::NodeRemoved | ChangeKind::Storage)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        let none = PodAffinity::default();
        let own = pod.affinity.as_deref().unwrap_or(&none);
        let wanted = |other: &Placed| {
            let mut terms = own.required.iter();
            !own.required.is_empty() && terms.all(|term| may_mean(term, other))
        };
        let unwanted = |other: &Placed| {
            let theirs = other.affinity.iter();
            let mut theirs = theirs.flat_map(|affinity| &affinity.required_anti);
            let mut terms = own.required_anti.iter();
            terms.any(|term| may_mean(term, other))
                || theirs.any(|term| term.selector.selects(&pod.labels))
        };
        match change {
            Change::PodPlaced(other) => wanted(other),
            Change::PodRemoved { pod: other, .. } => unwanted(other),
            Change::PodChanged { old, new, .. } => {
                (wanted(new) && !wanted(old)) || (unwanted(old) && !unwanted(new))
            }
            Change::NodeAdded(node) => {
                let mut terms = own.required.iter();
                terms.all(|term| node.labels.contains_key(&*term.topology_key))
            }
            // Pods that do not want this one near may use any label.
            Change::NodeChanged { old, new } => old.labels != new.labels,
            Change::NodeRemoved(_) | Change::Storage => false,
            Change::Namespace => {
                let mut terms = own.required.iter();
                terms.any(|term| !term.namespace_selector.is_nothing())
            }
        }
    }
}

/// True if a term may mean a pod: the labels of namespaces are not known where this is asked.
fn may_mean(term: &PodTerm, other: &Placed) -> bool {
    let anywhere = !term.namespace_selector.is_nothing();
    let named = || {
        term.namespaces
            .iter()
            .any(|name| **name == *other.namespace)
    };
    term.selector.selects(&other.labels) && (anywhere || named())
}

/// The pods that a term means, among those that are placed.
fn scope(snapshot: &Snapshot, term: &PodTerm) -> Scope {
    let namespaces = if term.namespace_selector.is_everything() {
        Namespaces::All
    } else {
        let named = term.namespaces.iter().map(|name| Arc::from(name.as_str()));
        let mut names: Vec<Arc<str>> = named.collect();
        if !term.namespace_selector.is_nothing() {
            let known = snapshot.namespaces();
            let selected = known.filter(|(_, labels)| term.namespace_selector.selects(labels));
            names.extend(selected.map(|(name, _)| Arc::from(name)));
            names.sort_unstable();
            names.dedup();
        }
        Namespaces::These(names)
    };
    Scope {
        namespaces,
        selector: term.selector.clone(),
    }
}

/// The pods that every one of some terms means.
fn meant<'t>(snapshot: &Snapshot, terms: impl IntoIterator<Item = &'t Arc<PodTerm>>) -> Matcher {
    let scopes = terms.into_iter().map(|term| scope(snapshot, term));
    Matcher {
        scopes: scopes.collect(),
        deleting: true,
    }
}

/// True if every one of some terms, of which there are some, means a pod with these labels.
fn all_mean(snapshot: &Snapshot, terms: &[Arc<PodTerm>], namespace: &str, labels: &Labels) -> bool {
    let of_namespace = snapshot.namespace_labels(namespace);
    let mut each = terms.iter();
    !terms.is_empty() && each.all(|term| term.means(namespace, of_namespace, labels))
}

#[cfg(test)]
mod tests;
