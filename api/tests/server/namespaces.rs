//! Namespaces: made, ended, and what may not be.

use serde_json::json;

use crate::harness::{Cluster, config_map};

#[tokio::test]
async fn every_cluster_has_four() {
    let cluster = Cluster::start().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = cluster
            .ok(&format!("GET /api/v1/namespaces/{name}"), "")
            .await;
        assert_eq!(namespace["status"]["phase"], "Active", "{name}");
    }
    assert_eq!(
        cluster
            .failure("DELETE /api/v1/namespaces/kube-system", "")
            .await,
        r#"403 Forbidden: namespaces "kube-system" is forbidden: this namespace may not be deleted"#
    );
}

#[tokio::test]
async fn a_deleted_namespace_ends_when_it_is_finalized() {
    let cluster = Cluster::start().await;
    cluster
        .ok("POST /api/v1/namespaces", r#"{"metadata":{"name":"a"}}"#)
        .await;
    let maps = "/api/v1/namespaces/a/configmaps";
    cluster
        .ok(&format!("POST {maps}"), &config_map("m", "1"))
        .await;
    let mut ending = cluster.ok("DELETE /api/v1/namespaces/a", "").await;
    assert_eq!(ending["status"]["phase"], "Terminating");
    let reply = cluster
        .send(&format!("POST {maps}"), &config_map("n", "1"))
        .await;
    assert_eq!(
        reply.failure(),
        r#"403 Forbidden: configmaps "n" is forbidden: unable to create new content in namespace a because it is being terminated"#
    );
    assert_eq!(
        reply.json()["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    // Contents can still be changed and removed.
    cluster.ok(&format!("DELETE {maps}/m"), "").await;
    ending["spec"]["finalizers"] = json!([]);
    cluster
        .ok("PUT /api/v1/namespaces/a/finalize", &ending.to_string())
        .await;
    assert_eq!(cluster.send("GET /api/v1/namespaces/a", "").await.code, 404);
}
