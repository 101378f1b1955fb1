//! What is required: of the pod, and by placed pods of it.

use std::sync::Arc;

use super::{FAR, NEAR, UNWANTED, all_mean, meant};
use crate::census::{Counts, Topology, Weight};
use crate::framework::{Filter, Reasons};
use crate::placed::Placed;
use crate::pod::{Pod, PodTerm};
use crate::snapshot::{Candidate, Snapshot};

/// What keeps one pod from nodes.
#[derive(Clone)]
pub(super) struct Rules<'a> {
    pod: &'a Pod,
    snapshot: &'a Snapshot,
    /// Where pods are that every required term means, for each term's label.
    near: Vec<Found<'a>>,
    /// Whether the pod is meant by all of its own required terms: the first of its kind need not be near another.
    first: bool,
    /// Where pods are that a required term of anti-affinity means, for each of these.
    never: Vec<Found<'a>>,
    /// Where pods are that the pod may not be near, by the label that says what is near.
    unwanted: Vec<(Arc<str>, Arc<Topology>, Domains)>,
}

/// Pods by domain.
#[derive(Clone)]
struct Found<'a> {
    term: &'a Arc<PodTerm>,
    topology: Arc<Topology>,
    domains: Domains,
}

/// Counts by domain, and what differs of them in a trial.
#[derive(Clone)]
struct Domains {
    counts: Counts,
    shifts: Vec<(usize, i64)>,
    total: i64,
}

impl Domains {
    fn new(counts: Counts) -> Self {
        let total = counts.iter().map(|count| i64::from(*count)).sum();
        Self {
            counts,
            shifts: Vec::new(),
            total,
        }
    }

    fn any(&self, domain: usize) -> bool {
        let shifts = self.shifts.iter().filter(|(own, _)| *own == domain);
        let shifted: i64 = shifts.map(|(_, by)| by).sum();
        i64::from(self.counts[domain]) + shifted > 0
    }

    fn shift(&mut self, domain: Option<usize>, by: i64) {
        if let Some(domain) = domain {
            self.shifts.push((domain, by));
            self.total += by;
        }
    }
}

impl<'a> Rules<'a> {
    /// `None` if nothing is required.
    pub(super) fn new(snapshot: &'a Snapshot, pod: &'a Pod) -> Option<Self> {
        let unwanted = unwanted(snapshot, pod);
        let affinity = pod.affinity.as_deref();
        let required = affinity.map_or(&[][..], |affinity| &affinity.required);
        let anti = affinity.map_or(&[][..], |affinity| &affinity.required_anti);
        if required.is_empty() && anti.is_empty() && unwanted.is_empty() {
            return None;
        }
        let census = &snapshot.census;
        let found = |term: &'a Arc<PodTerm>, terms: &[Arc<PodTerm>]| {
            let counts = census.by_domain(&meant(snapshot, terms), &term.topology_key);
            Found {
                term,
                topology: census.topology(&term.topology_key),
                domains: Domains::new(counts),
            }
        };
        let near = required.iter().map(|term| found(term, required));
        let never = anti
            .iter()
            .map(|term| found(term, std::slice::from_ref(term)));
        Some(Self {
            pod,
            snapshot,
            near: near.collect(),
            first: all_mean(snapshot, required, &pod.namespace, &pod.labels),
            never: never.collect(),
            unwanted,
        })
    }

    /// As if a pod came to a node or left it.
    fn shift(&mut self, other: &Placed, node: &Candidate, by: i64) {
        let own = self.pod.affinity.as_deref();
        let (namespace, labels) = (&*other.namespace, &*other.labels);
        let required = own.map_or(&[][..], |own| &own.required);
        if all_mean(self.snapshot, required, namespace, labels) {
            for found in &mut self.near {
                found.domains.shift(found.topology.of(node.slot), by);
            }
        }
        let of_namespace = self.snapshot.namespace_labels(namespace);
        for found in &mut self.never {
            if found.term.means(namespace, of_namespace, labels) {
                found.domains.shift(found.topology.of(node.slot), by);
            }
        }
        let theirs = other.affinity.iter();
        for term in theirs.flat_map(|affinity| &affinity.required_anti) {
            let of_namespace = self.snapshot.namespace_labels(&self.pod.namespace);
            if !term.means(&self.pod.namespace, of_namespace, &self.pod.labels) {
                continue;
            }
            let key = &term.topology_key;
            let known = self.unwanted.iter().position(|(own, ..)| own == key);
            let index = known.unwrap_or_else(|| {
                let topology = self.snapshot.census.topology(key);
                let none = Domains::new(Arc::new(vec![0; topology.len()]));
                self.unwanted.push((Arc::clone(key), topology, none));
                self.unwanted.len() - 1
            });
            let (_, topology, domains) = &mut self.unwanted[index];
            domains.shift(topology.of(node.slot), by);
        }
    }

    fn is_near(&self, node: &Candidate) -> bool {
        let mut all = true;
        for found in &self.near {
            match found.topology.of(node.slot) {
                Some(domain) => all &= found.domains.any(domain),
                // Whatever is required, the node must have the labels.
                None => return false,
            }
        }
        all || (self.first && self.near.iter().all(|found| found.domains.total == 0))
    }
}

/// Where the placed pods are whose required anti-affinity means a pod.
fn unwanted(snapshot: &Snapshot, pod: &Pod) -> Vec<(Arc<str>, Arc<Topology>, Domains)> {
    let census = &snapshot.census;
    let of_namespace = snapshot.namespace_labels(&pod.namespace);
    let mut unwanted: Vec<(Arc<str>, Arc<Topology>, Vec<u32>)> = Vec::new();
    for bearing in census.bearings(&pod.namespace, of_namespace, &pod.labels) {
        if bearing.weight != Weight::Never {
            continue;
        }
        let key = &bearing.term.topology_key;
        let known = unwanted.iter().position(|(own, ..)| own == key);
        let index = known.unwrap_or_else(|| {
            let topology = census.topology(key);
            let none = vec![0; topology.len()];
            unwanted.push((Arc::clone(key), topology, none));
            unwanted.len() - 1
        });
        let (_, topology, counts) = &mut unwanted[index];
        for (slot, count) in &bearing.nodes {
            if let Some(domain) = topology.of(*slot) {
                counts[domain] += count;
            }
        }
    }
    let unwanted = unwanted.into_iter();
    let unwanted =
        unwanted.map(|(key, topology, counts)| (key, topology, Domains::new(Arc::new(counts))));
    unwanted.filter(|(.., domains)| domains.total > 0).collect()
}

impl<'a> Filter<'a> for Rules<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        let here = |topology: &Topology, domains: &Domains| {
            let domain = topology.of(node.slot);
            domain.is_some_and(|domain| domains.any(domain))
        };
        if !self.is_near(node) {
            return Err(Reasons::unresolvable(FAR));
        }
        let mut never = self.never.iter();
        if never.any(|found| here(&found.topology, &found.domains)) {
            return Err(Reasons::resolvable(NEAR));
        }
        let mut unwanted = self.unwanted.iter();
        if unwanted.any(|(_, topology, domains)| here(topology, domains)) {
            return Err(Reasons::resolvable(UNWANTED));
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
