//! Which pods may be evicted, as the eviction API decides it. Pure.
//!
//! A drain tries again until each eviction is allowed: a budget is as it was once a pod's replacement has a node.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};

/// What is left of one budget.
pub(super) struct Budget {
    pub(super) namespace: String,
    pub(super) name: String,
    /// `None` selects nothing.
    selector: Option<Selector>,
    /// Disruptions that are allowed at the start, and now.
    pub(super) allowed: i32,
    left: i32,
    healthy: i32,
    desired: i32,
    always: bool,
    /// Pods that are to go, and those that may not.
    pub(super) leaving: usize,
    pub(super) blocked: usize,
}

/// Why a pod stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Blocked(pub(super) String);

impl Budget {
    pub(super) fn of(budget: &PodDisruptionBudget) -> Budget {
        let spec = budget.spec.as_ref();
        let selector = spec.and_then(|spec| spec.selector.clone());
        let status = budget.status.clone().unwrap_or_default();
        Budget {
            namespace: budget.namespace().unwrap_or_default(),
            name: budget.name_any(),
            selector: selector.and_then(|selector| selector.try_into().ok()),
            allowed: status.disruptions_allowed.unwrap_or_default(),
            left: status.disruptions_allowed.unwrap_or_default(),
            healthy: status.current_healthy.unwrap_or_default(),
            desired: status.desired_healthy.unwrap_or_default(),
            always: spec.and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref())
                == Some("AlwaysAllow"),
            leaving: 0,
            blocked: 0,
        }
    }

    pub(super) fn selects(&self, pod: &Pod) -> bool {
        let selector = self.selector.as_ref();
        pod.namespace().as_deref() == Some(&self.namespace)
            && selector.is_some_and(|selector| selector.matches(pod.labels()))
    }
}

/// Takes what the eviction of a pod takes of its budget; answers which that was.
///
/// # Errors
/// Why it is not allowed.
pub(super) fn evict(budgets: &mut [Budget], pod: &Pod) -> Result<Option<usize>, Blocked> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if phase == Some("Pending") {
        return Ok(None);
    }
    let selecting = |budgets: &[Budget]| -> Vec<usize> {
        let places = budgets.iter().enumerate();
        let places = places.filter(|(_, budget)| budget.selects(pod));
        places.map(|(place, _)| place).collect()
    };
    let places = selecting(budgets);
    for place in &places {
        budgets[*place].leaving += 1;
    }
    let place = match places.as_slice() {
        [] => return Ok(None),
        [place] => *place,
        several => {
            for place in several {
                budgets[*place].blocked += 1;
            }
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Blocked(message.to_owned()));
        }
    };
    let budget = &mut budgets[place];
    if !is_ready(pod) && (budget.always || (budget.healthy >= budget.desired && budget.desired > 0))
    {
        return Ok(None);
    }
    if budget.left > 0 {
        budget.left -= 1;
        return Ok(Some(place));
    }
    budget.blocked += 1;
    Err(Blocked(format!(
        "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget {} needs {} healthy pods and has {} currently",
        budget.name,
        budget.desired,
        budget.healthy.saturating_sub(budget.allowed - budget.left)
    )))
}

/// The pod that was evicted is replaced, and its replacement gets Ready in time.
pub(super) fn replaced(budgets: &mut [Budget], place: Option<usize>) {
    if let Some(place) = place {
        budgets[place].left += 1;
    }
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn budget(name: &str, allowed: i32, selector: Value) -> Budget {
        let budget = json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {"selector": selector},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 2 - allowed,
                "expectedPods": 2},
        });
        Budget::of(&serde_json::from_value(budget).expect("a budget"))
    }

    fn pod(app: &str, ready: &str) -> Pod {
        let pod = json!({"metadata": {"namespace": "default", "labels": {"app": app}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_budget_gives_what_it_allows_and_gets_it_back_with_a_replacement() {
        let mut budgets = [budget("web", 1, json!({"matchLabels": {"app": "web"}}))];
        let (web, db) = (pod("web", "True"), pod("db", "True"));
        assert_eq!(evict(&mut budgets, &db), Ok(None));
        let taken = evict(&mut budgets, &web).expect("it is allowed");
        assert!(evict(&mut budgets, &web).is_err());
        replaced(&mut budgets, taken);
        assert!(evict(&mut budgets, &web).is_ok());
        assert_eq!((budgets[0].leaving, budgets[0].blocked), (3, 1));
    }

    #[test]
    fn an_unhealthy_pod_goes_if_there_are_enough_others() {
        let mut budgets = [budget("web", 0, json!({}))];
        assert_eq!(evict(&mut budgets, &pod("web", "False")), Ok(None));
        let refused = evict(&mut budgets, &pod("web", "True")).expect_err("none is allowed");
        assert_eq!(
            refused.0,
            "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget web needs 2 healthy pods and has 2 currently"
        );
    }

    #[test]
    fn a_pod_of_two_budgets_cannot_be_evicted() {
        let mut budgets = [budget("a", 1, json!({})), budget("b", 1, json!({}))];
        assert!(evict(&mut budgets, &pod("web", "True")).is_err());
        assert!(evict(&mut [budget("none", 0, Value::Null)], &pod("web", "True")).is_ok());
    }
}
