//! A port of the host serves one pod.

use super::Reason;
use crate::pod::Pod;
use crate::snapshot::Candidate;

pub(super) fn filter<'a>(pod: &'a Pod, candidate: &'a Candidate) -> Vec<Reason<'a>> {
    let taken = &candidate.usage.ports;
    let clash = pod
        .load
        .ports
        .iter()
        .any(|wanted| taken.iter().any(|port| port.clashes(wanted)));
    if clash { vec![Reason::Ports] } else { vec![] }
}
