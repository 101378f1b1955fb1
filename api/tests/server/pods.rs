//! A pod's subresources: ephemeral containers, resizing, eviction within a budget, binding.

use serde_json::{Value, json};

use crate::harness::{Cluster, PODS, pod};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const STRATEGIC: [(&str, &str); 1] = [("content-type", "application/strategic-merge-patch+json")];

/// Makes a pod that runs on a node and is ready.
async fn run(cluster: &Cluster, name: &str) {
    cluster.ok(&format!("POST {PODS}"), &pod(name)).await;
    let binding = r#"{"target":{"kind":"Node","name":"n1"}}"#;
    cluster
        .ok(&format!("POST {PODS}/{name}/binding"), binding)
        .await;
    let status =
        r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    cluster
        .ok(&format!("PATCH {PODS}/{name}/status"), status)
        .await;
}

/// Makes a budget for a pod and says what its controller would.
async fn budget(cluster: &Cluster, name: &str, spec: Value, status: Value) {
    let body = json!({"metadata": {"name": name}, "spec": spec});
    cluster
        .ok(&format!("POST {BUDGETS}"), &body.to_string())
        .await;
    let body = json!({ "status": status });
    cluster
        .ok(&format!("PATCH {BUDGETS}/{name}/status"), &body.to_string())
        .await;
}

fn eviction(name: &str, options: &Value) -> String {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name},
        "deleteOptions": options,
    })
    .to_string()
}

#[tokio::test]
async fn an_ephemeral_container_is_added_and_stays() {
    let cluster = Cluster::start().await;
    run(&cluster, "p").await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let patch = r#"{"spec":{"ephemeralContainers":[{"name":"look","image":"i","targetContainerName":"c"}],"nodeName":"n2"}}"#;
    let reply = cluster
        .send_with(&format!("PATCH {path}"), patch, &STRATEGIC)
        .await;
    assert!(reply.warnings().is_empty());
    let seen = reply.json();
    assert_eq!(seen["spec"]["ephemeralContainers"][0]["name"], "look");
    assert_eq!(
        seen["spec"]["ephemeralContainers"][0]["imagePullPolicy"],
        "Always"
    );
    assert_eq!(seen["spec"]["nodeName"], "n1");
    let gone = r#"{"spec":{"ephemeralContainers":null}}"#;
    let refused = cluster.failure(&format!("PATCH {path}"), gone).await;
    assert!(
        refused.contains(r#"existing ephemeral containers "look" may not be removed"#),
        "{refused}"
    );
    let served = r#"{"spec":{"ephemeralContainers":[{"name":"b","image":"i","ports":[{"containerPort":80}]}]}}"#;
    let reply = cluster
        .send_with(&format!("PATCH {path}"), served, &STRATEGIC)
        .await;
    assert!(
        reply
            .failure()
            .contains("spec.ephemeralContainers[0].ports: Forbidden"),
        "{}",
        reply.text
    );
    // Other writes leave it alone.
    let labelled = cluster
        .ok(
            &format!("PATCH {PODS}/p"),
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
        )
        .await;
    assert_eq!(labelled["spec"]["ephemeralContainers"][0]["name"], "look");
}

#[tokio::test]
async fn a_resize_changes_cpu_and_memory_alone() {
    let cluster = Cluster::start().await;
    let body = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"1"},"limits":{"cpu":"2"}}}]}}"#;
    cluster.ok(&format!("POST {PODS}"), body).await;
    let patch = r#"{"spec":{"containers":[{"name":"c","image":"j","resources":{"requests":{"cpu":"1500m"}}}]}}"#;
    let line = format!("PATCH {PODS}/p/resize");
    let reply = cluster.send_with(&line, patch, &STRATEGIC).await;
    assert!(
        reply.warnings()[0].contains("wk does not resize containers that run yet"),
        "{:?}",
        reply.warnings()
    );
    let resized = reply.json();
    let container = &resized["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"]["cpu"], "1500m");
    assert_eq!(container["image"], "i");
    assert_eq!(resized["metadata"]["generation"], 2);
    let patch = r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"3"}}}]}}"#;
    let refused = cluster.send_with(&line, patch, &STRATEGIC).await.failure();
    assert_eq!(
        refused,
        r#"422 Invalid: Pod "p" is invalid: spec.containers[0].resources.requests: Invalid value: "3": must be less than or equal to cpu limit of 2"#
    );
    let direct = cluster
        .send_with(&format!("PATCH {PODS}/p"), patch, &STRATEGIC)
        .await;
    assert_eq!(direct.code, 422, "{}", direct.text);
}

