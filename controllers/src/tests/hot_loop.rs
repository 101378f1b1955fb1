//! No hot loop: how often controllers write an object is bounded, at rest and in a fight.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, template};
use crate::fake_api::FakeApi;

/// Writes of one object in its first minute by a controller that somebody else undoes at once.
const FIGHT: usize = 900;

/// One of every kind that a controller works on.
fn populate(cluster: &Cluster) {
    let of = |name: &str| json!({"name": name, "namespace": "ns", "generation": 1});
    let selector = json!({"matchLabels": {"app": "web"}});
    cluster.deploy(3, json!({}));
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    cluster
        .api
        .create("services", json!({"metadata": of("web"), "spec": spec}));
    let spec = json!({"maxUnavailable": 1, "selector": selector});
    let budget = json!({"metadata": of("web"), "spec": spec});
    cluster.api.create("poddisruptionbudgets", budget);
    for (resource, name) in [
        ("replicationcontrollers", "rc"),
        ("replicasets", "rs"),
        ("statefulsets", "ss"),
        ("daemonsets", "ds"),
    ] {
        let labels = json!({"app": name});
        let mut template = template("one");
        template["metadata"]["labels"] = labels.clone();
        let selector = if resource == "replicationcontrollers" {
            labels
        } else {
            json!({"matchLabels": labels})
        };
        let spec = json!({"replicas": 2, "selector": selector, "template": template,
            "serviceName": "web"});
        let set = json!({"metadata": of(name), "spec": spec});
        cluster.api.create(resource, set);
    }
    let labels = json!({"app": "job"});
    let mut template = template("one");
    template["metadata"]["labels"] = labels.clone();
    let job = json!({"selector": {"matchLabels": labels}, "completions": 2, "parallelism": 2,
        "activeDeadlineSeconds": 1_000_000, "template": template});
    let daily = json!({"schedule": "@daily", "suspend": true, "jobTemplate": {"spec": job}});
    for (resource, name, spec) in [("jobs", "job", job), ("cronjobs", "daily", daily)] {
        let object = json!({"metadata": of(name), "spec": spec});
        cluster.api.create(resource, object);
    }
    let modes = json!(["ReadWriteOnce"]);
    let spec = json!({"accessModes": modes, "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/v"}, "persistentVolumeReclaimPolicy": "Retain"});
    let volume = json!({"metadata": {"name": "v"}, "spec": spec});
    cluster.api.create("persistentvolumes", volume);
    let spec = json!({"accessModes": modes, "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": of("claim"), "spec": spec});
    cluster.api.create("persistentvolumeclaims", claim);
    cluster.api.create(
        "services",
        json!({"metadata": of("hand"), "spec": {"ports": [{"port": 80}]}}),
    );
    let subsets = json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]);
    cluster.api.create(
        "endpoints",
        json!({"metadata": of("hand"), "subsets": subsets}),
    );
}

/// The writes of each object over a while.
async fn writes(cluster: &Cluster, during: Duration) -> BTreeMap<String, usize> {
    let before = cluster.api.writes();
    tokio::time::sleep(during).await;
    let mut after = cluster.api.writes();
    for (object, count) in before {
        if let Some(now) = after.get_mut(&object) {
            *now -= count;
        }
    }
    after.retain(|_, count| *count > 0);
    after
}

impl Cluster {
    /// The pods of all that [`populate`] makes.
    async fn populated(&self) {
        populate(self);
        self.wait("twelve pods", |api| api.count("pods") == 12)
            .await;
        settle_status(self).await;
    }
}

