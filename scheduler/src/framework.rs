//! The phases of a decision, as Kubernetes' scheduling framework names them.
//!
//! Pure. A [`Plugin`] is asked once per pod what it will ask of nodes; what it answers, a [`Filter`] or a [`Score`],
//! keeps what was computed for the pod and is asked node by node. Nothing here reads a clock or the API:
//! `Reserve`, `Permit`, `PreBind` and `Bind` are phases of the loop.

use std::fmt;

use crate::node::{Node, Taint};
use crate::placed::Placed;
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

/// The highest score a node gets from a plugin, before its weight.
pub(crate) const MAX_SCORE: i64 = 100;

/// A plugin. Every phase has a default that does nothing.
pub(crate) trait Plugin: Send + Sync {
    /// Kubernetes' name: what configuration and messages call it.
    fn name(&self) -> &'static str;

    /// PreEnqueue: a pod that is refused waits outside of the queue until it changes.
    ///
    /// # Errors
    /// Why it must wait.
    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), Gated> {
        Ok(())
    }

    /// PreFilter: what is asked of every node. `None` if nothing is, for this pod.
    ///
    /// # Errors
    /// Why no node could help.
    fn pre_filter<'a>(
        &'a self,
        _snapshot: &'a Snapshot,
        _pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        Ok(None)
    }

    /// PreFilter's other answer: the names of the only nodes that need to be looked at, if they are known beforehand.
    fn only<'a>(&self, _pod: &'a Pod) -> Option<Vec<&'a str>> {
        None
    }

    /// PreScore: how the nodes that every filter admits are ranked. `None` if all would score the same.
    fn pre_score<'a>(
        &'a self,
        _snapshot: &'a Snapshot,
        _pod: &'a Pod,
        _admitted: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        None
    }

    /// QueueingHint: whether a change may let a pod be placed that this plugin kept from it. A wrong yes costs an attempt,
    /// a wrong no up to five minutes.
    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool;
}

/// What a plugin asks of each node, for one pod.
pub(crate) trait Filter<'a> {
    /// # Errors
    /// Why the node is not for the pod.
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>>;

    /// As if this pod were on this node too. Filters that read only the candidate are given a changed one.
    fn add(&mut self, _pod: &Placed, _node: &Candidate) {}

    /// As if this pod were not on this node.
    fn remove(&mut self, _pod: &Placed, _node: &Candidate) {}

    /// A copy to try such things on.
    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a>;
}

/// How a plugin ranks nodes, for one pod.
pub(crate) trait Score<'a> {
    /// Any number; more is better unless [`normalise`](Self::normalise) says otherwise.
    fn score(&self, node: &Candidate) -> i64;

    /// Brings the scores of all admitted nodes to 0..=100. The default leaves them, for they are already.
    fn normalise(&self, _scores: &mut [i64]) {}
}

/// The highest becomes 100.
pub(crate) fn more_is_better(scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or_default();
    if highest > 0 {
        for score in scores {
            *score = *score * MAX_SCORE / highest;
        }
    }
}

/// Zero becomes 100, the highest 0.
pub(crate) fn less_is_better(scores: &mut [i64]) {
    more_is_better(scores);
    for score in scores {
        *score = MAX_SCORE - *score;
    }
}

/// Why a pod may not be queued: the reason and message of its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gated {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Why no node could help a pod, found before any was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// In Kubernetes' words.
    pub(crate) message: String,
    /// Whether it may help to remove other pods.
    pub(crate) resolvable: bool,
}

impl Refused {
    /// Removing pods would not help.
    pub(crate) fn unresolvable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            resolvable: false,
        }
    }
}

/// Why a node is not for a pod. Displays as events show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason<'n> {
    Says(&'static str),
    Untolerated(&'n Taint),
    Insufficient(&'n str),
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Says(text) => f.write_str(text),
            Self::Untolerated(taint) => write!(f, "node(s) had untolerated taint {taint}"),
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
        }
    }
}

/// One or more reasons, and whether it may help to remove pods from the node. One allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reasons<'n> {
    first: Reason<'n>,
    more: Vec<Reason<'n>>,
    resolvable: bool,
}

impl<'n> Reasons<'n> {
    /// Removing pods from the node may end it.
    pub(crate) fn resolvable(reason: Reason<'n>) -> Self {
        Self {
            first: reason,
            more: Vec::new(),
            resolvable: true,
        }
    }

    /// Nothing that is done to the node's pods ends it.
    pub(crate) fn unresolvable(reason: Reason<'n>) -> Self {
        Self {
            resolvable: false,
            ..Self::resolvable(reason)
        }
    }

    /// Puts the reasons of one plugin together; it is resolvable if all are.
    ///
    /// # Errors
    /// The reasons, unless there are none.
    pub(crate) fn from_all(reasons: impl IntoIterator<Item = Self>) -> Result<(), Self> {
        let mut reasons = reasons.into_iter();
        let Some(mut all) = reasons.next() else {
            return Ok(());
        };
        for reason in reasons {
            all.resolvable &= reason.resolvable;
            all.more.push(reason.first);
            all.more.extend(reason.more);
        }
        Err(all)
    }

    pub(crate) fn is_resolvable(&self) -> bool {
        self.resolvable
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Reason<'n>> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

/// Something that may let a pod be placed.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    NodeAdded(&'a Node),
    NodeChanged {
        old: &'a Node,
        new: &'a Node,
    },
    NodeRemoved(&'a Node),
    /// A pod is on a node from now on, or assumed to be.
    PodPlaced(&'a Placed),
    /// A pod on a node changed.
    PodChanged {
        old: &'a Placed,
        new: &'a Placed,
    },
    /// A pod left its node.
    PodRemoved(&'a Placed),
    /// A claim, volume or class came or changed.
    Storage,
    /// A namespace came or its labels changed.
    Namespace(&'a str),
}

impl Change<'_> {
    /// The node that came or changed.
    pub(crate) fn node(&self) -> Option<&Node> {
        match self {
            Self::NodeAdded(node) | Self::NodeChanged { new: node, .. } => Some(node),
            _ => None,
        }
    }
}
