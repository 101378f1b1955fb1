//! A node's taints keep away, or discourage, pods that do not tolerate them.

use super::{Reason, Scale, Score};
use crate::node::{Effect, Taint};
use crate::pod::Pod;
use crate::snapshot::Candidate;

pub(super) const SCORE: Score = Score {
    weight: 3,
    score,
    scale: Scale::LessIsBetter,
    matters: |_| true,
};

pub(super) fn filter<'a>(pod: &'a Pod, candidate: &'a Candidate) -> Vec<Reason<'a>> {
    let taint = untolerated(pod, candidate).find(|taint| taint.effect != Effect::PreferNoSchedule);
    taint.map(Reason::Untolerated).into_iter().collect()
}

/// How many taints would rather not have the pod.
fn score(pod: &Pod, candidate: &Candidate) -> i64 {
    untolerated(pod, candidate)
        .filter(|taint| taint.effect == Effect::PreferNoSchedule)
        .fold(0, |count, _| count + 1)
}

fn untolerated<'a>(pod: &'a Pod, candidate: &'a Candidate) -> impl Iterator<Item = &'a Taint> {
    candidate.node.taints.iter().filter(|taint| {
        !pod.tolerations
            .iter()
            .any(|toleration| toleration.covers(taint))
    })
}
