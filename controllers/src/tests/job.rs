//! Jobs on an API in memory: counts that are right whatever goes wrong, and wherever the controllers end.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::condition;
use crate::cluster::Cluster;
use crate::fake_api::{FakeApi, Faults};

/// A Job whose pods end as `ends` says.
fn create(cluster: &Cluster, ends: Option<&str>, spec: Value) {
    let mut full = json!({
        "parallelism": 2, "completions": 3, "backoffLimit": 6, "completionMode": "NonIndexed",
        "selector": {"matchLabels": {"job": "j"}},
        "template": {
            "metadata": {"labels": {"job": "j"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
        },
    });
    if let Some(ends) = ends {
        full["template"]["metadata"]["annotations"] = json!({"ends": ends});
    }
    for (field, value) in spec.as_object().unwrap() {
        full[field] = value.clone();
    }
    cluster.api.create(
        "jobs",
        json!({"metadata": {"name": "j", "namespace": "ns"}, "spec": full}),
    );
}

fn status(api: &FakeApi) -> Value {
    api.find("jobs", "j").unwrap_or_default()["status"].clone()
}

fn is(kind: &'static str, reason: &'static str) -> impl Fn(&FakeApi) -> bool {
    move |api| condition(api, "jobs", "j", kind) == format!("True {reason}")
}

/// How many pods there have ever been, by their last phase, but for those that were let go while they ran: the
/// Job did not want these. And no more than `parallelism` ran at any time.
fn pods_by_phase(api: &FakeApi, parallelism: usize) -> HashMap<String, u64> {
    let mut pods: HashMap<String, Value> = HashMap::new();
    for change in api.written_after("pods", 0) {
        let mut pod = change["object"].clone();
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let before = pods.get(&uid);
        let unwanted = before.is_some_and(|before| {
            before["phase"] == "Unwanted"
                || held(before)
                    && !held(&pod)
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["status"]["phase"] != "Succeeded"
                    && pod["status"]["phase"] != "Failed"
        });
        if unwanted {
            pod["phase"] = "Unwanted".into();
        }
        pods.insert(uid, pod);
        let over = |pod: &&Value| {
            let phase = pod["status"]["phase"].as_str();
            matches!(phase, Some("Succeeded" | "Failed"))
                || !pod["metadata"]["deletionTimestamp"].is_null()
        };
        let active = pods.values().filter(|pod| !over(pod)).count();
        assert!(active <= parallelism, "{active} pods at once");
    }
    let mut phases = HashMap::new();
    for pod in pods.values() {
        let phase = pod["phase"].as_str().or(pod["status"]["phase"].as_str());
        let phase = phase.unwrap_or("Pending");
        *phases.entry(phase.to_owned()).or_default() += 1;
    }
    phases
}

fn held(pod: &Value) -> bool {
    let finalizers = pod["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

fn count(status: &Value, field: &str) -> u64 {
    status[field].as_u64().unwrap_or(0)
}

/// The counts are those of the pods, and nothing holds a pod any more.
#[track_caller]
fn check_counts(api: &FakeApi, parallelism: usize, what: &str) {
    let (status, phases) = (status(api), pods_by_phase(api, parallelism));
    let of = |phase: &str| phases.get(phase).copied().unwrap_or(0);
    assert_eq!(
        count(&status, "succeeded"),
        of("Succeeded"),
        "{what}: {status}"
    );
    assert_eq!(count(&status, "failed"), of("Failed"), "{what}: {status}");
    assert_eq!(status["uncountedTerminatedPods"], json!({}), "{what}");
    assert!(!api.all("pods").iter().any(held), "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_job_completes_and_says_so() {
    let cluster = Cluster::new(0);
    create(&cluster, Some("well"), json!({}));
    cluster
        .wait("complete", is("Complete", "CompletionsReached"))
        .await;
    check_counts(&cluster.api, 2, "complete");
    let status = status(&cluster.api);
    assert!(status["completionTime"].is_string(), "{status}");
    assert!(status["active"].is_null(), "{status}");
    assert_eq!(cluster.messages("SuccessfulCreate").len(), 3);
    cluster
        .wait("the Event", |_| {
            cluster.messages("Completed") == ["Job completed"]
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_fail_are_made_again_ever_later_until_it_is_enough() {
    let cluster = Cluster::new(0);
    let begun = tokio::time::Instant::now();
    create(
        &cluster,
        Some("badly"),
        json!({"parallelism": 1, "backoffLimit": 3}),
    );
    cluster
        .wait("failed", is("Failed", "BackoffLimitExceeded"))
        .await;
    check_counts(&cluster.api, 1, "failed");
    assert_eq!(count(&status(&cluster.api), "failed"), 4);
    let passed = begun.elapsed().as_secs();
    assert!((70..90).contains(&passed), "10, 20 and 40 s are {passed} s");
    let message = "Job has reached the specified backoff limit";
    let told = |_: &FakeApi| cluster.messages("BackoffLimitExceeded") == [message];
    cluster.wait("the Event", told).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_between_any_two_writes_changes_no_count() {
    for (ends, spec) in [
        ("well", json!({})),
        ("mixed", json!({})),
        ("badly", json!({"backoffLimit": 1})),
        (
            "mixed",
            json!({"completionMode": "Indexed", "podReplacementPolicy": "Failed"}),
        ),
    ] {
        for writes in 1..28 {
            let mut cluster = Cluster::new(writes);
            create(&cluster, Some(ends), spec.clone());
            let writes = usize::try_from(writes).unwrap();
            cluster.restart_when_silent(writes).await;
            let over = |api: &FakeApi| {
                is("Complete", "CompletionsReached")(api)
                    || is("Failed", "BackoffLimitExceeded")(api)
            };
            cluster.wait("the end", over).await;
            check_counts(
                &cluster.api,
                2,
                &format!("{ends} {spec} after {writes} writes"),
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn counts_are_right_whatever_goes_wrong() {
    for seed in 0..24 {
        let mut cluster = Cluster::new(seed);
        cluster.api.set_faults(Faults {
            request: 10,
            watch: 10,
        });
        let spec = json!({"completions": 8, "parallelism": 3, "backoffLimit": 100});
        create(&cluster, Some("mixed"), spec);
        for step in 1..4 {
            tokio::time::sleep(Duration::from_millis(seed * 97 * step)).await;
            cluster.restart().await;
        }
        cluster
            .wait("complete", is("Complete", "CompletionsReached"))
            .await;
        check_counts(&cluster.api, 3, &format!("seed {seed}"));
        assert_eq!(count(&status(&cluster.api), "succeeded"), 8, "seed {seed}");
        let calls = cluster.api.written_after("jobs", 0).len();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(
            cluster.api.written_after("jobs", 0).len(),
            calls,
            "seed {seed} was not over"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_index_of_an_indexed_job_runs_once() {
    let cluster = Cluster::new(0);
    let spec = json!({"completionMode": "Indexed", "completions": 7, "parallelism": 3});
    create(&cluster, Some("well"), spec);
    cluster
        .wait("complete", is("Complete", "CompletionsReached"))
        .await;
    check_counts(&cluster.api, 3, "indexed");
    assert_eq!(status(&cluster.api)["completedIndexes"], "0-6");
    let hosts = |pod: &Value| pod["spec"]["hostname"].as_str().unwrap().to_owned();
    let mut hosts: Vec<String> = cluster.api.all("pods").iter().map(hosts).collect();
    hosts.sort();
    assert_eq!(hosts, ["j-0", "j-1", "j-2", "j-3", "j-4", "j-5", "j-6"]);
}

#[tokio::test(start_paused = true)]
async fn indexes_fail_each_for_themselves() {
    let cluster = Cluster::new(0);
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1});
    create(&cluster, Some("oddly"), spec);
    cluster.wait("failed", is("Failed", "FailedIndexes")).await;
    check_counts(&cluster.api, 4, "per index");
    let status = status(&cluster.api);
    assert_eq!(status["completedIndexes"], "0,2");
    assert_eq!(status["failedIndexes"], "1,3");
    assert_eq!(status["failed"], 4);
}

#[tokio::test(start_paused = true)]
async fn an_elastic_job_follows_its_size() {
    let cluster = Cluster::new(0);
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4});
    create(&cluster, None, spec);
    let ready = |count: u64| move |api: &FakeApi| status(api)["ready"] == count;
    cluster.wait("four", ready(4)).await;
    let size = |size: u64| json!({"spec": {"completions": size, "parallelism": size}});
    cluster.api.patch("jobs", "j", size(2));
    cluster.wait("two", ready(2)).await;
    assert_eq!(count(&status(&cluster.api), "failed"), 0);
    cluster.api.patch("jobs", "j", size(3));
    cluster.wait("three", ready(3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_is_suspended_and_resumed() {
    let cluster = Cluster::new(0);
    create(&cluster, None, json!({"suspend": true}));
    cluster
        .wait("suspended", is("Suspended", "JobSuspended"))
        .await;
    assert!(cluster.api.all("pods").is_empty());
    assert!(status(&cluster.api)["startTime"].is_null());
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    cluster.api.patch("jobs", "j", suspend(false));
    let ready = |api: &FakeApi| status(api)["ready"] == 2;
    cluster.wait("two pods", ready).await;
    assert!(status(&cluster.api)["startTime"].is_string());
    cluster.api.patch("jobs", "j", suspend(true));
    cluster
        .wait("no pods", |api| api.all("pods").is_empty())
        .await;
    cluster
        .wait("suspended", is("Suspended", "JobSuspended"))
        .await;
    assert_eq!(count(&status(&cluster.api), "failed"), 0);
    for (reason, message) in [("Suspended", "Job suspended"), ("Resumed", "Job resumed")] {
        let said = cluster.messages(reason);
        assert!(said.iter().all(|said| said == message) && !said.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_runs() {
    let cluster = Cluster::new(0);
    create(&cluster, None, json!({"activeDeadlineSeconds": 60}));
    cluster
        .wait("failed", is("Failed", "DeadlineExceeded"))
        .await;
    check_counts(&cluster.api, 2, "deadline");
    assert_eq!(count(&status(&cluster.api), "failed"), 2);
    assert!(cluster.api.all("pods").is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_holds_the_pods_of_a_deleted_job() {
    for policy in ["Background", "Foreground", "Orphan"] {
        let cluster = Cluster::new(0);
        create(&cluster, None, json!({}));
        cluster
            .wait("two pods", |api| status(api)["ready"] == 2)
            .await;
        cluster.api.delete("jobs", "j", policy);
        let gone = |api: &FakeApi| {
            let pods = api.all("pods");
            let left = if policy == "Orphan" { 2 } else { 0 };
            api.all("jobs").is_empty() && pods.len() == left && !pods.iter().any(held)
        };
        cluster.wait(policy, gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_another_manages_is_left_alone() {
    let cluster = Cluster::new(0);
    create(&cluster, None, json!({"managedBy": "example.com/queue"}));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(cluster.api.all("pods").is_empty());
    assert!(status(&cluster.api).is_null());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_a_job_selects_is_adopted_and_counted() {
    let cluster = Cluster::new(0);
    let pod = json!({
        "metadata": {"name": "stray", "namespace": "ns", "labels": {"job": "j"},
            "annotations": {"ends": "well"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    cluster.api.create("pods", pod);
    create(&cluster, Some("well"), json!({"completions": 1}));
    cluster
        .wait("complete", is("Complete", "CompletionsReached"))
        .await;
    let owners = &cluster.api.find("pods", "stray").unwrap()["metadata"]["ownerReferences"];
    assert_eq!(owners[0]["name"], "j");
    check_counts(&cluster.api, 2, "adopted");
}
