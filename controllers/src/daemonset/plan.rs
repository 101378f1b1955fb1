//! Which pods a DaemonSet makes and deletes.
//!
//! Pure. First every node gets the pods that it should have; only when there is nothing to do for that
//! are pods of older templates replaced.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::view::{View, deleting};
use super::wish::Pace;
use crate::events::Severity;
use crate::key::Key;
use crate::pod;

/// Most pods made, and most deleted, in one go; the rest follows when these have been seen.
pub(super) const BURST: usize = 250;

/// What to do about one DaemonSet.
#[derive(Default)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Nodes whose failed pods are among those deleted.
    pub(super) failed: Vec<String>,
    /// Events about it.
    pub(super) say: Vec<(Severity, &'static str, String)>,
    /// When a failed pod has waited for long enough.
    pub(super) look_again: Option<Duration>,
}

/// `wait` says how long the failed pods of a node must still be left alone.
pub(super) fn plan(view: &View<'_>, wait: impl Fn(&str) -> Option<Duration>) -> Plan {
    let mut plan = Plan::default();
    for (node, verdict) in &view.nodes {
        let pods = view.on(node);
        if pods.is_empty() {
            if verdict.runs {
                plan.create.push(node.clone());
            }
        } else if verdict.stays {
            plan.tend(view, node, pods, &wait);
        } else {
            let doomed = pods.iter().filter(|pod| !deleting(pod));
            plan.delete.extend(doomed.cloned());
        }
    }
    // Pods that wait for nodes that are gone would do so for ever.
    let gone = view
        .pods
        .iter()
        .filter(|(node, _)| !view.nodes.contains_key(*node));
    let waiting = |pod: &&Arc<Pod>| pod::node(pod).is_none() && !deleting(pod);
    let waiting = gone.flat_map(|(_, pods)| pods.iter().filter(waiting));
    plan.delete.extend(waiting.cloned());
    if plan.create.is_empty()
        && plan.delete.is_empty()
        && let Some(pace) = view.wish.rollout.pace(view.desired())
    {
        if pace.surge == 0 {
            plan.replace(view, pace);
        } else {
            plan.surge(view, pace);
        }
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// The pods of a node that nobody is deleting: at most one of today's template and one older.
enum Pair<'a> {
    Of(Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>),
    More,
}

fn pair<'a>(view: &View<'_>, pods: &'a [Arc<Pod>]) -> Pair<'a> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !deleting(pod)) {
        let place = if view.updated(pod) {
            &mut new
        } else {
            &mut old
        };
        if place.replace(pod).is_some() {
            return Pair::More;
        }
    }
    Pair::Of(new, old)
}

