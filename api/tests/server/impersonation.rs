//! Asking in somebody else's name.

use serde_json::json;

use crate::harness::{Cluster, JANE, PODS};

const WHO: &str = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";

#[tokio::test]
async fn an_administrator_may_be_anyone() {
    let cluster = Cluster::start().await;
    let headers = [
        ("impersonate-user", "bob"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-example.com%2fproject", "x"),
    ];
    let user = cluster.send_with(WHO, "{}", &headers).await.json()["status"]["userInfo"].clone();
    assert_eq!(
        user,
        json!({
            "username": "bob", "uid": "7", "groups": ["dev", "system:authenticated"],
            "extra": {"example.com/project": ["x"]},
        })
    );
    let refused = cluster
        .send_with(&format!("GET {PODS}"), "", &headers)
        .await;
    assert_eq!(
        refused.failure(),
        r#"403 Forbidden: pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default""#
    );
}

#[tokio::test]
async fn each_part_of_the_other_identity_must_be_allowed() {
    let cluster = Cluster::start().await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/team"], "verbs": ["impersonate"]},
    ]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "bobs"}, "rules": rules}).to_string();
    cluster
        .ok(&format!("POST {rbac}/clusterroles"), &role)
        .await;
    let binding = json!({
        "metadata": {"name": "bobs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bobs"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "dev"}],
    });
    cluster
        .ok(
            &format!("POST {rbac}/clusterrolebindings"),
            &binding.to_string(),
        )
        .await;
    let ask = async |headers: &[(&'static str, &'static str)]| {
        let headers = [&[JANE], headers].concat();
        let reply = cluster.send_with(WHO, "{}", &headers).await;
        match reply.code.as_u16() {
            201 => reply.json()["status"]["userInfo"]["username"].to_string(),
            _ => reply.failure(),
        }
    };
    assert_eq!(ask(&[("impersonate-user", "bob")]).await, r#""bob""#);
    assert_eq!(
        ask(&[("impersonate-user", "bob"), ("impersonate-extra-team", "x")]).await,
        r#""bob""#
    );
    for (headers, refusal) in [
        (
            &[("impersonate-user", "eve")][..],
            r#"users "eve" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#,
        ),
        (
            &[
                ("impersonate-user", "bob"),
                ("impersonate-group", "system:masters"),
            ],
            r#"groups "system:masters" is forbidden: User "jane" cannot impersonate resource "groups" in API group "" at the cluster scope"#,
        ),
        (
            &[("impersonate-user", "bob"), ("impersonate-uid", "1")],
            r#"uids.authentication.k8s.io "1" is forbidden: User "jane" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
        (
            &[
                ("impersonate-user", "bob"),
                ("impersonate-extra-other", "x"),
            ],
            r#"userextras.authentication.k8s.io "x" is forbidden: User "jane" cannot impersonate resource "userextras/other" in API group "authentication.k8s.io" at the cluster scope"#,
        ),
        (
            &[("impersonate-user", "system:serviceaccount:default:bot")],
            r#"serviceaccounts "bot" is forbidden: User "jane" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "default""#,
        ),
    ] {
        assert_eq!(ask(headers).await, format!("403 Forbidden: {refusal}"));
    }
    assert_eq!(
        ask(&[("impersonate-group", "dev")]).await,
        "400 BadRequest: requested impersonation of a group, uid or extra without impersonating a user"
    );
}
