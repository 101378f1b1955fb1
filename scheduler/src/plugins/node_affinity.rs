//! A pod's node selector and required node affinity bind it to nodes; preferred affinity ranks them.

use crate::framework::{Change, Filter, Plugin, Reason, Reasons, Refused, Score, more_is_better};
use crate::labels::Term;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

const OTHER: Reason<'_> = Reason::Says("node(s) didn't match Pod's node affinity/selector");

pub(super) struct NodeAffinity;

#[derive(Clone, Copy)]
struct Wanted<'a>(&'a Pod);

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn pre_filter<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        if self.only(pod).is_some_and(|names| names.is_empty()) {
            return Err(Refused::unresolvable("pod affinity terms conflict"));
        }
        Ok(asks(pod).then(|| Box::new(Wanted(pod)) as _))
    }

    /// A pod that names its nodes by field, as those of DaemonSets do, need not be tried on others.
    fn only<'a>(&self, pod: &'a Pod) -> Option<Vec<&'a str>> {
        let terms = pod.required.as_ref()?;
        let names: Option<Vec<_>> = terms.iter().map(Term::names).collect();
        names
            .map(|names| names.concat())
            .filter(|_| !terms.is_empty())
    }

    fn pre_score<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
        _: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        (!pod.preferred.is_empty()).then(|| Box::new(Wanted(pod)) as _)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        match change {
            Change::NodeAdded(node) => Wanted(pod).holds(node),
            Change::NodeChanged { old, new } => !Wanted(pod).holds(old) && Wanted(pod).holds(new),
            _ => false,
        }
    }
}

/// Whether a pod requires anything of its node's labels.
pub(super) fn asks(pod: &Pod) -> bool {
    !pod.node_selector.is_empty() || pod.required.is_some()
}

/// Whether a node has what a pod requires of its labels.
pub(super) fn admits(pod: &Pod, node: &Node) -> bool {
    Wanted(pod).holds(node)
}

impl Wanted<'_> {
    fn holds(&self, node: &Node) -> bool {
        let mut selector = self.0.node_selector.iter();
        let required = self.0.required.as_ref();
        selector.all(|(key, value)| node.labels.get(key) == Some(value))
            && required.is_none_or(|terms| terms.iter().any(|term| term.holds(node)))
    }
}

impl<'a> Filter<'a> for Wanted<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        if self.holds(&node.node) {
            Ok(())
        } else {
            Err(Reasons::unresolvable(OTHER))
        }
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}

impl<'a> Score<'a> for Wanted<'a> {
    /// The weights of the preferences that hold.
    fn score(&self, node: &Candidate) -> i64 {
        let preferred = self.0.preferred.iter();
        let held = preferred.filter(|(_, term)| term.holds(&node.node));
        held.map(|(weight, _)| weight).sum()
    }

    fn normalise(&self, scores: &mut [i64]) {
        more_is_better(scores);
    }
}