impl Plan {
    /// Looks after the pods of a node where they belong: replaces what has ended, and leaves one of the
    /// others, or an old and a new one while they change places.
    fn tend(
        &mut self,
        view: &View<'_>,
        node: &str,
        pods: &[Arc<Pod>],
        wait: &impl Fn(&str) -> Option<Duration>,
    ) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !deleting(pod)) {
            match pod::phase(pod) {
                "Failed" => match wait(node) {
                    Some(left) => {
                        self.look_again = self.look_again.into_iter().chain([left]).min();
                    }
                    None => {
                        let name = Key::of(&**pod);
                        let message = format!(
                            "Found failed daemon pod {name} on node {node}, will try to kill it"
                        );
                        self.say
                            .push((Severity::Warning, "FailedDaemonPod", message));
                        self.failed.push(node.to_owned());
                        self.delete.push(pod.clone());
                    }
                },
                "Succeeded" => {
                    let name = Key::of(&**pod);
                    let message = format!(
                        "Found succeeded daemon pod {name} on node {node}, will try to delete it"
                    );
                    self.say
                        .push((Severity::Normal, "SucceededDaemonPod", message));
                    self.delete.push(pod.clone());
                }
                _ => running.push(pod),
            }
        }
        if !view.wish.rollout.surges() {
            self.delete.extend(running.into_iter().skip(1).cloned());
            return;
        }
        if running.is_empty() && view.verdict(node).runs {
            self.create.push(node.to_owned());
        }
        if running.len() > 1 {
            self.thin(view, &running);
        }
    }

    /// Of several pods leaves the oldest of today's template and, while that is not available and the
    /// other one ready, the oldest of another.
    fn thin(&mut self, view: &View<'_>, running: &[&Arc<Pod>]) {
        let (mut new, mut old) = (None, None);
        for pod in running {
            let place = if view.updated(pod) {
                &mut new
            } else {
                &mut old
            };
            match place {
                None => *place = Some(*pod),
                Some(_) => self.delete.push((*pod).clone()),
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!pod::ready(old) || view.available(new))
        {
            self.delete.push(old.clone());
        }
    }

    /// Deletes pods of older templates, no more than may be unavailable; new ones follow.
    fn replace(&mut self, view: &View<'_>, pace: Pace) {
        let (mut unavailable, mut candidates) = (0, Vec::new());
        let wanting = view.nodes.iter().filter(|(_, verdict)| verdict.runs);
        let empty = wanting.filter(|(node, _)| view.on(node).is_empty());
        unavailable += empty.count();
        for pods in view.pods.values() {
            match pair(view, pods) {
                Pair::Of(Some(new), None) if view.available(new) => {}
                Pair::Of(None, Some(old)) if view.available(old) => candidates.push(old.clone()),
                Pair::Of(None, Some(old)) => {
                    self.delete.push(old.clone());
                    unavailable += 1;
                }
                _ => unavailable += 1,
            }
        }
        candidates.truncate(pace.unavailable.saturating_sub(unavailable));
        self.delete.extend(candidates);
    }

    /// Makes a new pod beside an old one on some nodes, and deletes the old one once that is available.
    fn surge(&mut self, view: &View<'_>, pace: Pace) {
        let (mut surging, mut available) = (0, 0);
        let (mut candidates, mut strays) = (Vec::new(), Vec::new());
        for (node, pods) in &view.pods {
            let Pair::Of(new, old) = pair(view, pods) else {
                surging += 1;
                continue;
            };
            available += usize::from(old.or(new).is_some_and(|pod| view.available(pod)));
            match (new, old) {
                (_, None) => {}
                (Some(new), Some(_)) if !view.available(new) => surging += 1,
                (Some(_), Some(old)) => self.delete.push(old.clone()),
                (None, Some(old)) => match (view.verdict(node).runs, view.available(old)) {
                    (true, true) => candidates.push(node.clone()),
                    (true, false) => self.create.push(node.clone()),
                    (false, true) => strays.push(old.clone()),
                    (false, false) => self.delete.push(old.clone()),
                },
            }
        }
        // Where a pod may stay and none should come, it goes once the others suffice.
        strays.truncate(available.saturating_sub(view.desired()));
        self.delete.extend(strays);
        candidates.truncate(pace.surge.saturating_sub(surging));
        self.create.extend(candidates);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use expect_test::{Expect, expect};
    use k8s_openapi::api::core::v1::Node;
    use kube::ResourceExt;
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::*;
    use crate::daemonset::wish::Wish;

    /// Nodes `a`, one `a!` with a NoSchedule taint, one `a!!` with a NoExecute taint. Pods by node, template
    /// and number: `a.new+` is ready, `a.old-` not, `a.new?` is not scheduled, `a.old~` is being deleted,
    /// `a.new*` has failed, `a.new.` succeeded; `a.new+2` is younger than `a.new+1`.
    #[track_caller]
    fn check(strategy: Value, nodes: &str, pods: &str, expect: Expect) {
        let raw: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d"},
            "spec": {
                "selector": {"matchLabels": {"app": "d"}}, "updateStrategy": strategy,
                "template": {"spec": {"containers": []}},
            },
        }))
        .unwrap();
        let wish = Wish::of(&raw, &raw.clone().try_parse().unwrap()).unwrap();
        let nodes: Vec<Arc<Node>> = nodes.split_whitespace().map(node).collect();
        let pods: Vec<Arc<Pod>> = pods.split_whitespace().map(pod).collect();
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let view = View::new(&wish, &nodes, &pods, HashSet::from(["new".into()]), now);
        let plan = plan(&view, |node| {
            (node == "w").then_some(Duration::from_secs(7))
        });
        let names: Vec<String> = plan.delete.iter().map(|pod| pod.name_any()).collect();
        let mut said = Vec::new();
        if !plan.create.is_empty() {
            said.push(format!("create on {}", plan.create.join(" ")));
        }
        if !names.is_empty() {
            said.push(format!("delete {}", names.join(" ")));
        }
        said.extend(plan.look_again.map(|again| format!("again in {again:?}")));
        said.extend(plan.say.into_iter().map(|(_, _, message)| message));
        expect.assert_eq(&said.join(", "));
    }

    fn node(text: &str) -> Arc<Node> {
        let name = text.trim_end_matches('!');
        let taints = match text.len() - name.len() {
            0 => json!([]),
            1 => json!([{"key": "mine", "effect": "NoSchedule"}]),
            _ => json!([{"key": "mine", "effect": "NoExecute"}]),
        };
        let node = json!({"metadata": {"name": name}, "spec": {"taints": taints}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn pod(text: &str) -> Arc<Pod> {
        let (node, rest) = text.split_once('.').unwrap();
        let (template, state) = rest.split_at(3);
        let (state, number) = state.split_at(1);
        let second: u32 = number.parse().unwrap_or(0);
        let status = if state == "+" { "True" } else { "False" };
        let mut pod = json!({
            "metadata": {
                "name": text, "namespace": "ns", "labels": {"controller-revision-hash": template},
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
            "spec": {"containers": [], "nodeName": node},
            "status": {
                "phase": match state { "*" => "Failed", "." => "Succeeded", _ => "Running" },
                "conditions": [{"type": "Ready", "status": status,
                    "lastTransitionTime": "2026-01-01T00:59:58Z"}],
            },
        });
        if state == "~" {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        if state == "?" {
            pod["spec"] = json!({"containers": [], "affinity": super::super::placement::pinned(&Value::Null, node)});
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn rolling(unavailable: Value, surge: Value) -> Value {
        json!({"type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
    }

    #[test]
    fn every_node_that_fits_gets_one_pod() {
        check(json!({}), "a b c! d!!", "b.new+", expect!["create on a"]);
        check(json!({}), "a", "a.new+2 a.new+1", expect!["delete a.new+2"]);
        check(json!({}), "a", "a.new+2 a.new?1", expect!["delete a.new?1"]);
        check(json!({}), "a", "a.new~", expect![""]);
        check(json!({}), "a", "a.new?", expect![""]);
    }

    #[test]
    fn pods_leave_nodes_that_they_may_not_stay_on() {
        check(
            json!({}),
            "a! b!!",
            "a.new+ b.new+ b.new~",
            expect!["delete b.new+"],
        );
        check(json!({}), "", "a.new? b.new+", expect!["delete a.new?"]);
    }

    #[test]
    fn pods_that_ended_are_deleted_and_failed_ones_after_a_while() {
        check(
            json!({}),
            "a w",
            "a.new* w.new*",
            expect![
                "delete a.new*, again in 7s, Found failed daemon pod ns/a.new* on node a, will try to kill it"
            ],
        );
        check(
            json!({}),
            "a",
            "a.new.",
            expect![
                "delete a.new., Found succeeded daemon pod ns/a.new. on node a, will try to delete it"
            ],
        );
    }

    #[test]
    fn a_rolling_update_takes_so_many_at_a_time() {
        let old = "a.old+ b.old+ c.old+ d.old+";
        let nodes = "a b c d";
        check(json!({}), nodes, old, expect!["delete a.old+"]);
        check(
            rolling(json!("50%"), json!(0)),
            nodes,
            old,
            expect!["delete a.old+ b.old+"],
        );
        check(json!({}), nodes, "a.new- b.old+ c.old+ d.old+", expect![""]);
        check(json!({}), nodes, "a.old~ b.old+ c.old+ d.old+", expect![""]);
        check(
            json!({}),
            nodes,
            "a.new+ b.old+ c.old+ d.old-",
            expect!["delete d.old-"],
        );
        check(json!({"type": "OnDelete"}), nodes, old, expect![""]);
    }

    #[test]
    fn a_surge_makes_new_pods_before_old_ones_go() {
        let surge = || rolling(json!(0), json!(1));
        check(surge(), "a b", "a.old+ b.old+", expect!["create on a"]);
        check(surge(), "a b", "a.old+ a.new- b.old+", expect![""]);
        check(
            surge(),
            "a b",
            "a.old+ a.new+ b.old+",
            expect!["delete a.old+"],
        );
        check(surge(), "a b", "a.new+ b.old-", expect!["create on b"]);
        check(
            surge(),
            "a b",
            "a.old- a.new- b.new+",
            expect!["delete a.old-"],
        );
        check(surge(), "a", "a.new~", expect!["create on a"]);
        check(surge(), "a! b", "a.old+ b.new-", expect![""]);
        check(surge(), "a! b", "a.old+ b.new+", expect!["delete a.old+"]);
        check(surge(), "a! b", "a.old- b.new-", expect!["delete a.old-"]);
    }

    #[test]
    fn a_burst_is_bounded() {
        let nodes: Vec<String> = (0..400).map(|number| format!("n{number:03}")).collect();
        let raw: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": []}}},
        }))
        .unwrap();
        let wish = Wish::of(&raw, &Default::default()).unwrap();
        let nodes: Vec<Arc<Node>> = nodes.iter().map(|name| node(name)).collect();
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let view = View::new(&wish, &nodes, &[], HashSet::new(), now);
        assert_eq!(plan(&view, |_| None).create.len(), BURST);
    }
}
