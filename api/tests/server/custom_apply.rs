//! Server-side apply on kinds that users define, and on parts of pods that have a path of their own.

use expect_test::expect;
use serde_json::{Value, json};

use crate::{
    custom_resources::{CRONTABS, definition},
    harness::{Cluster, PODS, Reply, pod},
};

const APPLY: (&str, &str) = ("content-type", "application/apply-patch+yaml");

async fn apply(cluster: &Cluster, path: &str, manager: &str, body: &Value) -> Reply {
    let line = format!("PATCH {path}?fieldManager={manager}");
    cluster.send_with(&line, &body.to_string(), &[APPLY]).await
}

async fn applied(cluster: &Cluster, path: &str, manager: &str, body: &Value) -> Value {
    let reply = apply(cluster, path, manager, body).await;
    assert!(reply.code.is_success(), "{path}: {}", reply.text);
    reply.json()
}

/// What each manager owns, one line each.
fn owned(object: &Value) -> String {
    let entries = object["metadata"]["managedFields"].as_array();
    let lines = entries.into_iter().flatten().map(|entry| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let (manager, subresource) = (text("manager"), text("subresource"));
        format!("{manager}/{subresource} {}", entry["fieldsV1"])
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A cluster with a kind that has a list of every type, a status and a scale.
async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    let list = |of: Value, more: Value| {
        let mut list = json!({"type": "array", "items": of});
        for (key, value) in more.as_object().into_iter().flatten() {
            list[key] = value.clone();
        }
        list
    };
    let text = json!({"type": "string"});
    let port = json!({"type": "object", "required": ["port"], "properties": {
        "port": {"type": "integer"},
        "protocol": {"type": "string", "default": "TCP"},
        "name": {"type": "string"},
    }});
    let keys = json!({
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "protocol"],
    });
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer"},
        "ports": list(port, keys),
        "tags": list(text.clone(), json!({"x-kubernetes-list-type": "set"})),
        "steps": list(text.clone(), json!({})),
        "place": {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "additionalProperties": text,
        },
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let status = json!({"type": "object", "properties": {
        "size": {"type": "integer"},
        "phase": {"type": "string"},
    }});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    let version = json!({
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
        },
    });
    cluster.define(&definition(version)).await;
    cluster
}

fn crontab(more: Value) -> Value {
    let mut object = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab"});
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}

fn spec(spec: Value) -> Value {
    crontab(json!({ "spec": spec }))
}