#[tokio::test]
async fn an_eviction_spends_the_budget_and_then_is_refused() {
    let cluster = Cluster::start().await;
    run(&cluster, "p").await;
    run(&cluster, "q").await;
    let spec = json!({"minAvailable": 1, "selector": {}});
    let status = json!({
        "observedGeneration": 1, "expectedPods": 2, "currentHealthy": 2, "desiredHealthy": 1,
        "disruptionsAllowed": 1,
    });
    budget(&cluster, "b", spec, status).await;
    let line = format!("POST {PODS}/p/eviction");
    let dry = eviction("p", &json!({"dryRun": ["All"]}));
    cluster.ok(&line, &dry).await;
    let untouched = cluster.ok(&format!("GET {BUDGETS}/b"), "").await;
    assert_eq!(untouched["status"]["disruptionsAllowed"], 1);
    let reply = cluster.send(&line, &eviction("p", &Value::Null)).await;
    assert_eq!(
        (reply.code.as_u16(), &reply.json()["status"]),
        (201, &json!("Success"))
    );
    let spent = cluster.ok(&format!("GET {BUDGETS}/b"), "").await;
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["p"].is_string());
    let going = cluster.ok(&format!("GET {PODS}/p"), "").await;
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let conditions = going["status"]["conditions"]
        .as_array()
        .expect("conditions");
    assert!(
        conditions
            .iter()
            .any(|one| one["type"] == "DisruptionTarget")
    );
    let reply = cluster
        .send(
            &format!("POST {PODS}/q/eviction"),
            &eviction("q", &Value::Null),
        )
        .await;
    assert_eq!(
        reply.failure(),
        "429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        reply.json()["details"]["causes"],
        json!([{"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 2 currently"}])
    );
    // A pod that goes already is nobody's loss.
    cluster.ok(&line, &eviction("p", &Value::Null)).await;
}

