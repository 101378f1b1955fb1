use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::*;
use crate::decision::{Decision, Rotation, schedule};
use crate::profile::Profile;
use crate::storage::Class;

fn read<T: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Each line is an object and then words. `node a zone:z`; `class k made|by-hand [now] [in:zone]`; `claim c`
/// with a class `of:k`, a volume `=v`, `1Gi`, `on:node`, `RWOP`, `lost`, `deleting`, `of-pod:uid`; `volume v`
/// with `of:k`, `at:node`, `2Gi`, `zone:z`, `for:c`; `user p c`, a pod on node `a` that uses the claim.
fn snapshot(lines: &str) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, rest) = (words[1], &words[2..]);
        match words[0] {
            "node" => {
                snapshot.put_node(Node::from(&read::<core::Node>(node(name, rest))));
            }
            "class" => {
                let class = Class::from(&read::<StorageClass>(class(rest)));
                snapshot.storage.put_class(name.to_owned(), class);
            }
            "claim" => {
                let claim = read::<core::PersistentVolumeClaim>(claim(name, rest));
                snapshot.storage.put_claim(Claim::from(&claim));
            }
            "volume" => {
                let volume = read::<core::PersistentVolume>(volume(name, rest));
                snapshot.storage.put_volume(Volume::from(&volume));
            }
            _ => snapshot.place(&pod(name, rest[0]), &"a".into()),
        }
    }
    snapshot
}

fn node(name: &str, words: &[&str]) -> Value {
    let mut labels = json!({"kubernetes.io/hostname": name});
    for word in words {
        labels["topology.kubernetes.io/zone"] = word["zone:".len()..].into();
    }
    json!({"metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "10"}}})
}

fn class(words: &[&str]) -> Value {
    let mut class = json!({"metadata": {}, "provisioner": "example.com/disk",
        "volumeBindingMode": "WaitForFirstConsumer"});
    for word in words {
        match *word {
            "by-hand" => class["provisioner"] = "kubernetes.io/no-provisioner".into(),
            "now" => class["volumeBindingMode"] = "Immediate".into(),
            "made" => {}
            zone => {
                let rule = json!({"key": "topology.kubernetes.io/zone",
                    "values": [&zone["in:".len()..]]});
                class["allowedTopologies"] = json!([{"matchLabelExpressions": [rule]}]);
            }
        }
    }
    class
}

fn claim(name: &str, words: &[&str]) -> Value {
    let mut claim = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("{name}-uid")},
        "spec": {"storageClassName": "k", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    for word in words {
        match word.split_once(':') {
            Some(("of", class)) => claim["spec"]["storageClassName"] = class.into(),
            Some(("on", node)) => {
                claim["metadata"]["annotations"][crate::storage::SELECTED_NODE] = node.into();
            }
            Some((_, uid)) => {
                claim["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1",
                    "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
            }
            None if word.starts_with('=') => {
                claim["spec"]["volumeName"] = word[1..].into();
                claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = "yes".into();
            }
            None => match *word {
                "RWOP" => claim["spec"]["accessModes"] = json!(["ReadWriteOncePod"]),
                "lost" => claim["status"]["phase"] = "Lost".into(),
                "deleting" => {
                    claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }
                size => claim["spec"]["resources"]["requests"]["storage"] = size.into(),
            },
        }
    }
    claim
}

fn volume(name: &str, words: &[&str]) -> Value {
    let mut volume = json!({
        "metadata": {"name": name, "labels": {}}, "status": {"phase": "Available"},
        "spec": {"storageClassName": "k", "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}},
    });
    for word in words {
        match word.split_once(':') {
            Some(("of", class)) => volume["spec"]["storageClassName"] = class.into(),
            Some(("at", node)) => {
                volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname",
                        "operator": "In", "values": [node]}]}]);
            }
            Some(("for", claim)) => {
                volume["spec"]["claimRef"] = json!({"namespace": "ns", "name": claim});
            }
            Some((_, zone)) => {
                volume["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone.into();
            }
            None => volume["spec"]["capacity"]["storage"] = (*word).into(),
        }
    }
    volume
}

/// Its claims are separated by commas; one that begins with `~` is an ephemeral volume.
fn pod(uid: &str, claims: &str) -> Pod {
    let volumes = claims
        .split(',')
        .map(|claim| match claim.strip_prefix('~') {
            Some(volume) => json!({"name": volume, "ephemeral": {}}),
            None => json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}),
        });
    Pod::from(&read::<core::Pod>(json!({
        "metadata": {"uid": uid, "name": uid, "namespace": "ns"},
        "spec": {"containers": [], "volumes": volumes.collect::<Vec<_>>()},
    })))
}

#[track_caller]
fn check(lines: &str, claims: &str, expected: Expect) {
    let (snapshot, pod) = (snapshot(lines), pod("new", claims));
    let mut rotation = Rotation::new(1);
    expected.assert_eq(
        &match schedule(&Profile::default(), &snapshot, &pod, &mut rotation) {
            Decision::Unschedulable(why) => why.to_string(),
            Decision::Node(name) => {
                let fates = snapshot.fates(&pod, &name);
                let shown = fates.iter().map(|(key, fate)| format!(" {key} {fate:?}"));
                format!("{name}{}", shown.collect::<String>())
            }
        },
    );
}

