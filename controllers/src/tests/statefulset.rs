//! StatefulSets on an API in memory.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, ready, template};
use crate::fake_api::{FakeApi, Faults};

/// Makes a set `web` with a claim for each pod.
fn create(cluster: &Cluster, replicas: i64, spec: Value) {
    let mut set = json!({
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": replicas, "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": template("one"),
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    });
    for (field, value) in spec.as_object().unwrap() {
        set["spec"][field] = value.clone();
    }
    cluster.api.create("statefulsets", set);
}

fn change(cluster: &Cluster, spec: Value) {
    let patch = json!({"spec": spec});
    cluster.api.patch("statefulsets", "web", patch);
}

fn status(api: &FakeApi) -> Value {
    api.find("statefulsets", "web").unwrap()["status"].clone()
}

fn names(api: &FakeApi, resource: &str) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    api.all(resource).iter().map(name).collect()
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}

/// Whether `replicas` pods of an image are there and the status says so.
fn settled(api: &FakeApi, replicas: usize, with: &str) -> bool {
    let pods = api.all("pods");
    let status = status(api);
    let going = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
    let count = |count: &str| usize::try_from(status[count].as_u64().unwrap_or(0)) == Ok(replicas);
    pods.len() == replicas
        && pods
            .iter()
            .all(|pod| image(pod) == with && ready(pod) && !going(pod))
        && [
            "replicas",
            "readyReplicas",
            "availableReplicas",
            "updatedReplicas",
            "currentReplicas",
        ]
        .into_iter()
        .all(count)
        && status["currentRevision"] == status["updateRevision"]
}

fn revisions(api: &FakeApi) -> Vec<(i64, String)> {
    let mut revisions: Vec<_> = api
        .all("controllerrevisions")
        .iter()
        .map(|revision| {
            let number = revision["revision"].as_i64().unwrap();
            let containers = &revision["data"]["spec"]["template"]["spec"]["containers"];
            (number, containers[0]["image"].as_str().unwrap().to_owned())
        })
        .collect();
    revisions.sort();
    revisions
}

