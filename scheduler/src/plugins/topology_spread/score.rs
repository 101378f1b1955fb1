//! The fewer of its like are in a node's domains, the better the node.

use std::borrow::Cow;
use std::sync::Arc;

use super::{HOSTNAME, count, counted, domains::Domains};
use crate::census::{Counts, Topology};
use crate::framework::{MAX_SCORE, Score};
use crate::pod::{Pod, Spread};
use crate::snapshot::{Candidate, Snapshot};

/// What a node scores that does not have all labels.
const IGNORED: i64 = -1;

/// The rules of a pod that are not required.
pub(super) struct Crowds {
    crowds: Vec<Crowd>,
    /// Whether nodes are ignored that do not have the labels of all rules.
    whole: bool,
}

struct Crowd {
    topology: Arc<Topology>,
    pods: Pods,
    /// What one pod weighs: domains that are many have few pods each.
    weight: f64,
    /// What every node weighs, so that small differences matter less.
    floor: f64,
}

enum Pods {
    /// Nodes are their own domains, whatever their label says.
    OnNode(Counts),
    InDomain(Domains),
    /// A selector that selects everything counts nothing.
    Nowhere,
}

impl Crowds {
    pub(super) fn new(
        snapshot: &Snapshot,
        pod: &Pod,
        rules: &[Cow<'_, Spread>],
        whole: bool,
        admitted: &[&Candidate],
    ) -> Self {
        let keys = rules.iter().map(|rule| &rule.topology_key);
        let topologies: Vec<_> = keys.map(|key| snapshot.census.topology(key)).collect();
        // Those whose labels a node must have to be ranked, and to count.
        let needed: &[_] = if whole { &topologies } else { &[] };
        let ranked: Vec<_> = match needed.iter().all(|topology| topology.is_everywhere()) {
            true => admitted.to_vec(),
            false => {
                let all = |node: &&&Candidate| needed.iter().all(|key| key.of(node.slot).is_some());
                admitted.iter().filter(all).copied().collect()
            }
        };
        let crowds = rules.iter().zip(&topologies).map(|(rule, topology)| {
            let (pods, size) = if &*rule.topology_key != HOSTNAME {
                let domains = count(snapshot, pod, rule, needed);
                (Pods::InDomain(domains), distinct(topology, &ranked))
            } else if rule.selector.is_everything() {
                (Pods::Nowhere, ranked.len())
            } else {
                let counts = snapshot.census.by_node(&counted(rule, pod));
                (Pods::OnNode(counts), ranked.len())
            };
            Crowd {
                topology: Arc::clone(topology),
                pods,
                weight: (size as f64 + 2.0).ln(),
                floor: (rule.max_skew - 1) as f64,
            }
        });
        Self {
            crowds: crowds.collect(),
            whole,
        }
    }
}

/// In how many domains these nodes are; those without the label are one more.
fn distinct(topology: &Topology, nodes: &[&Candidate]) -> usize {
    let mut seen = vec![false; topology.len() + 1];
    for node in nodes {
        seen[topology.of(node.slot).unwrap_or(topology.len())] = true;
    }
    seen.into_iter().filter(|seen| *seen).count()
}

impl<'a> Score<'a> for Crowds {
    fn score(&self, node: &Candidate) -> i64 {
        let mut score = 0.0;
        for crowd in &self.crowds {
            let Some(domain) = crowd.topology.of(node.slot) else {
                if self.whole {
                    return IGNORED;
                }
                continue;
            };
            let pods = match &crowd.pods {
                Pods::OnNode(counts) => i64::from(counts[node.slot.index()]),
                Pods::InDomain(domains) => domains.get(domain),
                Pods::Nowhere => 0,
            };
            score += pods as f64 * crowd.weight + crowd.floor;
        }
        score.round() as i64
    }

    fn normalise(&self, scores: &mut [i64]) {
        let ranked = || scores.iter().copied().filter(|score| *score != IGNORED);
        let most = ranked().max().unwrap_or_default().max(0);
        let least = ranked().min().unwrap_or_default();
        for score in scores {
            *score = match *score {
                IGNORED => 0,
                _ if most == 0 => MAX_SCORE,
                score => MAX_SCORE * (most + least - score) / most,
            };
        }
    }
}
