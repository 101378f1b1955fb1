//! Functions through a real apiserver: what a user writes, what nodes say, and what comes of it.

mod cluster;

use std::sync::atomic::Ordering;

use cluster::{Cluster, condition, traffic};
use functions::{Key, Sample};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

fn compiled() -> Value {
    json!({"ready": true, "runtime": "wasm"})
}

#[tokio::test]
async fn a_function_is_deployed_fails_to_be_changed_and_is_changed() {
    let cluster = Cluster::start().await;
    cluster
        .create("Function", "hello", json!({"image": "a"}))
        .await
        .unwrap();
    let revision = cluster
        .until("FunctionRevision", "hello-00001", Value::is_object)
        .await;
    assert_eq!(revision["spec"]["image"], "a");
    assert_eq!(revision["metadata"]["ownerReferences"][0]["name"], "hello");
    cluster.until("Service", "hello", Value::is_object).await;
    cluster.node_says("hello-00001", compiled()).await;
    let function = cluster
        .until("Function", "hello", |object| {
            condition(object, "Ready") == "True"
        })
        .await;
    assert_eq!(traffic(&function), "hello-00001=100");
    assert_eq!(
        function["status"]["url"],
        "http://hello.default.localhost:8080"
    );

    let broken = json!({"image": "b", "progressDeadlineSeconds": 1});
    cluster.patch("Function", "hello", broken).await;
    cluster
        .until("FunctionRevision", "hello-00002", Value::is_object)
        .await;
    let failed = json!({"ready": false, "reason": "ErrImagePull", "message": "no such image"});
    cluster.node_says("hello-00002", failed).await;
    let function = cluster
        .until("Function", "hello", |object| {
            condition(object, "Ready") == "False ErrImagePull"
        })
        .await;
    assert_eq!(traffic(&function), "hello-00001=100");

    cluster.node_says("hello-00002", compiled()).await;
    cluster
        .until("Function", "hello", |object| {
            traffic(object) == "hello-00002=100"
        })
        .await;
    let back = json!({"traffic": [{"revision": "hello-00001", "percent": 100}]});
    cluster.patch("Function", "hello", back).await;
    cluster
        .until("Function", "hello", |object| {
            traffic(object) == "hello-00001=100"
        })
        .await;
    assert_eq!(cluster.list("FunctionRevision").await.len(), 2);
    let events = cluster.list("Event").await.into_iter();
    let mut told: Vec<String> = events
        .filter(|event| event["reason"] == "RevisionCreated")
        .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "Created revision hello-00001",
            "Created revision hello-00002"
        ]
    );
    cluster.end().await;
}

/// Whatever is lost on the way, every Function ends with its newest image served, and no change made two revisions.
#[tokio::test]
async fn what_is_lost_is_made_up_for() {
    for seed in 0..3 {
        let cluster = Cluster::start_with(25, seed).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut images = vec![0];
        let spec = json!({"image": "0", "revisionHistoryLimit": 1});
        cluster.create("Function", "f", spec).await.unwrap();
        for turn in 1..=6 {
            let name = format!("f-{turn:05}");
            cluster
                .until("FunctionRevision", &name, Value::is_object)
                .await;
            cluster.node_says(&name, compiled()).await;
            cluster
                .until("Function", "f", |object| {
                    traffic(object) == format!("{name}=100")
                })
                .await;
            let last = *images.last().unwrap();
            let next = (last + rng.random_range(1..3)) % 3;
            images.push(next);
            if turn < 6 {
                cluster
                    .patch("Function", "f", json!({"image": next.to_string()}))
                    .await;
            }
        }
        cluster.heal();
        let name = "f-00006";
        let function = cluster
            .until("Function", "f", |object| {
                condition(object, "Ready") == "True"
            })
            .await;
        assert_eq!(
            function["status"]["latestReadyRevision"], name,
            "seed {seed}"
        );
        // The newest, and one more by the limit.
        cluster
            .until("FunctionRevision", "f-00004", Value::is_null)
            .await;
        let left = cluster.list("FunctionRevision").await;
        assert_eq!(left.len(), 2, "seed {seed}: {left:#?}");
        cluster.end().await;
    }
}

