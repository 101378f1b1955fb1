//! Tables of plans.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use expect_test::{Expect, expect};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Plan, Seen, plan};
use super::set::Set;

const NOW: &str = "2026-01-01T00:01:00Z";

/// `0+` is an available pod, `0-` one that is not ready, `0?` pending, `0!` ended, `0~` terminating, `0*`
/// ready for too short a time; `0+'` one of the old revision.
fn pod(text: &str) -> Arc<Pod> {
    let place = text.find(|c: char| !c.is_ascii_digit()).unwrap();
    let (ordinal, state) = text.split_at(place);
    let name = format!("web-{ordinal}");
    let revision = if state.ends_with('\'') { "old" } else { "new" };
    let state = &state[..1];
    let ready = ["+", "*", "~"].contains(&state);
    let since = if state == "*" {
        "2026-01-01T00:00:55Z"
    } else {
        "2026-01-01T00:00:00Z"
    };
    let phase = match state {
        "?" => "Pending",
        "!" => "Failed",
        _ => "Running",
    };
    let mut metadata = json!({"name": name, "uid": format!("uid-{ordinal}"), "labels": {
        "controller-revision-hash": revision, "statefulset.kubernetes.io/pod-name": name}});
    if state == "~" {
        metadata["deletionTimestamp"] = json!(NOW);
    }
    let pod = json!({
        "metadata": metadata, "spec": {"containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready",
            "status": if ready { "True" } else { "False" }, "lastTransitionTime": since}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn set(spec: Value) -> Set {
    let mut set = json!({
        "metadata": {"name": "web", "uid": "set"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {}},
    });
    for (field, value) in spec.as_object().unwrap() {
        set["spec"][field] = value.clone();
    }
    let set: StatefulSet = serde_json::from_value(set).unwrap();
    Set::read(&set)
}

/// `data-web-0` is a claim, `data-web-0~` one that is going, `data-web-0:web-0` one that goes with an
/// earlier pod of that name.
fn claim(text: &str) -> (String, Arc<PersistentVolumeClaim>) {
    let (name, owner) = text.split_once(':').unwrap_or((text, ""));
    let going = name.ends_with('~');
    let name = name.trim_end_matches('~');
    let mut claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name},
    }))
    .unwrap();
    if going {
        claim.metadata.deletion_timestamp = serde_json::from_value(json!(NOW)).unwrap();
    }
    if !owner.is_empty() {
        claim.metadata.owner_references = serde_json::from_value(json!([
            {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": "gone"}]))
        .unwrap();
    }
    (name.to_owned(), Arc::new(claim))
}

fn planned(set: &Set, pods: &str, claims: &str) -> Plan {
    let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
    let claims: HashMap<_, _> = claims.split_whitespace().map(claim).collect();
    plan(&Seen {
        set,
        current: "old",
        update: "new",
        pods: &pods,
        claim: &|name| claims.get(name).cloned(),
        now: NOW.parse().unwrap(),
    })
}

#[track_caller]
fn check_with(spec: Value, pods: &str, claims: &str, expect: Expect) {
    let plan = planned(&set(spec), pods, claims);
    let mut said = String::new();
    for (claim, owners) in &plan.own {
        let uids: Vec<_> = owners.iter().map(|owner| owner.uid.as_str()).collect();
        write!(said, "{claim} goes with [{}], ", uids.join(" ")).unwrap();
    }
    for (ordinal, template) in &plan.claims {
        write!(said, "claim {template} of {ordinal}, ").unwrap();
    }
    for creation in &plan.create {
        let age = if creation.updated { "new" } else { "old" };
        let claims = if creation.claims.is_empty() {
            ""
        } else {
            " with claims"
        };
        write!(said, "create {age} {}{claims}, ", creation.ordinal).unwrap();
    }
    for (pod, claim) in &plan.refused {
        write!(said, "{pod} waits for {claim} to go, ").unwrap();
    }
    for name in &plan.delete {
        write!(said, "delete {name}, ").unwrap();
    }
    if plan.waits {
        said.push_str("wait, ");
    }
    if let Some(after) = plan.look_again {
        write!(said, "look again after {}s, ", after.as_secs()).unwrap();
    }
    expect.assert_eq(said.trim_end_matches(", "));
}

#[track_caller]
fn check(spec: Value, pods: &str, expect: Expect) {
    check_with(spec, pods, "", expect);
}

#[test]
fn pods_come_one_after_the_other() {
    check(json!({}), "", expect!["create new 0"]);
    check(json!({}), "0?", expect![""]);
    check(json!({}), "0-", expect![""]);
    check(json!({}), "0+", expect!["create new 1"]);
    check(json!({}), "0+ 2+", expect!["create new 1"]);
    check(json!({}), "0+ 1+ 2+", expect![""]);
}

#[test]
fn parallel_pods_come_at_once() {
    let parallel = json!({"podManagementPolicy": "Parallel"});
    check(
        parallel.clone(),
        "1-",
        expect!["create new 0, create new 2"],
    );
    let many = json!({"podManagementPolicy": "Parallel", "replicas": 2_000_000_000});
    assert_eq!(planned(&set(many), "", "").create.len(), 500);
}

#[test]
fn ordinals_may_start_anywhere() {
    let later = json!({"ordinals": {"start": 5}, "replicas": 2});
    check(later.clone(), "5+", expect!["create new 6"]);
    check(later, "0+ 4+ 5+ 6+", expect!["delete web-4"]);
}

#[test]
fn pods_that_ended_are_removed_and_come_again() {
    check(json!({}), "0! 1+ 2+", expect!["delete web-0"]);
    check(json!({}), "0+ 1~ 2+", expect![""]);
    let parallel = json!({"podManagementPolicy": "Parallel"});
    check(parallel, "0! 1! 2+", expect!["delete web-0, delete web-1"]);
}

#[test]
fn the_last_goes_first_and_waits_for_those_before_it() {
    let one = json!({"replicas": 1});
    check(one.clone(), "0+ 1+ 2+", expect!["delete web-2"]);
    check(one.clone(), "0+ 1+ 2~", expect![""]);
    check(one.clone(), "0- 1+ 2+", expect![""]);
    check(one.clone(), "0+ 1+ 2-", expect!["delete web-2"]);
    check(one.clone(), "0+ 1- 2-", expect![""]);
    check(one, "0+ 1- 2+", expect!["delete web-2"]);
    let parallel = json!({"replicas": 0, "podManagementPolicy": "Parallel"});
    check(parallel, "0+ 1~ 2-", expect!["delete web-2, delete web-0"]);
}

#[test]
fn a_roll_begins_at_the_end_and_waits_for_each() {
    check(json!({}), "0+' 1+' 2+'", expect!["delete web-2"]);
    check(json!({}), "0+' 1+' 2~'", expect![""]);
    check(json!({}), "0+' 1+'", expect!["create new 2"]);
    check(json!({}), "0+' 1+' 2-", expect![""]);
    check(json!({}), "0+' 1+' 2+", expect!["delete web-1"]);
    check(json!({}), "0-' 1+' 2+", expect![""]);
    let parallel = json!({"podManagementPolicy": "Parallel"});
    check(parallel.clone(), "0-' 1+' 2+", expect!["delete web-1"]);
    check(parallel.clone(), "0+' 1+' 2-'", expect!["delete web-2"]);
    check(parallel.clone(), "0+' 1+' 2-", expect![""]);
    check(parallel, "0+' 1+'", expect!["create new 2"]);
}

#[test]
fn a_partition_keeps_the_pods_below_it() {
    let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}});
    check(partition.clone(), "0+' 1+' 2+'", expect!["delete web-2"]);
    check(partition.clone(), "0+' 1+' 2+", expect![""]);
    check(partition, "0+' 2+", expect!["create old 1"]);
    let later = json!({"ordinals": {"start": 5},
        "updateStrategy": {"rollingUpdate": {"partition": 2}}});
    check(later.clone(), "5+' 6+' 7+'", expect!["delete web-7"]);
    check(later, "5+'", expect!["create old 6"]);
}

