//! How a pod and its like are to be spread over domains of nodes.
//!
//! Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::pod::Labels;
use crate::selector::Selector;

/// One of `spec.topologySpreadConstraints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    pub(crate) max_skew: i64,
    pub(crate) topology_key: Arc<str>,
    /// True for `DoNotSchedule`.
    pub(crate) required: bool,
    /// The pods that are counted, of the pod's own namespace.
    pub(crate) selector: Selector,
    /// While there are fewer domains than this, the emptiest counts as empty.
    pub(crate) min_domains: usize,
    /// Whether only nodes count that the pod's node affinity admits.
    pub(crate) honors_affinity: bool,
    /// Whether only nodes count whose taints the pod tolerates.
    pub(crate) honors_taints: bool,
}

impl Spread {
    /// A rule for pods that have none: what it counts is found for each.
    pub(crate) fn default_rule(topology_key: &str, max_skew: i64, required: bool) -> Self {
        Self {
            max_skew,
            topology_key: topology_key.into(),
            required,
            selector: Selector::Nothing,
            min_domains: 1,
            honors_affinity: true,
            honors_taints: false,
        }
    }

    /// What a constraint says for a pod with these labels.
    pub(crate) fn parse(rule: &core::TopologySpreadConstraint, labels: &Labels) -> Self {
        let keys = rule.match_label_keys.iter().flatten();
        let own = keys.filter_map(|key| labels.get_key_value(key));
        let own = Selector::of_labels(own);
        Self {
            max_skew: rule.max_skew.into(),
            topology_key: rule.topology_key.as_str().into(),
            required: rule.when_unsatisfiable == "DoNotSchedule",
            selector: Selector::parse(rule.label_selector.as_ref()).and(own),
            min_domains: rule
                .min_domains
                .and_then(|least| usize::try_from(least).ok())
                .unwrap_or(1),
            honors_affinity: rule.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: rule.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}
