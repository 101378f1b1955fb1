//! Who has to go, where, and what is said when it would not help.

use expect_test::{Expect, expect};
use serde_json::json;

use super::super::fixture::{World, pod};
use crate::budgets::Budget;
use crate::decision::{Decision, Rotation, schedule};
use crate::framework::Room;
use crate::profile::Profile;
use crate::snapshot::Snapshot;

/// A budget of the namespace of pods, as `selector=value allowed`.
fn budget(snapshot: &mut Snapshot, words: &str) {
    let (labels, allowed) = words.split_once(' ').unwrap();
    let budget = json!({
        "spec": { "selector": { "matchLabels": super::super::fixture::labels(labels) } },
        "status": { "disruptionsAllowed": allowed.parse::<i64>().unwrap(),
            "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0 },
    });
    let budget = serde_json::from_value(budget).unwrap();
    snapshot.budgets.put("p", words, Budget::from(&budget));
}

#[track_caller]
fn check_with(world: &str, budgets: &[&str], new: &str, expected: Expect) {
    let mut snapshot = World::parse(world).snapshot();
    for words in budgets {
        budget(&mut snapshot, words);
    }
    let new = pod(new);
    let decision = schedule(&Profile::default(), &snapshot, &new, &mut Rotation::new(1));
    let Decision::Unschedulable(why) = decision else {
        panic!("{decision:?}");
    };
    let room = why.remedy.as_ref().map(|remedy| &remedy.room);
    expected.assert_eq(&match room {
        Some(Room::Made(made)) => {
            let names = made.victims.iter().map(|pod| &*pod.name);
            let victims = names.collect::<Vec<_>>().join(" ");
            format!("{}: {victims}", made.node)
        }
        Some(Room::Kept) => format!("kept: {why}"),
        _ => why.to_string(),
    });
}

#[track_caller]
fn check(world: &str, new: &str, expected: Expect) {
    check_with(world, &[], new, expected);
}

#[test]
fn no_more_go_than_must_and_the_least_important() {
    let full = "
        node a cpu:4
        pod a name:low prio:1 cpu:1
        pod a name:mid prio:2 cpu:1 since:10
        pod a name:new prio:2 cpu:1 since:9
        pod a name:old prio:2 cpu:1 since:1
    ";
    check(full, "prio:9 cpu:1", expect!["a: low"]);
    check(full, "prio:9 cpu:2", expect!["a: mid low"]);
    check(full, "prio:9 cpu:3", expect!["a: new mid low"]);
    check(full, "prio:2 cpu:1", expect!["a: low"]);
    check(
        full,
        "prio:2 cpu:2",
        expect![
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Insufficient cpu."
        ],
    );
}

#[test]
fn where_nobody_matters_less_or_nothing_helps_it_is_said() {
    check(
        "node a cpu:1\nnode b !x\npod a name:x prio:5 cpu:1",
        "prio:5 cpu:1",
        expect![[
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        ]],
    );
    check(
        "node a cpu:1\npod a name:x prio:1 cpu:1",
        "prio:5 cpu:1 never",
        expect![
            "kept: 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
        ],
    );
}

#[test]
fn a_pod_whose_victims_are_going_waits_for_them() {
    check(
        "node a cpu:1\npod a name:x prio:1 cpu:1 deleting preempted",
        "prio:5 cpu:1 at:a",
        expect![
            "kept: 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node."
        ],
    );
    check(
        "node a cpu:1\npod a name:x prio:1 cpu:1 deleting",
        "prio:5 cpu:1 at:a",
        expect!["a: x"],
    );
}

#[test]
fn the_node_with_the_least_harm_is_chosen() {
    let nodes = "node a cpu:2\nnode b cpu:2\n";
    // The highest of the victims' priorities is lower on b.
    check(
        &format!(
            "{nodes}pod a name:x prio:3 cpu:2\npod b name:y prio:2 cpu:1\npod b name:z prio:2 cpu:1"
        ),
        "prio:9 cpu:2",
        expect!["b: y z"],
    );
    // The sum is less.
    check(
        &format!(
            "{nodes}pod a name:w prio:3 cpu:1\npod a name:x prio:3 cpu:1\npod b name:y prio:3 cpu:1\npod b name:z prio:2 cpu:1"
        ),
        "prio:9 cpu:2",
        expect!["b: y z"],
    );
    // Fewer go.
    check(
        &format!(
            "{nodes}pod a name:w prio:-2147483648 cpu:1\npod a name:x prio:3 cpu:1\npod b name:y prio:3 cpu:2"
        ),
        "prio:9 cpu:2",
        expect!["b: y"],
    );
    // The later began on b.
    check(
        &format!("{nodes}pod a name:x prio:3 cpu:2 since:1\npod b name:y prio:3 cpu:2 since:2"),
        "prio:9 cpu:2",
        expect!["b: y"],
    );
}

#[test]
fn budgets_are_kept_to_if_it_can_be() {
    let nodes = "
        node a cpu:2
        node b cpu:2
        pod a name:x prio:1 cpu:2 app=db
        pod b name:y prio:2 cpu:2 app=web
    ";
    check_with(nodes, &["app=db 0"], "prio:9 cpu:2", expect!["b: y"]);
    check_with(nodes, &["app=db 1"], "prio:9 cpu:2", expect!["a: x"]);
    check_with(
        nodes,
        &["app=db 0", "app=web 0"],
        "prio:9 cpu:2",
        expect!["a: x"],
    );
    // Who is dear is given back first, though it matters less.
    check_with(
        "node a cpu:2\npod a name:x prio:1 cpu:1 app=db\npod a name:y prio:2 cpu:1 app=web",
        &["app=db 0"],
        "prio:9 cpu:1",
        expect!["a: y"],
    );
    // Of two, one may go.
    check_with(
        "node a cpu:2\npod a name:x prio:1 cpu:1 app=db\npod a name:y prio:1 cpu:1 app=db",
        &["app=db 1"],
        "prio:9 cpu:1",
        expect!["a: x"],
    );
}

#[test]
fn pods_that_do_not_want_it_near_go_and_those_that_it_needs_stay() {
    let zones = "node a zone=a cpu:4\n";
    check(
        &format!("{zones}pod a name:hostile prio:1 far/zone/app=web\npod a name:other prio:1"),
        "prio:9 app=web",
        expect!["a: hostile"],
    );
    check(
        &format!("{zones}pod a name:db prio:9 cpu:2 app=db\npod a name:other prio:1 cpu:2"),
        "prio:9 cpu:2 near/zone/app=db",
        expect!["a: other"],
    );
    // As in Kubernetes, a pod does not come by removing pods among which is the one that it needs.
    check(
        &format!("{zones}pod a name:db prio:1 cpu:2 app=db\npod a name:other prio:1 cpu:2"),
        "prio:9 cpu:2 near/zone/app=db",
        expect![
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 node(s) didn't match pod affinity rules."
        ],
    );
    check(
        "node a zone=a\nnode b zone=b !x\npod a name:one prio:1 app=web\npod a name:two prio:2 app=web",
        "prio:9 app=web spread/zone/2/app=web",
        expect!["a: one"],
    );
}
