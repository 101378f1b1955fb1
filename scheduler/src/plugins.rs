//! The plugins: filters say which nodes a pod may run on, scores which of those is best.
//!
//! Pure. One file each. A filter answers with the reasons against a node, none if it admits it; a score
//! is any number, brought to 0..=100 over all admitted nodes by its scale, then weighted. Names,
//! order, weights and texts are those of Kubernetes' default profile.

mod affinity;
mod fit;
mod least_allocated;
mod node_name;
mod ports;
mod taints;
mod unschedulable;
pub(crate) mod volumes;

use std::fmt;

use crate::node::Taint;
use crate::pod::Pod;
use crate::snapshot::Candidate;

/// The reasons against running a pod on a node.
pub(crate) type Filter = for<'a> fn(&'a Pod, &'a Candidate) -> Vec<Reason<'a>>;

/// Every filter but that of [`volumes`], which comes after them; the first that objects decides, as in Kubernetes.
pub(crate) const FILTERS: [Filter; 6] = [
    unschedulable::filter,
    node_name::filter,
    taints::filter,
    affinity::filter,
    ports::filter,
    fit::filter,
];

/// One way to rank nodes.
pub(crate) struct Score {
    pub(crate) weight: i64,
    pub(crate) score: fn(&Pod, &Candidate) -> i64,
    pub(crate) scale: Scale,
    /// False if every node would score the same for this pod, so that it need not be asked.
    pub(crate) matters: fn(&Pod) -> bool,
}

/// How raw scores become 0..=100.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// They are already.
    Percent,
    /// The highest is 100.
    MoreIsBetter,
    /// Zero is 100, the highest is 0.
    LessIsBetter,
}

/// Every score.
pub(crate) const SCORES: [Score; 3] = [least_allocated::SCORE, affinity::SCORE, taints::SCORE];

impl Scale {
    /// Brings a raw score to 0..=100, given the highest of all nodes.
    pub(crate) fn apply(self, score: i64, highest: i64) -> i64 {
        match (self, highest) {
            (Self::Percent, _) => score,
            (Self::MoreIsBetter, ..=0) => 0,
            (Self::LessIsBetter, ..=0) => 100,
            (Self::MoreIsBetter, highest) => score * 100 / highest,
            (Self::LessIsBetter, highest) => 100 - score * 100 / highest,
        }
    }
}

/// Why a node is not for a pod. Displays as events show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason<'a> {
    NodeName,
    Unschedulable,
    Untolerated(&'a Taint),
    Affinity,
    Ports,
    TooManyPods,
    Insufficient(&'a str),
    ClaimInUse,
    VolumeMissing,
    VolumeNode,
    NoVolume,
    VolumeZone,
}

impl Reason<'_> {
    /// True if a pod that leaves the node may end it.
    pub(crate) fn is_room(&self) -> bool {
        matches!(
            self,
            Self::Ports | Self::TooManyPods | Self::Insufficient(_) | Self::ClaimInUse
        )
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeName => f.write_str("node(s) didn't match the requested node name"),
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::Untolerated(taint) => write!(f, "node(s) had untolerated taint {taint}"),
            Self::Affinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Ports => {
                f.write_str("node(s) didn't have free ports for the requested pod ports")
            }
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Self::ClaimInUse => f.write_str(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ),
            Self::VolumeMissing => f.write_str(
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ),
            Self::VolumeNode => {
                f.write_str("node(s) didn't match PersistentVolume's node affinity")
            }
            Self::NoVolume => {
                f.write_str("node(s) didn't find available persistent volumes to bind")
            }
            Self::VolumeZone => f.write_str("node(s) had no available volume zone"),
        }
    }
}
