//! What is preferred: by the pod, and by placed pods of it.

use std::sync::Arc;

use super::{InterPodAffinity, meant};
use crate::census::{Topology, Weight};
use crate::framework::{MAX_SCORE, Score};
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

/// Sums of weights by domain, for each label that some term uses.
pub(super) struct Likings {
    sums: Vec<(Arc<str>, Arc<Topology>, Vec<i64>)>,
}

impl Likings {
    /// `None` if every node is liked the same.
    pub(super) fn new(plugin: &InterPodAffinity, snapshot: &Snapshot, pod: &Pod) -> Option<Self> {
        let mut likings = Self { sums: Vec::new() };
        let own = pod.affinity.as_deref();
        let likes = own.map_or(&[][..], |own| &own.preferred);
        let dislikes = own.map_or(&[][..], |own| &own.preferred_anti);
        if likes.is_empty() && dislikes.is_empty() && plugin.ignores_others {
            return None;
        }
        let dislikes = dislikes.iter().map(|(weight, term)| (-weight, term));
        let likes = likes.iter().map(|(weight, term)| (*weight, term));
        for (weight, term) in likes.chain(dislikes) {
            let key = &term.topology_key;
            let counts = snapshot.census.by_domain(&meant(snapshot, [term]), key);
            let (_, sums) = likings.at(snapshot, key);
            for (sum, count) in sums.iter_mut().zip(counts.iter()) {
                *sum += weight * i64::from(*count);
            }
        }
        let of_namespace = snapshot.namespace_labels(&pod.namespace);
        let theirs = snapshot
            .census
            .bearings(&pod.namespace, of_namespace, &pod.labels);
        for bearing in theirs {
            let weight = match bearing.weight {
                Weight::Near => plugin.hard_weight,
                Weight::Never => 0,
                Weight::Prefers(weight) => weight,
            };
            if weight == 0 {
                continue;
            }
            let (topology, sums) = likings.at(snapshot, &bearing.term.topology_key);
            for (slot, count) in &bearing.nodes {
                if let Some(domain) = topology.of(*slot) {
                    sums[domain] += weight * i64::from(*count);
                }
            }
        }
        likings
            .sums
            .retain(|(_, _, sums)| sums.iter().any(|sum| *sum != 0));
        (!likings.sums.is_empty()).then_some(likings)
    }

    fn at(&mut self, snapshot: &Snapshot, key: &Arc<str>) -> (&Topology, &mut [i64]) {
        let known = self.sums.iter().position(|(own, ..)| own == key);
        let index = known.unwrap_or_else(|| {
            let topology = snapshot.census.topology(key);
            let none = vec![0; topology.len()];
            self.sums.push((Arc::clone(key), topology, none));
            self.sums.len() - 1
        });
        let (_, topology, sums) = &mut self.sums[index];
        (topology, sums)
    }
}

impl<'a> Score<'a> for Likings {
    fn score(&self, node: &Candidate) -> i64 {
        let sums = self.sums.iter();
        let sums = sums.filter_map(|(_, topology, sums)| Some(sums[topology.of(node.slot)?]));
        sums.sum()
    }

    /// The least liked becomes 0, the most liked 100.
    fn normalise(&self, scores: &mut [i64]) {
        let most = scores.iter().copied().max().unwrap_or_default();
        let least = scores.iter().copied().min().unwrap_or_default();
        for score in scores {
            let share = match most - least {
                0 => 0.0,
                range => (*score - least) as f64 / range as f64,
            };
            *score = (MAX_SCORE as f64 * share) as i64;
        }
    }
}
