//! How good a node is for a pod, among those where it can be.

use k8s_openapi::api::core::v1::Pod;

use crate::filter::{term_matches, tolerated};
use crate::snapshot::{NodeState, PodNeeds};

/// Higher is better: what is left free (0 to 1000), preferred affinity, and soft taints.
pub(crate) fn score(state: &NodeState, pod: &Pod, needs: &PodNeeds) -> i128 {
    least_allocated(state, needs) + preferred(state, pod) - soft_taints(state, pod)
}

/// The mean share of cpu, memory and places left free once the pod is there.
fn least_allocated(state: &NodeState, needs: &PodNeeds) -> i128 {
    let shares = ["cpu", "memory"].map(|name| {
        let all = state.allocatable.get(name).copied().unwrap_or(0);
        let asked = needs.amounts.get(name).copied().unwrap_or(0);
        let used = state.used.get(name).copied().unwrap_or(0) + asked;
        if all <= 0 {
            0
        } else {
            ((all - used) * 1000 / all).clamp(0, 1000)
        }
    });
    // Pods that ask for nothing spread by their number.
    let pods = state.allocatable.get("pods").copied().unwrap_or(0);
    let crowd = if pods <= 0 {
        0
    } else {
        (pods - state.used.get("pods").copied().unwrap_or(0)) * 1000 / pods
    };
    (shares.iter().sum::<i128>() + crowd) / 3
}

fn preferred(state: &NodeState, pod: &Pod) -> i128 {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref())
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default();
    let met = terms
        .iter()
        .filter(|term| term_matches(&term.preference, &state.node));
    met.map(|term| i128::from(term.weight) * 20).sum()
}

fn soft_taints(state: &NodeState, pod: &Pod) -> i128 {
    let taints = state
        .node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let against = taints
        .iter()
        .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(taint, tolerations));
    i128::try_from(against.count()).unwrap_or(0) * 3000
}
