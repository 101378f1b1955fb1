//! The decision: which node a pod goes to, or why none will do.
//!
//! Pure: the same snapshot, pod and randomness give the same decision.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rand::{Rng, RngExt};

use crate::plugins::{FILTERS, Reason, SCORES, Score};
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

/// What was decided for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to this node.
    Node(Arc<str>),
    /// No node admits it.
    Unschedulable(Unschedulable),
}

/// Why no node admits a pod. Displays as the event `FailedScheduling` and the condition say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// Reasons, and how many nodes each is true of. A node may have several.
    pub reasons: BTreeMap<String, usize>,
    /// True if a pod that leaves some node may change the answer.
    pub lacks_room: bool,
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut counted: Vec<_> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        counted.sort_unstable();
        let nodes = self.nodes;
        write!(f, "0/{nodes} nodes are available: {}.", counted.join(", "))
    }
}

/// Decides where a pod goes. Among equally good nodes `ties` picks one.
pub fn schedule(snapshot: &Snapshot, pod: &Pod, ties: &mut impl Rng) -> Decision {
    let mut admitted = Vec::new();
    let mut objections: BTreeMap<Reason<'_>, usize> = BTreeMap::new();
    let mut nodes = 0;
    for candidate in snapshot.candidates() {
        nodes += 1;
        match objection(pod, candidate) {
            None => admitted.push(candidate),
            Some(reasons) if admitted.is_empty() => {
                for reason in reasons {
                    *objections.entry(reason).or_default() += 1;
                }
            }
            Some(_) => {}
        }
    }
    match best(pod, &admitted, ties) {
        Some(candidate) => Decision::Node(Arc::clone(&candidate.node.name)),
        None => Decision::Unschedulable(Unschedulable {
            nodes,
            lacks_room: objections.keys().any(Reason::is_room),
            reasons: objections
                .into_iter()
                .map(|(reason, count)| (reason.to_string(), count))
                .collect(),
        }),
    }
}

/// What the first filter that objects has to say.
fn objection<'a>(pod: &'a Pod, candidate: &'a Candidate) -> Option<Vec<Reason<'a>>> {
    FILTERS
        .iter()
        .map(|filter| filter(pod, candidate))
        .find(|reasons| !reasons.is_empty())
}

fn best<'a>(pod: &Pod, admitted: &[&'a Candidate], ties: &mut impl Rng) -> Option<&'a Candidate> {
    if let [] | [_] = admitted {
        return admitted.first().copied();
    }
    let mut totals = vec![0; admitted.len()];
    for score in SCORES.iter().filter(|score| (score.matters)(pod)) {
        add(score, pod, admitted, &mut totals);
    }
    let highest = totals.iter().max()?;
    let best: Vec<_> = admitted
        .iter()
        .zip(&totals)
        .filter(|(_, total)| *total == highest)
        .map(|(candidate, _)| *candidate)
        .collect();
    Some(best[ties.random_range(0..best.len())])
}

fn add(score: &Score, pod: &Pod, admitted: &[&Candidate], totals: &mut [i64]) {
    let raw: Vec<i64> = admitted
        .iter()
        .map(|candidate| (score.score)(pod, candidate))
        .collect();
    let highest = raw.iter().copied().max().unwrap_or_default();
    for (total, raw) in totals.iter_mut().zip(raw) {
        *total += score.weight * score.scale.apply(raw, highest);
    }
}
