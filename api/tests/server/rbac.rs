//! Roles decide who may do what, and nobody grants what they do not have.

use expect_test::{Expect, expect};
use serde_json::json;

use crate::harness::{Cluster, JANE, MAPS, PODS};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";

fn role(name: &str, rules: &serde_json::Value) -> String {
    json!({"metadata": {"name": name}, "rules": rules}).to_string()
}

fn binding(name: &str, kind: &str, role: &str) -> String {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    })
    .to_string()
}

/// What jane gets: the code, or the refusal.
async fn check(cluster: &Cluster, line: &str, body: &str, expected: Expect) {
    let reply = cluster.send_with(line, body, &[JANE]).await;
    let text = match reply.code.is_success() {
        true => reply.code.as_u16().to_string(),
        false => reply.failure(),
    };
    expected.assert_eq(&text);
}

#[tokio::test]
async fn whom_no_binding_names_may_nothing_but_look_around() {
    let cluster = Cluster::start().await;
    let check = async |line: &str, expected| check(&cluster, line, "", expected).await;
    check(
        &format!("GET {PODS}"),
        expect![[r#"403 Forbidden: pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#]],
    )
    .await;
    check(
        &format!("GET {PODS}/web/log"),
        expect![[r#"403 Forbidden: pods "web" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default""#]],
    )
    .await;
    check(
        "DELETE /api/v1/nodes/n1",
        expect![[r#"403 Forbidden: nodes "n1" is forbidden: User "jane" cannot delete resource "nodes" in API group "" at the cluster scope"#]],
    )
    .await;
    check(
        "GET /apis/apps/v1/deployments?watch=1",
        expect![[r#"403 Forbidden: deployments.apps is forbidden: User "jane" cannot watch resource "deployments" in API group "apps" at the cluster scope"#]],
    )
    .await;
    check(
        "GET /apis/example.com/v1/things",
        expect![[r#"403 Forbidden: things.example.com is forbidden: User "jane" cannot list resource "things" in API group "example.com" at the cluster scope"#]],
    )
    .await;
    check(
        "GET /metrics",
        expect![[r#"403 Forbidden: forbidden: User "jane" cannot get path "/metrics""#]],
    )
    .await;
    check(
        "GET /openid/v1/jwks",
        expect![[r#"403 Forbidden: forbidden: User "jane" cannot get path "/openid/v1/jwks""#]],
    )
    .await;
    for path in [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/apps/v1",
        "/openapi/v3",
        "/version",
    ] {
        check(&format!("GET {path}"), expect!["200"]).await;
    }
}

#[tokio::test]
async fn a_binding_is_at_work_at_once_and_no_longer_than_it_is_there() {
    let cluster = Cluster::start().await;
    cluster
        .ok(
            &format!("POST {BINDINGS}"),
            &binding("jane", "ClusterRole", "view"),
        )
        .await;
    check(&cluster, &format!("GET {PODS}"), "", expect!["200"]).await;
    check(
        &cluster,
        "GET /api/v1/namespaces/default",
        "",
        expect!["200"],
    )
    .await;
    check(
        &cluster,
        "GET /api/v1/namespaces/default/secrets",
        "",
        expect![[r#"403 Forbidden: secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" in the namespace "default""#]],
    )
    .await;
    check(
        &cluster,
        "GET /api/v1/pods",
        "",
        expect![[r#"403 Forbidden: pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope"#]],
    )
    .await;
    cluster.ok(&format!("DELETE {BINDINGS}/jane"), "").await;
    check(
        &cluster,
        &format!("GET {PODS}"),
        "",
        expect![[r#"403 Forbidden: pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#]],
    )
    .await;
}

#[tokio::test]
async fn a_rule_may_name_objects() {
    let cluster = Cluster::start().await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list", "watch"]}]);
    cluster
        .ok(&format!("POST {ROLES}"), &role("one", &rules))
        .await;
    cluster
        .ok(&format!("POST {BINDINGS}"), &binding("jane", "Role", "one"))
        .await;
    let list = format!("GET {MAPS}?fieldSelector=metadata.name%3D");
    check(&cluster, &format!("{list}a"), "", expect!["200"]).await;
    check(
        &cluster,
        &format!("GET {MAPS}/a"),
        "",
        expect![[r#"404 NotFound: configmaps "a" not found"#]],
    )
    .await;
    for line in [
        format!("{list}b"),
        format!("GET {MAPS}"),
        format!("GET {MAPS}/b"),
    ] {
        let reply = cluster.send_with(&line, "", &[JANE]).await;
        assert_eq!(reply.code, 403, "{line}");
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let cluster = Cluster::start().await;
    let manage = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]);
    cluster
        .ok(&format!("POST {ROLES}"), &role("manage", &manage))
        .await;
    cluster
        .ok(
            &format!("POST {BINDINGS}"),
            &binding("jane", "Role", "manage"),
        )
        .await;
    let pods = |verbs: &[&str]| json!([{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]);
    check(
        &cluster,
        &format!("POST {ROLES}"),
        &role("mine", &pods(&["get"])),
        expect!["201"],
    )
    .await;
    let refusal = expect![[r#"
        403 Forbidden: roles.rbac.authorization.k8s.io "more" is forbidden: user "jane" (groups=["dev" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:
        {APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#]];
    check(
        &cluster,
        &format!("POST {ROLES}"),
        &role("more", &pods(&["get", "delete"])),
        refusal,
    )
    .await;
    let patch = json!({"rules": pods(&["*"])}).to_string();
    let refusal = expect![[r#"
        403 Forbidden: roles.rbac.authorization.k8s.io "mine" is forbidden: user "jane" (groups=["dev" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:
        {APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#]];
    check(&cluster, &format!("PATCH {ROLES}/mine"), &patch, refusal).await;
    let label = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    check(
        &cluster,
        &format!("PATCH {ROLES}/mine"),
        label,
        expect!["200"],
    )
    .await;
    check(
        &cluster,
        &format!("POST {BINDINGS}"),
        &binding("mine", "Role", "mine"),
        expect!["201"],
    )
    .await;
    let reply = cluster
        .send_with(
            &format!("POST {BINDINGS}"),
            &binding("all", "ClusterRole", "admin"),
            &[JANE],
        )
        .await;
    assert_eq!(reply.code, 403);
    check(
        &cluster,
        &format!("POST {BINDINGS}"),
        &binding("none", "ClusterRole", "none"),
        expect![[r#"404 NotFound: clusterroles.rbac.authorization.k8s.io "none" not found"#]],
    )
    .await;

    // With `bind` and `escalate` they may.
    let more = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["admin"], "verbs": ["bind"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create", "escalate"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]},
    ]);
    let patch = json!({"rules": more}).to_string();
    cluster.ok(&format!("PATCH {ROLES}/manage"), &patch).await;
    check(
        &cluster,
        &format!("POST {ROLES}"),
        &role("more", &pods(&["delete"])),
        expect!["201"],
    )
    .await;
    check(
        &cluster,
        &format!("POST {BINDINGS}"),
        &binding("all", "ClusterRole", "admin"),
        expect!["201"],
    )
    .await;
}

#[tokio::test]
async fn the_default_roles_are_there_before_the_server_is_ready() {
    let cluster = Cluster::start().await;
    let roles = cluster.ok(&format!("GET {RBAC}/clusterroles"), "").await;
    let roles = roles["items"].as_array().expect("a list");
    let find = |name: &str| {
        let mut all = roles.iter();
        all.find(|role| role["metadata"]["name"] == name)
            .expect(name)
    };
    for name in ["cluster-admin", "admin", "edit", "view", "system:node"] {
        let role = find(name);
        assert!(role["metadata"]["uid"].is_string(), "{name}");
        assert!(role["rules"][0]["verbs"].is_array(), "{name}");
    }
    assert!(find("view")["aggregationRule"]["clusterRoleSelectors"].is_array());
    let binding = cluster
        .ok(&format!("GET {RBAC}/clusterrolebindings/cluster-admin"), "")
        .await;
    assert_eq!(binding["subjects"][0]["name"], "system:masters");
    // They can be written as everything else.
    cluster
        .ok(
            &format!("PATCH {RBAC}/clusterroles/view"),
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
        )
        .await;
}