#[tokio::test(start_paused = true)]
async fn pods_have_names_and_claims_and_the_set_tells_of_them() {
    let cluster = Cluster::new(0);
    create(&cluster, 2, json!({}));
    cluster.wait("two pods", |api| settled(api, 2, "one")).await;
    assert_eq!(names(&cluster.api, "pods"), ["web-0", "web-1"]);
    assert_eq!(
        names(&cluster.api, "persistentvolumeclaims"),
        ["data-web-0", "data-web-1"]
    );
    let pod = cluster.api.find("pods", "web-1").unwrap();
    let revision = cluster.api.all("controllerrevisions").remove(0);
    assert_eq!(
        pod["metadata"]["labels"],
        json!({
            "app": "web", "statefulset.kubernetes.io/pod-name": "web-1",
            "apps.kubernetes.io/pod-index": "1",
            "controller-revision-hash": revision["metadata"]["name"],
        })
    );
    assert_eq!(pod["spec"]["hostname"], "web-1");
    assert_eq!(pod["spec"]["subdomain"], "web");
    let volume = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}}]);
    assert_eq!(pod["spec"]["volumes"], volume);
    let status = status(&cluster.api);
    assert_eq!(
        (&status["collisionCount"], &status["observedGeneration"]),
        (&json!(0), &json!(1))
    );
    let said = |count: usize| cluster.messages("SuccessfulCreate").len() >= count;
    cluster.wait("four Events", |_| said(4)).await;
    assert_eq!(
        cluster.messages("SuccessfulCreate"),
        [
            "create Claim data-web-0 Pod web-0 in StatefulSet web success",
            "create Pod web-0 in StatefulSet web successful",
            "create Claim data-web-1 Pod web-1 in StatefulSet web success",
            "create Pod web-1 in StatefulSet web successful",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_roll_goes_from_the_last_to_the_first_one_at_a_time() {
    let cluster = Cluster::new(0);
    create(&cluster, 3, json!({}));
    cluster
        .wait("three of one", |api| settled(api, 3, "one"))
        .await;
    change(&cluster, json!({"template": template("two")}));
    let rolled = |api: &FakeApi| {
        let pods = api.all("pods");
        let serving = pods.iter().filter(|pod| ready(pod));
        let going = pods
            .iter()
            .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        assert!(serving.count() >= 2 && going.count() <= 1, "{pods:#?}");
        // What is new are the last ones.
        let new: Vec<bool> = pods.iter().map(|pod| image(pod) == "two").collect();
        assert!(new.is_sorted(), "{new:?}");
        settled(api, 3, "two")
    };
    cluster.wait("three of two", rolled).await;
    assert_eq!(
        revisions(&cluster.api),
        [(1, "one".into()), (2, "two".into())]
    );
    change(&cluster, json!({"template": template("one")}));
    cluster
        .wait("three of one again", |api| settled(api, 3, "one"))
        .await;
    assert_eq!(
        revisions(&cluster.api),
        [(2, "two".into()), (3, "one".into())]
    );
}

#[tokio::test(start_paused = true)]
async fn old_revisions_go_beyond_the_limit() {
    let cluster = Cluster::new(0);
    create(&cluster, 1, json!({"revisionHistoryLimit": 1}));
    for image in ["one", "two", "three", "four"] {
        change(&cluster, json!({"template": template(image)}));
        cluster.wait(image, |api| settled(api, 1, image)).await;
    }
    let two = |api: &FakeApi| revisions(api) == [(3, "three".into()), (4, "four".into())];
    cluster.wait("two revisions", two).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_counted_and_another_one_found() {
    let cluster = Cluster::new(0);
    create(&cluster, 1, json!({}));
    cluster.wait("a pod", |api| settled(api, 1, "one")).await;
    let first = cluster.api.all("controllerrevisions").remove(0);
    cluster.api.delete("statefulsets", "web", "Background");
    cluster
        .wait("nothing", |api| names(api, "pods").is_empty())
        .await;
    let gone = |api: &FakeApi| names(api, "controllerrevisions").is_empty();
    cluster.wait("no revision", gone).await;
    cluster.api.create(
        "controllerrevisions",
        json!({"metadata": {"name": first["metadata"]["name"], "namespace": "ns"},
            "data": {"other": true}, "revision": 1}),
    );
    create(&cluster, 1, json!({}));
    cluster
        .wait("a pod again", |api| settled(api, 1, "one"))
        .await;
    let status = status(&cluster.api);
    assert_eq!(status["collisionCount"], 1);
    assert_ne!(status["updateRevision"], first["metadata"]["name"]);
}

#[tokio::test(start_paused = true)]
async fn orphans_are_left_and_adopted_again_with_their_revisions() {
    let cluster = Cluster::new(0);
    create(&cluster, 2, json!({}));
    cluster.wait("two pods", |api| settled(api, 2, "one")).await;
    let uids = |api: &FakeApi, resource: &str| -> Vec<Value> {
        let all = api.all(resource);
        all.iter()
            .map(|object| object["metadata"]["uid"].clone())
            .collect()
    };
    let before = ["pods", "controllerrevisions"].map(|of| uids(&cluster.api, of));
    cluster.api.delete("statefulsets", "web", "Orphan");
    let unowned = |api: &FakeApi, of: &str| {
        let owners = |object: &Value| object["metadata"]["ownerReferences"].as_array().cloned();
        api.all(of)
            .iter()
            .all(|object| owners(object).is_none_or(|owners| owners.is_empty()))
    };
    let orphaned = |api: &FakeApi| {
        api.all("statefulsets").is_empty()
            && unowned(api, "pods")
            && unowned(api, "controllerrevisions")
    };
    cluster.wait("orphans", orphaned).await;
    create(&cluster, 2, json!({}));
    cluster
        .wait("two pods again", |api| settled(api, 2, "one"))
        .await;
    let after = ["pods", "controllerrevisions"].map(|of| uids(&cluster.api, of));
    assert_eq!(before, after);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_node_is_silent_is_waited_for() {
    let cluster = Cluster::new(0);
    create(&cluster, 2, json!({}));
    cluster.wait("two pods", |api| settled(api, 2, "one")).await;
    let uid = |api: &FakeApi| api.find("pods", "web-0").unwrap()["metadata"]["uid"].clone();
    let before = uid(&cluster.api);
    cluster.ending.store(false, Ordering::SeqCst);
    // As an eviction has it: asked to end, and nobody there to say that it has.
    cluster.api.delete("pods", "web-0", "Background");
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(uid(&cluster.api), before);
    cluster.ending.store(true, Ordering::SeqCst);
    let replaced = |api: &FakeApi| settled(api, 2, "one") && uid(api) != before;
    cluster.wait("another web-0", replaced).await;
}

#[tokio::test(start_paused = true)]
async fn claims_outlive_their_pods_unless_the_policy_says_otherwise() {
    let cluster = Cluster::new(0);
    create(&cluster, 3, json!({}));
    cluster
        .wait("three pods", |api| settled(api, 3, "one"))
        .await;
    change(&cluster, json!({"replicas": 1}));
    cluster.wait("one pod", |api| settled(api, 1, "one")).await;
    assert_eq!(names(&cluster.api, "persistentvolumeclaims").len(), 3);
    let policy = json!({"whenScaled": "Delete", "whenDeleted": "Delete"});
    change(
        &cluster,
        json!({"replicas": 3, "persistentVolumeClaimRetentionPolicy": policy}),
    );
    cluster
        .wait("three again", |api| settled(api, 3, "one"))
        .await;
    change(&cluster, json!({"replicas": 2}));
    let two = |api: &FakeApi| {
        settled(api, 2, "one")
            && names(api, "persistentvolumeclaims") == ["data-web-0", "data-web-1"]
    };
    cluster.wait("two pods and claims", two).await;
    cluster.api.delete("statefulsets", "web", "Background");
    let nothing = |api: &FakeApi| {
        names(api, "pods").is_empty() && names(api, "persistentvolumeclaims").is_empty()
    };
    cluster.wait("nothing", nothing).await;
}

#[tokio::test(start_paused = true)]
async fn a_settled_set_costs_nothing() {
    let cluster = Cluster::new(0);
    create(&cluster, 3, json!({}));
    cluster
        .wait("three pods", |api| settled(api, 3, "one"))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let writes = |api: &FakeApi| {
        let mut calls: Vec<_> = api.calls().into_iter().collect();
        calls.retain(|(call, _)| !call.starts_with("watch") && !call.ends_with("leases"));
        calls.sort();
        calls
    };
    let before = writes(&cluster.api);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(writes(&cluster.api), before);
}

/// What must hold at every moment, whatever goes wrong.
struct Watched {
    partition: u64,
    /// Claims that were there once.
    claims: BTreeSet<String>,
}

impl Watched {
    fn look(&mut self, api: &FakeApi, seed: u64, ordered: bool) {
        let pods = api.all("pods");
        let ordinal = |pod: &Value| -> u64 {
            let name = pod["metadata"]["name"].as_str().unwrap();
            name.trim_start_matches("web-").parse().unwrap()
        };
        for pod in &pods {
            let claim = &pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"];
            let claim = claim.as_str().unwrap();
            assert!(
                self.claims.contains(claim) || api.find("persistentvolumeclaims", claim).is_some()
            );
            if ordinal(pod) < self.partition {
                assert_eq!(image(pod), "one", "seed {seed}");
            }
        }
        // A pod that has just been made has all before it.
        let newest = pods
            .iter()
            .filter(|pod| pod["status"].is_null())
            .max_by_key(|pod| ordinal(pod));
        if let Some(newest) = newest.filter(|_| ordered) {
            let there: BTreeSet<u64> = pods.iter().map(ordinal).collect();
            let all = (0..ordinal(newest)).all(|before| there.contains(&before));
            assert!(all, "seed {seed}: {there:?}");
        }
        let claims: BTreeSet<String> = names(api, "persistentvolumeclaims").into_iter().collect();
        assert!(
            claims.is_superset(&self.claims),
            "seed {seed}: a claim was lost"
        );
        self.claims = claims;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_comes_about_in_order_whatever_goes_wrong() {
    for seed in 0..24_u64 {
        let mut cluster = Cluster::new(seed);
        cluster.api.set_faults(Faults {
            request: 8,
            watch: 8,
        });
        let ordered = seed % 3 != 0;
        let policy = if ordered { "OrderedReady" } else { "Parallel" };
        create(&cluster, 4, json!({"podManagementPolicy": policy}));
        let mut watched = Watched {
            partition: 0,
            claims: BTreeSet::new(),
        };
        let mut changed = cluster.api.changed();
        let begun = tokio::time::Instant::now();
        let mut step = 0;
        loop {
            watched.look(&cluster.api, seed, ordered);
            let due = Duration::from_millis(900 + seed * 37) * (step + 1);
            // Before its first status a set has no revision to keep pods at.
            let known = !status(&cluster.api)["currentRevision"].is_null();
            if begun.elapsed() >= due && known {
                step += 1;
                match step {
                    1 => {
                        watched.partition = 2;
                        let rolling = json!({"rollingUpdate": {"partition": 2}});
                        change(
                            &cluster,
                            json!({"template": template("two"), "updateStrategy": rolling}),
                        );
                    }
                    2 => change(&cluster, json!({"replicas": 3 + seed % 4})),
                    3 => cluster.restart().await,
                    4 => {
                        let failed = json!({"status": {"phase": "Failed"}});
                        if cluster.api.find("pods", "web-1").is_some() {
                            cluster.api.patch("pods", "web-1", failed);
                        }
                    }
                    5 if cluster.api.find("pods", "web-0").is_some() => {
                        cluster.api.purge("pods", "web-0");
                    }
                    _ => break,
                }
            }
            let pause = Duration::from_millis(100);
            let _ = tokio::time::timeout(pause, changed.changed()).await;
        }
        watched.partition = 0;
        let rolling = json!({"rollingUpdate": {"partition": 0}});
        change(&cluster, json!({"updateStrategy": rolling, "replicas": 5}));
        cluster
            .wait("five of two", |api| settled(api, 5, "two"))
            .await;
        watched.look(&cluster.api, seed, ordered);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(
            settled(&cluster.api, 5, "two"),
            "seed {seed} did not stay so"
        );
        assert!(cluster.api.faulty() > 5, "seed {seed} was untroubled");
    }
}
