//! Domains that would have too many more pods than the emptiest take no pod.

use std::borrow::Cow;
use std::sync::Arc;

use super::{SKEWED, UNLABELLED, count, counts, domains::Domains, includes};
use crate::census::Topology;
use crate::framework::{Filter, Reasons};
use crate::placed::Placed;
use crate::pod::{Pod, Spread};
use crate::snapshot::{Candidate, Snapshot};

/// The required rules of a pod.
#[derive(Clone)]
pub(super) struct Bounds<'a> {
    pod: &'a Pod,
    bounds: Vec<Bound<'a>>,
}

#[derive(Clone)]
struct Bound<'a> {
    rule: Cow<'a, Spread>,
    topology: Arc<Topology>,
    domains: Domains,
    /// The most pods that a domain may have before this one comes.
    most: i64,
}

impl<'a> Bounds<'a> {
    pub(super) fn new(snapshot: &Snapshot, pod: &'a Pod, rules: Vec<Cow<'a, Spread>>) -> Self {
        let keys = rules.iter().map(|rule| &rule.topology_key);
        let topologies: Vec<_> = keys.map(|key| snapshot.census.topology(key)).collect();
        let bounds = rules.into_iter().zip(&topologies);
        let bounds = bounds.map(|(rule, topology)| {
            let domains = count(snapshot, pod, &rule, &topologies);
            let mut bound = Bound {
                rule,
                topology: Arc::clone(topology),
                domains,
                most: 0,
            };
            bound.settle(pod);
            bound
        });
        let bounds = bounds.collect();
        Self { pod, bounds }
    }

    fn shift(&mut self, other: &Placed, node: &Candidate, by: i64) {
        let pod = self.pod;
        let labelled = |bound: &Bound<'_>| bound.topology.of(node.slot).is_some();
        if other.namespace != pod.namespace || other.deleting || !self.bounds.iter().all(labelled) {
            return;
        }
        for bound in &mut self.bounds {
            if counts(&bound.rule, &other.labels)
                && includes(&bound.rule, pod, &node.node)
                && let Some(domain) = bound.topology.of(node.slot)
            {
                bound.domains.shift(domain, by);
                bound.settle(pod);
            }
        }
    }
}

impl Bound<'_> {
    /// What may be follows from what is.
    fn settle(&mut self, pod: &Pod) {
        let few = self.domains.number() < self.rule.min_domains;
        let least = self.domains.least().filter(|_| !few).unwrap_or_default();
        let own = i64::from(self.rule.selector.selects(&pod.labels));
        self.most = self.rule.max_skew + least - own;
    }
}

impl<'a> Filter<'a> for Bounds<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        for bound in &self.bounds {
            let Some(domain) = bound.topology.of(node.slot) else {
                return Err(Reasons::unresolvable(UNLABELLED));
            };
            if bound.domains.get(domain) > bound.most {
                return Err(Reasons::resolvable(SKEWED));
            }
        }
        Ok(())
    }

    fn add(&mut self, pod: &Placed, node: &Candidate) {
        self.shift(pod, node, 1);
    }

    fn remove(&mut self, pod: &Placed, node: &Candidate) {
        self.shift(pod, node, -1);
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
