//! PodDisruptionBudgets: how many pods may go, of those that are selected.
//!
//! Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::placed::Placed;
use crate::selector::Selector;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    selector: Selector,
    /// `status.disruptionsAllowed`
    allowed: i32,
    /// Names of pods that are going already, and were counted.
    disrupted: BTreeSet<String>,
}

impl From<&PodDisruptionBudget> for Budget {
    fn from(budget: &PodDisruptionBudget) -> Self {
        let spec = budget.spec.as_ref();
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.clone());
        Self {
            selector: Selector::parse(spec.and_then(|spec| spec.selector.as_ref())),
            allowed: status
                .and_then(|status| status.disruptions_allowed)
                .unwrap_or_default(),
            disrupted: disrupted.unwrap_or_default().into_keys().collect(),
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets {
    by_namespace: HashMap<Arc<str>, HashMap<String, Budget>>,
}

impl Budgets {
    pub(crate) fn put(&mut self, namespace: &str, name: &str, budget: Budget) {
        let budgets = self.by_namespace.entry(namespace.into()).or_default();
        budgets.insert(name.to_owned(), budget);
    }

    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(budgets) = self.by_namespace.get_mut(namespace) {
            budgets.remove(name);
            if budgets.is_empty() {
                self.by_namespace.remove(namespace);
            }
        }
    }

    /// Keeps only those of which this is true.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.by_namespace.retain(|namespace, budgets| {
            budgets.retain(|name, _| keep(namespace, name));
            !budgets.is_empty()
        });
    }

    /// Of pods that would go, one after the other, those that a budget would rather keep. A budget that selects
    /// nothing, or everything, has no say.
    pub(crate) fn violated<'p>(&self, pods: &[&'p Arc<Placed>]) -> Vec<&'p Arc<Placed>> {
        let mut used: HashMap<*const Budget, i32> = HashMap::new();
        let mut violated = Vec::new();
        for pod in pods {
            let budgets = self.by_namespace.get(&pod.namespace);
            let budgets = budgets.into_iter().flat_map(HashMap::values);
            let mut over = false;
            for budget in budgets.filter(|_| !pod.labels.is_empty()) {
                if budget.selector.is_everything()
                    || !budget.selector.selects(&pod.labels)
                    || budget.disrupted.contains(&*pod.name)
                {
                    continue;
                }
                let used = used.entry(std::ptr::from_ref(budget)).or_default();
                *used += 1;
                over |= *used > budget.allowed;
            }
            if over {
                violated.push(*pod);
            }
        }
        violated
    }
}
