//! A pod's node selector and required node affinity bind it to nodes; preferred affinity ranks them.

use super::{Reason, Scale, Score};
use crate::pod::Pod;
use crate::snapshot::Candidate;

pub(super) const SCORE: Score = Score {
    weight: 2,
    score,
    scale: Scale::MoreIsBetter,
    matters: |pod| !pod.preferred.is_empty(),
};

pub(super) fn filter<'a>(pod: &'a Pod, candidate: &'a Candidate) -> Vec<Reason<'a>> {
    let node = &candidate.node;
    let selected = pod
        .node_selector
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let required = pod
        .required
        .as_ref()
        .is_none_or(|terms| terms.iter().any(|term| term.holds(node)));
    if selected && required {
        vec![]
    } else {
        vec![Reason::Affinity]
    }
}

/// The weights of the preferences that hold.
fn score(pod: &Pod, candidate: &Candidate) -> i64 {
    pod.preferred
        .iter()
        .filter(|(_, term)| term.holds(&candidate.node))
        .map(|(weight, _)| weight)
        .sum()
}