#[test]
fn several_pods_may_be_down_at_once() {
    let two = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}});
    check(
        two.clone(),
        "0+' 1+' 2+'",
        expect!["delete web-2, delete web-1"],
    );
    let percent = json!({"podManagementPolicy": "Parallel", "replicas": 4,
        "updateStrategy": {"rollingUpdate": {"maxUnavailable": "50%"}}});
    check(percent.clone(), "0+' 1+' 2+' 3-", expect!["delete web-2"]);
    check(percent, "0+' 1+' 2~' 3-", expect![""]);
}

#[test]
fn on_delete_pods_are_replaced_when_somebody_deletes_them() {
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    check(on_delete.clone(), "0+' 1+' 2+'", expect![""]);
    check(on_delete, "0+' 1+'", expect!["create new 2"]);
}

#[test]
fn a_pod_must_stay_ready_to_be_available() {
    let slow = json!({"minReadySeconds": 30});
    check(slow.clone(), "0+ 1*", expect!["look again after 25s"]);
    check(slow, "0+ 1+' 2*", expect!["look again after 25s"]);
}

#[test]
fn claims_come_before_their_pod_and_are_not_lost() {
    let claims = |policy: Value| {
        json!({"replicas": 2, "persistentVolumeClaimRetentionPolicy": policy,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}]})
    };
    let keep = claims(json!({}));
    check(keep.clone(), "", expect!["create new 0 with claims"]);
    check_with(keep.clone(), "", "data-web-0", expect!["create new 0"]);
    check_with(keep.clone(), "0?", "", expect!["claim 0 of 0"]);
    check_with(
        keep.clone(),
        "0+",
        "data-web-0",
        expect!["create new 1 with claims"],
    );
    let going = expect!["web-0 waits for data-web-0 to go"];
    check_with(keep, "", "data-web-0~", going);

    let scaled = claims(json!({"whenScaled": "Delete"}));
    let all = "data-web-0 data-web-1 data-web-2";
    check_with(
        scaled.clone(),
        "0+ 1+ 2+",
        all,
        expect!["data-web-2 goes with [uid-2], delete web-2"],
    );
    check_with(scaled, "", "data-web-0:web-0", expect!["wait"]);
    let deleted = claims(json!({"whenDeleted": "Delete"}));
    check_with(
        deleted,
        "0+ 1+",
        "data-web-0 data-web-1",
        expect!["data-web-0 goes with [set], data-web-1 goes with [set]"],
    );
}

