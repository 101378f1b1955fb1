//! ReplicationControllers, and what Deployments do beyond a roll-out that goes well.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::condition;
use crate::cluster::{Cluster, template};
use crate::fake_api::FakeApi;

fn replication_controller(replicas: i32) -> Value {
    json!({
        "metadata": {"name": "rc", "namespace": "ns"},
        "spec": {"replicas": replicas, "selector": {"app": "web"}, "template": template("one")},
    })
}

fn available(api: &FakeApi, resource: &str, name: &str) -> i64 {
    let object = api.find(resource, name).unwrap_or_default();
    object["status"]["availableReplicas"].as_i64().unwrap_or(0)
}

fn roll(cluster: &Cluster, image: &str) {
    let patch = json!({"spec": {"template": template(image)}});
    cluster.api.patch("deployments", "web", patch);
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_has_its_pods_and_they_go_with_it() {
    let cluster = Cluster::new(0);
    let stray = json!({"metadata": {"name": "stray", "namespace": "ns", "labels": {"app": "web"}},
        "spec": {"containers": []}});
    cluster.api.create("pods", stray);
    cluster
        .api
        .create("replicationcontrollers", replication_controller(3));
    let of =
        |count: i64| move |api: &FakeApi| available(api, "replicationcontrollers", "rc") == count;
    cluster.wait("three pods", of(3)).await;
    assert_eq!(cluster.api.count("pods"), 3);
    let owner = &cluster.api.find("pods", "stray").unwrap()["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["apiVersion"]),
        (&json!("ReplicationController"), &json!("v1"))
    );
    let status = &cluster.api.find("replicationcontrollers", "rc").unwrap()["status"];
    assert!(status["terminatingReplicas"].is_null(), "{status}");
    assert_eq!(cluster.messages("SuccessfulCreate").len(), 2);
    let smaller = json!({"spec": {"replicas": 1}});
    cluster.api.patch("replicationcontrollers", "rc", smaller);
    cluster.wait("one pod", of(1)).await;
    cluster
        .api
        .delete("replicationcontrollers", "rc", "Background");
    cluster.wait("none", |api| api.count("pods") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_refused_show_in_the_set_and_its_deployment() {
    let cluster = Cluster::new(0);
    cluster.api.refuse("create pods", Some("exceeded quota: q"));
    cluster.deploy(3, json!({}));
    let told = |api: &FakeApi| {
        let set = api.all("replicasets").pop().unwrap_or_default();
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        condition(api, "replicasets", name, "ReplicaFailure") == "True FailedCreate"
            && condition(api, "deployments", "web", "ReplicaFailure") == "True FailedCreate"
    };
    cluster.wait("what fails", told).await;
    let deployment = cluster.api.find("deployments", "web").unwrap();
    let conditions = deployment["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter();
    let mut messages = conditions.map(|condition| condition["message"].as_str().unwrap());
    assert!(messages.any(|message| message == "exceeded quota: q"));
    let message = "Error creating: exceeded quota: q".to_owned();
    assert!(cluster.messages("FailedCreate").contains(&message));
    cluster.api.refuse("create pods", None);
    cluster.rolled_out("one", 3).await;
    let healed = |api: &FakeApi| condition(api, "deployments", "web", "ReplicaFailure").is_empty();
    cluster.wait("no failure any more", healed).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_set_that_is_refused_shows_in_its_deployment() {
    let cluster = Cluster::new(0);
    cluster
        .api
        .refuse("create replicasets", Some("exceeded quota: q"));
    cluster.deploy(3, json!({}));
    let told = |api: &FakeApi| {
        condition(api, "deployments", "web", "Progressing") == "False ReplicaSetCreateError"
    };
    cluster.wait("what fails", told).await;
    let said = cluster.messages("ReplicaSetCreateError");
    assert!(
        said[0].starts_with("Failed to create new replica set \"web-")
            && said[0].ends_with("\": exceeded quota: q"),
        "{said:?}"
    );
    cluster.api.refuse("create replicasets", None);
    cluster.rolled_out("one", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_roll_out_that_stands_still_exceeds_its_deadline_and_may_still_end_well() {
    let cluster = Cluster::new(0);
    cluster.starting.store(false, Ordering::SeqCst);
    cluster.deploy(2, json!({}));
    let deadline = json!({"spec": {"progressDeadlineSeconds": 60}});
    cluster.api.patch("deployments", "web", deadline);
    // The deadline is of the wall clock, which a paused one does not move.
    let begun = |api: &FakeApi| {
        condition(api, "deployments", "web", "Progressing").starts_with("True ")
            && api.count("pods") == 2
    };
    cluster.wait("a roll-out", begun).await;
    // Whatever still counts as progress has been written by then.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let old = json!({"status": {"conditions": [{"type": "Progressing", "status": "True",
        "reason": "ReplicaSetUpdated", "message": "", "lastUpdateTime": "2020-01-01T00:00:00Z"}]}});
    cluster.api.patch("deployments", "web", old);
    let late = |api: &FakeApi| {
        condition(api, "deployments", "web", "Progressing") == "False ProgressDeadlineExceeded"
    };
    cluster.wait("that it is late", late).await;
    cluster.starting.store(true, Ordering::SeqCst);
    let well = |api: &FakeApi| {
        condition(api, "deployments", "web", "Progressing") == "True NewReplicaSetAvailable"
    };
    cluster.wait("that it went well", well).await;
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_rolled_back_to_remembers_its_revisions() {
    let cluster = Cluster::new(0);
    cluster.deploy(1, json!({}));
    cluster.rolled_out("one", 1).await;
    for image in ["two", "one", "two", "one"] {
        roll(&cluster, image);
        cluster.rolled_out(image, 1).await;
    }
    let remembered = |api: &FakeApi| {
        let annotations = |set: &Value, name: &str| {
            let name = format!("deployment.kubernetes.io/{name}");
            set["metadata"]["annotations"][name].clone()
        };
        let sets = api.all("replicasets");
        sets.iter().any(|set| {
            annotations(set, "revision") == "5" && annotations(set, "revision-history") == "1,3"
        })
    };
    cluster.wait("revisions 1, 3 and 5", remembered).await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_order_to_roll_back_is_obeyed_once() {
    let cluster = Cluster::new(0);
    cluster.deploy(1, json!({}));
    cluster.rolled_out("one", 1).await;
    roll(&cluster, "two");
    cluster.rolled_out("two", 1).await;
    let order =
        |to: &str| json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": to}}});
    cluster.api.patch("deployments", "web", order("1"));
    cluster.rolled_out("one", 1).await;
    let said = cluster.messages("DeploymentRollback");
    assert_eq!(said, ["Rolled back deployment \"web\" to revision 1"]);
    cluster.api.patch("deployments", "web", order("9"));
    let gone = |api: &FakeApi| {
        let annotations = &api.find("deployments", "web").unwrap()["metadata"]["annotations"];
        annotations["deprecated.deployment.rollback.to"].is_null()
    };
    cluster.wait("no order any more", gone).await;
    let unknown = |_: &FakeApi| {
        let said = cluster.messages("DeploymentRollbackRevisionNotFound");
        said == ["Unable to find the revision to rollback to."]
    };
    cluster
        .wait("that there is no such revision", unknown)
        .await;
    cluster.rolled_out("one", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_makes_another() {
    let first = Cluster::new(0);
    first.deploy(1, json!({}));
    first.rolled_out("one", 1).await;
    let name = first.api.all("replicasets")[0]["metadata"]["name"].clone();
    let cluster = Cluster::new(0);
    let other = json!({
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "other"}},
            "template": {"metadata": {"labels": {"app": "other"}}}},
    });
    cluster.api.create("replicasets", other);
    cluster.deploy(2, json!({}));
    cluster.rolled_out("one", 2).await;
    let status = &cluster.api.find("deployments", "web").unwrap()["status"];
    assert_eq!(status["collisionCount"], 1);
    assert_eq!(cluster.api.count("replicasets"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_says_so_and_goes_on_when_resumed() {
    let cluster = Cluster::new(0);
    cluster.deploy(2, json!({}));
    cluster.rolled_out("one", 2).await;
    let paused = |paused: bool| json!({"spec": {"paused": paused}});
    cluster.api.patch("deployments", "web", paused(true));
    let said = |reason: &'static str| {
        move |api: &FakeApi| condition(api, "deployments", "web", "Progressing") == reason
    };
    cluster
        .wait("a pause", said("Unknown DeploymentPaused"))
        .await;
    roll(&cluster, "two");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.api.count("replicasets"), 1);
    cluster.api.patch("deployments", "web", paused(false));
    cluster.rolled_out("two", 2).await;
    let end = said("True NewReplicaSetAvailable");
    cluster.wait("the end of the roll-out", end).await;
}

#[tokio::test(start_paused = true)]
async fn old_sets_beyond_the_history_go() {
    let cluster = Cluster::new(0);
    cluster.deploy(1, json!({}));
    let limit = json!({"spec": {"revisionHistoryLimit": 1}});
    cluster.api.patch("deployments", "web", limit);
    for image in ["one", "two", "three", "four"] {
        roll(&cluster, image);
        cluster.rolled_out(image, 1).await;
    }
    cluster
        .wait("two sets", |api| api.count("replicasets") == 2)
        .await;
}
