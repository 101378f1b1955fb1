//! Budgets of pods with owners of any kind, and of none.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::fake_api::FakeApi;

fn pod(cluster: &Cluster, name: &str, owner: &Value) {
    let owners: Vec<&Value> = Some(owner)
        .filter(|owner| !owner.is_null())
        .into_iter()
        .collect();
    cluster.api.create(
        "pods",
        json!({
            "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}, "ownerReferences": owners},
            "spec": {"containers": [{"name": "c"}]},
        }),
    );
}

fn owner(api_version: &str, kind: &str, object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"],
        "controller": true})
}

fn budget(cluster: &Cluster, spec: Value) {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let metadata = json!({"name": "b", "namespace": "ns"});
    cluster.api.create(
        "poddisruptionbudgets",
        json!({"metadata": metadata, "spec": spec}),
    );
}

/// Healthy, desired, expected, allowed, and why.
fn counts(api: &FakeApi) -> String {
    let status = &api.find("poddisruptionbudgets", "b").unwrap()["status"];
    let reason = &status["conditions"][0]["reason"];
    let fields = [
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
        "disruptionsAllowed",
    ];
    let numbers = fields.map(|field| status[field].as_i64().unwrap_or(-1).to_string());
    format!("{} {}", numbers.join(" "), reason.as_str().unwrap_or(""))
}

#[tokio::test(start_paused = true)]
async fn replication_controllers_and_stateful_sets_say_how_many_pods_there_should_be() {
    let cluster = Cluster::new(0);
    for (resource, api_version, kind) in [
        ("replicationcontrollers", "v1", "ReplicationController"),
        ("statefulsets", "apps/v1", "StatefulSet"),
    ] {
        // Its own controller sees nothing to do: what it selects is not there, and its pods are made here.
        let spec = json!({"replicas": 2, "selector": {"matchLabels": {"none": "none"}}});
        let object = cluster.api.create(
            resource,
            json!({"metadata": {"name": "o", "namespace": "ns"}, "spec": spec, "status": {}}),
        );
        pod(
            &cluster,
            &format!("{resource}-1"),
            &owner(api_version, kind, &object),
        );
    }
    budget(&cluster, json!({"maxUnavailable": "25%"}));
    cluster
        .wait("four expected", |api| {
            counts(api).split(' ').nth(2) == Some("4")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn pods_whose_owner_cannot_be_counted_may_not_go() {
    let cluster = Cluster::new(0);
    let gadget = json!({"metadata": {"name": "g", "uid": "g"}});
    pod(&cluster, "p", &owner("example.com/v1", "Gadget", &gadget));
    budget(&cluster, json!({"minAvailable": "10%"}));
    cluster
        .wait("no count", |api| counts(api).ends_with(" 0 SyncFailed"))
        .await;
    let text = r#"Failed to calculate the number of expected pods: no matches for kind "Gadget" in group "example.com""#;
    let reason = "CalculateExpectedPodCountFailed";
    cluster
        .wait("told", |_| cluster.messages(reason) == [text])
        .await;
    // It is tried again now and then, and that is no news.
    let before = *cluster.api.changed().borrow();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(*cluster.api.changed().borrow(), before);
    let number = json!({"spec": {"minAvailable": 1}});
    cluster.api.patch("poddisruptionbudgets", "b", number);
    cluster
        .wait("a count", |api| counts(api) == "1 1 1 0 InsufficientPods")
        .await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_nobody_are_told_of() {
    let cluster = Cluster::new(0);
    pod(&cluster, "p", &Value::Null);
    budget(&cluster, json!({"maxUnavailable": 1}));
    cluster
        .wait("a count", |api| counts(api) == "1 0 0 0 InsufficientPods")
        .await;
    cluster
        .wait("told", |_| {
            let said = cluster.messages("UnmanagedPods");
            said.iter()
                .any(|said| said.contains("MatchLabels:map[string]string{app: web,}"))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_to_go_and_did_not_is_no_target_any_more() {
    let cluster = Cluster::new(0);
    pod(&cluster, "p", &Value::Null);
    cluster
        .wait("a ready pod", |api| {
            api.find("pods", "p")
                .is_some_and(|pod| !pod["status"].is_null())
        })
        .await;
    let target = |is: &str, time: &str| {
        let condition = json!({"type": "DisruptionTarget", "status": is, "reason": "EvictionByEvictionAPI",
            "lastTransitionTime": time});
        json!({"status": {"conditions": [condition]}})
    };
    cluster
        .api
        .patch("pods", "p", target("True", "2020-01-01T00:00:00Z"));
    let taken_back = |api: &FakeApi| {
        let pod = api.find("pods", "p").unwrap();
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|one| {
            one["type"] == "DisruptionTarget" && one["status"] == "False" && one["reason"].is_null()
        })
    };
    cluster.wait("taken back", taken_back).await;
}
