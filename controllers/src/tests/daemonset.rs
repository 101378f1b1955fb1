//! DaemonSets on several nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, ready, template};
use crate::fake_api::{FakeApi, Faults};

/// Nodes `n`, `n1`, `n2`, …, each with the label `disk: ssd`, and a DaemonSet `web` for them.
fn daemons(seed: u64, nodes: usize, strategy: Value) -> Cluster {
    let cluster = Cluster::new(seed);
    let labels = json!({"disk": "ssd"});
    let metadata = json!({"metadata": {"labels": labels}});
    cluster.api.patch("nodes", "n", metadata);
    for number in 1..nodes {
        cluster.add_node(&format!("n{number}"), labels.clone());
    }
    let selector = json!({"matchLabels": {"app": "web"}});
    cluster.api.create(
        "daemonsets",
        json!({
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {
                "selector": selector, "updateStrategy": strategy, "template": of("one"),
                "revisionHistoryLimit": 2,
            },
        }),
    );
    cluster
}

fn of(image: &str) -> Value {
    let mut template = template(image);
    template["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    template
}

fn roll(cluster: &Cluster, image: &str) {
    let spec = json!({"spec": {"template": of(image)}});
    cluster.api.patch("daemonsets", "web", spec);
}

/// The images of the pods that stay, by node.
fn images(api: &FakeApi) -> BTreeMap<String, Vec<String>> {
    let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in api.all("pods") {
        if pod["metadata"]["deletionTimestamp"].is_null() && pod["spec"]["nodeName"].is_string() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let images = by_node.entry(text(&pod["spec"]["nodeName"])).or_default();
            images.push(text(&pod["spec"]["containers"][0]["image"]));
        }
    }
    by_node
}

fn each_runs(api: &FakeApi, image: &str, nodes: usize) -> bool {
    let images = images(api);
    let status = &api.find("daemonsets", "web").unwrap()["status"];
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberReady",
        "numberAvailable",
    ];
    images.len() == nodes
        && api.count("pods") == nodes
        && images.values().all(|images| *images == [image])
        && counts
            .iter()
            .all(|count| status[count].as_u64() == u64::try_from(nodes).ok())
        && status["numberUnavailable"].is_null()
        && status["numberMisscheduled"] == 0
}

