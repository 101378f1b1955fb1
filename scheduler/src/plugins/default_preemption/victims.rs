//! Which pods must leave a node so that another fits.

use std::cmp::Reverse;
use std::sync::Arc;

use super::started;
use crate::framework::{Asked, Failed};
use crate::placed::Placed;
use crate::snapshot::Candidate;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// Pods that must leave a node.
pub(super) struct Victims {
    /// The most important first.
    pub(super) pods: Vec<Arc<Placed>>,
    /// How many of them a budget would rather keep.
    pub(super) violating: usize,
}

/// Finds them: all that matter less are taken away, then as many as can be are given back, the most important first and
/// those before all others that a budget would rather keep.
///
/// # Errors
/// Why it would not help.
pub(super) fn select(failed: &Failed<'_, '_>, node: &Candidate) -> Result<Victims, Vec<String>> {
    let less = node
        .pods
        .iter()
        .filter(|pod| pod.priority < failed.pod.priority);
    let mut less: Vec<_> = less.collect();
    if less.is_empty() {
        return Err(vec![NO_VICTIMS.to_owned()]);
    }
    less.sort_by_key(|pod| importance(pod));
    let mut trial = Trial {
        failed,
        filters: copy(failed.filters),
        node: node.clone(),
    };
    for pod in &less {
        trial.remove(pod);
    }
    trial.check()?;
    let budgets = &failed.snapshot.budgets;
    let (dear, others): (Vec<_>, Vec<_>) = {
        let dear = budgets.violated(&less);
        let is_dear = |pod: &&Arc<Placed>| dear.iter().any(|other| Arc::ptr_eq(other, pod));
        less.into_iter().partition(is_dear)
    };
    let mut pods: Vec<Arc<Placed>> = Vec::new();
    let mut give_back = |all: Vec<&Arc<Placed>>| {
        for pod in all {
            trial.add(pod);
            if trial.check().is_err() {
                trial.remove(pod);
                pods.push(Arc::clone(pod));
            }
        }
        pods.len()
    };
    let violating = give_back(dear);
    give_back(others);
    if pods.is_empty() {
        return Err(vec![NO_VICTIMS.to_owned()]);
    }
    pods.sort_by_key(importance);
    Ok(Victims { pods, violating })
}

/// The most important first: higher priorities, then those that began earlier.
fn importance(pod: &Arc<Placed>) -> (Reverse<i32>, jiff::Timestamp) {
    (Reverse(pod.priority), started(pod))
}

/// A node that is changed to see what would be.
struct Trial<'s, 'a> {
    failed: &'s Failed<'s, 'a>,
    filters: Vec<Asked<'a>>,
    node: Candidate,
}

fn copy<'a>(asked: &[Asked<'a>]) -> Vec<Asked<'a>> {
    let asked = asked.iter();
    asked
        .map(|(plugin, filter)| (*plugin, filter.boxed_clone()))
        .collect()
}

fn add(filters: &mut [Asked<'_>], node: &mut Candidate, pod: &Arc<Placed>) {
    for (_, filter) in filters {
        filter.add(pod, node);
    }
    node.add(Arc::clone(pod));
}

fn first_objection(filters: &[Asked<'_>], node: &Candidate) -> Result<(), Vec<String>> {
    for (_, filter) in filters {
        if let Err(reasons) = filter.filter(node) {
            return Err(reasons.iter().map(|reason| reason.to_string()).collect());
        }
    }
    Ok(())
}

impl Trial<'_, '_> {
    fn add(&mut self, pod: &Arc<Placed>) {
        add(&mut self.filters, &mut self.node, pod);
    }

    fn remove(&mut self, pod: &Arc<Placed>) {
        for (_, filter) in &mut self.filters {
            filter.remove(pod, &self.node);
        }
        self.node.remove(pod);
    }

    /// Whether the pod fits as the node is now, also beside those for which room is made there and that come first.
    fn check(&self) -> Result<(), Vec<String>> {
        let pod = self.failed.pod;
        let nominated = self.failed.snapshot.nominated_on(&self.node.node.name);
        let mut first = nominated
            .iter()
            .filter(|other| other.priority >= pod.priority && other.uid != pod.uid)
            .peekable();
        if first.peek().is_some() {
            let (mut filters, mut node) = (copy(&self.filters), self.node.clone());
            first.for_each(|other| add(&mut filters, &mut node, other));
            first_objection(&filters, &node)?;
        }
        first_objection(&self.filters, &self.node)
    }
}
