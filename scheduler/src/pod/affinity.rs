//! Which pods a pod wants to be near, or far from.
//!
//! Pure. Keys that stand for the pod's own labels (`matchLabelKeys`) are in the selectors already: the apiserver
//! wrote them there when the pod was made.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::pod::Labels;
use crate::selector::Selector;

/// A pod's affinity to pods. There is none of it where all lists would be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAffinity {
    /// Every one must hold.
    pub(crate) required: Vec<Arc<PodTerm>>,
    /// None may hold.
    pub(crate) required_anti: Vec<Arc<PodTerm>>,
    /// With their weights.
    pub(crate) preferred: Vec<(i64, Arc<PodTerm>)>,
    /// With their weights.
    pub(crate) preferred_anti: Vec<(i64, Arc<PodTerm>)>,
}

/// Pods, and the label of nodes whose value makes nodes one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodTerm {
    pub(crate) selector: Selector,
    pub(crate) topology_key: Arc<str>,
    /// In order, each once.
    pub(crate) namespaces: Vec<String>,
    /// Namespaces by their labels, besides.
    pub(crate) namespace_selector: Selector,
}

impl PodAffinity {
    /// What a spec says, for a pod of this namespace; `None` if it says nothing.
    pub(crate) fn parse(namespace: &str, spec: &core::PodSpec) -> Option<Arc<Self>> {
        let affinity = spec.affinity.as_ref()?;
        let near = affinity.pod_affinity.as_ref();
        let far = affinity.pod_anti_affinity.as_ref();
        let must = |terms: Option<&Vec<core::PodAffinityTerm>>| {
            let terms = terms.into_iter().flatten();
            let terms = terms.map(|term| Arc::new(PodTerm::parse(namespace, term)));
            terms.collect::<Vec<_>>()
        };
        let may = |terms: Option<&Vec<core::WeightedPodAffinityTerm>>| {
            let terms = terms.into_iter().flatten().map(|weighted| {
                let term = PodTerm::parse(namespace, &weighted.pod_affinity_term);
                (i64::from(weighted.weight), Arc::new(term))
            });
            terms.collect::<Vec<_>>()
        };
        let parsed = Self {
            required: must(near.and_then(|near| {
                near.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            required_anti: must(far.and_then(|far| {
                far.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred: may(near.and_then(|near| {
                near.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred_anti: may(far.and_then(|far| {
                far.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
        };
        (parsed != Self::default()).then(|| Arc::new(parsed))
    }
}

impl PodTerm {
    fn parse(namespace: &str, term: &core::PodAffinityTerm) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        // Without any word on namespaces, the pod's own is meant.
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        Self {
            selector: Selector::parse(term.label_selector.as_ref()),
            topology_key: term.topology_key.as_str().into(),
            namespaces,
            namespace_selector: Selector::parse(term.namespace_selector.as_ref()),
        }
    }

    /// True if a pod of this namespace, which has these labels, and these labels is meant.
    pub(crate) fn means(&self, namespace: &str, of_namespace: &Labels, of_pod: &Labels) -> bool {
        let named = || {
            let found = self
                .namespaces
                .binary_search_by(|own| own.as_str().cmp(namespace));
            found.is_ok()
        };
        self.selector.selects(of_pod) && (named() || self.namespace_selector.selects(of_namespace))
    }
}