#[tokio::test]
async fn a_budget_that_nobody_counted_yet_allows_nothing() {
    let cluster = Cluster::start().await;
    run(&cluster, "p").await;
    budget(
        &cluster,
        "b",
        json!({"maxUnavailable": 1, "selector": {"matchLabels": {"app": "p"}}}),
        json!({}),
    )
    .await;
    let reply = cluster
        .send(
            &format!("POST {PODS}/p/eviction"),
            &eviction("p", &Value::Null),
        )
        .await;
    assert_eq!(reply.code, 429);
    assert_eq!(reply.json()["details"]["retryAfterSeconds"], 10);
    budget(
        &cluster,
        "c",
        json!({"maxUnavailable": 1, "selector": {}}),
        json!({}),
    )
    .await;
    let refused = cluster
        .failure(
            &format!("POST {PODS}/p/eviction"),
            &eviction("p", &Value::Null),
        )
        .await;
    assert_eq!(
        refused,
        "500 : This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
}

#[tokio::test]
async fn an_eviction_of_another_pod_than_is_there_spends_nothing() {
    let cluster = Cluster::start().await;
    run(&cluster, "p").await;
    let spec = json!({"minAvailable": 1, "selector": {}});
    let status = json!({"observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1});
    budget(&cluster, "b", spec, status).await;
    let line = format!("POST {PODS}/p/eviction");
    for precondition in ["uid", "resourceVersion"] {
        let options = json!({"preconditions": {precondition: "1"}});
        let refused = cluster.failure(&line, &eviction("p", &options)).await;
        assert!(refused.starts_with("409 Conflict"), "{refused}");
    }
    let untouched = cluster.ok(&format!("GET {BUDGETS}/b"), "").await;
    assert_eq!(untouched["status"]["disruptionsAllowed"], 1);
    let pod = cluster.ok(&format!("GET {PODS}/p"), "").await;
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
    let conditions = pod["status"]["conditions"].to_string();
    assert!(!conditions.contains("DisruptionTarget"), "{conditions}");
    let (uid, revision) = (&pod["metadata"]["uid"], &pod["metadata"]["resourceVersion"]);
    let options = json!({"preconditions": {"uid": uid, "resourceVersion": revision}});
    cluster.ok(&line, &eviction("p", &options)).await;
}

#[tokio::test]
async fn a_pod_that_is_not_ready_costs_nothing_while_enough_others_are() {
    let cluster = Cluster::start().await;
    run(&cluster, "p").await;
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#;
    cluster.ok(&format!("PATCH {PODS}/p/status"), status).await;
    let spec = json!({"minAvailable": 2, "selector": {}});
    let counted = |healthy: u32| json!({"observedGeneration": 1, "currentHealthy": healthy, "desiredHealthy": 2});
    budget(&cluster, "b", spec, counted(1)).await;
    let line = format!("POST {PODS}/p/eviction");
    let reply = cluster.send(&line, &eviction("p", &Value::Null)).await;
    assert_eq!(reply.code, 429, "{}", reply.text);
    assert!(reply.json()["details"]["retryAfterSeconds"].is_null());
    let healthy = json!({"status": counted(2)}).to_string();
    cluster
        .ok(&format!("PATCH {BUDGETS}/b/status"), &healthy)
        .await;
    cluster.ok(&line, &eviction("p", &Value::Null)).await;
    let budget = cluster.ok(&format!("GET {BUDGETS}/b"), "").await;
    assert!(budget["status"]["disruptedPods"].is_null(), "{budget}");
}

#[tokio::test]
async fn a_pod_that_is_not_ready_goes_if_the_budget_says_so() {
    let cluster = Cluster::start().await;
    run(&cluster, "p").await;
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#;
    cluster.ok(&format!("PATCH {PODS}/p/status"), status).await;
    let spec =
        json!({"minAvailable": 1, "selector": {}, "unhealthyPodEvictionPolicy": "AlwaysAllow"});
    budget(&cluster, "b", spec, json!({"observedGeneration": 1})).await;
    cluster
        .ok(
            &format!("POST {PODS}/p/eviction"),
            &eviction("p", &Value::Null),
        )
        .await;
    let other = cluster
        .failure(
            &format!("POST {PODS}/p/eviction"),
            &eviction("x", &Value::Null),
        )
        .await;
    assert_eq!(
        other,
        "400 BadRequest: name in URL does not match name in Eviction object"
    );
    let none = cluster
        .failure(
            &format!("POST {PODS}/none/eviction"),
            &eviction("none", &Value::Null),
        )
        .await;
    assert_eq!(none, r#"404 NotFound: pods "none" not found"#);
}

#[tokio::test]
async fn a_binding_of_its_own_binds_the_pod_that_it_names() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {PODS}"), &pod("p")).await;
    let line = "POST /api/v1/namespaces/default/bindings";
    let binding = r#"{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n1"}}"#;
    cluster.ok(line, binding).await;
    let bound = cluster.ok(&format!("GET {PODS}/p"), "").await;
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let again = cluster.failure(line, binding).await;
    assert!(again.starts_with("409 Conflict"), "{again}");
    let unread = cluster
        .send("GET /api/v1/namespaces/default/bindings", "")
        .await;
    assert_eq!(unread.code, 405);
}

#[tokio::test]
async fn a_job_gets_labels_of_its_own() {
    let cluster = Cluster::start().await;
    let body = r#"{"metadata":{"name":"j"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#;
    let reply = cluster
        .send("POST /apis/batch/v1/namespaces/default/jobs", body)
        .await;
    assert_eq!(
        reply.warnings()[0],
        r#"299 - "wk does not run Jobs yet: the object is stored, no pods are created""#
    );
    let job = reply.json();
    let uid = &job["metadata"]["uid"];
    assert_eq!(
        &job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        uid
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"]["job-name"],
        "j"
    );
    let path = "/apis/batch/v1/namespaces/default/jobs/j";
    cluster
        .ok(&format!("PATCH {path}"), r#"{"spec":{"parallelism":3}}"#)
        .await;
    let refused = cluster
        .failure(&format!("PATCH {path}"), r#"{"spec":{"completions":3}}"#)
        .await;
    assert!(
        refused.ends_with("spec.completions: Invalid value: 3: field is immutable"),
        "{refused}"
    );
}

#[tokio::test]
async fn whoever_uses_a_deprecated_kind_is_told() {
    let cluster = Cluster::start().await;
    let reply = cluster
        .send("GET /api/v1/namespaces/default/endpoints", "")
        .await;
    assert_eq!(
        reply.warnings(),
        [r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#]
    );
    let none = cluster.ok("GET /api/v1/componentstatuses", "").await;
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn a_replication_controller_and_a_stateful_set_have_a_scale() {
    let cluster = Cluster::start().await;
    let template =
        r#"{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    for (path, selector) in [
        (
            "/api/v1/namespaces/default/replicationcontrollers",
            r#"{"app":"a"}"#,
        ),
        (
            "/apis/apps/v1/namespaces/default/statefulsets",
            r#"{"matchLabels":{"app":"a"}}"#,
        ),
    ] {
        let body = format!(
            r#"{{"metadata":{{"name":"x"}},"spec":{{"selector":{selector},"template":{template}}}}}"#
        );
        cluster.ok(&format!("POST {path}"), &body).await;
        let scale = cluster
            .ok(
                &format!("PATCH {path}/x/scale"),
                r#"{"spec":{"replicas":3}}"#,
            )
            .await;
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"]["selector"], "app=a");
    }
}
