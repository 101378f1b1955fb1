//! CronJobs, and Jobs that go some time after they finished, on an API in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::fake_api::{FakeApi, Faults};

fn create(cluster: &Cluster, ends: Option<&str>, spec: Value) {
    let mut template = json!({
        "metadata": {"labels": {"job": "c"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
    });
    if let Some(ends) = ends {
        template["metadata"]["annotations"] = json!({"ends": ends});
    }
    let job = json!({"parallelism": 1, "completions": 1, "backoffLimit": 0,
        "selector": {"matchLabels": {"job": "c"}}, "template": template});
    let mut full = json!({
        "schedule": "* * * * *", "concurrencyPolicy": "Allow", "suspend": false,
        "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": {"of": "c"}}, "spec": job},
    });
    for (field, value) in spec.as_object().unwrap() {
        full[field] = value.clone();
    }
    let cron = json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": full});
    cluster.api.create("cronjobs", cron);
}

fn status(api: &FakeApi) -> Value {
    api.find("cronjobs", "c").unwrap()["status"].clone()
}

/// The times of all Jobs that were ever made, in minutes.
fn made(api: &FakeApi) -> Vec<u64> {
    let mut times = Vec::new();
    for change in api.written_after("jobs", 0) {
        if change["type"] == "ADDED" {
            let name = change["object"]["metadata"]["name"].as_str().unwrap();
            times.push(name.strip_prefix("c-").unwrap().parse().unwrap());
        }
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_job_is_made_every_minute_and_few_are_kept() {
    let cluster = Cluster::new(0);
    create(&cluster, Some("well"), json!({}));
    let ten = |api: &FakeApi| made(api).len() == 10;
    cluster.wait("ten Jobs", ten).await;
    let times = made(&cluster.api);
    assert!(
        times.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{times:?}"
    );
    tokio::time::sleep(Duration::from_secs(30)).await;
    let jobs = cluster.api.all("jobs");
    assert_eq!(jobs.len(), 3);
    assert_eq!(jobs[0]["metadata"]["labels"], json!({"of": "c"}));
    let owner = &jobs[0]["metadata"]["ownerReferences"][0];
    assert_eq!(owner["kind"], "CronJob");
    let status = status(&cluster.api);
    assert!(status["active"].is_null(), "{status}");
    assert!(status["lastSuccessfulTime"].is_string(), "{status}");
    let name = format!("c-{}", times[9]);
    let created = cluster.messages("SuccessfulCreate");
    assert!(
        created.contains(&format!("Created job {name}")),
        "{created:?}"
    );
    let over = cluster.messages("SawCompletedJob");
    let message = format!("Saw completed job: {name}, condition: Complete");
    assert!(over.contains(&message), "{over:?}");
    assert!(cluster.messages("UnexpectedJob").is_empty());
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_as_asked_for() {
    for (policy, most, jobs) in [("Allow", 5, 5), ("Forbid", 1, 1), ("Replace", 1, 5)] {
        let cluster = Cluster::new(0);
        let past = crate::clock::now().as_second().rem_euclid(60);
        tokio::time::sleep(Duration::from_secs(u64::try_from(65 - past).unwrap())).await;
        create(&cluster, None, json!({"concurrencyPolicy": policy}));
        tokio::time::sleep(Duration::from_secs(5 * 60)).await;
        assert_eq!(made(&cluster.api).len(), jobs, "{policy}");
        assert_eq!(cluster.api.all("jobs").len(), most, "{policy}");
        let active = status(&cluster.api)["active"]
            .as_array()
            .map_or(0, Vec::len);
        assert_eq!(active, most, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_cron_job_makes_nothing_and_one_that_never_comes_writes_nothing() {
    for spec in [json!({"suspend": true}), json!({"schedule": "0 0 30 2 *"})] {
        let cluster = Cluster::new(0);
        create(&cluster, None, spec);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(made(&cluster.api).is_empty());
        assert_eq!(cluster.api.written_after("cronjobs", 0).len(), 1);
        let calls = cluster.api.calls();
        let events = calls.get("create events").copied().unwrap_or(0)
            + calls.get("patch events").copied().unwrap_or(0);
        assert!(events <= 1, "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_is_missed_or_made_twice_wherever_the_controllers_end() {
    for writes in 1..40 {
        let mut cluster = Cluster::new(0);
        create(
            &cluster,
            Some("well"),
            json!({"successfulJobsHistoryLimit": 1}),
        );
        cluster.restart_when_silent(writes).await;
        let some = |api: &FakeApi| made(api).len() >= 4;
        cluster.wait("four Jobs", some).await;
        check_times(&cluster.api, &format!("after {writes} writes"));
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_is_made_twice_whatever_goes_wrong() {
    for seed in 0..12 {
        let mut cluster = Cluster::new(seed);
        cluster.api.set_faults(Faults {
            request: 10,
            watch: 10,
        });
        create(&cluster, Some("mixed"), json!({}));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(60 + seed)).await;
            cluster.restart().await;
        }
        let some = |api: &FakeApi| made(api).len() >= 6;
        cluster.wait("six Jobs", some).await;
        check_times(&cluster.api, &format!("seed {seed}"));
    }
}

/// Each minute has one Job, but for those that were over before the controllers were there again.
#[track_caller]
fn check_times(api: &FakeApi, what: &str) {
    let times = made(api);
    let each: BTreeSet<u64> = times.iter().copied().collect();
    assert_eq!(each.len(), times.len(), "{what}: {times:?}");
    assert!(times.is_sorted(), "{what}: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_when_its_time_after_the_end_is_up() {
    let cluster = Cluster::new(0);
    let pods = json!({"metadata": {"labels": {"job": "j"}, "annotations": {"ends": "well"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let job = json!({
        "metadata": {"name": "j", "namespace": "ns"},
        "spec": {"parallelism": 1, "completions": 1, "ttlSecondsAfterFinished": 600,
            "selector": {"matchLabels": {"job": "j"}}, "template": pods},
    });
    cluster.api.create("jobs", job);
    let complete =
        |api: &FakeApi| super::condition(api, "jobs", "j", "Complete") == "True CompletionsReached";
    cluster.wait("complete", complete).await;
    let begun = tokio::time::Instant::now();
    let gone = |api: &FakeApi| api.all("jobs").is_empty() && api.all("pods").is_empty();
    cluster.wait("nothing left", gone).await;
    let passed = begun.elapsed().as_secs();
    assert!((595..=605).contains(&passed), "{passed} s");
}