#[test]
fn a_set_that_is_deleted_does_nothing() {
    let mut set = set(json!({}));
    set.deleting = true;
    let plan = planned(&set, "0+ 7+", "");
    assert!(plan.create.is_empty() && plan.delete.is_empty());
    assert_eq!(plan.status.replicas, 2);
}

#[test]
fn the_status_counts_and_ends_a_roll() {
    let counted = |spec: Value, pods: &str| {
        let status = planned(&set(spec), pods, "").status;
        format!(
            "{} pods, {} ready, {} available, {} {}, {} new",
            status.replicas,
            status.ready_replicas.unwrap(),
            status.available_replicas.unwrap(),
            status.current_replicas.unwrap(),
            status.current_revision.unwrap(),
            status.updated_replicas.unwrap(),
        )
    };
    let slow = json!({"minReadySeconds": 30});
    expect!["3 pods, 2 ready, 1 available, 2 old, 1 new"].assert_eq(&counted(slow, "0+' 1-' 2*"));
    expect!["3 pods, 3 ready, 3 available, 3 new, 3 new"]
        .assert_eq(&counted(json!({}), "0+ 1+ 2+"));
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    expect!["3 pods, 3 ready, 3 available, 0 old, 3 new"]
        .assert_eq(&counted(on_delete, "0+ 1+ 2+"));
}

fn pods() -> impl Strategy<Value = String> {
    let state = prop::sample::select(vec![
        "", "+", "-", "?", "!", "~", "+'", "-'", "?'", "!'", "~'",
    ]);
    prop::collection::vec(state, 0..8).prop_map(|states| {
        let named = states
            .iter()
            .enumerate()
            .filter(|(_, state)| !state.is_empty());
        let named = named.map(|(ordinal, state)| format!("{ordinal}{state}"));
        named.collect::<Vec<_>>().join(" ")
    })
}

proptest! {
    /// Whatever is there: one pod of an ordinal, nothing below the partition rolled, nothing out of order.
    #[test]
    fn no_plan_breaks_what_a_set_promises(
        text in pods(), replicas in 0..8, partition in 0..8_i64, most in 1..4_usize, parallel: bool,
    ) {
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let set = set(json!({"replicas": replicas, "podManagementPolicy": policy,
            "updateStrategy": {"rollingUpdate": {"partition": partition, "maxUnavailable": most}}}));
        let plan = planned(&set, &text, "");
        let there: Vec<_> = text.split_whitespace().map(pod).collect();
        let find = |ordinal: i64| there.iter().find(|pod| set.ordinal(pod) == Some(ordinal));
        for creation in &plan.create {
            prop_assert!(find(creation.ordinal).is_none());
            prop_assert!(set.ordinals.contains(&creation.ordinal));
            prop_assert_eq!(creation.updated, creation.ordinal >= partition);
            let before = set.ordinals.start..creation.ordinal;
            let all = before.clone().all(|n| find(n).is_some_and(|pod| crate::pod::ready(pod)));
            prop_assert!(parallel || all);
        }
        let mut rolled = 0;
        for name in &plan.delete {
            let ordinal: i64 = name.trim_start_matches("web-").parse().unwrap();
            let pod = find(ordinal).unwrap();
            prop_assert!(pod.metadata.deletion_timestamp.is_none());
            if set.ordinals.contains(&ordinal) && !crate::pod::ended(pod) {
                prop_assert!(ordinal >= partition);
                prop_assert_eq!(&pod.metadata.labels.as_ref().unwrap()["controller-revision-hash"], "old");
                rolled += 1;
            }
        }
        prop_assert!(rolled <= most);
        prop_assert!(parallel || plan.create.len() + plan.delete.len() <= most.max(1));
    }
}
