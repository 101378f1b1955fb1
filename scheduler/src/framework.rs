//! The phases of a decision, as Kubernetes' scheduling framework names them.
//!
//! Pure. A [`Plugin`] is asked once per pod what it will ask of nodes; what it answers, a [`Filter`] or a [`Score`],
//! keeps what was computed for the pod and is asked node by node. Nothing here reads a clock or the API:
//! `Reserve`, `Permit`, `PreBind` and `Bind` are phases of the loop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::node::{Node, Taint};
use crate::placed::Placed;
use crate::pod::Pod;
use crate::prebind::{Progress, Waiting, Write};
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

    /// PostFilter: what can be done for a pod that no node admits. `None` if this plugin does no such thing.
    fn post_filter(&self, _failed: &Failed<'_, '_>) -> Option<PostFiltered> {
        None
    }

    /// Reserve: notes in the snapshot what the pod takes beside its place, now that it was given a node.
    ///
    /// # Errors
    /// Why it can't have it.
    fn reserve(&self, _snapshot: &mut Snapshot, _pod: &Pod, _node: &str) -> Result<(), String> {
        Ok(())
    }

    /// Unreserve: takes that back. Called for pods too that reserved nothing.
    fn unreserve(&self, _snapshot: &mut Snapshot, _pod: &Pod) {}

    /// Permit: whether the pod may be bound, must wait, or is decided again.
    fn permit(&self, _snapshot: &Snapshot, _pod: &Pod, _node: &str) -> Permit {
        Permit::Allow
    }

    /// PreBind: what must be written and waited for before the pod is bound. `None` if nothing.
    fn pre_bind(&self, _snapshot: &Snapshot, _pod: &Pod, _node: &str) -> Option<PreBind> {
        None
    }

    /// How it is with what a pod waits for since [`pre_bind`](Self::pre_bind); asked after each change of storage.
    fn progress(&self, _snapshot: &Snapshot, _waiting: &mut Waiting) -> Progress {
        Progress::Ready
    }

    /// EventsToRegister: whether this plugin's QueueingHint is asked about such changes. It must be about those that may help
    /// any pod that the plugin kept from every node.
    fn hears(&self, _kind: ChangeKind) -> bool {
        true
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

/// What a plugin asks of nodes for a pod.
pub(crate) type Asked<'a> = (&'a Arc<dyn Plugin>, Box<dyn Filter<'a> + 'a>);

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

/// Why a pod may not be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gated {
    pub(crate) message: String,
}

/// A pod that no node admits, and all that is known of why.
pub(crate) struct Failed<'s, 'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) pod: &'a Pod,
    /// The plugins that ask something of nodes for this pod, in order, and what they ask; to be copied, changed by
    /// [`Filter::add`] and [`Filter::remove`], and asked again. Empty if the pod was refused before any node.
    pub(crate) filters: &'s [Asked<'a>],
    /// The nodes that were looked at. Those that were not are not for this pod.
    pub(crate) nodes: &'s [FailedNode],
}

/// A node that does not admit a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedNode {
    /// Its index in the snapshot.
    pub(crate) index: usize,
    /// Whether it may help to remove pods from it.
    pub(crate) resolvable: bool,
}

/// What PostFilter came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostFiltered {
    /// What the event says of it, after the reasons; empty for nothing.
    pub message: String,
    pub room: Room,
}

/// Whether room is made for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// It stays as it was.
    Kept,
    /// Nowhere, whatever was before.
    Nowhere,
    Made(Nomination),
}

/// A node on which room is made for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nomination {
    pub node: Arc<str>,
    /// The pods that must go.
    pub victims: Vec<Arc<Placed>>,
}

/// Whether a pod that has its node may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the default plugins let every pod pass")
)]
pub(crate) enum Permit {
    Allow,
    /// Not before it was allowed, and no longer than this.
    Wait(Duration),
    /// It is decided again; why.
    Deny(String),
}

/// What comes before a binding.
#[derive(Clone, Debug)]
pub(crate) struct PreBind {
    /// Written one after the other.
    pub(crate) writes: Vec<Write>,
    /// How long what they ask for may take.
    pub(crate) patience: Duration,
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

impl Reason<'_> {
    /// What it is on this node: events count nodes and leave that out.
    pub(crate) fn named(&self) -> String {
        match self {
            Self::Untolerated(taint) => format!("node(s) had untolerated taint {taint}"),
            Self::Says(_) | Self::Insufficient(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Says(text) => f.write_str(text),
            Self::Untolerated(_) => f.write_str("node(s) had untolerated taint(s)"),
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
    /// A pod on a node changed. Its node as it is now, if it is known.
    PodChanged {
        old: &'a Placed,
        new: &'a Placed,
        node: Option<&'a Candidate>,
    },
    /// A pod left this node, which is as it is now, if it is known.
    PodRemoved {
        pod: &'a Placed,
        node: Option<&'a Candidate>,
    },
    /// A claim, volume or class came or changed.
    Storage,
    /// A namespace came or its labels changed.
    Namespace,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    NodeAdded,
    NodeChanged,
    NodeRemoved,
    PodPlaced,
    PodChanged,
    PodRemoved,
    Storage,
    Namespace,
}

impl Change<'_> {
    pub(crate) fn kind(&self) -> ChangeKind {
        match self {
            Self::NodeAdded(_) => ChangeKind::NodeAdded,
            Self::NodeChanged { .. } => ChangeKind::NodeChanged,
            Self::NodeRemoved(_) => ChangeKind::NodeRemoved,
            Self::PodPlaced(_) => ChangeKind::PodPlaced,
            Self::PodChanged { .. } => ChangeKind::PodChanged,
            Self::PodRemoved { .. } => ChangeKind::PodRemoved,
            Self::Storage => ChangeKind::Storage,
            Self::Namespace => ChangeKind::Namespace,
        }
    }

    /// The node that came or changed.
    pub(crate) fn node(&self) -> Option<&Node> {
        match self {
            Self::NodeAdded(node) | Self::NodeChanged { new: node, .. } => Some(node),
            _ => None,
        }
    }
}
