//! Decisions in tables, and claims and volumes on an API in memory, whatever goes wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::plan::{self, View};
use super::release;
use crate::cluster::Cluster;
use crate::fake_api::{FakeApi, Faults};

fn claim(extra: Value) -> PersistentVolumeClaim {
    let mut object = claim_object("c", "1Gi");
    object["metadata"]["uid"] = "u".into();
    overlay(&mut object, &extra);
    serde_json::from_value(object).unwrap()
}

fn volume(extra: Value) -> PersistentVolume {
    let mut object = volume_object("v", "1Gi");
    object["status"]["phase"] = "Available".into();
    overlay(&mut object, &extra);
    serde_json::from_value(object).unwrap()
}

fn claim_object(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    })
}

fn volume_object(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
            "hostPath": {"path": "/v"}, "persistentVolumeReclaimPolicy": "Retain",
        },
    })
}

fn overlay(target: &mut Value, extra: &Value) {
    match extra {
        Value::Object(fields) => {
            for (name, value) in fields {
                overlay(&mut target[name], value);
            }
        }
        value => *target = value.clone(),
    }
}

/// Of `ns/c` with these fields; the class is named `k` and has `class`'s fields.
#[track_caller]
fn check_claim(extra: Value, named: Option<Value>, class: Value, expect: Expect) {
    let class = |name: &str| {
        let mut object = json!({"metadata": {"name": name}, "provisioner": "example.com/disk"});
        overlay(&mut object, &class);
        Some(Arc::new(serde_json::from_value(object).unwrap()))
    };
    let named_class = extra["spec"]["storageClassName"]
        .as_str()
        .map(str::to_owned);
    let view = View {
        claim: Arc::new(claim(extra)),
        named: named.map(|extra| Arc::new(volume(extra))),
        volumes: vec![],
        class: named_class
            .filter(|name| name == "k")
            .and_then(|name| class(&name)),
        default_class: None,
        waiting: vec![],
    };
    let shown = match plan::plan(&view) {
        plan::Step::Wait(Some(note)) => {
            format!("wait: {:?} {} {}", note.severity, note.reason, note.message)
        }
        plan::Step::Lose(note) => format!("lose: {} {}", note.reason, note.message),
        plan::Step::Bind(volume) => format!("bind {}", volume.metadata.name.clone().unwrap()),
        step => format!("{step:?}"),
    };
    expect.assert_eq(&shown);
}