#[tokio::test(start_paused = true)]
async fn every_node_that_fits_gets_a_pod_and_says_of_which_revision() {
    let cluster = daemons(0, 3, json!({}));
    let settled = |api: &FakeApi| each_runs(api, "one", 3);
    cluster.wait("three pods", settled).await;
    let revision = cluster.api.all("controllerrevisions").remove(0);
    let hash = &revision["metadata"]["labels"]["controller-revision-hash"];
    assert_eq!(revision["revision"], 1);
    for pod in cluster.api.all("pods") {
        let labels = &pod["metadata"]["labels"];
        assert_eq!(&labels["controller-revision-hash"], hash);
        assert_eq!(pod["metadata"]["generateName"], "web-");
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 6);
    }
    let said = |_: &FakeApi| {
        let said = cluster.messages("SuccessfulCreate");
        said.len() == 3 && said[0].starts_with("Created pod: web-")
    };
    cluster.wait("three Events", said).await;
    // At rest nothing is written.
    let before = cluster.api.calls();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let after = cluster.api.calls();
    for call in ["patch daemonsets", "create pods", "get daemonsets"] {
        assert_eq!(before.get(call), after.get(call), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_follow_nodes_that_come_change_and_go() {
    let cluster = daemons(0, 2, json!({}));
    let on = |nodes: &'static [&str]| {
        move |api: &FakeApi| {
            let images = images(api);
            let names: BTreeSet<&str> = images.keys().map(String::as_str).collect();
            names == nodes.iter().copied().collect()
        }
    };
    cluster.wait("two", on(&["n", "n1"])).await;
    cluster.add_node("other", json!({"disk": "tape"}));
    cluster.add_node("n2", json!({"disk": "ssd"}));
    cluster.wait("three", on(&["n", "n1", "n2"])).await;
    let tape = json!({"metadata": {"labels": {"disk": "tape"}}});
    cluster.api.patch("nodes", "n1", tape);
    cluster.wait("two others", on(&["n", "n2"])).await;
    // A taint keeps new pods away and lets the old one stay.
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "mine", "effect": effect}]}});
    cluster.api.patch("nodes", "n2", taint("NoSchedule"));
    let misscheduled = |api: &FakeApi| {
        let status = &api.find("daemonsets", "web").unwrap()["status"];
        status["numberMisscheduled"] == 1 && status["desiredNumberScheduled"] == 1
    };
    cluster.wait("one that only stays", misscheduled).await;
    assert_eq!(images(&cluster.api).len(), 2);
    cluster.api.patch("nodes", "n2", taint("NoExecute"));
    cluster.wait("it left", on(&["n"])).await;
    cluster.api.purge("nodes", "n");
    cluster.wait("none", on(&[])).await;
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_keeps_within_what_may_be_unavailable_and_goes_back() {
    let cluster = daemons(0, 4, json!({}));
    cluster.wait("one", |api| each_runs(api, "one", 4)).await;
    for (image, revisions) in [("two", [1, 2].as_slice()), ("one", &[2, 3])] {
        roll(&cluster, image);
        let within = |api: &FakeApi| {
            let pods = api.all("pods");
            let serving = pods
                .iter()
                .filter(|pod| ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
            assert!(serving.count() >= 3);
            each_runs(api, image, 4)
        };
        cluster.wait(image, within).await;
        let kept = cluster.api.all("controllerrevisions");
        let numbers = kept.iter().map(|kept| kept["revision"].as_i64().unwrap());
        let numbers: BTreeSet<i64> = numbers.collect();
        assert_eq!(numbers, revisions.iter().copied().collect());
    }
}

#[tokio::test(start_paused = true)]
async fn a_surge_leaves_no_node_without_a_pod() {
    let strategy = json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "50%"}});
    let cluster = daemons(0, 4, strategy);
    cluster.wait("one", |api| each_runs(api, "one", 4)).await;
    roll(&cluster, "two");
    let within = |api: &FakeApi| {
        let pods = api.all("pods");
        let mut serving = pods.clone();
        serving.retain(|pod| ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
        let nodes: BTreeSet<String> = serving
            .iter()
            .map(|pod| pod["spec"]["nodeName"].to_string())
            .collect();
        assert_eq!(nodes.len(), 4);
        each_runs(api, "two", 4)
    };
    cluster.wait("two", within).await;
}

