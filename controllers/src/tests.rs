//! The controllers together, on an API in memory and under a paused clock.

mod autoscaler;
mod cronjob;
mod daemonset;
mod disruption;
mod endpoints;
mod hot_loop;
mod job;
mod node_lifecycle;
mod sets;
mod statefulset;
mod throughput;

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, ready, template};
use crate::fake_api::{FakeApi, Faults};

fn images(api: &FakeApi) -> Vec<String> {
    let pods = api.all("pods");
    let image = |pod: &Value| {
        pod["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    pods.iter().map(image).collect()
}

fn condition(api: &FakeApi, resource: &str, name: &str, kind: &str) -> String {
    let object = api.find(resource, name).unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    let found = conditions.find(|condition| condition["type"] == kind);
    found.map_or(String::new(), |condition| {
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        format!("{} {}", text("status"), text("reason"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_pods_and_says_so() {
    let cluster = Cluster::new(0);
    cluster.deploy(3, json!({}));
    cluster.rolled_out("one", 3).await;
    let complete = |api: &FakeApi| {
        condition(api, "deployments", "web", "Progressing") == "True NewReplicaSetAvailable"
            && condition(api, "deployments", "web", "Available") == "True MinimumReplicasAvailable"
    };
    cluster.wait("a complete roll-out", complete).await;
    let set = cluster.api.all("replicasets").remove(0);
    let annotations = &set["metadata"]["annotations"];
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "1");
    let said = cluster.messages("ScalingReplicaSet");
    let name = set["metadata"]["name"].as_str().unwrap();
    assert_eq!(said, [format!("Scaled up replica set {name} from 0 to 3")]);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_keeps_within_surge_and_availability() {
    let cluster = Cluster::new(0);
    let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}});
    cluster.deploy(4, strategy);
    cluster.rolled_out("one", 4).await;
    cluster.api.patch(
        "deployments",
        "web",
        json!({"spec": {"template": template("two")}}),
    );
    let within = |api: &FakeApi| {
        let pods = api.all("pods");
        let active: Vec<&Value> = pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect();
        let serving = active.iter().filter(|pod| ready(pod)).count();
        assert!(
            active.len() <= 5 && serving >= 3,
            "{} and {serving}",
            active.len()
        );
        images(api) == ["two"; 4]
    };
    cluster.wait("four of two", within).await;
    cluster.rolled_out("two", 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_reuses_the_first_set() {
    let cluster = Cluster::new(0);
    cluster.deploy(2, json!({}));
    cluster.rolled_out("one", 2).await;
    for image in ["two", "one"] {
        cluster.api.patch(
            "deployments",
            "web",
            json!({"spec": {"template": template(image)}}),
        );
        cluster.rolled_out(image, 2).await;
    }
    let mut sets = cluster.api.all("replicasets");
    // By when they were made: their times may be the same.
    sets.sort_by_key(|set| {
        let uid = set["metadata"]["uid"].as_str().unwrap();
        uid.trim_start_matches("uid-").parse::<u64>().unwrap()
    });
    let revision =
        |set: &Value| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone();
    let revisions: Vec<Value> = sets.iter().map(revision).collect();
    assert_eq!(revisions, ["3", "2"]);
}

#[tokio::test(start_paused = true)]
async fn recreate_never_runs_two_templates_at_once() {
    let cluster = Cluster::new(0);
    cluster.deploy(2, json!({"type": "Recreate"}));
    cluster.rolled_out("one", 2).await;
    cluster.ending.store(false, Ordering::SeqCst);
    cluster.api.patch(
        "deployments",
        "web",
        json!({"spec": {"template": template("two")}}),
    );
    let going = |api: &FakeApi| {
        let pods = api.all("pods");
        pods.iter()
            .all(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
            && api.find("deployments", "web").unwrap()["status"]["terminatingReplicas"] == 2
    };
    cluster.wait("old pods that are going", going).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(images(&cluster.api), ["one", "one"]);
    cluster.ending.store(true, Ordering::SeqCst);
    cluster.rolled_out("two", 2).await;
}

#[tokio::test(start_paused = true)]
async fn scaling_down_takes_the_pods_that_are_not_ready() {
    let cluster = Cluster::new(0);
    cluster.deploy(2, json!({}));
    cluster.rolled_out("one", 2).await;
    let served: Vec<Value> = cluster.api.all("pods");
    cluster.starting.store(false, Ordering::SeqCst);
    cluster
        .api
        .patch("deployments", "web", json!({"spec": {"replicas": 4}}));
    cluster
        .wait("four pods", |api| api.all("pods").len() == 4)
        .await;
    cluster
        .api
        .patch("deployments", "web", json!({"spec": {"replicas": 2}}));
    cluster.rolled_out("one", 2).await;
    let names = |pods: Vec<Value>| {
        let name = |pod: &Value| pod["metadata"]["name"].clone();
        pods.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(cluster.api.all("pods")), names(served));
}

#[tokio::test(start_paused = true)]
async fn what_may_change_without_a_roll_out_is_passed_on() {
    let cluster = Cluster::new(0);
    cluster.deploy(1, json!({}));
    cluster.rolled_out("one", 1).await;
    let patch = json!({
        "metadata": {"annotations": {"kubernetes.io/change-cause": "because"}},
        "spec": {"minReadySeconds": 5},
    });
    cluster.api.patch("deployments", "web", patch);
    let passed = |api: &FakeApi| {
        let set = api.all("replicasets").remove(0);
        set["spec"]["minReadySeconds"] == 5
            && set["metadata"]["annotations"]["kubernetes.io/change-cause"] == "because"
    };
    cluster.wait("the change in the ReplicaSet", passed).await;
}

#[tokio::test(start_paused = true)]
async fn orphans_are_left_and_adopted_again() {
    let cluster = Cluster::new(0);
    cluster.deploy(2, json!({}));
    cluster.rolled_out("one", 2).await;
    let set = cluster.api.all("replicasets").remove(0);
    cluster.api.delete("deployments", "web", "Orphan");
    let orphaned = |api: &FakeApi| {
        let owners = &api.all("replicasets")[0]["metadata"]["ownerReferences"];
        api.all("deployments").is_empty() && owners.as_array().is_none_or(Vec::is_empty)
    };
    cluster.wait("an orphaned ReplicaSet", orphaned).await;
    assert_eq!(cluster.api.all("pods").len(), 2);
    cluster.deploy(2, json!({}));
    cluster.rolled_out("one", 2).await;
    let sets = cluster.api.all("replicasets");
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0]["metadata"]["uid"], set["metadata"]["uid"]);
    assert_eq!(sets[0]["metadata"]["ownerReferences"][0]["name"], "web");
}

#[tokio::test(start_paused = true)]
async fn deletion_takes_what_is_owned() {
    for policy in ["Background", "Foreground"] {
        let cluster = Cluster::new(0);
        cluster.deploy(3, json!({}));
        cluster.rolled_out("one", 3).await;
        cluster.api.delete("deployments", "web", policy);
        let gone = |api: &FakeApi| {
            let left = ["deployments", "replicasets", "pods"].map(|of| api.all(of).len());
            let first = left[0] == 0;
            assert!(
                policy == "Background" || !first || left == [0; 3],
                "{left:?}"
            );
            left == [0; 3]
        };
        cluster.wait("an empty cluster", gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_spares_what_has_another_owner() {
    let cluster = Cluster::new(0);
    let owner = |name: &str| {
        let made = cluster.api.create(
            "configmaps",
            json!({"metadata": {"name": name, "namespace": "ns"}}),
        );
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name,
            "uid": made["metadata"]["uid"], "blockOwnerDeletion": true})
    };
    let owners = json!([owner("first"), owner("second")]);
    cluster.api.create(
        "configmaps",
        json!({"metadata": {"name": "shared", "namespace": "ns", "ownerReferences": owners}}),
    );
    cluster.api.delete("configmaps", "first", "Foreground");
    let spared = |api: &FakeApi| {
        let shared = api.find("configmaps", "shared").unwrap();
        let left = shared["metadata"]["ownerReferences"].as_array().unwrap();
        api.find("configmaps", "first").is_none() && left.len() == 1
    };
    cluster.wait("one owner left", spared).await;
    cluster.api.delete("configmaps", "second", "Background");
    let gone = |api: &FakeApi| api.all("configmaps").is_empty();
    cluster.wait("nothing left", gone).await;
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_owners_goes_as_one() {
    for length in 1..=3 {
        let cluster = Cluster::new(0);
        let made: Vec<Value> = (0..length)
            .map(|index| {
                let object = json!({"metadata": {"name": format!("m{index}"), "namespace": "ns"}});
                cluster.api.create("configmaps", object)
            })
            .collect();
        for (index, of) in made.iter().enumerate() {
            let owner = &made[(index + 1) % length]["metadata"];
            let owners = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner["name"],
                "uid": owner["uid"], "blockOwnerDeletion": true}]);
            let name = of["metadata"]["name"].as_str().unwrap();
            let patch = json!({"metadata": {"ownerReferences": owners}});
            cluster.api.patch("configmaps", name, patch);
        }
        cluster.api.delete("configmaps", "m0", "Foreground");
        let gone = |api: &FakeApi| api.all("configmaps").is_empty();
        cluster.wait("nothing left", gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_lets_a_set_go_that_it_does_not_select() {
    let cluster = Cluster::new(0);
    cluster.deploy(1, json!({}));
    cluster.rolled_out("one", 1).await;
    let set = cluster.api.all("replicasets").remove(0);
    let name = set["metadata"]["name"].as_str().unwrap();
    let labels = json!({"metadata": {"labels": {"app": "mine"}}});
    cluster.api.patch("replicasets", name, labels);
    let released = |api: &FakeApi| {
        let set = api.find("replicasets", name).unwrap();
        set["metadata"]["ownerReferences"]
            .as_array()
            .is_none_or(Vec::is_empty)
    };
    cluster.wait("a ReplicaSet of its own", released).await;
}

#[tokio::test(start_paused = true)]
async fn endpoint_slices_follow_readiness() {
    let cluster = Cluster::new(0);
    cluster.api.create(
        "services",
        json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }),
    );
    cluster.deploy(2, json!({}));
    let serving = |api: &FakeApi| -> usize {
        let slices = api.all("endpointslices");
        let endpoints = slices
            .iter()
            .flat_map(|slice| slice["endpoints"].as_array());
        let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] == true;
        endpoints.flatten().filter(ready).count()
    };
    cluster.wait("two endpoints", |api| serving(api) == 2).await;
    let pod = cluster.api.all("pods").remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    cluster.api.patch("pods", name, unready);
    cluster.wait("one endpoint", |api| serving(api) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_when_it_is_empty() {
    let cluster = Cluster::new(0);
    cluster
        .api
        .create("namespaces", json!({"metadata": {"name": "ns"}}));
    cluster.deploy(3, json!({}));
    cluster.api.create(
        "configmaps",
        json!({
            "metadata": {"name": "held", "namespace": "ns", "finalizers": ["example.com/hold"]},
        }),
    );
    cluster.rolled_out("one", 3).await;
    cluster.api.delete("namespaces", "ns", "Background");
    let held = |api: &FakeApi| {
        condition(api, "namespaces", "ns", "NamespaceFinalizersRemaining")
            == "True SomeFinalizersRemain"
    };
    cluster.wait("a finalizer that holds it", held).await;
    let empty = |api: &FakeApi| api.all("pods").is_empty() && api.all("deployments").is_empty();
    cluster.wait("no pods", empty).await;
    cluster.api.purge("configmaps", "held");
    cluster
        .wait("no namespace", |api| api.all("namespaces").is_empty())
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_comes_about_whatever_goes_wrong() {
    for seed in 0..24 {
        let mut cluster = Cluster::new(seed);
        cluster.api.set_faults(Faults {
            request: 8,
            watch: 8,
        });
        cluster.deploy(3, json!({}));
        tokio::time::sleep(Duration::from_millis(seed * 37)).await;
        cluster
            .api
            .patch("deployments", "web", json!({"spec": {"replicas": 6}}));
        tokio::time::sleep(Duration::from_millis(seed * 53)).await;
        cluster.api.patch(
            "deployments",
            "web",
            json!({"spec": {"template": template("two")}}),
        );
        tokio::time::sleep(Duration::from_millis(seed * 71 % 500)).await;
        cluster.restart().await;
        let resized = json!({"spec": {"replicas": 2 + seed % 4}});
        cluster.api.patch("deployments", "web", resized);
        let replicas = usize::try_from(2 + seed % 4).unwrap();
        cluster.rolled_out("two", replicas).await;
        let sets = cluster.api.all("replicasets");
        let wanted = |set: &Value| set["spec"]["replicas"].as_u64().unwrap();
        let wanted: u64 = sets.iter().map(wanted).sum();
        assert_eq!(wanted, 2 + seed % 4, "seed {seed}");
        assert!(cluster.api.faulty() > 5, "seed {seed} was untroubled");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_has_its_pods_whatever_goes_wrong() {
    for seed in 0..24 {
        let mut cluster = Cluster::new(seed);
        cluster.api.set_faults(Faults {
            request: 10,
            watch: 10,
        });
        cluster.api.create(
            "replicasets",
            json!({
                "metadata": {"name": "set", "namespace": "ns"},
                "spec": {
                    "replicas": 4, "selector": {"matchLabels": {"app": "web"}},
                    "template": template("one"),
                },
            }),
        );
        let active = |api: &FakeApi| -> Vec<Value> {
            let mut pods = api.all("pods");
            pods.retain(|pod| {
                pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] != "Failed"
            });
            pods
        };
        cluster
            .wait("four pods", |api| active(api).len() >= 4)
            .await;
        // A pod fails, another is lost, and a third changes its labels, while sizes change.
        for (pod, step) in active(&cluster.api).iter().zip(0..3) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            if cluster.api.find("pods", name).is_none() {
                continue;
            }
            match step {
                0 => {
                    let failed = json!({"status": {"phase": "Failed"}});
                    cluster.api.patch("pods", name, failed);
                }
                1 => cluster.api.purge("pods", name),
                _ => {
                    let stray = json!({"metadata": {"labels": {"app": "stray"}}});
                    cluster.api.patch("pods", name, stray);
                }
            }
            let size = json!({"spec": {"replicas": 2 + (seed + step) % 5}});
            cluster.api.patch("replicasets", "set", size);
            tokio::time::sleep(Duration::from_millis(seed * 41)).await;
            if step == seed % 3 {
                cluster.restart().await;
            }
        }
        let size = json!({"spec": {"replicas": 2 + seed % 5}});
        cluster.api.patch("replicasets", "set", size);
        let wanted = usize::try_from(2 + seed % 5).unwrap();
        let settled = |api: &FakeApi| {
            let mut pods = active(api);
            pods.retain(|pod| pod["metadata"]["labels"]["app"] == "web");
            let status = &api.find("replicasets", "set").unwrap()["status"];
            let said = status["availableReplicas"].as_u64();
            pods.len() == wanted && said == u64::try_from(wanted).ok()
        };
        cluster.wait("the last size", settled).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(settled(&cluster.api), "seed {seed} did not stay so");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disruption_budget_counts_the_pods_of_its_deployment() {
    let cluster = Cluster::new(0);
    let budget = json!({
        "metadata": {"name": "b", "namespace": "ns", "generation": 1},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    cluster.api.create("poddisruptionbudgets", budget);
    cluster.deploy(3, json!({}));
    let counted = |api: &FakeApi| {
        let status = api.find("poddisruptionbudgets", "b").unwrap()["status"].clone();
        status["expectedPods"] == 3
            && status["currentHealthy"] == 3
            && status["desiredHealthy"] == 2
            && status["disruptionsAllowed"] == 1
    };
    cluster.wait("one of three may go", counted).await;
    let allowed = |api: &FakeApi| {
        condition(api, "poddisruptionbudgets", "b", "DisruptionAllowed") == "True SufficientPods"
    };
    cluster.wait("the condition says so", allowed).await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_gone_are_failed_and_deleted_and_come_back_elsewhere() {
    let cluster = Cluster::new(0);
    cluster.deploy(2, json!({}));
    cluster.rolled_out("one", 2).await;
    let begun = tokio::time::Instant::now();
    cluster.starting.store(false, Ordering::SeqCst);
    cluster.ending.store(false, Ordering::SeqCst);
    let old: Vec<Value> = cluster.api.all("pods");
    cluster.api.purge("nodes", "n");
    let gone = |api: &FakeApi| {
        let pods = api.all("pods");
        pods.len() == 2
            && pods.iter().all(|pod| {
                old.iter()
                    .all(|old| old["metadata"]["uid"] != pod["metadata"]["uid"])
            })
    };
    cluster.wait("two other pods", gone).await;
    assert!(begun.elapsed() >= Duration::from_secs(40));
}
