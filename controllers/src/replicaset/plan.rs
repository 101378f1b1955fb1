//! Decides which pods a set makes, removes, takes and lets go. Pure: same inputs, same plan.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::SelectorExt;

use super::order;
use super::set::Set;
use crate::context::controller;
use crate::pod;
use crate::pod_control::BURST;

/// What to do about one set.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) adopt: Vec<Arc<Pod>>,
    pub(super) release: Vec<Arc<Pod>>,
    pub(super) create: usize,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) counts: Counts,
    /// When a pod becomes available by merely staying ready.
    pub(super) look_again: Option<Duration>,
}

/// How many pods there are, as a status tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) replicas: i32,
    pub(super) labelled: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) terminating: i32,
}

/// Decides what to change. `pods` are those that the set owns and those that nobody does; `related` gives those
/// of its siblings too; an unsettled set neither makes nor removes.
pub(super) fn plan(
    set: &Set,
    pods: &[Arc<Pod>],
    related: &dyn Fn() -> Vec<Arc<Pod>>,
    unsettled: bool,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut active = Vec::with_capacity(pods.len());
    for pod in pods {
        let owned = controller(&**pod).is_some();
        let matches = set.selector.matches(pod.labels());
        match (owned, matches) {
            (true, false) if !set.deleting && pod::active(pod) => plan.release.push(pod.clone()),
            (false, true) if !set.deleting && pod::active(pod) => {
                plan.adopt.push(pod.clone());
                active.push(pod.clone());
            }
            (true, true) if pod::active(pod) => active.push(pod.clone()),
            (true, true) if pod::terminating(pod) => plan.counts.terminating += 1,
            _ => {}
        }
    }
    for pod in &active {
        plan.counts.add(set, pod, now);
    }
    plan.look_again = active
        .iter()
        .filter_map(|pod| pod::until_available(pod, set.min_ready_seconds, now))
        .min();
    if set.deleting || unsettled {
        return plan;
    }
    plan.create = set.replicas.saturating_sub(active.len()).min(BURST);
    let surplus = active.len().saturating_sub(set.replicas).min(BURST);
    if surplus > 0 {
        if surplus < active.len() {
            order::sort(&mut active, &related(), now);
        }
        active.truncate(surplus);
        plan.delete = active;
    }
    plan
}

impl Counts {
    fn add(&mut self, set: &Set, pod: &Pod, now: Timestamp) {
        let labels = pod.labels();
        let mut wanted = set.template_labels.iter();
        let labelled = wanted.all(|(name, value)| labels.get(name) == Some(value));
        self.replicas += 1;
        self.labelled += i32::from(labelled);
        self.ready += i32::from(pod::ready(pod));
        self.available += i32::from(pod::available(pod, set.min_ready_seconds, now));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::*;

    /// `a+` is a ready pod, `a-` one that is not, `a?` unassigned, `a!` ended, `a~` terminating;
    /// an upper-case name is one that nobody owns, `a=` an owned one whose labels no longer match.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_at(1);
        let status = if state == "+" { "True" } else { "False" };
        let app = if state == "=" { "other" } else { "x" };
        let node = (state != "?").then_some("n");
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": app}},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": match state { "?" => "Pending", "!" => "Failed", _ => "Running" },
                "conditions": [{"type": "Ready", "status": status,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        if state == "~" {
            pod.metadata.deletion_timestamp =
                serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        }
        if name.to_lowercase() == name {
            pod.metadata.owner_references = serde_json::from_value(
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "s",
                    "controller": true}]),
            )
            .unwrap();
        }
        Arc::new(pod)
    }

    fn set(spec: Value) -> Set {
        let raw: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "s", "uid": "s", "generation": 1}, "spec": spec,
        }))
        .unwrap();
        Set::read(&raw).unwrap().unwrap()
    }

    fn of(replicas: i32, more: Value) -> Set {
        let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}}});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        set(spec)
    }

    fn tell(set: &Set, pods: &str, unsettled: bool) -> String {
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let plan = plan(set, &pods, &|| pods.clone(), unsettled, now);
        let mut said = Vec::new();
        for (verb, pods) in [
            ("adopt", &plan.adopt),
            ("release", &plan.release),
            ("delete", &plan.delete),
        ] {
            let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
            if !names.is_empty() {
                said.push(format!("{verb} {}", names.join(" ")));
            }
        }
        if plan.create > 0 {
            said.push(format!("create {}", plan.create));
        }
        let Counts {
            replicas,
            available,
            terminating,
            ..
        } = plan.counts;
        said.push(format!("{available} available of {replicas}"));
        if terminating > 0 {
            said.push(format!("{terminating} going"));
        }
        if let Some(again) = plan.look_again {
            said.push(format!("again in {again:?}"));
        }
        said.join(", ")
    }

    #[track_caller]
    fn check(replicas: i32, pods: &str, expect: Expect) {
        expect.assert_eq(&tell(&of(replicas, json!({})), pods, false));
    }

    #[test]
    fn missing_pods_are_created() {
        check(3, "a+", expect!["create 2, 1 available of 1"]);
    }

    #[test]
    fn scale_down_removes_pods_that_are_not_ready_first() {
        check(2, "a+ b- c+", expect!["delete b, 2 available of 3"]);
        check(1, "a+ b- c?", expect!["delete c b, 1 available of 3"]);
    }

    #[test]
    fn ended_and_terminating_pods_are_replaced() {
        check(2, "a! b~", expect!["create 2, 0 available of 0, 1 going"]);
    }

    #[test]
    fn pods_are_adopted_and_released_by_their_labels() {
        check(
            2,
            "A+ b=",
            expect!["adopt A, release b, create 1, 1 available of 1"],
        );
    }

    #[test]
    fn a_burst_is_bounded() {
        check(2000, "", expect!["create 500, 0 available of 0"]);
        check(i32::MAX, "", expect!["create 500, 0 available of 0"]);
    }

    #[test]
    fn fewer_than_none_are_none() {
        check(-3, "a+", expect!["delete a, 1 available of 1"]);
    }

    #[test]
    fn an_unsettled_set_only_counts() {
        expect!["1 available of 1"].assert_eq(&tell(&of(5, json!({})), "a+", true));
    }

    #[test]
    fn a_pod_is_available_once_it_has_been_ready_for_long_enough() {
        let set = of(2, json!({"minReadySeconds": 90}));
        expect!["0 available of 2, again in 30s"].assert_eq(&tell(&set, "a+ b-", false));
    }

    #[test]
    fn the_selector_of_a_replication_controller_is_a_map_of_labels() {
        let set = set(json!({"replicas": 1, "selector": {"app": "x"},
            "template": {"metadata": {"labels": {"app": "x", "b": "c"}}}}));
        expect!["adopt A, 1 available of 1"].assert_eq(&tell(&set, "A+", false));
    }
}
