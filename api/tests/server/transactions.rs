//! Several applies as one write: all of their objects, or none.

use serde_json::{Value, json};
use store::{ResourceKey, Store};

use crate::harness::{Cluster, JANE, MAPS, Reply};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"a": value}})
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    })
}

fn transaction(objects: &[Value]) -> String {
    json!({"apiVersion": "apply.wk.dev/v1", "kind": "Transaction", "spec": {"objects": objects}})
        .to_string()
}

async fn post(cluster: &Cluster, query: &str, objects: &[Value]) -> Reply {
    let line = format!("POST /apis/apply.wk.dev/v1/transactions?fieldManager=m{query}");
    cluster.send(&line, &transaction(objects)).await
}

/// `ConfigMap a created, …`.
fn outcomes(reply: &Reply) -> String {
    assert_eq!(reply.code, 201, "{}", reply.text);
    let all = reply.json()["status"]["objects"].clone();
    let lines = all.as_array().into_iter().flatten().map(|object| {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        assert!(!text("uid").is_empty() && !text("resourceVersion").is_empty());
        format!("{} {} {}", text("kind"), text("name"), text("outcome"))
    });
    lines.collect::<Vec<_>>().join(", ")
}

async fn missing(cluster: &Cluster, path: &str) {
    let reply = cluster.send(&format!("GET {path}"), "").await;
    assert_eq!(reply.code, 404, "{path}: {}", reply.text);
}

#[tokio::test]
async fn all_objects_are_made_in_one_commit_and_in_order() {
    let cluster = Cluster::start().await;
    let before = cluster.store.revision().await.expect("the store answers");
    let objects = [map("b", "1"), service("s"), service("t"), map("a", "1")];
    let made = post(&cluster, "", &objects).await;
    assert_eq!(
        outcomes(&made),
        "ConfigMap b created, Service s created, Service t created, ConfigMap a created"
    );
    // The revision that is told is that of the object, and revisions are in the objects' order.
    let mut last = 0;
    for object in made.json()["status"]["objects"].as_array().expect("a list") {
        let plural = match object["kind"].as_str() {
            Some("Service") => SERVICES,
            _ => MAPS,
        };
        let path = format!("{plural}/{}", object["name"].as_str().unwrap_or_default());
        let live = cluster.ok(&format!("GET {path}"), "").await;
        assert_eq!(
            live["metadata"]["resourceVersion"],
            object["resourceVersion"]
        );
        assert_eq!(live["metadata"]["uid"], object["uid"]);
        let version = object["resourceVersion"].as_str().unwrap_or_default();
        let version: u64 = version.parse().expect("a revision");
        assert!(version > last, "{version} is after {last}");
        last = version;
    }
    let changes = cluster.store.changes(before, 100).await.expect("changes");
    let ours: Vec<&str> = changes
        .iter()
        .map(|change| change.entry.key.name())
        .filter(|name| ["a", "b", "s", "t"].contains(name))
        .collect();
    assert_eq!(ours, ["b", "s", "t", "a"]);
    // Each Service has numbers of its own.
    let ports = |service: &Value| {
        (
            service["spec"]["clusterIP"].clone(),
            service["spec"]["ports"][0]["nodePort"].clone(),
        )
    };
    let s = ports(&cluster.ok(&format!("GET {SERVICES}/s"), "").await);
    let t = ports(&cluster.ok(&format!("GET {SERVICES}/t"), "").await);
    assert!(s.0 != t.0 && s.1 != t.1, "{s:?} {t:?}");
    let again = post(&cluster, "", &[map("b", "2"), service("s"), map("c", "1")]).await;
    assert_eq!(
        outcomes(&again),
        "ConfigMap b configured, Service s unchanged, ConfigMap c created"
    );
}

#[tokio::test]
async fn one_refusal_is_everybodys() {
    let cluster = Cluster::start().await;
    let mut wrong = map("b", "1");
    wrong["data"]["a b"] = json!("1");
    for objects in [[map("a", "1"), wrong.clone()], [wrong, map("a", "1")]] {
        let refused = post(&cluster, "", &objects).await;
        assert_eq!(refused.code, 422, "{}", refused.text);
        assert!(
            refused.text.contains("ConfigMap \\\"b\\\" is invalid"),
            "{}",
            refused.text
        );
        missing(&cluster, &format!("{MAPS}/a")).await;
    }
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "none"}});
    let refused = post(&cluster, "", &[map("a", "1"), elsewhere]).await;
    assert_eq!(refused.code, 404, "{}", refused.text);
    missing(&cluster, &format!("{MAPS}/a")).await;
    // Another manager's field.
    let apply = [("content-type", "application/apply-patch+yaml")];
    let line = format!("PATCH {MAPS}/c?fieldManager=other");
    let mut other = map("c", "1");
    cluster.send_with(&line, &other.to_string(), &apply).await;
    other["data"]["a"] = json!("2");
    let refused = post(&cluster, "", &[map("a", "1"), other.clone()]).await;
    assert_eq!(refused.code, 409, "{}", refused.text);
    missing(&cluster, &format!("{MAPS}/a")).await;
    let forced = post(&cluster, "&force=true", &[map("a", "1"), other]).await;
    assert_eq!(
        outcomes(&forced),
        "ConfigMap a created, ConfigMap c configured"
    );
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let cluster = Cluster::start().await;
    let shown = post(&cluster, "&dryRun=All", &[map("a", "1")]).await;
    assert_eq!(shown.code, 201, "{}", shown.text);
    missing(&cluster, &format!("{MAPS}/a")).await;
}