#[tokio::test]
async fn lists_are_merged_as_their_types_say() {
    let cluster = cluster().await;
    let path = format!("{CRONTABS}/a");
    let first = json!({
        "ports": [{"port": 80, "name": "web"}], "tags": ["a", "b"], "steps": ["x"], "open": {"a": {"b": 1}},
    });
    let created = apply(&cluster, &path, "one", &spec(first)).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let second = json!({
        "ports": [{"port": 80, "protocol": "UDP"}], "tags": ["c", "a"], "open": {"a": {"c": [1]}},
    });
    let object = applied(&cluster, &path, "two", &spec(second)).await;
    expect![[r#"{"open":{"a":{"b":1,"c":[1]}},"ports":[{"name":"web","port":80,"protocol":"TCP"},{"port":80,"protocol":"UDP"}],"steps":["x"],"tags":["c","a","b"]}"#]]
        .assert_eq(&object["spec"].to_string());
    expect![[r#"
        one/ {"f:spec":{"f:open":{"f:a":{".":{},"f:b":{}}},"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}},"f:steps":{},"f:tags":{"v:\"a\"":{},"v:\"b\"":{}}}}
        two/ {"f:spec":{"f:open":{"f:a":{".":{},"f:c":{}}},"f:ports":{"k:{\"port\":80,\"protocol\":\"UDP\"}":{".":{},"f:port":{},"f:protocol":{}}},"f:tags":{"v:\"a\"":{},"v:\"c\"":{}}}}"#]].assert_eq(&owned(&object));
    // What the first wants no more goes, unless the second wants it too.
    let object = applied(&cluster, &path, "one", &spec(json!({"steps": ["x"]}))).await;
    expect![[r#"{"open":{"a":{"c":[1]}},"ports":[{"port":80,"protocol":"UDP"}],"steps":["x"],"tags":["c","a"]}"#]].assert_eq(&object["spec"].to_string());
}

#[tokio::test]
async fn what_is_atomic_has_one_owner() {
    let cluster = cluster().await;
    let path = format!("{CRONTABS}/a");
    let wanted = json!({"steps": ["x"], "place": {"zone": "a"}, "open": {"a": 1}});
    applied(&cluster, &path, "one", &spec(wanted)).await;
    let wanted = json!({"steps": ["x", "y"], "place": {"row": "1"}, "open": {"a": 2}});
    let refused = apply(&cluster, &path, "two", &spec(wanted)).await;
    expect![[r#"
        409 Conflict: Apply failed with 3 conflicts: conflicts with "one":
        - .spec.open.a
        - .spec.place
        - .spec.steps"#]]
    .assert_eq(&refused.failure());
    let unknown = apply(&cluster, &path, "two", &spec(json!({"nope": 1}))).await;
    expect!["400 BadRequest: failed to create typed patch object (default/a; stable.example.com/v1, Kind=CronTab): .spec.nope: field not declared in schema"].assert_eq(&unknown.failure());
}

#[tokio::test]
async fn a_status_is_applied_apart() {
    let cluster = cluster().await;
    let path = format!("{CRONTABS}/a");
    let both = crontab(json!({"spec": {"size": 1}, "status": {"phase": "Ready"}}));
    let object = applied(&cluster, &path, "user", &both).await;
    assert_eq!(object["status"], Value::Null, "{object}");
    let object = applied(&cluster, &format!("{path}/status"), "operator", &both).await;
    assert_eq!(object["status"], json!({"phase": "Ready"}));
    assert_eq!(object["metadata"]["generation"], 1);
    expect![[r#"
        operator/status {"f:status":{"f:phase":{}}}
        user/ {"f:spec":{"f:size":{}}}"#]]
    .assert_eq(&owned(&object));
}

#[tokio::test]
async fn a_scale_is_applied_where_the_kind_has_its_replicas() {
    let cluster = cluster().await;
    let path = format!("{CRONTABS}/a");
    applied(&cluster, &path, "user", &spec(json!({"size": 1}))).await;
    let scale = |replicas: i64| {
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "a", "labels": {"not": "kept"}},
            "spec": {"replicas": replicas},
        })
    };
    let scaled = format!("{path}/scale");
    let refused = apply(&cluster, &scaled, "scaler", &scale(3)).await;
    expect![[r#"409 Conflict: Apply failed with 1 conflict: conflict with "user": .spec.size"#]]
        .assert_eq(&refused.failure());
    applied(&cluster, &path, "user", &crontab(json!({}))).await;
    let answer = applied(&cluster, &scaled, "scaler", &scale(3)).await;
    assert_eq!(answer["spec"], json!({"replicas": 3}));
    let object = cluster.ok(&format!("GET {path}"), "").await;
    assert_eq!(object["spec"], json!({"size": 3}));
    assert_eq!(object["metadata"]["labels"], Value::Null);
    expect![[r#"scaler/scale {"f:spec":{"f:size":{}}}"#]].assert_eq(&owned(&object));
    let negative = apply(&cluster, &scaled, "scaler", &scale(-1)).await;
    expect![[r#"422 Invalid: Scale.autoscaling "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0 and fit 32 bits"#]].assert_eq(&negative.failure());
}

#[tokio::test]
async fn a_resize_owns_only_resources() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {PODS}"), &pod("a")).await;
    let wanted = json!({
        "apiVersion": "v1", "kind": "Pod",
        "spec": {"containers": [{
            "name": "c",
            "image": "another",
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        }]},
    });
    let path = format!("{PODS}/a/resize");
    let object = applied(&cluster, &path, "scaler", &wanted).await;
    assert_eq!(object["spec"]["containers"][0]["image"], "i");
    let managers = owned(&object);
    let own = managers.lines().find(|line| line.contains("/resize "));
    expect![[
        r#"scaler/resize {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:resizePolicy":{}}}}}"#
    ]]
    .assert_eq(own.unwrap_or_default());
}

#[tokio::test]
async fn an_apply_of_ephemeral_containers_owns_only_them() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {PODS}"), &pod("a")).await;
    let wanted = json!({
        "apiVersion": "v1", "kind": "Pod",
        "spec": {
            "hostname": "another",
            "ephemeralContainers": [{"name": "debugger", "image": "i"}],
        },
    });
    let path = format!("{PODS}/a/ephemeralcontainers");
    let object = applied(&cluster, &path, "debug", &wanted).await;
    assert_eq!(object["spec"]["hostname"], Value::Null);
    let managers = owned(&object);
    let own = managers
        .lines()
        .find(|line| line.contains("/ephemeralcontainers "));
    expect![[r#"debug/ephemeralcontainers {"f:spec":{"f:ephemeralContainers":{"k:{\"name\":\"debugger\"}":{".":{},"f:image":{},"f:name":{}}}}}"#]].assert_eq(own.unwrap_or_default());
}
