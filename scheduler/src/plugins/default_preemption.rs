//! A pod that no node admits may have pods removed that matter less.
//!
//! Pure. What Kubernetes does in DefaultPreemption: on nodes where it may help, [`victims`] finds the fewest and least
//! that must go; of these nodes one is chosen. Who the victims are is all that is decided here.

mod victims;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;

use super::arguments::DefaultPreemptionArgs;
use crate::framework::{Change, Failed, Nomination, Plugin, PostFiltered, Room};
use crate::placed::Placed;
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};
use victims::{Victims, select};

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// The plugin.
pub(crate) struct DefaultPreemption {
    /// At least so many candidates in a hundred nodes are looked for,
    percentage: usize,
    /// and at least so many.
    fewest: usize,
}

impl DefaultPreemption {
    pub(super) fn new(args: DefaultPreemptionArgs) -> Self {
        let number = |number: i64| usize::try_from(number).unwrap_or_default();
        Self {
            percentage: number(args.min_candidate_nodes_percentage),
            fewest: number(args.min_candidate_nodes_absolute),
        }
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn post_filter(&self, failed: &Failed<'_, '_>) -> Option<PostFiltered> {
        if let Some(why) = ineligible(failed) {
            return Some(PostFiltered {
                message: format!("preemption: {why}"),
                room: Room::Kept,
            });
        }
        let (candidates, reasons) = self.candidates(failed);
        let nodes = failed.snapshot.candidates();
        Some(match candidates.into_iter().min_by_key(harm) {
            Some((node, victims)) => PostFiltered {
                message: String::new(),
                room: Room::Made(Nomination {
                    node: Arc::clone(&node.node.name),
                    victims: victims.pods,
                }),
            },
            None => PostFiltered {
                message: message(nodes.len(), reasons),
                room: Room::Nowhere,
            },
        })
    }

    fn may_help(&self, _: &Change<'_>, _: &Pod) -> bool {
        false
    }
}

impl DefaultPreemption {
    /// Nodes on which removing pods would help, and which pods; and why it would not on others. More than enough of
    /// them are not looked for.
    fn candidates<'a>(
        &self,
        failed: &Failed<'_, 'a>,
    ) -> (Vec<(&'a Candidate, Victims)>, BTreeMap<String, usize>) {
        let nodes = failed.snapshot.candidates();
        let hopeful = failed.nodes.iter().filter(|node| node.resolvable);
        let hopeful: Vec<_> = hopeful.map(|node| &nodes[node.index]).collect();
        let enough = (hopeful.len() * self.percentage / 100).max(self.fewest);
        let start = first(failed.pod, hopeful.len());
        let (mut found, mut reasons) = (Vec::new(), BTreeMap::new());
        let mut harmless = false;
        for node in hopeful[start..].iter().chain(&hopeful[..start]) {
            match select(failed, node) {
                Ok(victims) => {
                    harmless |= victims.violating == 0;
                    found.push((*node, victims));
                    if harmless && found.len() >= enough {
                        break;
                    }
                }
                Err(why) => {
                    for reason in why {
                        *reasons.entry(reason).or_default() += 1;
                    }
                }
            }
        }
        let rest = nodes.len() - hopeful.len();
        if rest > 0 {
            reasons.insert(NOT_HELPFUL.to_owned(), rest);
        }
        (found, reasons)
    }
}

/// Where the search begins: not for all pods at the same node.
fn first(pod: &Pod, nodes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    pod.uid.hash(&mut hasher);
    let turn = hasher.finish() % (nodes.max(1) as u64);
    usize::try_from(turn).unwrap_or_default()
}

/// Why room may not be made for a pod, as things are.
fn ineligible(failed: &Failed<'_, '_>) -> Option<&'static str> {
    let pod = failed.pod;
    if !pod.preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = nominated(failed.snapshot, pod)?;
    // Where nothing helps any more, what is going on there does not matter.
    let mut known = failed.nodes.iter();
    if known.any(|known| known.index == node.index && !known.resolvable) {
        return None;
    }
    let mut going = node.pods.iter();
    going
        .any(|other| other.priority < pod.priority && other.deleting && other.preempted)
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

fn nominated<'a>(snapshot: &'a Snapshot, pod: &Pod) -> Option<&'a Candidate> {
    let said = pod.nominated.as_deref();
    let said = said.and_then(|name| snapshot.candidate(name));
    snapshot.nominated_node(pod).or(said)
}

/// What a choice of node costs: budgets violated, the highest priority of a victim, the sum of priorities, the number of
/// victims, and how long the first of the highest has been there. Less is better.
fn harm(candidate: &(&Candidate, Victims)) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let Victims { pods, violating } = &candidate.1;
    let highest = pods
        .iter()
        .map(|pod| pod.priority)
        .max()
        .unwrap_or_default();
    let sum = pods.iter();
    let sum = sum.map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1);
    let first = pods.iter().filter(|pod| pod.priority == highest);
    let first = first.map(|pod| started(pod)).min();
    let first = Reverse(first.unwrap_or(Timestamp::MAX));
    (*violating, highest, sum.sum(), pods.len(), first)
}

/// When a pod began; one that has not is the youngest.
fn started(pod: &Placed) -> Timestamp {
    pod.started.unwrap_or(Timestamp::MAX)
}

fn message(nodes: usize, reasons: BTreeMap<String, usize>) -> String {
    let counted = reasons.into_iter();
    let mut counted: Vec<_> = counted
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    counted.sort_unstable();
    let counted = counted.join(", ");
    format!("preemption: 0/{nodes} nodes are available: {counted}.")
}

#[cfg(test)]
mod tests;