#[tokio::test]
async fn each_object_needs_the_right_to_it() {
    let cluster = Cluster::start().await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "maps", "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch", "create"]}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    cluster
        .ok(&format!("POST {rbac}/roles"), &role.to_string())
        .await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "maps", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "maps"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    cluster
        .ok(&format!("POST {rbac}/rolebindings"), &binding.to_string())
        .await;
    // So may whoever is authenticated, as the default roles say.
    let everybody = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "basic"},
        "rules": [{"apiGroups": ["apply.wk.dev"], "resources": ["transactions"], "verbs": ["create"]}],
    });
    let all = "/apis/rbac.authorization.k8s.io/v1";
    cluster
        .ok(&format!("POST {all}/clusterroles"), &everybody.to_string())
        .await;
    let bound = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "basic"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "basic"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    cluster
        .ok(
            &format!("POST {all}/clusterrolebindings"),
            &bound.to_string(),
        )
        .await;
    let line = "POST /apis/apply.wk.dev/v1/transactions?fieldManager=m";
    let both = transaction(&[map("a", "1"), service("s")]);
    let refused = cluster.send_with(line, &both, &[JANE]).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
    assert!(
        refused.text.contains("cannot patch resource"),
        "{}",
        refused.text
    );
    missing(&cluster, &format!("{MAPS}/a")).await;
    let one = transaction(&[map("a", "1")]);
    let made = cluster.send_with(line, &one, &[JANE]).await;
    assert_eq!(outcomes(&made), "ConfigMap a created");
}

#[tokio::test]
async fn quotas_count_all_objects_together() {
    let cluster = Cluster::start().await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": "default", "uid": "u"},
        "spec": {"hard": {"count/configmaps": "3"}},
    });
    cluster.plant("", "resourcequotas", &quota).await;
    let four: Vec<Value> = ["a", "b", "c", "d"].map(|name| map(name, "1")).to_vec();
    let refused = post(&cluster, "", &four).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
    assert!(
        refused.text.contains("exceeded quota: q"),
        "{}",
        refused.text
    );
    missing(&cluster, &format!("{MAPS}/a")).await;
    post(&cluster, "", &four[..2]).await;
    let key = ResourceKey::new("", "resourcequotas").key("default", "q");
    let entry = cluster.store.get(&key).await.expect("the store answers");
    let quota: Value = serde_json::from_slice(&entry.expect("a quota").value).expect("JSON");
    assert_eq!(quota["status"]["used"]["count/configmaps"], "2", "{quota}");
}

#[tokio::test]
async fn a_transaction_that_is_none_is_refused_by_field() {
    let cluster = Cluster::start().await;
    let check = async |objects: &[Value], told: &str| {
        let refused = post(&cluster, "", objects).await;
        assert_eq!(refused.code, 422, "{}", refused.text);
        assert!(refused.failure().contains(told), "{}", refused.failure());
    };
    check(&[], "spec.objects: Required value").await;
    check(&[map("a", "1"), map("a", "2")], "spec.objects[1].metadata.name: Invalid value: \"a\": the transaction has this object twice").await;
    check(
        &[json!({"apiVersion": "v1", "kind": "Nothing"})],
        "spec.objects[0].kind: Invalid value: \"Nothing\"",
    )
    .await;
    check(&[json!(7)], "spec.objects[0]").await;
    let nowhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    check(
        &[nowhere],
        "spec.objects[0].metadata.namespace: Required value",
    )
    .await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {"name": "a"}});
    check(&[review], "objects of this kind cannot be applied").await;
    let many: Vec<Value> = (0..501).map(|n| map(&format!("m{n}"), "1")).collect();
    check(&many, "must have at most 500 items").await;
    let line = "POST /apis/apply.wk.dev/v1/transactions";
    let refused = cluster.send(line, &transaction(&[map("a", "1")])).await;
    assert!(
        refused.failure().contains("fieldManager: Required value"),
        "{}",
        refused.text
    );
}