#[test]
fn a_pod_whose_claims_no_node_could_help_is_refused_before_any() {
    check(
        "node a",
        "c",
        expect![[r#"0/1 nodes are available: persistentvolumeclaim "c" not found."#]],
    );
    check(
        "node a",
        "~scratch",
        expect![[
            r#"0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "new-scratch"."#
        ]],
    );
    check(
        "node a\nclaim new-scratch of-pod:other",
        "~scratch",
        expect![
            "0/1 nodes are available: PVC ns/new-scratch was not created for pod ns/new (pod is not owner)."
        ],
    );
    check(
        "node a\nclaim c =gone lost",
        "c",
        expect![[
            r#"0/1 nodes are available: persistentvolumeclaim "c" bound to non-existent persistentvolume "gone"."#
        ]],
    );
    check(
        "node a\nclaim c deleting",
        "c",
        expect![[r#"0/1 nodes are available: persistentvolumeclaim "c" is being deleted."#]],
    );
    for class in ["class k made now", "class other made"] {
        check(
            &format!("node a\nclaim c\n{class}"),
            "c",
            expect!["0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."],
        );
    }
}

#[test]
fn a_pod_goes_where_its_volumes_are() {
    let lines = "node a\nnode b\nclaim c =v\nvolume v at:b";
    check(lines, "c", expect!["b"]);
    check(
        "node a\nclaim c =v\nvolume v at:b",
        "c",
        expect![
            "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity."
        ],
    );
    check(
        "node a\nclaim c =v",
        "c",
        expect![
            "0/1 nodes are available: 1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."
        ],
    );
    check(
        "node a zone:x\nnode b zone:y\nclaim c =v\nvolume v zone:y__z",
        "c",
        expect!["b"],
    );
    check(
        "node a zone:x\nclaim c =v\nvolume v zone:y",
        "c",
        expect!["0/1 nodes are available: 1 node(s) had no available volume zone."],
    );
}

#[test]
fn a_claim_that_waits_gets_the_smallest_free_volume_or_a_new_one() {
    check(
        "node a\nclass k by-hand\nclaim c\nvolume v 9Gi at:a\nvolume w 2Gi at:a\nvolume x at:b",
        "c",
        expect![[r#"a ns/c Volume("w")"#]],
    );
    check(
        "node a\nclass k by-hand\nclaim c 5Gi\nvolume v 2Gi at:a",
        "c",
        expect![
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind."
        ],
    );
    check(
        "node a\nclass k made\nclaim c",
        "c",
        expect![[r#"a ns/c Made("a")"#]],
    );
    check(
        "node a\nclass k made\nclaim c\nclaim d\nvolume v at:a",
        "c,d",
        expect![[r#"a ns/c Volume("v") ns/d Made("a")"#]],
    );
    check(
        "node a zone:x\nnode b zone:y\nclass k made in:y\nclaim c",
        "c",
        expect![[r#"b ns/c Made("b")"#]],
    );
}

#[test]
fn a_claim_keeps_the_node_that_was_selected_unless_that_is_gone() {
    let lines = "node a\nnode b\nclass k made\nclaim c on:b";
    check(lines, "c", expect![[r#"b ns/c Made("b")"#]]);
    let lines = "node a\nclass k made\nclaim c on:b";
    check(lines, "c", expect![[r#"a ns/c Made("a")"#]]);
}

#[test]
fn a_claim_for_one_pod_is_not_for_another() {
    let lines = "node a\nclass k made\nclaim c RWOP =v\nvolume v\nuser p c";
    check(
        lines,
        "c",
        expect![
            "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."
        ],
    );
    check("node a\nclaim c =v\nvolume v\nuser p c", "c", expect!["a"]);
}

#[test]
fn what_is_assumed_for_one_pod_holds_for_the_next() {
    let mut snapshot = snapshot("node a\nnode b\nclass k made\nclaim c\nclaim d\nvolume v at:a");
    let decide = |snapshot: &Snapshot, pod: &Pod| {
        let mut rotation = Rotation::new(7);
        match schedule(&Profile::default(), snapshot, pod, &mut rotation) {
            Decision::Node(node) => (node.to_string(), snapshot.fates(pod, &node)),
            Decision::Unschedulable(why) => (why.to_string(), vec![]),
        }
    };
    let first = pod("first", "c");
    snapshot.assume(&first, &"a".into());
    for (key, fate) in snapshot.fates(&first, "a") {
        snapshot.storage.assume(&key, &first.uid, fate);
    }
    // The volume is taken: another claim is not given it, and the same claim is nowhere else.
    assert_eq!(
        snapshot.fates(&pod("other", "d"), "a")[0].1,
        Fate::Made("a".into())
    );
    assert_eq!(decide(&snapshot, &pod("second", "c")).0, "a");
    snapshot.storage.forget("first");
    assert_eq!(
        snapshot.fates(&pod("other", "d"), "a")[0].1,
        Fate::Volume("v".into())
    );
}
