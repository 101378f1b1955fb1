//! A pod that names its node runs there only.

use super::Reason;
use crate::pod::Pod;
use crate::snapshot::Candidate;

pub(super) fn filter<'a>(pod: &'a Pod, candidate: &'a Candidate) -> Vec<Reason<'a>> {
    match &pod.node {
        Some(name) if *name != candidate.node.name => vec![Reason::NodeName],
        _ => vec![],
    }
}
