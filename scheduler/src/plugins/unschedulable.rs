//! A cordoned node takes no pod, but one that tolerates the taint that stands for it.

use super::Reason;
use crate::node::{Effect, Taint};
use crate::pod::Pod;
use crate::snapshot::Candidate;

pub(super) fn filter<'a>(pod: &'a Pod, candidate: &'a Candidate) -> Vec<Reason<'a>> {
    if !candidate.node.unschedulable {
        return vec![];
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: Effect::NoSchedule,
    };
    if pod
        .tolerations
        .iter()
        .any(|toleration| toleration.covers(&taint))
    {
        vec![]
    } else {
        vec![Reason::Unschedulable]
    }
}
