//! A port of the host serves one pod.

use crate::framework::{Change, ChangeKind, Filter, Plugin, Reason, Reasons, Refused};
use crate::pod::{HostPort, Pod};
use crate::snapshot::{Candidate, Snapshot};

const TAKEN: Reason<'_> =
    Reason::Says("node(s) didn't have free ports for the requested pod ports");

pub(super) struct NodePorts;

#[derive(Clone, Copy)]
struct Wanted<'a>(&'a [HostPort]);

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn pre_filter<'a>(
        &'a self,
        _: &'a Snapshot,
        pod: &'a Pod,
    ) -> Result<Option<Box<dyn Filter<'a> + 'a>>, Refused> {
        let ports = &pod.load.ports;
        Ok((!ports.is_empty()).then(|| Box::new(Wanted(ports)) as _))
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        matches!(kind, ChangeKind::NodeAdded | ChangeKind::PodRemoved)
    }

    fn may_help(&self, change: &Change<'_>, pod: &Pod) -> bool {
        match change {
            Change::NodeAdded(_) => true,
            Change::PodRemoved { pod: gone, .. } => Wanted(&pod.load.ports).clash(&gone.load.ports),
            _ => false,
        }
    }
}

impl Wanted<'_> {
    fn clash(&self, taken: &[HostPort]) -> bool {
        let mut wanted = self.0.iter();
        wanted.any(|wanted| taken.iter().any(|port| port.clashes(wanted)))
    }
}

impl<'a> Filter<'a> for Wanted<'a> {
    fn filter<'n>(&'n self, node: &'n Candidate) -> Result<(), Reasons<'n>> {
        if self.clash(&node.usage.ports) {
            Err(Reasons::resolvable(TAKEN))
        } else {
            Ok(())
        }
    }

    fn boxed_clone(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(*self)
    }
}
