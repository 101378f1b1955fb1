//! What nodes may read, asked of the whole server: by what runs on them, at once, through any apiserver.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::harness::{Cluster, PODS};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

const NODE: [(&str, &str); 2] = [
    ("impersonate-user", "system:node:n1"),
    ("impersonate-group", "system:nodes"),
];
const GATEWAY: [(&str, &str); 1] = [("impersonate-user", "system:gateway")];

/// What a user gets: the code, or the refusal.
async fn check(cluster: &Cluster, user: &[(&str, &str)], line: &str, expected: Expect) {
    let reply = cluster.send_with(line, "", user).await;
    let text = match reply.code.is_success() {
        true => reply.code.as_u16().to_string(),
        false => reply.failure(),
    };
    expected.assert_eq(&text);
}

/// A pod on a node that has a Secret of that name in its environment, as the store has it.
fn pod(name: &str, node: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "a", "envFrom": [{"secretRef": {"name": secret}}]}],
        },
    })
}

async fn secret(cluster: &Cluster, name: &str) {
    let body = json!({"metadata": {"name": name}, "data": {"a": "Yg=="}}).to_string();
    cluster.ok(&format!("POST {SECRETS}"), &body).await;
}

#[tokio::test]
async fn a_secret_is_read_by_the_node_of_a_pod_that_names_it() {
    let cluster = Cluster::start().await;
    secret(&cluster, "login").await;
    let get = format!("GET {SECRETS}/login");
    let unrelated = || {
        expect![[
            r#"403 Forbidden: secrets "login" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "default": no relationship found between node 'n1' and this object"#
        ]]
    };
    check(&cluster, &NODE, &get, unrelated()).await;
    cluster
        .plant("", "pods", &pod("elsewhere", "n2", "login"))
        .await;
    check(&cluster, &NODE, &get, unrelated()).await;
    cluster.plant("", "pods", &pod("here", "n1", "login")).await;
    check(&cluster, &NODE, &get, expect!["200"]).await;
    let list = format!("GET {SECRETS}?fieldSelector=metadata.name%3Dlogin");
    check(&cluster, &NODE, &list, expect!["200"]).await;
    check(
        &cluster,
        &NODE,
        &format!("GET {SECRETS}"),
        expect![[r#"403 Forbidden: secrets is forbidden: User "system:node:n1" cannot list resource "secrets" in API group "" in the namespace "default": No Object name found"#]],
    )
    .await;
    cluster
        .ok(&format!("DELETE {PODS}/here?gracePeriodSeconds=0"), "")
        .await;
    check(&cluster, &NODE, &get, unrelated()).await;
}

#[tokio::test]
async fn what_another_process_has_just_written_counts() {
    let cluster = Cluster::start().await;
    let other = cluster.start_beside().await;
    secret(&cluster, "login").await;
    for number in 0..20 {
        let name = format!("web-{number}");
        secret(&cluster, &name).await;
        cluster.plant("", "pods", &pod(&name, "n1", &name)).await;
        let get = format!("GET {SECRETS}/{name}");
        check(&other, &NODE, &get, expect!["200"]).await;
    }
}

#[tokio::test]
async fn a_review_of_a_nodes_rules_says_that_it_is_not_all() {
    let cluster = Cluster::start().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let body = json!({"spec": {"namespace": "default"}}).to_string();
    let reply = cluster
        .send_with(&format!("POST {path}"), &body, &NODE)
        .await
        .json();
    assert_eq!(reply["status"]["incomplete"], true);
    assert_eq!(
        reply["status"]["evaluationError"],
        "node authorizer does not support user rule resolution"
    );
    let rules = reply["status"]["resourceRules"].to_string();
    assert!(!rules.contains("secrets"), "{rules}");
    // Of others it says nothing.
    let reply = cluster.ok(&format!("POST {path}"), &body).await;
    assert_eq!(reply["status"]["incomplete"], false);
    assert!(reply["status"]["evaluationError"].is_null());
}

#[tokio::test]
async fn a_review_may_ask_for_a_field_selector() {
    let cluster = Cluster::start().await;
    let ask = async |selector: Value| -> bool {
        let body = json!({"spec": {
            "user": "system:node:n1", "groups": ["system:nodes"],
            "resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": selector},
        }});
        let line = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";
        let reply = cluster.ok(line, &body.to_string()).await;
        reply["status"]["allowed"] == true
    };
    let equals = |node: &str| json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": [node]}]});
    assert!(ask(equals("n1")).await);
    assert!(ask(json!({"rawSelector": "spec.nodeName=n1"})).await);
    assert!(!ask(equals("n2")).await);
    assert!(!ask(Value::Null).await);
}

#[tokio::test]
async fn the_gateway_reads_certificates_and_no_other_secrets() {
    let cluster = Cluster::start().await;
    for (line, expected) in [
        (
            "GET /api/v1/secrets?fieldSelector=type%3Dkubernetes.io/tls".to_owned(),
            expect!["200"],
        ),
        (
            "GET /api/v1/secrets?fieldSelector=type%21%3Dkubernetes.io/tls".to_owned(),
            expect![[
                r#"403 Forbidden: secrets is forbidden: User "system:gateway" cannot list resource "secrets" in API group "" at the cluster scope"#
            ]],
        ),
        (
            "GET /api/v1/secrets".to_owned(),
            expect![[
                r#"403 Forbidden: secrets is forbidden: User "system:gateway" cannot list resource "secrets" in API group "" at the cluster scope"#
            ]],
        ),
        (
            format!("GET {SECRETS}/a"),
            expect![[
                r#"403 Forbidden: secrets "a" is forbidden: User "system:gateway" cannot get resource "secrets" in API group "" in the namespace "default""#
            ]],
        ),
    ] {
        check(&cluster, &GATEWAY, &line, expected).await;
    }
}

#[tokio::test]
async fn what_an_older_version_granted_is_taken_back() {
    let cluster = Cluster::start().await;
    let bindings = format!("{RBAC}/clusterrolebindings");
    let get = async |path: &str| {
        let reply = cluster.send(&format!("GET {path}"), "").await;
        reply.code.as_u16()
    };
    assert_eq!(get(&format!("{bindings}/system:node")).await, 404);
    assert_eq!(get(&format!("{RBAC}/clusterroles/system:node")).await, 200);
    let metadata = |name: &str| {
        json!({
            "name": name, "uid": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        })
    };
    let group = "rbac.authorization.k8s.io";
    let nodes = json!({"apiGroup": group, "kind": "Group", "name": "system:nodes"});
    let jane = json!({"apiGroup": group, "kind": "User", "name": "jane"});
    for (name, subjects) in [
        ("system:node", json!([nodes])),
        ("wk:nodes", json!([nodes, jane])),
    ] {
        let binding = json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata(name),
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}, "subjects": subjects,
        });
        cluster.plant(group, "clusterrolebindings", &binding).await;
    }
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": metadata("wk:nodes"),
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}],
    });
    cluster.plant(group, "clusterroles", &role).await;

    let newer = cluster.start_beside().await;
    let reply = newer.send(&format!("GET {bindings}/system:node"), "").await;
    assert_eq!(reply.code.as_u16(), 404);
    let reply = newer
        .send(&format!("GET {RBAC}/clusterroles/wk:nodes"), "")
        .await;
    assert_eq!(reply.code.as_u16(), 404);
    // What a user added stays.
    let kept = newer.ok(&format!("GET {bindings}/wk:nodes"), "").await;
    assert_eq!(kept["subjects"], json!([jane]));
}
