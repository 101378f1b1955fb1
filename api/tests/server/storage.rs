//! The default StorageClass, finalizers of claims and volumes, and what nodes may write of both.

use serde_json::{Value, json};

use crate::harness::Cluster;

const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

fn claim(name: &str) -> String {
    let claim = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    claim.to_string()
}

#[tokio::test]
async fn a_cluster_begins_with_a_default_class_that_its_user_may_delete() {
    let cluster = Cluster::start().await;
    let class = cluster.ok(&format!("GET {CLASSES}/wk-local"), "").await;
    assert_eq!(class["provisioner"], "wk.dev/local");
    assert_eq!(class["volumeBindingMode"], "WaitForFirstConsumer");
    assert_eq!(class["allowVolumeExpansion"], true);
    assert_eq!(class["metadata"]["annotations"][DEFAULT], "true");
    let made = cluster.ok(&format!("POST {CLAIMS}"), &claim("a")).await;
    assert_eq!(made["spec"]["storageClassName"], "wk-local");
    cluster.ok(&format!("DELETE {CLASSES}/wk-local"), "").await;
    // Another apiserver makes sure of the first objects anew.
    let beside = cluster.start_beside().await;
    let said = beside.send(&format!("GET {CLASSES}/wk-local"), "").await;
    assert_eq!(said.code, 404, "{}", said.text);
}

#[tokio::test]
async fn beside_another_default_the_class_is_none() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("DELETE {CLASSES}/wk-local"), "").await;
    let own = json!({"metadata": {"name": "own", "annotations": {DEFAULT: "true"}},
        "provisioner": "example.com/disk"});
    cluster
        .ok(&format!("POST {CLASSES}"), &own.to_string())
        .await;
    // As in a cluster that was made before there was such a class.
    let forget = r#"{"metadata":{"annotations":{"wk.dev/storage-class":null}}}"#;
    cluster
        .ok("PATCH /api/v1/namespaces/kube-system", forget)
        .await;
    let beside = cluster.start_beside().await;
    let class = beside.ok(&format!("GET {CLASSES}/wk-local"), "").await;
    assert_eq!(class["metadata"]["annotations"][DEFAULT], "false");
}

#[tokio::test]
async fn claims_and_volumes_are_guarded_from_the_start() {
    let cluster = Cluster::start().await;
    let made = cluster.ok(&format!("POST {CLAIMS}"), &claim("a")).await;
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/v"}}});
    let made = cluster
        .ok(&format!("POST {VOLUMES}"), &volume.to_string())
        .await;
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pv-protection"])
    );
}

/// What the nodelet of a node would make for a claim.
fn volume(claim: &Value, node: &str) -> Value {
    let uid = claim["metadata"]["uid"].as_str().unwrap_or_default();
    json!({
        "metadata": {
            "name": format!("pvc-{uid}"),
            "annotations": {"pv.kubernetes.io/provisioned-by": "wk.dev/local", "wk.dev/node": node},
            "finalizers": ["wk.dev/local-volume"],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": "default", "name": claim["metadata"]["name"], "uid": uid},
            "local": {"path": format!("/volumes/pvc-{uid}")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "wk-local",
            "volumeMode": "Filesystem",
        },
    })
}

#[tokio::test]
async fn a_node_has_its_own_volumes_and_no_others() {
    let cluster = Cluster::start().await;
    for node in ["n1", "n2"] {
        let body = json!({"metadata": {"name": node, "labels": {"kubernetes.io/hostname": node}}});
        cluster.ok("POST /api/v1/nodes", &body.to_string()).await;
    }
    let said = async |node: &str, line: &str, body: &Value| {
        let user = format!("system:node:{node}");
        let node = [
            ("impersonate-user", user.as_str()),
            ("impersonate-group", "system:nodes"),
        ];
        let reply = cluster.send_with(line, &body.to_string(), &node).await;
        if reply.code.is_success() {
            "done".to_owned()
        } else {
            reply.failure()
        }
    };
    let mut claim: Value = serde_json::from_str(&claim("a")).expect("JSON");
    claim["metadata"]["annotations"] = json!({
        "volume.kubernetes.io/storage-provisioner": "wk.dev/local",
        "volume.kubernetes.io/selected-node": "n1",
    });
    let claim = cluster
        .ok(&format!("POST {CLAIMS}"), &claim.to_string())
        .await;
    let (own, other) = (volume(&claim, "n1"), volume(&claim, "n2"));
    let name = own["metadata"]["name"].as_str().expect("a name").to_owned();
    let create = format!("POST {VOLUMES}");
    let refused = |message: String, why: &str| {
        assert!(
            message.starts_with("403") && message.contains(why),
            "{message}"
        );
    };
    refused(said("n2", &create, &own).await, "volumes that it made");
    refused(said("n2", &create, &other).await, "claims that ask it");
    assert_eq!(said("n1", &create, &own).await, "done");

    let place = format!("{VOLUMES}/{name}");
    let patch = format!("PATCH {place}");
    let larger = json!({"spec": {"capacity": {"storage": "2Gi"}}});
    refused(
        said("n1", &patch, &larger).await,
        "as large as its claim asks",
    );
    let unrelated = "no relationship found between node 'n2' and this object";
    refused(said("n2", &patch, &larger).await, unrelated);
    refused(
        said("n1", &format!("DELETE {place}"), &Value::Null).await,
        "released",
    );
    let released = json!({"status": {"phase": "Released"}});
    let released = released.to_string();
    cluster
        .ok(&format!("PATCH {place}/status"), &released)
        .await;
    refused(
        said("n2", &format!("DELETE {place}"), &Value::Null).await,
        unrelated,
    );
    assert_eq!(
        said("n1", &format!("DELETE {place}"), &Value::Null).await,
        "done"
    );
    let kept = json!({"metadata": {"finalizers": ["kubernetes.io/pv-protection"]}});
    assert_eq!(said("n1", &patch, &kept).await, "done");
    let none = json!({"metadata": {"finalizers": null}});
    refused(said("n1", &patch, &none).await, "its own finalizer");
    refused(said("n1", &format!("PATCH {CLAIMS}/a"), &none).await, "");
}