/// Long enough for whatever follows the last pod.
async fn settle_status(cluster: &Cluster) {
    let quiet = Duration::from_secs(300);
    let mut last = cluster.api.writes();
    loop {
        tokio::time::sleep(quiet).await;
        let now = cluster.api.writes();
        if now == last {
            return;
        }
        last = now;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_at_rest() {
    let cluster = Cluster::new(0);
    cluster.populated().await;
    let written = writes(&cluster, Duration::from_secs(3600)).await;
    assert_eq!(written, BTreeMap::new());
}

/// Undoes what controllers write: every object of a resource gets this patch again whenever it differs.
async fn undo(api: FakeApi, resource: &'static str, patch: Value) {
    let mut changed = api.changed();
    let mut seen = 0;
    loop {
        let now = *changed.borrow_and_update();
        for change in api.written_after(resource, seen) {
            let name = change["object"]["metadata"]["name"].as_str().unwrap();
            if api.find(resource, name).is_some() {
                api.patch(resource, name, patch.clone());
            }
        }
        seen = now;
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Lets somebody undo what `controllers` write of a resource, for a minute; afterwards there is rest again.
#[track_caller]
fn check(resource: &'static str, patch: Value, controllers: usize) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let cluster = Cluster::new(0);
        cluster.populated().await;
        let mut fight = JoinSet::new();
        fight.spawn(undo(cluster.api.clone(), resource, patch.clone()));
        for (object, count) in writes(&cluster, Duration::from_secs(60)).await {
            let most = FIGHT * controllers;
            assert!(count <= most, "{place}: {object} was written {count} times");
        }
        drop(fight);
        settle_status(&cluster).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_deployments_is_bounded() {
    check("deployments", json!({"status": {"replicas": 77}}), 1).await;
    let annotation = json!({"deployment.kubernetes.io/revision": "77"});
    check(
        "deployments",
        json!({"metadata": {"annotations": annotation}}),
        1,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_replica_sets_is_bounded() {
    check("replicasets", json!({"status": {"replicas": 77}}), 1).await;
    // The Deployment writes the size, the ReplicaSet its status.
    check("replicasets", json!({"spec": {"replicas": 1}}), 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_replication_controllers_is_bounded() {
    let status = json!({"status": {"readyReplicas": 77}});
    check("replicationcontrollers", status, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_stateful_sets_is_bounded() {
    check("statefulsets", json!({"status": {"replicas": 77}}), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_daemon_sets_is_bounded() {
    let status = json!({"status": {"numberReady": 77}});
    check("daemonsets", status, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_revisions_is_bounded() {
    let unlabelled = json!({"metadata": {"labels": null, "ownerReferences": null}});
    check("controllerrevisions", unlabelled, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_jobs_is_bounded() {
    check("jobs", json!({"status": {"ready": 77}}), 1).await;
    check("jobs", json!({"spec": {"suspend": true}}), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_disruption_budgets_is_bounded() {
    let status = json!({"status": {"expectedPods": 77}});
    check("poddisruptionbudgets", status, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_endpoints_is_bounded() {
    check("endpointslices", json!({"endpoints": []}), 1).await;
    check("endpoints", json!({"subsets": []}), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_volumes_and_claims_is_bounded() {
    let pending = json!({"status": {"phase": "Pending"}});
    check("persistentvolumeclaims", pending, 2).await;
    let unprotected = json!({"metadata": {"finalizers": null}});
    check("persistentvolumeclaims", unprotected, 2).await;
    check(
        "persistentvolumes",
        json!({"status": {"phase": "Available"}}),
        2,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_cron_jobs_is_bounded() {
    check("cronjobs", json!({"spec": {"suspend": false}}), 1).await;
    check(
        "cronjobs",
        json!({"status": {"active": [{"name": "nobody"}]}}),
        1,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_nodes_is_bounded() {
    check("nodes", json!({"spec": {"podCIDR": null}}), 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_asked_for_rarely() {
    let cluster = Cluster::new(0);
    cluster.starting.store(false, Ordering::SeqCst);
    cluster.api.refuse("create pods", Some("exceeded quota: q"));
    let labels = |app: &str| json!({"matchLabels": {"app": app}});
    let spec = |replicas: i64, selector: Value| json!({"replicas": replicas, "selector": selector, "template": template("one")});
    let sets = [
        ("huge", spec(i64::from(i32::MAX), labels("web"))),
        ("negative", spec(-5, labels("web"))),
        ("everything", spec(3, json!({}))),
        ("others", spec(3, labels("other"))),
        (
            "broken",
            spec(
                3,
                json!({"matchExpressions": [{"key": "a", "operator": "Sometimes"}]}),
            ),
        ),
        (
            "contrary",
            spec(
                3,
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]},
                    {"key": "app", "operator": "NotIn", "values": ["web"]}]}),
            ),
        ),
    ];
    for (name, spec) in sets {
        for resource in ["replicasets", "deployments"] {
            let metadata = json!({"name": name, "namespace": "ns", "labels": {"app": "web"}});
            let set = json!({"metadata": metadata, "spec": spec});
            cluster.api.create(resource, set);
        }
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let written = writes(&cluster, Duration::from_secs(600)).await;
    let pods = written.get("pods/").copied().unwrap_or(0);
    // Some sets are refused their pods, each about once a minute.
    assert!((1..=60).contains(&pods), "{written:?}");
    let others = written
        .iter()
        .filter(|(object, _)| !object.starts_with("pods/"));
    for (object, count) in others {
        assert!(*count <= 40, "{object}: {count}; {written:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn owners_that_select_the_same_pods_leave_each_other_alone() {
    let cluster = Cluster::new(0);
    for name in ["a", "b"] {
        for resource in ["deployments", "replicasets", "replicationcontrollers"] {
            let selector = if resource == "replicationcontrollers" {
                json!({"app": "web"})
            } else {
                json!({"matchLabels": {"app": "web"}})
            };
            let spec = json!({"replicas": 2, "selector": selector, "template": template("one")});
            let metadata = json!({"name": format!("{name}-{resource}"), "namespace": "ns"});
            cluster
                .api
                .create(resource, json!({"metadata": metadata, "spec": spec}));
        }
    }
    cluster
        .wait("two pods of each", |api| api.count("pods") == 12)
        .await;
    settle_status(&cluster).await;
    let written = writes(&cluster, Duration::from_secs(3600)).await;
    assert_eq!(written, BTreeMap::new());
    assert_eq!(cluster.api.count("pods"), 12);
}
