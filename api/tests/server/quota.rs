//! ResourceQuotas: never exceeded, by whomever; what is freed can be used again.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use store::{ResourceKey, Store};
use tokio::time::{sleep, timeout};

use crate::harness::{Cluster, DEADLINE, MAPS, PODS, config_map, pod};

async fn limit(cluster: &Cluster, hard: Value) {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": "default", "uid": "u"},
        "spec": {"hard": hard},
    });
    cluster.plant("", "resourcequotas", &quota).await;
    cluster.ok(&format!("GET {PODS}"), "").await;
}

/// What the quota in the store says is used.
async fn used(cluster: &Cluster) -> Value {
    let key = ResourceKey::new("", "resourcequotas").key("default", "q");
    let entry = cluster.store.get(&key).await.expect("the store answers");
    let quota: Value = serde_json::from_slice(&entry.expect("a quota").value).expect("JSON");
    quota["status"]["used"].clone()
}

/// Waits until that much is used.
async fn wait_used(cluster: &Cluster, expected: Value) {
    let mut last = Value::Null;
    let waited = timeout(DEADLINE, async {
        loop {
            last = used(cluster).await;
            if last == expected {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{last} is used, not {expected}");
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_said_in_full() {
    let cluster = Cluster::start().await;
    limit(&cluster, json!({"pods": "1", "requests.cpu": "1"})).await;
    let sized = |name: &str, cpu: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"name":"c","image":"i","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}}}}"#
        )
    };
    let line = format!("POST {PODS}");
    assert_eq!(
        cluster.failure(&line, &pod("p")).await,
        r#"403 Forbidden: pods "p" is forbidden: failed quota: q: must specify requests.cpu for: c"#
    );
    assert_eq!(
        cluster.failure(&line, &sized("p", "2")).await,
        r#"403 Forbidden: pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=0, limited: requests.cpu=1"#
    );
    // A dry run is told the same and uses nothing.
    for _ in 0..2 {
        cluster
            .ok(&format!("{line}?dryRun=All"), &sized("p", "1"))
            .await;
    }
    cluster.ok(&line, &sized("p", "500m")).await;
    assert_eq!(
        used(&cluster).await,
        json!({"pods": "1", "requests.cpu": "500m"})
    );
    for dry in ["", "?dryRun=All"] {
        assert_eq!(
            cluster
                .failure(&format!("{line}{dry}"), &sized("q", "500m"))
                .await,
            r#"403 Forbidden: pods "q" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"#
        );
    }
    // One that is there is there, whatever is used.
    cluster.ok(&format!("DELETE {PODS}/p"), "").await;
    wait_used(&cluster, json!({"pods": "0", "requests.cpu": "0"})).await;
    cluster.ok(&line, &sized("q", "1")).await;
}

#[tokio::test]
async fn a_pod_that_has_ended_makes_room() {
    let cluster = Cluster::start().await;
    limit(&cluster, json!({"pods": "1"})).await;
    cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    cluster
        .ok(
            &format!("PATCH {PODS}/p/status"),
            r#"{"status":{"phase":"Succeeded"}}"#,
        )
        .await;
    wait_used(&cluster, json!({"pods": "0"})).await;
    cluster.ok(&format!("POST {PODS}"), &pod("q")).await;
}

#[tokio::test]
async fn many_requests_to_two_servers_do_not_exceed_it_together() {
    let one = Cluster::start().await;
    let two = one.start_beside().await;
    limit(&one, json!({"count/configmaps": "25", "configmaps": "25"})).await;
    two.ok(&format!("GET {PODS}"), "").await;
    let line = format!("POST {MAPS}");
    // Some want a name that another has.
    let names: Vec<String> = (0..80).map(|index| format!("m{}", index % 60)).collect();
    let answers = join_all(names.iter().enumerate().map(|(index, name)| {
        let cluster = if index % 2 == 0 { &one } else { &two };
        let line = line.clone();
        async move { cluster.send(&line, &config_map(name, "1")).await }
    }))
    .await;
    let made = answers.iter().filter(|reply| reply.code == 201).count();
    assert_eq!(made, 25);
    for reply in answers.iter().filter(|reply| reply.code != 201) {
        assert!(
            reply.code == 403 || reply.code == 409,
            "{}",
            reply.failure()
        );
    }
    let maps = one.ok(&format!("GET {MAPS}"), "").await;
    let listed = maps["items"].as_array().expect("a list").len();
    assert_eq!(
        used(&one).await,
        json!({"count/configmaps": listed.to_string(), "configmaps": listed.to_string()})
    );
    let deleted = join_all((0..60).map(|index| {
        let line = format!("DELETE {MAPS}/m{index}");
        let two = &two;
        async move { two.send(&line, "").await.code }
    }))
    .await;
    assert_eq!(deleted.iter().filter(|code| **code == 200).count(), 25);
    let left = (listed - 25).to_string();
    wait_used(&one, json!({"count/configmaps": left, "configmaps": left})).await;
}

#[tokio::test]
async fn a_storm_of_pods_in_one_namespace_is_let_through() {
    let cluster = Cluster::start().await;
    limit(&cluster, json!({"pods": "1000"})).await;
    let line = format!("POST {PODS}");
    // Within the bound on writes at once.
    for round in 0..3 {
        let made = join_all((0..100).map(|index| {
            let (cluster, line) = (&cluster, line.clone());
            let pod = pod(&format!("p{round}-{index}"));
            async move { cluster.send(&line, &pod).await.code }
        }))
        .await;
        assert!(made.iter().all(|code| *code == 201));
    }
    assert_eq!(used(&cluster).await, json!({"pods": "300"}));
}
