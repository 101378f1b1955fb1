//! What a pod asks for must be free on its node; every resource that is short is named.

use super::Reason;
use crate::pod::Pod;
use crate::snapshot::Candidate;

pub(super) fn filter<'a>(pod: &'a Pod, candidate: &'a Candidate) -> Vec<Reason<'a>> {
    let (wanted, has, used) = (
        &pod.load.requested,
        &candidate.node.allocatable,
        &candidate.usage.requested,
    );
    let mut reasons = vec![];
    if candidate.usage.pods >= candidate.node.pods {
        reasons.push(Reason::TooManyPods);
    }
    let mut need = |name: &'a str, wanted: i64, has: i64, used: i64| {
        if wanted > 0 && wanted > has.saturating_sub(used) {
            reasons.push(Reason::Insufficient(name));
        }
    };
    need("cpu", wanted.cpu_millis, has.cpu_millis, used.cpu_millis);
    need("memory", wanted.memory, has.memory, used.memory);
    need(
        "ephemeral-storage",
        wanted.ephemeral_storage,
        has.ephemeral_storage,
        used.ephemeral_storage,
    );
    for (name, wanted) in &wanted.extended {
        let amount = |list: &std::collections::BTreeMap<String, i64>| {
            list.get(name).copied().unwrap_or_default()
        };
        need(name, *wanted, amount(&has.extended), amount(&used.extended));
    }
    reasons
}
