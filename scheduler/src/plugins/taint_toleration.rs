//! A node's taints keep away, or discourage, pods that do not tolerate them.

use crate::framework::{
    Change, ChangeKind, Filter, Plugin, Reason, Reasons, Refused, Score, less_is_better,
};
use crate::node::{Effect, Node, Taint};
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

pub(super) struct TaintToleration;

#[derive(Clone, Copy)]
struct Tolerant<'a>(&'a Pod);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn pre_filter<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        Ok(Some(Box::new(Tolerant(pod))))
    }

    fn pre_score<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
        admitted: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        let tainted = admitted.iter().any(|node| !node.node.taints.is_empty());
        tainted.then(|| Box::new(Tolerant(pod)) as _)
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(kind, ChangeKind::NodeAdded | ChangeKind::NodeChanged)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        let refused = |node: &Node| Tolerant(pod).refused(node).is_some();
        match change {
            Change::NodeAdded(node) => !refused(node),
            Change::NodeChanged { old, new } => refused(old) && !refused(new),
            _ => false,
        }
    }
}

/// Whether no taint of a node keeps a pod away.
pub(super) fn tolerates(pod: &Pod, node: &Node) -> bool {
    Tolerant(pod).refused(node).is_none()
}

impl Tolerant<'_> {
    fn untolerated<'n>(&self, node: &'n Node) -> impl Iterator<Item = &'n Taint> {
        let tolerations = &self.0.tolerations;
        let taints = node.taints.iter();
        taints.filter(|taint| !tolerations.iter().any(|one| one.covers(taint)))
    }

    fn refused<'n>(&self, node: &'n Node) -> Option<&'n Taint> {
        let mut untolerated = self.untolerated(node);
        untolerated.find(|taint| taint.effect != Effect::PreferNoSchedule)
    }
}

impl<'a> Filter<'a> for Tolerant<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        match self.refused(&node.node) {
            None => Ok(()),
            Some(taint) => Err(Reasons::unresolvable(Reason::Untolerated(taint))),
        }
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}

impl<'a> Score<'a> for Tolerant<'a> {
    /// How many taints would rather not have the pod.
    fn score(&self, node: &Candidate) -> i64 {
        let untolerated = self.untolerated(&node.node);
        untolerated
            .filter(|taint| taint.effect == Effect::PreferNoSchedule)
            .fold(0, |count, _| count + 1)
    }

    fn normalise(&self, scores: &mut [i64]) {
        less_is_better(scores);
    }
}
