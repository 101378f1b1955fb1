//! The built-in admission plugins, and dry runs.

use serde_json::json;

use crate::harness::{Cluster, PODS, pod};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

fn pod_with(name: &str, spec: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"name":"c","image":"i"}}],{spec}}}}}"#
    )
}

#[tokio::test]
async fn a_namespace_begins_with_an_account_that_its_pods_run_as() {
    let cluster = Cluster::start().await;
    cluster
        .ok("POST /api/v1/namespaces", r#"{"metadata":{"name":"a"}}"#)
        .await;
    let made = cluster
        .ok("POST /api/v1/namespaces/a/pods", &pod("p"))
        .await;
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let account = cluster
        .ok("GET /api/v1/namespaces/a/serviceaccounts/default", "")
        .await;
    assert_eq!(account["metadata"]["uid"].as_str().map(str::len), Some(36));
}

#[tokio::test]
async fn a_pod_runs_as_an_account_that_is_there_and_pulls_with_its_secrets() {
    let cluster = Cluster::start().await;
    assert_eq!(
        cluster
            .failure(
                &format!("POST {PODS}"),
                &pod_with("p", r#""serviceAccountName":"robot""#)
            )
            .await,
        r#"403 Forbidden: pods "p" is forbidden: error looking up service account default/robot: serviceaccount "robot" not found"#
    );
    cluster
        .ok(
            &format!("POST {ACCOUNTS}"),
            r#"{"metadata":{"name":"robot"},"imagePullSecrets":[{"name":"s"}]}"#,
        )
        .await;
    let made = cluster
        .ok(
            &format!("POST {PODS}"),
            &pod_with("p", r#""serviceAccountName":"robot""#),
        )
        .await;
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "s"}]));
    assert_eq!(made["spec"]["serviceAccount"], "robot");
    let volume = &made["spec"]["volumes"][0];
    let name = volume["name"].as_str().expect("a name");
    assert!(name.starts_with("kube-api-access-"), "{name}");
    assert_eq!(
        volume["projected"],
        json!({"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]})
    );
    assert_eq!(
        made["spec"]["containers"][0]["volumeMounts"],
        json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    );
    let without = pod_with("q", r#""automountServiceAccountToken":false"#);
    let made = cluster.ok(&format!("POST {PODS}"), &without).await;
    assert!(made["spec"]["volumes"].is_null());
}

#[tokio::test]
async fn a_pod_has_a_priority_and_stays_five_minutes_on_a_node_that_is_gone() {
    let cluster = Cluster::start().await;
    let made = cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["spec"]["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(made["spec"]["tolerations"][0]["tolerationSeconds"], 300);
    assert_eq!(
        cluster
            .failure(
                &format!("POST {PODS}"),
                &pod_with("q", r#""priorityClassName":"high""#)
            )
            .await,
        r#"403 Forbidden: pods "q" is forbidden: no PriorityClass with name high was found"#
    );
    cluster
        .plant(
            "scheduling.k8s.io",
            "priorityclasses",
            &json!({"metadata": {"name": "high"}, "value": 1000, "globalDefault": true}),
        )
        .await;
    for spec in [r#""priorityClassName":"high""#, r#""nodeSelector":{}"#] {
        let line = format!("POST {PODS}?dryRun=All");
        let made = cluster.ok(&line, &pod_with("q", spec)).await;
        assert_eq!(made["spec"]["priority"], 1000, "{spec}");
        assert_eq!(made["spec"]["priorityClassName"], "high", "{spec}");
    }
}

#[tokio::test]
async fn a_class_that_is_made_anew_counts_at_once() {
    let cluster = Cluster::start().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    for value in [7, 8, 9] {
        let class = json!({"metadata": {"name": "high"}, "value": value}).to_string();
        cluster.ok(&format!("POST {classes}"), &class).await;
        for _ in 0..2 {
            let line = format!("POST {PODS}?dryRun=All");
            let high = pod_with("p", r#""priorityClassName":"high""#);
            assert_eq!(cluster.ok(&line, &high).await["spec"]["priority"], value);
        }
        cluster.ok(&format!("DELETE {classes}/high"), "").await;
    }
}

#[tokio::test]
async fn a_runtime_class_is_there_or_built_in() {
    let cluster = Cluster::start().await;
    assert_eq!(
        cluster
            .failure(
                &format!("POST {PODS}"),
                &pod_with("p", r#""runtimeClassName":"mine""#)
            )
            .await,
        r#"403 Forbidden: pods "p" is forbidden: pod rejected: RuntimeClass "mine" not found"#
    );
    for class in ["wasm", "oci"] {
        let spec = format!(r#""runtimeClassName":"{class}""#);
        cluster
            .ok(&format!("POST {PODS}"), &pod_with(class, &spec))
            .await;
    }
}

#[tokio::test]
async fn limit_ranges_complete_and_bound_containers() {
    let cluster = Cluster::start().await;
    cluster
        .plant(
            "",
            "limitranges",
            &json!({
                "metadata": {"name": "l", "namespace": "default"},
                "spec": {"limits": [{
                    "type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"},
                    "max": {"cpu": "500m"},
                }]},
            }),
        )
        .await;
    // What another server wrote is seen at once by a consistent read.
    cluster.ok(&format!("GET {PODS}"), "").await;
    let made = cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    assert_eq!(
        cluster
            .failure(
                &format!("POST {PODS}"),
                r#"{"metadata":{"name":"q"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"1"}}}]}}"#,
            )
            .await,
        r#"403 Forbidden: pods "q" is forbidden: maximum cpu usage per Container is 500m, but limit is 1"#
    );
}

#[tokio::test]
async fn a_new_node_takes_no_pods_yet() {
    let cluster = Cluster::start().await;
    let node = cluster
        .ok("POST /api/v1/nodes", r#"{"metadata":{"name":"n"}}"#)
        .await;
    assert_eq!(
        node["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let cluster = Cluster::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service =
        r#"{"metadata":{"name":"s"},"spec":{"clusterIP":"10.43.9.9","ports":[{"port":80}]}}"#;
    let line = format!("POST {services}?dryRun=All");
    for _ in 0..2 {
        let made = cluster.ok(&line, service).await;
        assert_eq!(made["spec"]["clusterIP"], "10.43.9.9");
    }
    assert_eq!(
        cluster.send(&format!("GET {services}/s"), "").await.code,
        404
    );
    cluster.ok(&format!("POST {services}"), service).await;
    cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    let before = cluster.ok(&format!("GET {PODS}/p"), "").await;
    for (line, body) in [
        (format!("DELETE {PODS}/p?dryRun=All"), ""),
        (format!("DELETE {PODS}/p"), r#"{"dryRun":["All"]}"#),
        (format!("DELETE {PODS}?dryRun=All"), ""),
        (
            format!("POST {PODS}/p/binding?dryRun=All"),
            r#"{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}"#,
        ),
        (
            format!("PATCH {PODS}/p?dryRun=All"),
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
        ),
        (format!("DELETE {services}/s?dryRun=All"), ""),
    ] {
        cluster.ok(&line, body).await;
        let now = cluster.ok(&format!("GET {PODS}/p"), "").await;
        assert_eq!(now, before, "{line}");
    }
    cluster.ok(&format!("GET {services}/s"), "").await;
}

#[tokio::test]
async fn a_node_writes_itself_and_its_pods_whatever_its_roles_say() {
    let cluster = Cluster::start().await;
    let node = [
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
    ];
    let said = async |line: &str, body: &str| {
        let reply = cluster.send_with(line, body, &node).await;
        if reply.code.is_success() {
            "done".to_owned()
        } else {
            reply.failure()
        }
    };
    let nodes = "/api/v1/nodes";
    assert_eq!(
        said(&format!("POST {nodes}"), r#"{"metadata":{"name":"n1"}}"#).await,
        "done"
    );
    assert_eq!(
        said(&format!("POST {nodes}"), r#"{"metadata":{"name":"n2"}}"#).await,
        r#"403 Forbidden: nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#
    );
    cluster
        .ok(&format!("POST {nodes}"), r#"{"metadata":{"name":"n2"}}"#)
        .await;
    let status = r#"{"status":{"phase":"Running"}}"#;
    assert_eq!(
        said(&format!("PATCH {nodes}/n1/status"), status).await,
        "done"
    );
    assert_eq!(
        said(&format!("PATCH {nodes}/n2/status"), status).await,
        r#"403 Forbidden: nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#
    );

    for name in ["n1", "n2"] {
        let body = pod_with(name, &format!(r#""nodeName":"{name}""#));
        cluster.ok(&format!("POST {PODS}"), &body).await;
    }
    assert_eq!(
        said(&format!("PATCH {PODS}/n1/status"), status).await,
        "done"
    );
    assert_eq!(
        said(&format!("PATCH {PODS}/n2/status"), status).await,
        r#"403 Forbidden: pods "n2" is forbidden: node "n1" can only update pod status for pods with spec.nodeName set to itself"#
    );
    let own_only = r#"403 Forbidden: pods "n2" is forbidden: node "n1" can only"#;
    let said_of = |message: String| {
        assert!(message.starts_with(own_only), "{message}");
    };
    said_of(said(&format!("DELETE {PODS}/n2"), "").await);
    said_of(
        said(
            &format!("POST {PODS}/n2/eviction"),
            r#"{"metadata":{"name":"n2"}}"#,
        )
        .await,
    );

    let token = |pod: &serde_json::Value| {
        let bound = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        });
        json!({"spec": {"boundObjectRef": bound}}).to_string()
    };
    let line = format!("POST {ACCOUNTS}/default/token");
    let own = cluster.ok(&format!("GET {PODS}/n1"), "").await;
    assert_eq!(said(&line, &token(&own)).await, "done");
    let other = cluster.ok(&format!("GET {PODS}/n2"), "").await;
    assert_eq!(
        said(&line, &token(&other)).await,
        r#"403 Forbidden: serviceaccounts "default" is forbidden: node requested token bound to a pod scheduled on a different node"#
    );
    assert_eq!(
        said(&line, "{}").await,
        r#"403 Forbidden: serviceaccounts "default" is forbidden: node requested token not bound to a pod"#
    );
    assert_eq!(
        said(&format!("DELETE {PODS}/n1?gracePeriodSeconds=0"), "").await,
        "done"
    );
}
