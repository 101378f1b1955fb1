//! A cordoned node takes no pod, but one that tolerates the taint that stands for it.

use crate::framework::{Change, ChangeKind, Filter, Plugin, Reason, Reasons, Refused};
use crate::node::{Effect, Taint};
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

const CORDONED: Reason<'_> = Reason::Says("node(s) were unschedulable");

pub(super) struct NodeUnschedulable;

#[derive(Clone, Copy)]
struct Uncordoned;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn pre_filter<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            value: String::new(),
            effect: Effect::NoSchedule,
        };
        let borne = pod.tolerations.iter().any(|one| one.covers(&taint));
        Ok((!borne).then(|| Box::new(Uncordoned) as _))
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(kind, ChangeKind::NodeAdded | ChangeKind::NodeChanged)
    }

    fn may_help(&self, change: &Change<'_>, _: &Pod) -> bool {
        match change {
            Change::NodeAdded(node) => !node.unschedulable,
            Change::NodeChanged { old, new } => old.unschedulable && !new.unschedulable,
            _ => false,
        }
    }
}

impl<'a> Filter<'a> for Uncordoned {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        if node.node.unschedulable {
            Err(Reasons::unresolvable(CORDONED))
        } else {
            Ok(())
        }
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}
