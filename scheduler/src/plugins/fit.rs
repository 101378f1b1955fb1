//! What a pod asks for must be free on its node; every resource that is short is named.

use std::collections::BTreeMap;

use super::least_allocated::LeastAllocated;
use crate::framework::{Change, Filter, Plugin, Reason, Reasons, Refused, Score};
use crate::node::Node;
use crate::pod::Pod;
use crate::resources::Resources;
use crate::snapshot::{Candidate, Snapshot};

pub(super) struct Fit;

#[derive(Clone, Copy)]
struct Wanted<'a>(&'a Resources);

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn pre_filter<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        Ok(Some(Box::new(Wanted(&pod.load.requested))))
    }

    fn pre_score<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
        _: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        Some(Box::new(LeastAllocated(&pod.load.scored)))
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        let wanted = Wanted(&pod.load.requested);
        let could = |node: &Node| wanted.short(&node.allocatable, None, node.pods, 0).is_ok();
        match change {
            Change::NodeAdded(node) => could(node),
            Change::NodeChanged { old, new } => {
                (old.allocatable != new.allocatable || old.pods != new.pods) && could(new)
            }
            Change::PodRemoved(_) | Change::PodChanged { .. } => true,
            _ => false,
        }
    }
}

impl<'a> Wanted<'a> {
    /// What is short on a node that offers `has` and `room` pods, of which `used` and `pods` are taken.
    fn short(
        &self,
        has: &Resources,
        used: Option<&Resources>,
        room: usize,
        pods: usize,
    ) -> Result<(), Reasons<'a>> {
        let wanted = self.0;
        let mut reasons = Vec::new();
        if pods >= room {
            reasons.push(Reasons::resolvable(Reason::Says("Too many pods")));
        }
        let mut need = |name: &'a str, wanted: i64, has: i64, used: Option<i64>| {
            if wanted > 0 && wanted > has.saturating_sub(used.unwrap_or_default()) {
                let short = Reason::Insufficient(name);
                reasons.push(if wanted > has {
                    Reasons::unresolvable(short)
                } else {
                    Reasons::resolvable(short)
                });
            }
        };
        let taken = |of: fn(&Resources) -> i64| used.map(of);
        need(
            "cpu",
            wanted.cpu_millis,
            has.cpu_millis,
            taken(|used| used.cpu_millis),
        );
        need(
            "memory",
            wanted.memory,
            has.memory,
            taken(|used| used.memory),
        );
        need(
            "ephemeral-storage",
            wanted.ephemeral_storage,
            has.ephemeral_storage,
            taken(|used| used.ephemeral_storage),
        );
        for (name, wanted) in &wanted.extended {
            let amount = |list: &BTreeMap<String, i64>| list.get(name).copied().unwrap_or_default();
            let used = used.map(|used| amount(&used.extended));
            need(name, *wanted, amount(&has.extended), used);
        }
        Reasons::from_all(reasons)
    }
}

impl<'a> Filter<'a> for Wanted<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        let usage = &node.usage;
        let (has, used) = (&node.node.allocatable, Some(&usage.requested));
        self.short(has, used, node.node.pods, usage.pods)
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}
