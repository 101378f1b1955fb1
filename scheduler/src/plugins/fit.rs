//! What a pod asks for must be free on its node; every resource that is short is named.

use super::allocation::Allocation;
use super::arguments::FitArgs;
use crate::framework::{Change, ChangeKind, Filter, Plugin, Reason, Reasons, Refused, Score};
use crate::node::Node;
use crate::pod::Pod;
use crate::resources::Resources;
use crate::snapshot::{Candidate, Snapshot, Usage};

const TOO_MANY: Reason<'_> = Reason::Says("Too many pods");

pub(super) struct Fit {
    /// Extended resources that are not looked at, and their groups: what is before the slash.
    ignored: Vec<String>,
    ignored_groups: Vec<String>,
    strategy: Allocation,
}

#[derive(Clone, Copy)]
struct Wanted<'a> {
    wanted: &'a Resources,
    plugin: &'a Fit,
}

impl Fit {
    pub(super) fn new(args: FitArgs) -> Self {
        Self {
            ignored: args.ignored_resources,
            ignored_groups: args.ignored_resource_groups,
            strategy: Allocation::new(args.scoring_strategy),
        }
    }

    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split_once('/').map_or("", |(group, _)| group);
        self.ignored.iter().any(|name| name == resource)
            || self.ignored_groups.iter().any(|name| name == group)
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn pre_filter<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        Ok(Some(Box::new(self.wanted(pod))))
    }

    fn pre_score<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
        _: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        Some(Box::new(self.strategy.of(&pod.load)))
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(
            kind,
            ChangeKind::NodeAdded
                | ChangeKind::NodeChanged
                | ChangeKind::PodChanged
                | ChangeKind::PodRemoved
        )
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        let wanted = self.wanted(pod);
        let could = |node: &Node| wanted.short(node, &Usage::default()).is_ok();
        match change {
            Change::NodeAdded(node) => could(node),
            Change::NodeChanged { old, new } => {
                (old.allocatable != new.allocatable || old.pods != new.pods) && could(new)
            }
            Change::PodRemoved { node, .. } | Change::PodChanged { node, .. } => {
                node.is_some_and(|node| wanted.filter(node).is_ok())
            }
            _ => false,
        }
    }
}

impl Fit {
    fn wanted<'a>(&'a self, pod: &'a Pod) -> Wanted<'a> {
        Wanted {
            wanted: &pod.load.requested,
            plugin: self,
        }
    }
}

impl<'a> Wanted<'a> {
    /// What is short on a node of which this is used.
    fn short(&self, node: &Node, usage: &Usage) -> Result<(), Reasons<'a>> {
        let (wanted, has, used) = (self.wanted, &node.allocatable, &usage.requested);
        let fits = |wanted: i64, has: i64, used: i128| {
            wanted <= 0 || i128::from(wanted) <= i128::from(has) - used
        };
        if usage.pods < node.pods
            && fits(wanted.cpu_millis, has.cpu_millis, used.cpu_millis)
            && fits(wanted.memory, has.memory, used.memory)
            && fits(
                wanted.ephemeral_storage,
                has.ephemeral_storage,
                used.ephemeral_storage,
            )
            && wanted.extended.is_empty()
        {
            return Ok(());
        }
        let mut reasons = Vec::new();
        if usage.pods >= node.pods {
            reasons.push(Reasons::resolvable(TOO_MANY));
        }
        let extended = wanted.extended.keys().map(String::as_str);
        let extended = extended.filter(|name| !self.plugin.ignores(name));
        for name in ["cpu", "memory", "ephemeral-storage"]
            .into_iter()
            .chain(extended)
        {
            let (wanted, has) = (wanted.get(name), has.get(name));
            if !fits(wanted, has, i128::from(used.get(name))) {
                let short = Reason::Insufficient(name);
                reasons.push(if wanted > has {
                    Reasons::unresolvable(short)
                } else {
                    Reasons::resolvable(short)
                });
            }
        }
        Reasons::from_all(reasons)
    }
}

impl<'a> Filter<'a> for Wanted<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        self.short(&node.node, &node.usage)
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}
