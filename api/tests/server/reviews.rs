//! Questions put as objects: may somebody do something, and who am I?

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::harness::{Cluster, JANE};

const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const SELF: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const LOCAL: &str = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";

async fn check(cluster: &Cluster, path: &str, spec: Value, expected: Expect) {
    let body = json!({"spec": spec}).to_string();
    let reply = cluster.send(&format!("POST {path}"), &body).await;
    expected.assert_eq(&match reply.code.as_u16() {
        201 => reply.json()["status"].to_string(),
        _ => reply.failure(),
    });
}

#[tokio::test]
async fn somebodys_access_is_told_with_its_reason() {
    let cluster = Cluster::start().await;
    let list = json!({"verb": "list", "resource": "pods", "namespace": "default"});
    check(
        &cluster,
        ACCESS,
        json!({"user": "system:kube-scheduler", "resourceAttributes": list}),
        expect![[r#"{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"system:kube-scheduler\" of ClusterRole \"system:kube-scheduler\" to User \"system:kube-scheduler\""}"#]],
    )
    .await;
    check(
        &cluster,
        ACCESS,
        json!({"user": "jane", "resourceAttributes": list}),
        expect![[r#"{"allowed":false}"#]],
    )
    .await;
    check(
        &cluster,
        ACCESS,
        json!({"groups": ["system:masters"], "resourceAttributes": list}),
        expect![[r#"{"allowed":true}"#]],
    )
    .await;
    check(
        &cluster,
        ACCESS,
        json!({"user": "probe", "groups": ["system:monitoring"], "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}),
        expect![[r#"{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"system:monitoring\" of ClusterRole \"system:monitoring\" to Group \"system:monitoring\""}"#]],
    )
    .await;
    check(
        &cluster,
        SELF,
        json!({"resourceAttributes": list}),
        expect![[r#"{"allowed":true}"#]],
    )
    .await;
    check(
        &cluster,
        LOCAL,
        json!({"user": "jane", "resourceAttributes": list}),
        expect![[r#"{"allowed":false}"#]],
    )
    .await;
}

#[tokio::test]
async fn a_review_that_asks_nothing_is_refused() {
    let cluster = Cluster::start().await;
    let resource = json!({"verb": "get", "resource": "pods", "namespace": "other"});
    let path = json!({"verb": "get", "path": "/healthz"});
    check(
        &cluster,
        ACCESS,
        json!({}),
        expect![[r#"422 Invalid: SubjectAccessReview.authorization.k8s.io "" is invalid: [spec.user: Invalid value: "": at least one of user or group must be specified, spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified]"#]],
    )
    .await;
    check(
        &cluster,
        SELF,
        json!({"resourceAttributes": resource, "nonResourceAttributes": path}),
        expect![[r#"422 Invalid: SelfSubjectAccessReview.authorization.k8s.io "" is invalid: spec.nonResourceAttributes: Invalid value: {"path":"/healthz","verb":"get"}: cannot be specified in combination with resourceAttributes"#]],
    )
    .await;
    check(
        &cluster,
        LOCAL,
        json!({"user": "jane", "resourceAttributes": resource}),
        expect![[r#"422 Invalid: LocalSubjectAccessReview.authorization.k8s.io "" is invalid: spec.resourceAttributes.namespace: Invalid value: "other": must match metadata.namespace"#]],
    )
    .await;
    check(
        &cluster,
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        json!({}),
        expect!["400 BadRequest: no namespace on request"],
    )
    .await;
    for line in [
        format!("GET {SELF}"),
        format!("GET {SELF}/a"),
        format!("DELETE {SELF}/a"),
    ] {
        assert_eq!(cluster.send(&line, "").await.code, 405, "{line}");
    }
}

#[tokio::test]
async fn everyone_may_ask_what_they_may_and_who_they_are() {
    let cluster = Cluster::start().await;
    let reply = cluster
        .send_with(
            "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            r#"{"spec":{"namespace":"default"}}"#,
            &[JANE],
        )
        .await
        .json();
    let status = &reply["status"];
    assert_eq!(status["incomplete"], false);
    let rules = status["resourceRules"].as_array().expect("rules");
    assert!(rules.contains(&json!({
        "verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"],
    })));
    let paths = status["nonResourceRules"].to_string();
    assert!(paths.contains("/openapi/*"), "{paths}");
    let reply = cluster
        .send_with(
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
            "{}",
            &[JANE],
        )
        .await
        .json();
    assert_eq!(
        reply["status"]["userInfo"],
        json!({"username": "jane", "groups": ["dev", "system:authenticated"]})
    );
}
