use std::sync::atomic::{AtomicUsize, Ordering};

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::framework::{ChangeKind, Plugin};
use crate::node::Node;

/// Only nodes that are added help.
struct OnlyNodes;

impl Plugin for OnlyNodes {
    fn name(&self) -> &'static str {
        "OnlyNodes"
    }

    fn may_help(&self, change: &Change<'_>, _: &Pod) -> bool {
        matches!(change, Change::NodeAdded(_))
    }
}

fn pod(name: &str, priority: i32) -> Pod {
    let pod = json!({"metadata": {"name": name, "uid": name, "namespace": "ns"},
        "spec": {"priority": priority, "containers": []}});
    Pod::from(&serde_json::from_value::<k8s_openapi::api::core::v1::Pod>(pod).unwrap())
}

fn node() -> Node {
    let node = json!({"metadata": {"name": "n"}});
    Node::from(&serde_json::from_value::<k8s_openapi::api::core::v1::Node>(node).unwrap())
}

/// Steps: `a`, `a:5` a pod comes, of priority 5; `-` the next is taken; `!a` it is parked; `~a` its binding failed;
/// `node`, `storage` something changed; `+3` seconds pass; `gate:a`, `open:a` a plugin keeps it out or lets it in; `now:a` it is
/// activated; `x:a` it is gone. Shown are the pods that were taken, and in the end where the others are.
#[track_caller]
fn check(steps: &str, expected: Expect) {
    let mut queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
    let mut now = Instant::now();
    let mut shown = Vec::new();
    for step in steps.split_whitespace() {
        if let Some(seconds) = step.strip_prefix('+') {
            now += Duration::from_secs(seconds.parse().unwrap());
            queue.tick(now);
        } else if step == "-" {
            let taken = queue.pop(now);
            shown.push(taken.map_or("none".to_owned(), |taken| taken.pod.name.to_string()));
        } else if let Some(name) = step.strip_prefix('!') {
            queue.park(name, vec![Arc::new(OnlyNodes)], true, now);
        } else if let Some(name) = step.strip_prefix('~') {
            queue.retry(name, now);
        } else if step == "node" {
            queue.wake(&Change::NodeAdded(&node()), now);
        } else if step == "storage" {
            queue.wake(&Change::Storage, now);
        } else {
            match step.split_once(':') {
                None => queue.offer(pod(step, 0), true, None, now),
                Some(("gate", name)) => queue.offer(pod(name, 0), false, None, now),
                Some(("open", name)) => queue.offer(pod(name, 1), true, None, now),
                Some(("now", name)) => queue.activate_now(name),
                Some(("x", name)) => queue.remove(name),
                Some((name, priority)) => {
                    let priority = priority.parse().unwrap();
                    queue.offer(pod(name, priority), true, None, now);
                }
            }
        }
    }
    for (place, count) in queue.counts() {
        if count > 0 {
            shown.push(format!("{place}={count}"));
        }
    }
    expected.assert_eq(&shown.join(" "));
}

#[test]
fn the_highest_priority_comes_first_and_then_the_oldest() {
    check("a b c:5 - - - -", expect!["c a b none"]);
}

#[test]
fn a_pod_that_failed_goes_behind_those_that_came_meanwhile() {
    check("a - b !a now:a - -", expect!["a b a"]);
}

#[test]
fn only_a_change_that_may_help_brings_a_parked_pod_back() {
    check("a - !a storage -", expect!["a none unschedulable=1"]);
    check("a - !a node -", expect!["a a"]);
    check("a - !a +299 - +1 -", expect!["a none a"]);
}

#[test]
fn attempts_are_spaced_by_one_second_and_then_twice_as_long_up_to_ten() {
    let thrice = "a - !a node - !a node - !a node";
    check(thrice, expect!["a a a backoff=1"]);
    check(&format!("{thrice} - +1 -"), expect!["a a a none a"]);
    check(
        &format!("{thrice} +1 - !a node +1 - +1 -"),
        expect!["a a a a none a"],
    );
    let worn = "- !a node +10 ".repeat(10);
    check(
        &format!("a {worn} - !a node +9 - +1 -"),
        expect!["a a a a a a a a a a a none a"],
    );
}

#[test]
fn a_pod_whose_binding_failed_is_tried_again() {
    check("a - ~a -", expect!["a a"]);
    check("a - ~a - ~a - ~a - +1 -", expect!["a a a none a"]);
}

#[test]
fn a_gated_pod_waits_until_it_is_let_in() {
    check("gate:a - node +400 -", expect!["none none gated=1"]);
    check("gate:a now:a -", expect!["none gated=1"]);
    check("gate:a open:a -", expect!["a"]);
    check("gate:a x:a", expect![""]);
}

/// Hears of nodes that are added only, and counts how often it is asked.
#[derive(Default)]
struct Asked(AtomicUsize);

impl Plugin for Asked {
    fn name(&self) -> &'static str {
        "Asked"
    }

    fn hears(&self, kind: ChangeKind) -> bool {
        kind == ChangeKind::NodeAdded
    }

    fn may_help(&self, _: &Change<'_>, _: &Pod) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

#[test]
fn a_change_is_put_only_to_plugins_that_hear_of_it_and_keep_pods_parked() {
    let mut queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
    let (now, plugin) = (Instant::now(), Arc::new(Asked::default()));
    let asked = || plugin.0.load(Ordering::Relaxed);
    for name in ["a", "b"] {
        queue.offer(pod(name, 0), true, None, now);
        queue.pop(now);
        queue.park(name, vec![Arc::clone(&plugin) as _], true, now);
    }
    queue.wake(&Change::Storage, now);
    assert_eq!(asked(), 0);
    queue.wake(&Change::NodeAdded(&node()), now);
    assert_eq!(asked(), 2);
    queue.activate_now("a");
    queue.remove("b");
    queue.wake(&Change::NodeAdded(&node()), now);
    assert_eq!(asked(), 2);
}

#[test]
fn a_pod_that_had_no_node_at_all_is_brought_back_by_the_first() {
    let mut queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10));
    let now = Instant::now();
    queue.offer(pod("a", 0), true, None, now);
    queue.pop(now);
    queue.park("a", Plugins::new(), false, now);
    queue.wake(&Change::Storage, now);
    assert!(!queue.is_ready());
    queue.wake(&Change::NodeAdded(&node()), now);
    assert!(queue.is_ready());
}
