//! A pod's node selector and required node affinity bind it to nodes; preferred affinity ranks them.

use crate::framework::{
    Change, ChangeKind, Filter, Plugin, Reason, Reasons, Refused, Score, more_is_better,
};
use crate::labels::Term;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

use super::arguments::NodeAffinityArgs;

const ENFORCED: Reason<'_> = Reason::Says("node(s) didn't match scheduler-enforced node affinity");
const OTHER: Reason<'_> = Reason::Says("node(s) didn't match Pod's node affinity/selector");

/// The plugin, with what its profile asks for besides what pods do.
pub(super) struct NodeAffinity {
    required: Option<Vec<Term>>,
    preferred: Vec<(i64, Term)>,
}

/// What a profile asks of a node, and then a pod.
#[derive(Clone, Copy)]
struct Both<'a> {
    added: &'a NodeAffinity,
    pod: Wanted<'a>,
}

impl NodeAffinity {
    pub(super) fn new(args: NodeAffinityArgs) -> Self {
        let added = args.added_affinity.unwrap_or_default();
        let required = added.required_during_scheduling_ignored_during_execution;
        let preferred = added.preferred_during_scheduling_ignored_during_execution;
        let preferred = preferred.iter().flatten();
        let weighed = preferred.map(|term| (i64::from(term.weight), Term::from(&term.preference)));
        Self {
            required: required
                .map(|terms| terms.node_selector_terms.iter().map(Term::from).collect()),
            preferred: weighed.collect(),
        }
    }

    fn with<'a>(&'a self, pod: &'a Pod) -> Both<'a> {
        let pod = Wanted(pod);
        Both { added: self, pod }
    }

    fn holds(&self, node: &Node) -> bool {
        let required = self.required.as_ref();
        required.is_none_or(|terms| terms.iter().any(|term| term.holds(node)))
    }
}

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
        let asks = asks(pod) || self.required.is_some();
        Ok(asks.then(|| Box::new(self.with(pod)) as _))
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
        let prefers = !pod.preferred.is_empty() || !self.preferred.is_empty();
        prefers.then(|| Box::new(self.with(pod)) as _)
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(kind, ChangeKind::NodeAdded | ChangeKind::NodeChanged)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        let holds = |node: &Node| self.holds(node) && Wanted(pod).holds(node);
        match change {
            Change::NodeAdded(node) => holds(node),
            Change::NodeChanged { old, new } => !holds(old) && holds(new),
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

impl<'a> Filter<'a> for Both<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        if !self.added.holds(&node.node) {
            Err(Reasons::unresolvable(ENFORCED))
        } else if !self.pod.holds(&node.node) {
            Err(Reasons::unresolvable(OTHER))
        } else {
            Ok(())
        }
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}

impl<'a> Score<'a> for Both<'a> {
    /// The weights of the preferences that hold.
    fn score(&self, node: &Candidate) -> i64 {
        let preferred = self.added.preferred.iter().chain(&self.pod.0.preferred);
        let held = preferred.filter(|(_, term)| term.holds(&node.node));
        held.map(|(weight, _)| weight).sum()
    }

    fn normalise(&self, scores: &mut [i64]) {
        more_is_better(scores);
    }
}