#[test]
fn a_claim_without_a_volume_says_what_it_waits_for() {
    let class = || json!({"spec": {"storageClassName": "k"}});
    let later = || json!({"volumeBindingMode": "WaitForFirstConsumer"});
    check_claim(
        json!({}),
        None,
        json!({}),
        expect![
            "wait: Normal FailedBinding no persistent volumes available for this claim and no storage class is set"
        ],
    );
    check_claim(
        json!({"spec": {"storageClassName": "gone"}}),
        None,
        json!({}),
        expect![[
            r#"wait: Warning ProvisioningFailed storageclass.storage.k8s.io "gone" not found"#
        ]],
    );
    check_claim(
        class(),
        None,
        json!({}),
        expect![[r#"Provision("example.com/disk")"#]],
    );
    check_claim(
        class(),
        None,
        later(),
        expect![
            "wait: Normal WaitForFirstConsumer waiting for first consumer to be created before binding"
        ],
    );
    let mut selected = class();
    selected["metadata"]["annotations"][super::SELECTED_NODE] = "n".into();
    check_claim(
        selected.clone(),
        None,
        later(),
        expect![[r#"Provision("example.com/disk")"#]],
    );
    check_claim(
        class(),
        None,
        json!({"provisioner": "kubernetes.io/no-provisioner"}),
        expect![
            "wait: Warning ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner"
        ],
    );
    let local = json!({"provisioner": "wk.dev/local", "volumeBindingMode": "WaitForFirstConsumer"});
    check_claim(
        selected.clone(),
        None,
        local.clone(),
        expect![[r#"Provision("wk.dev/local")"#]],
    );
    let mut wide = selected.clone();
    wide["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    check_claim(
        wide,
        None,
        local.clone(),
        expect![[
            r#"wait: Warning ProvisioningFailed failed to provision volume with StorageClass "k": access mode ReadWriteMany is not supported: a volume is on one node; use ReadWriteOnce or ReadWriteOncePod"#
        ]],
    );
    let mut filled = selected;
    filled["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "old"});
    check_claim(
        filled,
        None,
        local,
        expect![[
            r#"wait: Warning ProvisioningFailed failed to provision volume with StorageClass "k": a new volume is empty: it cannot be filled from the data source PersistentVolumeClaim "old""#
        ]],
    );
}

#[test]
fn a_claim_that_names_its_volume_gets_it_or_says_why_not() {
    let named = || json!({"spec": {"volumeName": "v"}});
    check_claim(named(), None, json!({}), expect!["Wait(None)"]);
    check_claim(named(), Some(json!({})), json!({}), expect!["bind v"]);
    check_claim(
        named(),
        Some(json!({"spec": {"capacity": {"storage": "1Mi"}}})),
        json!({}),
        expect![[
            r#"wait: Warning VolumeMismatch Cannot bind to requested volume "v": requested PV is too small"#
        ]],
    );
    check_claim(
        named(),
        Some(json!({"spec": {"storageClassName": "other"}})),
        json!({}),
        expect![[
            r#"wait: Warning VolumeMismatch Cannot bind to requested volume "v": storageClassName does not match"#
        ]],
    );
    let reference =
        |uid: &str| json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": uid}}});
    check_claim(named(), Some(reference("u")), json!({}), expect!["bind v"]);
    check_claim(
        named(),
        Some(reference("old")),
        json!({}),
        expect![[r#"wait: Warning FailedBinding volume "v" already bound to a different claim."#]],
    );
}

#[test]
fn a_bound_claim_is_lost_with_its_volume() {
    let bound = json!({
        "metadata": {"annotations": {super::BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"},
    });
    check_claim(
        bound.clone(),
        None,
        json!({}),
        expect![
            "lose: ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        ],
    );
    check_claim(bound.clone(), Some(json!({})), json!({}), expect!["bind v"]);
    check_claim(
        bound,
        Some(json!({"spec": {"claimRef": {"namespace": "ns", "name": "d", "uid": "other"}}})),
        json!({}),
        expect![
            "lose: ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly"
        ],
    );
}

#[track_caller]
fn check_volume(extra: Value, other: Option<Value>, expect: Expect) {
    let other = other.map(claim);
    let step = release::plan(&volume(extra), other.as_ref());
    expect.assert_eq(&format!("{step:?}"));
}

#[test]
fn a_volume_follows_the_claim_that_it_names() {
    let named = json!({"spec": {"claimRef": {"namespace": "ns", "name": "c"}}});
    let taken = json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": "u"}}});
    let of = |name: &str| Some(json!({"spec": {"volumeName": name}}));
    check_volume(json!({}), None, expect![[r#"Phase("Available")"#]]);
    check_volume(named, of(""), expect![[r#"Phase("Available")"#]]);
    check_volume(taken.clone(), of("v"), expect![[r#"Phase("Bound")"#]]);
    check_volume(taken.clone(), of(""), expect!["Await"]);
    check_volume(taken.clone(), None, expect!["Reclaim"]);
    check_volume(
        taken.clone(),
        Some(json!({"metadata": {"uid": "new"}})),
        expect!["Reclaim"],
    );
    check_volume(taken.clone(), of("w"), expect!["Free"]);
    let mut made = taken;
    made["metadata"]["annotations"][super::PROVISIONED_BY] = "wk.dev/local".into();
    made["spec"]["persistentVolumeReclaimPolicy"] = "Delete".into();
    check_volume(made, of("w"), expect!["Reclaim"]);
}

#[test]
fn a_volume_that_nobody_can_reclaim_fails_and_says_so() {
    let fate = |policy: &str, maker: Option<&str>| {
        let mut object = json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
        if let Some(maker) = maker {
            object["metadata"]["annotations"][super::PROVISIONED_BY] = maker.into();
        }
        match release::fate(&volume(object)) {
            release::Fate::Left => "left".to_owned(),
            release::Fate::Failed { reason, message } => format!("{reason}: {message}"),
        }
    };
    expect!["left"].assert_eq(&fate("Retain", None));
    expect!["left"].assert_eq(&fate("Delete", Some("wk.dev/local")));
    expect![[r#"VolumeFailedDelete: error getting deleter volume plugin for volume "v": no deletable volume plugin matched"#]]
        .assert_eq(&fate("Delete", None));
    expect!["VolumeFailedRecycle: No recycler plugin found for the volume!"]
        .assert_eq(&fate("Recycle", None));
}

fn phase(api: &FakeApi, resource: &str, name: &str) -> String {
    let object = api.find(resource, name).unwrap_or_default();
    object["status"]["phase"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn bound_to(api: &FakeApi, claim: &str) -> String {
    let claim = api
        .find("persistentvolumeclaims", claim)
        .unwrap_or_default();
    claim["spec"]["volumeName"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_bound_kept_while_used_and_its_volume_released() {
    let cluster = Cluster::new(0);
    cluster
        .api
        .create("persistentvolumes", volume_object("large", "9Gi"));
    cluster
        .api
        .create("persistentvolumes", volume_object("small", "2Gi"));
    let available = |api: &FakeApi| {
        phase(api, "persistentvolumes", "small") == "Available"
            && phase(api, "persistentvolumes", "large") == "Available"
    };
    cluster.wait("available volumes", available).await;
    cluster
        .api
        .create("persistentvolumeclaims", claim_object("c", "1Gi"));
    let bound = |api: &FakeApi| phase(api, "persistentvolumeclaims", "c") == "Bound";
    cluster.wait("a bound claim", bound).await;
    assert_eq!(bound_to(&cluster.api, "c"), "small");
    let claim = cluster.api.find("persistentvolumeclaims", "c").unwrap();
    assert_eq!(claim["status"]["capacity"]["storage"], "2Gi");
    assert_eq!(
        claim["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    cluster.api.create(
        "pods",
        json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"containers": [], "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]},
        }),
    );
    let placed = |api: &FakeApi| api.find("pods", "p").unwrap()["spec"]["nodeName"] == "n";
    cluster.wait("a pod on its node", placed).await;
    cluster
        .api
        .delete("persistentvolumeclaims", "c", "Background");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(
        cluster.api.find("persistentvolumeclaims", "c").is_some(),
        "a pod uses it"
    );
    cluster.api.delete("pods", "p", "Background");
    let released = |api: &FakeApi| {
        api.find("persistentvolumeclaims", "c").is_none()
            && phase(api, "persistentvolumes", "small") == "Released"
    };
    cluster.wait("a released volume", released).await;
    cluster
        .api
        .delete("persistentvolumes", "small", "Background");
    let gone = |api: &FakeApi| api.find("persistentvolumes", "small").is_none();
    cluster.wait("no volume", gone).await;
}

#[tokio::test(start_paused = true)]
async fn the_default_class_that_comes_later_is_taken_and_asked_for() {
    let cluster = Cluster::new(0);
    cluster
        .api
        .create("persistentvolumeclaims", claim_object("c", "1Gi"));
    let mut unclassed = claim_object("none", "1Gi");
    unclassed["spec"]["storageClassName"] = "".into();
    cluster.api.create("persistentvolumeclaims", unclassed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.api.create(
        "storageclasses",
        json!({
            "metadata": {"name": "k", "annotations": {
                "storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "example.com/disk", "volumeBindingMode": "Immediate",
        }),
    );
    let asked = |api: &FakeApi| {
        let claim = api.find("persistentvolumeclaims", "c").unwrap();
        claim["spec"]["storageClassName"] == "k"
            && claim["metadata"]["annotations"][super::PROVISIONER] == "example.com/disk"
    };
    cluster.wait("a claim of the class", asked).await;
    let none = cluster.api.find("persistentvolumeclaims", "none").unwrap();
    assert_eq!(none["spec"]["storageClassName"], "");
    let said = |api: &FakeApi| {
        let events = api.all("events");
        let of = |event: &&Value| event["reason"] == "ExternalProvisioning";
        let event = events.iter().find(of).cloned().unwrap_or_default();
        let message = event["message"].as_str().unwrap_or_default();
        message.starts_with("Waiting for a volume to be created either by the external provisioner 'example.com/disk' or manually")
    };
    cluster.wait("an Event", said).await;
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_volume_has_a_claim_of_its_pod() {
    let cluster = Cluster::new(0);
    cluster.api.create(
        "pods",
        json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"containers": [], "volumes": [{"name": "scratch", "ephemeral": {
                "volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": claim_object("", "1Gi")["spec"],
                }}}]},
        }),
    );
    let made = |api: &FakeApi| api.find("persistentvolumeclaims", "p-scratch").is_some();
    cluster.wait("a claim", made).await;
    let claim = cluster
        .api
        .find("persistentvolumeclaims", "p-scratch")
        .unwrap();
    assert_eq!(claim["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(claim["metadata"]["ownerReferences"][0]["name"], "p");
    cluster.api.delete("pods", "p", "Background");
    let gone = |api: &FakeApi| api.all("persistentvolumeclaims").is_empty();
    cluster.wait("no claim", gone).await;
}

/// What always holds: no two claims have one volume, and what a claim has says so.
fn assert_consistent(api: &FakeApi, seed: u64) {
    let mut owners: HashMap<String, Value> = HashMap::new();
    for claim in api.all("persistentvolumeclaims") {
        let Some(volume) = claim["spec"]["volumeName"].as_str() else {
            continue;
        };
        let uid = claim["metadata"]["uid"].clone();
        assert!(
            owners.insert(volume.to_owned(), uid).is_none(),
            "seed {seed}: {volume} twice"
        );
    }
    for volume in api.all("persistentvolumes") {
        let name = volume["metadata"]["name"].as_str().unwrap();
        if let Some(uid) = owners.get(name) {
            assert_eq!(
                volume["spec"]["claimRef"]["uid"], *uid,
                "seed {seed}: {volume:#}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_never_bound_to_two_claims_whatever_goes_wrong() {
    for seed in 0..24 {
        let mut cluster = Cluster::new(seed);
        cluster.api.set_faults(Faults {
            request: 8,
            watch: 8,
        });
        for index in 0..6 {
            let size = format!("{}Gi", 1 + (seed + index) % 5);
            let (claim, volume) = (format!("c{index}"), format!("v{index}"));
            cluster
                .api
                .create("persistentvolumeclaims", claim_object(&claim, &size));
            cluster
                .api
                .create("persistentvolumes", volume_object(&volume, "5Gi"));
            tokio::time::sleep(Duration::from_millis(seed * 31 % 400)).await;
            assert_consistent(&cluster.api, seed);
            if index == seed % 6 {
                cluster.restart().await;
            }
            if index == 3 {
                cluster
                    .api
                    .delete("persistentvolumeclaims", "c1", "Background");
            }
        }
        let settled = |api: &FakeApi| {
            assert_consistent(api, seed);
            let claims = api.all("persistentvolumeclaims");
            claims.len() == 5
                && claims
                    .iter()
                    .all(|claim| claim["status"]["phase"] == "Bound")
        };
        cluster.wait("five bound claims", settled).await;
        let before: Vec<String> = (0..6)
            .map(|c| bound_to(&cluster.api, &format!("c{c}")))
            .collect();
        cluster.restart().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(settled(&cluster.api), "seed {seed} did not stay so");
        let after: Vec<String> = (0..6)
            .map(|c| bound_to(&cluster.api, &format!("c{c}")))
            .collect();
        assert_eq!(before, after, "seed {seed}: a binding moved");
        assert!(cluster.api.faulty() > 5, "seed {seed} was untroubled");
    }
}