#[tokio::test]
async fn a_container_has_as_many_pods_as_requests_ask_for_and_none_without() {
    let cluster = Cluster::start().await;
    let spec = json!({"image": "web", "port": 80, "concurrency": 10, "scale": {"max": 5, "idleSeconds": 1}});
    cluster.create("Function", "web", spec).await.unwrap();
    cluster
        .until("FunctionRevision", "web-00001", Value::is_object)
        .await;
    let pulled = json!({"ready": true, "runtime": "oci", "resolved": "sha256:1"});
    cluster.node_says("web-00001", pulled).await;
    let set = cluster
        .until("ReplicaSet", "web-00001", Value::is_object)
        .await;
    assert_eq!(set["spec"]["replicas"], 1);
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "web@sha256:1");
    // The tag has moved, and another node saw it first: nothing changes.
    let moved = json!({"ready": true, "runtime": "oci", "resolved": "sha256:2"});
    cluster.node_says("web-00001", moved).await;
    let mut pod = json!({"metadata": {"name": "p"}, "spec": set["spec"]["template"]["spec"]});
    pod["metadata"]["labels"] = set["spec"]["template"]["metadata"]["labels"].clone();
    let pods = cluster.api("Pod");
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    cluster
        .until("Function", "web", |object| {
            condition(object, "Ready") == "True"
        })
        .await;
    let key = Key::new("default", "web-00001");
    let busy = Sample {
        concurrency: 1000.0,
        waiting: 0,
    };
    *cluster.gateway.samples.lock().unwrap() = vec![(key, busy)];
    cluster
        .until("ReplicaSet", "web-00001", |set| {
            set["spec"]["replicas"] == 5
        })
        .await;
    cluster.gateway.samples.lock().unwrap().clear();
    cluster
        .until("ReplicaSet", "web-00001", |set| {
            set["spec"]["replicas"] == 0
        })
        .await;
    // A gateway wants the first pod.
    let one = json!({"spec": {"replicas": 1}});
    let revisions = cluster.api("FunctionRevision");
    revisions
        .patch_scale("web-00001", &PatchParams::default(), &Patch::Merge(&one))
        .await
        .unwrap();
    cluster
        .until("ReplicaSet", "web-00001", |set| {
            set["spec"]["replicas"] == 1
        })
        .await;
    cluster.end().await;
}

#[tokio::test]
async fn a_trigger_sends_a_request_until_it_is_answered() {
    let cluster = Cluster::start().await;
    cluster.gateway.refuses.store(2, Ordering::SeqCst);
    let cron = json!({"schedule": "@every 1s", "path": "/tick", "body": "{}"});
    let spec = json!({"image": "a", "triggers": [{"name": "tick", "cron": cron}]});
    cluster.create("Function", "f", spec).await.unwrap();
    cluster
        .until("FunctionRevision", "f-00001", Value::is_object)
        .await;
    cluster.node_says("f-00001", compiled()).await;
    cluster
        .until("Function", "f", |object| {
            object["status"]["triggers"][0]["lastSuccessfulTime"].is_string()
        })
        .await;
    let calls = cluster.gateway.calls.lock().unwrap().clone();
    assert_eq!((&*calls[0].method, &*calls[0].path), ("POST", "/tick"));
    assert_eq!(calls[0], calls[1]);
    assert_eq!(calls[1], calls[2]);
    cluster.end().await;
}

#[tokio::test]
async fn a_route_belongs_to_one_function_and_its_owner_is_named() {
    let cluster = Cluster::start().await;
    let with = |routes: Value| json!({"image": "a", "routes": routes});
    let route = json!([{"host": "a.org", "path": "/x"}]);
    cluster
        .create("Function", "first", with(route.clone()))
        .await
        .unwrap();
    let methods = json!([{"host": "a.org", "path": "/x", "methods": ["GET"]}]);
    let refused = cluster
        .create("Function", "second", with(methods))
        .await
        .unwrap_err();
    assert!(
        refused.contains("spec.routes[0]") && refused.contains("Function default/first"),
        "{refused}"
    );
    // Of those who ask at once, one gets it.
    let host = json!([{"host": "b.org"}]);
    let asked = (0..8).map(|number| {
        let (cluster, spec) = (&cluster, with(host.clone()));
        async move {
            cluster
                .create("Function", &format!("racer-{number}"), spec)
                .await
        }
    });
    let made = futures::future::join_all(asked).await;
    assert_eq!(
        made.iter().filter(|made| made.is_ok()).count(),
        1,
        "{made:?}"
    );
    // Gone is free.
    let functions = cluster.api("Function");
    functions
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .create("Function", "second", with(route))
        .await
        .unwrap();
    cluster.end().await;
}

#[tokio::test]
async fn what_a_quota_does_not_allow_is_said_and_what_serves_goes_on() {
    let cluster = Cluster::start().await;
    let hard = json!({"hard": {"limits.memory": "1Gi"}});
    cluster.create("ResourceQuota", "q", hard).await.unwrap();
    let with = |max: u32| json!({"image": "a", "scale": {"max": max}, "resources": {"limits": {"memory": "64Mi"}}});
    cluster.create("Function", "f", with(8)).await.unwrap();
    cluster
        .until("FunctionRevision", "f-00001", Value::is_object)
        .await;
    cluster.node_says("f-00001", compiled()).await;
    cluster
        .until("Function", "f", |object| {
            condition(object, "Ready") == "True"
        })
        .await;
    cluster
        .until("ResourceQuota", "q", |quota| {
            quota["status"]["used"]["limits.memory"] == "512Mi"
        })
        .await;
    cluster.patch("Function", "f", with(100)).await;
    let function = cluster
        .until("Function", "f", |object| {
            condition(object, "Ready") == "False FailedCreate"
        })
        .await;
    let said = function["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap();
    assert!(said.contains("exceeded quota: q"), "{said}");
    assert_eq!(traffic(&function), "f-00001=100");
    cluster.end().await;
}