#[tokio::test(start_paused = true)]
async fn on_delete_waits_for_whoever_deletes_and_old_revisions_go() {
    let cluster = daemons(0, 2, json!({"type": "OnDelete"}));
    cluster.wait("one", |api| each_runs(api, "one", 2)).await;
    for image in ["two", "three", "four", "five"] {
        roll(&cluster, image);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let one = |api: &FakeApi| images(api).values().all(|images| *images == ["one"]);
    assert!(one(&cluster.api));
    // That of the pods stays beyond the limit.
    let kept = cluster.api.all("controllerrevisions");
    let mut numbers: Vec<i64> = kept
        .iter()
        .map(|kept| kept["revision"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 4, 5]);
    for pod in cluster.api.all("pods") {
        let name = pod["metadata"]["name"].as_str().unwrap();
        cluster.api.delete("pods", name, "Background");
    }
    cluster.wait("five", |api| each_runs(api, "five", 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fails_again_and_again_is_replaced_ever_less_often() {
    let cluster = daemons(0, 1, json!({}));
    let begun = tokio::time::Instant::now();
    for _ in 0..6 {
        cluster.wait("one", |api| each_runs(api, "one", 1)).await;
        let pod = cluster.api.all("pods").remove(0);
        let name = pod["metadata"]["name"].as_str().unwrap();
        let failed = json!({"status": {"phase": "Failed"}});
        cluster.api.patch("pods", name, failed);
        let gone = |api: &FakeApi| api.find("pods", name).is_none();
        cluster.wait("its end", gone).await;
    }
    // 0, 1, 2, 4, 8 and 16 s.
    assert!(begun.elapsed() >= Duration::from_secs(31));
    let said = |_: &FakeApi| {
        let said = cluster.messages("FailedDaemonPod");
        said.first().is_some_and(|said| {
            said.starts_with("Found failed daemon pod ns/web-")
                && said.ends_with(" on node n, will try to kill it")
        })
    };
    cluster.wait("an Event", said).await;
    cluster.wait("one", |api| each_runs(api, "one", 1)).await;
    let pod = cluster.api.all("pods").remove(0);
    let done = json!({"status": {"phase": "Succeeded"}});
    let name = pod["metadata"]["name"].as_str().unwrap();
    cluster.api.patch("pods", name, done);
    let said = |_: &FakeApi| cluster.messages("SucceededDaemonPod").len() == 1;
    cluster.wait("an Event", said).await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_deleted_set_are_adopted_by_the_next() {
    let cluster = daemons(0, 2, json!({}));
    cluster.wait("one", |api| each_runs(api, "one", 2)).await;
    let uids = |api: &FakeApi| -> BTreeSet<String> {
        let pods = api.all("pods");
        pods.iter()
            .map(|pod| pod["metadata"]["uid"].to_string())
            .collect()
    };
    let (before, spec) = (
        uids(&cluster.api),
        cluster.api.find("daemonsets", "web").unwrap()["spec"].clone(),
    );
    cluster.api.delete("daemonsets", "web", "Orphan");
    let gone = |api: &FakeApi| api.find("daemonsets", "web").is_none();
    cluster.wait("its end", gone).await;
    let again = json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec});
    cluster.api.create("daemonsets", again);
    cluster.wait("one", |api| each_runs(api, "one", 2)).await;
    assert_eq!(uids(&cluster.api), before);
    assert_eq!(cluster.api.all("controllerrevisions").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_node_has_its_pod_whatever_goes_wrong() {
    for seed in 0..24 {
        let surge = seed % 2;
        let strategy = json!({"rollingUpdate": {"maxUnavailable": 1 - surge, "maxSurge": surge}});
        let mut cluster = daemons(seed, 4, strategy);
        let (request, watch) = (8, 8);
        cluster.api.set_faults(Faults { request, watch });
        tokio::time::sleep(Duration::from_millis(seed * 37)).await;
        roll(&cluster, "two");
        tokio::time::sleep(Duration::from_millis(seed * 71 % 500)).await;
        cluster.restart().await;
        cluster.add_node("late", json!({"disk": "ssd"}));
        if let Some(pod) = cluster.api.all("pods").first() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let failed = json!({"status": {"phase": "Failed"}});
            cluster.api.patch("pods", name, failed);
        }
        tokio::time::sleep(Duration::from_millis(seed * 53 % 700)).await;
        let tape = json!({"metadata": {"labels": {"disk": "tape"}}});
        cluster.api.patch("nodes", "n1", tape);
        cluster.restart().await;
        let settled = |api: &FakeApi| each_runs(api, "two", 4);
        cluster.wait("two on four nodes", settled).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(settled(&cluster.api), "seed {seed} did not stay so");
        assert!(cluster.api.faulty() > 5, "seed {seed} was untroubled");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_ever_less_often() {
    let cluster = daemons(0, 0, json!({}));
    let full = "pods \"web-\" is forbidden: exceeded quota: q";
    cluster.api.refuse("create pods", Some(full));
    cluster.add_node("n1", json!({"disk": "ssd"}));
    let told = |_: &FakeApi| !cluster.messages("FailedCreate").is_empty();
    cluster.wait("an Event", told).await;
    assert!(cluster.messages("FailedCreate")[0].starts_with("Error creating: "));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let tries = cluster.api.calls()["create pods"];
    assert!(tries < 40, "{tries}");
    let status = cluster.api.find("daemonsets", "web").unwrap()["status"].clone();
    assert_eq!(status["desiredNumberScheduled"], 2);
    assert_eq!(status["numberUnavailable"], 2);
    cluster.api.refuse("create pods", None);
    cluster.wait("one", |api| each_runs(api, "one", 2)).await;
}

#[tokio::test(start_paused = true)]
async fn many_nodes_cost_few_calls_each() {
    let cluster = daemons(0, 120, json!({}));
    cluster
        .wait("120 pods", |api| each_runs(api, "one", 120))
        .await;
    let calls = cluster.api.calls();
    let of = |call: &str| calls.get(call).copied().unwrap_or(0);
    assert_eq!(of("create pods"), 120);
    assert!(of("patch daemonsets") <= 130, "{calls:?}");
    assert!(of("get daemonsets") + of("get pods") <= 2, "{calls:?}");
}
