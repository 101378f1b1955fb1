//! A pod that names its node runs there only.

use crate::framework::{Change, ChangeKind, Filter, Plugin, Reason, Reasons, Refused};
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

const OTHER: Reason<'_> = Reason::Says("node(s) didn't match the requested node name");

pub(super) struct NodeName;

#[derive(Clone, Copy)]
struct Named<'a>(&'a str);

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn pre_filter<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        Ok(pod.node.as_ref().map(|name| Box::new(Named(name)) as _))
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(kind, ChangeKind::NodeAdded)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        matches!(change, Change::NodeAdded(node) if pod.node.as_ref() == Some(&node.name))
    }
}

impl<'a> Filter<'a> for Named<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        if *self.0 == *node.node.name {
            Ok(())
        } else {
            Err(Reasons::unresolvable(OTHER))
        }
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}
