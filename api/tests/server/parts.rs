//! Subresources: status, scale, binding, log.

use serde_json::json;

use crate::harness::{Cluster, DEPLOYMENTS, PODS, pod};

const DEPLOYMENT: &str = r#"{"metadata":{"name":"web"},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {DEPLOYMENTS}"), DEPLOYMENT).await;
    let both = r#"{"spec":{"replicas":7},"status":{"replicas":5}}"#;
    let status = cluster
        .ok(&format!("PATCH {DEPLOYMENTS}/web/status"), both)
        .await;
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(2), &json!(5))
    );
    let main = cluster
        .ok(
            &format!("PATCH {DEPLOYMENTS}/web"),
            r#"{"spec":{"replicas":7},"status":{"replicas":9}}"#,
        )
        .await;
    assert_eq!(
        (&main["spec"]["replicas"], &main["status"]["replicas"]),
        (&json!(7), &json!(5))
    );
    assert_eq!(main["metadata"]["generation"], 2);
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {DEPLOYMENTS}"), DEPLOYMENT).await;
    let line = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = cluster.ok(&format!("GET {line}"), "").await;
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"]),
        (&json!("Scale"), &json!("autoscaling/v1"))
    );
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(2), &json!("app=web"))
    );
    let patched = cluster
        .ok(&format!("PATCH {line}"), r#"{"spec":{"replicas":4}}"#)
        .await;
    assert_eq!(
        (&patched["kind"], &patched["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    let stale = cluster
        .failure(&format!("PUT {line}"), &scale.to_string())
        .await;
    assert!(stale.starts_with("409 Conflict"), "{stale}");
    scale["metadata"]["resourceVersion"] = json!("");
    cluster.ok(&format!("PUT {line}"), &scale.to_string()).await;
    assert_eq!(
        cluster.ok(&format!("GET {DEPLOYMENTS}/web"), "").await["spec"]["replicas"],
        2
    );
    assert_eq!(
        cluster
            .failure(&format!("PATCH {line}"), r#"{"spec":{"replicas":-1}}"#)
            .await,
        r#"422 Invalid: Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0 and fit 32 bits"#
    );
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {PODS}"), &pod("a")).await;
    let line = format!("POST {PODS}/a/binding");
    let binding = r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"a"},"target":{"apiVersion":"v1","kind":"Node","name":"n1"}}"#;
    let reply = cluster.send(&line, binding).await;
    assert_eq!(
        (reply.code.as_u16(), reply.json()["status"].as_str()),
        (201, Some("Success"))
    );
    let bound = cluster.ok(&format!("GET {PODS}/a"), "").await;
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let conditions = bound["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(
        conditions
            .iter()
            .any(|condition| condition["type"] == "PodScheduled" && condition["status"] == "True")
    );
    assert_eq!(
        cluster.failure(&line, binding).await,
        r#"409 Conflict: Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n1""#
    );
    let none = cluster.failure(&line, r#"{"target":{}}"#).await;
    assert!(none.contains("target.name: Required value"), "{none}");
    let missing = cluster
        .failure(
            &format!("POST {PODS}/b/binding"),
            binding.replace("\"a\"", "\"b\"").as_str(),
        )
        .await;
    assert_eq!(missing, r#"404 NotFound: pods "b" not found"#);
}

#[tokio::test]
async fn logs_come_from_the_pods_node() {
    let cluster = Cluster::start().await;
    cluster
        .ok("POST /api/v1/nodes", r#"{"metadata":{"name":"n1"}}"#)
        .await;
    let status = r#"{"status":{"addresses":[{"type":"Hostname","address":"h"},{"type":"InternalIP","address":"192.0.2.7"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":10999}}}}"#;
    cluster.ok("PATCH /api/v1/nodes/n1/status", status).await;
    cluster.ok(&format!("POST {PODS}"), &pod("a")).await;
    let waits = cluster.failure(&format!("GET {PODS}/a/log"), "").await;
    assert_eq!(waits, "400 BadRequest: pod a does not have a host assigned");
    cluster
        .ok(
            &format!("POST {PODS}/a/binding"),
            r#"{"target":{"name":"n1"}}"#,
        )
        .await;
    let log = cluster
        .send(
            &format!("GET {PODS}/a/log?follow=true&tailLines=5&timestamps=false&evil=x"),
            "",
        )
        .await;
    assert_eq!(
        log.text,
        "192.0.2.7:10999 /containerLogs/default/a/c?tailLines=5&follow=true"
    );
    assert_eq!(log.headers["content-type"], "text/plain");
    let wrong = cluster
        .failure(&format!("GET {PODS}/a/log?container=x"), "")
        .await;
    assert_eq!(wrong, "400 BadRequest: container x is not valid for pod a");
    assert_eq!(
        cluster.send(&format!("GET {PODS}/none/log"), "").await.code,
        404
    );
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let cluster = Cluster::start().await;
    for path in [
        "/api/v2",
        "/apis/apps/v2",
        "/apis/tasks",
        "/openapi/v3/apis/tasks/v1",
    ] {
        assert_eq!(
            cluster.failure(&format!("GET {path}"), "").await,
            "404 NotFound: the server could not find the requested resource",
            "{path}"
        );
    }
}
