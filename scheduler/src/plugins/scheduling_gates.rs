//! A pod with scheduling gates is not decided until all of them are removed.

use crate::framework::{Change, Gated, Plugin};
use crate::pod::Pod;

pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), Gated> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        let gates = pod.gates.join(" ");
        Err(Gated {
            message: format!("waiting for scheduling gates: [{gates}]"),
        })
    }

    /// Only a change of the pod itself lets it in, and that needs no hint.
    fn may_help(&self, _: &Change<'_>, _: &Pod) -> bool {
        false
    }
}
