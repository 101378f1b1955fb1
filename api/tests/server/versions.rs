//! Kinds that are served as several versions, or by several groups, of one stored object.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::Cluster;

const CORE: &str = "/api/v1/namespaces/default/events";
const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

fn new_event(name: &str) -> String {
    json!({
        "metadata": { "name": name },
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Normal",
        "reason": "Tried",
        "action": "Try",
        "note": "it was tried",
        "regarding": { "kind": "Pod", "name": "web", "namespace": "default" },
        "reportingController": "example.com/tester",
        "reportingInstance": "tester-1",
    })
    .to_string()
}

/// The first event of a watch.
async fn first(cluster: &Cluster, path: &str) -> Value {
    let body = cluster
        .open(&format!("GET {path}"), "", &[])
        .await
        .into_body();
    let mut frames = body.into_data_stream();
    let frame = frames.next().await.expect("a frame").expect("bytes");
    let line = frame.split(|byte| *byte == b'\n').next().expect("a line");
    serde_json::from_slice(line).expect("an event")
}

#[tokio::test]
async fn an_event_is_one_object_in_both_groups() {
    let cluster = Cluster::start().await;
    let made = cluster.ok(&format!("POST {NEW}"), &new_event("a")).await;
    assert_eq!(made["apiVersion"], "events.k8s.io/v1");
    assert_eq!(made["note"], "it was tried");
    let core = cluster.ok(&format!("GET {CORE}/a"), "").await;
    assert_eq!(core["apiVersion"], "v1");
    assert_eq!(core["message"], "it was tried");
    assert_eq!(core["involvedObject"]["name"], "web");
    assert_eq!(core["metadata"], made["metadata"]);
    let patch = r#"{"series":{"count":2,"lastObservedTime":"2026-01-01T00:01:00.000000Z"}}"#;
    let seen_again = cluster.ok(&format!("PATCH {NEW}/a"), patch).await;
    assert_eq!(seen_again["series"]["count"], 2);
    assert_eq!(seen_again["note"], "it was tried");
    let core = cluster.ok(&format!("GET {CORE}/a"), "").await;
    assert_eq!(core["series"]["count"], 2);
    let refused = cluster
        .failure(&format!("PATCH {NEW}/a"), r#"{"note":"other"}"#)
        .await;
    assert!(refused.contains("note: Invalid value"), "{refused}");
    cluster.ok(&format!("DELETE {CORE}/a"), "").await;
    let gone = cluster.failure(&format!("GET {NEW}/a"), "").await;
    assert_eq!(gone, r#"404 NotFound: events.events.k8s.io "a" not found"#);
}

#[tokio::test]
async fn an_older_event_is_seen_in_the_newer_group_and_each_selects_by_its_own_fields() {
    let cluster = Cluster::start().await;
    let old = r#"{"metadata":{"name":"old"},"involvedObject":{"kind":"Node","name":"n1"},"message":"m","reason":"R","type":"Normal","source":{"component":"c"}}"#;
    cluster.ok(&format!("POST {CORE}"), old).await;
    cluster.ok(&format!("POST {NEW}"), &new_event("new")).await;
    for (path, field) in [(CORE, "involvedObject.kind"), (NEW, "regarding.kind")] {
        let list = cluster
            .ok(&format!("GET {path}?fieldSelector={field}%3DNode"), "")
            .await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(list["items"][0]["metadata"]["name"], "old");
        assert_eq!(list["apiVersion"], list["items"][0]["apiVersion"]);
    }
    let list = cluster
        .ok(&format!("GET {NEW}?fieldSelector=reason%3DR"), "")
        .await;
    let event = &list["items"][0];
    assert_eq!(event["deprecatedSource"]["component"], "c");
    assert_eq!(event["note"], "m");
    let refused = cluster
        .failure(
            &format!("GET {NEW}?fieldSelector=involvedObject.kind%3DNode"),
            "",
        )
        .await;
    assert_eq!(
        refused,
        "400 BadRequest: field label not supported: involvedObject.kind"
    );
    let told = first(
        &cluster,
        &format!("{NEW}?watch=true&fieldSelector=reason%3DR"),
    )
    .await;
    assert_eq!(told["object"]["regarding"]["name"], "n1");
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_both_versions() {
    let cluster = Cluster::start().await;
    let older = r#"{"metadata":{"name":"web"},"spec":{"maxReplicas":5,"targetCPUUtilizationPercentage":50,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}"#;
    let made = cluster.ok(&format!("POST {V1}"), older).await;
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 50);
    let newer = cluster.ok(&format!("GET {V2}/web"), "").await;
    assert_eq!(
        newer["spec"]["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}])
    );
    let metrics = r#"{"spec":{"metrics":[{"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"5"}}}]}}"#;
    cluster.ok(&format!("PATCH {V2}/web"), metrics).await;
    let older = cluster.ok(&format!("GET {V1}/web"), "").await;
    assert_eq!(older["spec"].get("targetCPUUtilizationPercentage"), None);
    // A change in the older version leaves what it has no fields for.
    cluster
        .ok(&format!("PATCH {V1}/web"), r#"{"spec":{"maxReplicas":7}}"#)
        .await;
    let newer = cluster.ok(&format!("GET {V2}/web"), "").await;
    assert_eq!(newer["spec"]["maxReplicas"], 7);
    assert_eq!(newer["spec"]["metrics"][0]["pods"]["metric"]["name"], "m");
    assert_eq!(newer["metadata"].get("annotations"), None);
    let told = first(&cluster, &format!("{V1}?watch=true")).await;
    assert_eq!(told["object"]["apiVersion"], "autoscaling/v1");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = cluster
        .send_with(&format!("GET {V1}"), "", &table)
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"][2], "<unknown>/5");
}

#[tokio::test]
async fn a_dry_run_of_an_older_version_answers_that_version() {
    let cluster = Cluster::start().await;
    let body = r#"{"metadata":{"name":"web"},"spec":{"maxReplicas":5,"scaleTargetRef":{"kind":"Deployment","name":"web"}}}"#;
    let made = cluster.ok(&format!("POST {V1}?dryRun=All"), body).await;
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["maxReplicas"], 5);
    let discovery = cluster.ok("GET /apis/autoscaling", "").await;
    assert_eq!(discovery["preferredVersion"]["version"], "v2");
    assert_eq!(discovery["versions"].as_array().map(Vec::len), Some(2));
}
