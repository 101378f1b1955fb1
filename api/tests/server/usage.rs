//! `metrics.k8s.io`: what nodes and pods use, as nodelets tell it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use api::proxy::{Answer, NodeProxy, NodeProxyError, NodeTarget};
use async_trait::async_trait;
use axum::body::Body;
use expect_test::expect;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Cluster, JANE, PODS};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

/// A nodelet for each node `n…` that says the same; `silent` never answers, `lost` cannot be reached and
/// `mad` answers nonsense.
struct Nodelets(Value);

#[async_trait]
impl NodeProxy for Nodelets {
    async fn request(
        &self,
        node: &NodeTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, NodeProxyError> {
        assert_eq!(request.uri(), "/stats/summary");
        match node.name.as_str() {
            "silent" => std::future::pending().await,
            "lost" => Err(NodeProxyError::Unreachable {
                node: node.name.clone(),
                source: None,
            }),
            "mad" => Ok(Response::new(Body::from("[1"))),
            _ => Ok(Response::new(Body::from(self.0.to_string()))),
        }
    }

    async fn upgrade(
        &self,
        node: &NodeTarget,
        request: Request<Body>,
    ) -> Result<Answer, NodeProxyError> {
        self.request(node, request).await.map(Answer::Other)
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

fn used(nano_cores: u64, bytes: u64) -> Value {
    json!({
        "cpu": {
            "time": "2026-01-01T00:00:00Z", "usageNanoCores": nano_cores,
            "usageCoreNanoSeconds": 1, "windowSeconds": 15,
        },
        "memory": {"workingSetBytes": bytes},
    })
}

fn container(name: &str, nano_cores: u64, bytes: u64) -> Value {
    let mut container = used(nano_cores, bytes);
    container["name"] = name.into();
    container
}

/// A cluster of these nodes; the pods `a` and `b` run on `n1`, `c` on `lost`.
async fn cluster(nodes: &[&str]) -> Cluster {
    let of = |name: &str, uid: &str, containers: Value| {
        json!({
            "podRef": {"namespace": "default", "name": name, "uid": uid},
            "containers": containers,
        })
    };
    let mut node = used(1_250_000_000, 3 << 30);
    node["nodeName"] = "another".into();
    let young = json!([{"name": "c", "cpu": {"time": "2026-01-01T00:00:00Z"}, "memory": {}}]);
    let both = json!([
        container("c", 2_000_000, 1 << 20),
        container("d", 500_000, 512 << 10)
    ]);
    let summary = json!({"node": node, "pods": [
        of("b", "b-uid", young),
        of("a", "a-uid", both.clone()),
        of("c", "c-uid", both.clone()),
        of("a", "an-older-uid", both.clone()),
        of("gone", "gone-uid", both),
    ]});
    let cluster = Cluster::start_among(Arc::new(Nodelets(summary))).await;
    for name in nodes {
        let node = json!({"metadata": {"name": name, "labels": {"zone": "z"}}});
        cluster.ok("POST /api/v1/nodes", &node.to_string()).await;
    }
    for (name, node) in [("a", "n1"), ("b", "n1"), ("c", "lost")] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "default", "name": name, "uid": format!("{name}-uid"),
                "labels": {"app": name}, "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]},
        });
        cluster.plant("", "pods", &pod).await;
    }
    cluster.ok(&format!("GET {PODS}"), "").await;
    cluster
}

/// The objects without the time of their making.
fn lines(list: &Value) -> String {
    let mut text = format!("{} {}\n", list["kind"], list["metadata"]);
    for item in list["items"].as_array().into_iter().flatten() {
        let mut item = item.clone();
        let made = item["metadata"]["creationTimestamp"].take();
        assert!(made.is_string(), "{item}");
        if let Some(metadata) = item["metadata"].as_object_mut() {
            metadata.remove("creationTimestamp");
        }
        text += &format!("{item}\n");
    }
    text
}

#[tokio::test]
async fn nodes_and_pods_that_are_known_are_listed_with_their_labels() {
    let cluster = cluster(&["n1", "lost", "mad"]).await;
    let nodes = cluster.ok(&format!("GET {METRICS}/nodes"), "").await;
    expect![[r#"
        "NodeMetricsList" {}
        {"apiVersion":"metrics.k8s.io/v1beta1","kind":"NodeMetrics","metadata":{"labels":{"zone":"z"},"name":"n1"},"timestamp":"2026-01-01T00:00:00Z","usage":{"cpu":"1250m","memory":"3Gi"},"window":"15s"}
    "#]]
    .assert_eq(&lines(&nodes));
    let pods = cluster.ok(&format!("GET {METRICS}/pods"), "").await;
    expect![[r#"
        "PodMetricsList" {}
        {"apiVersion":"metrics.k8s.io/v1beta1","containers":[{"name":"c","usage":{"cpu":"2m","memory":"1Mi"}},{"name":"d","usage":{"cpu":"500u","memory":"512Ki"}}],"kind":"PodMetrics","metadata":{"labels":{"app":"a"},"name":"a","namespace":"default"},"timestamp":"2026-01-01T00:00:00Z","window":"15s"}
    "#]]
    .assert_eq(&lines(&pods));
}

#[tokio::test]
async fn lists_are_of_a_namespace_and_of_what_selectors_choose() {
    let cluster = cluster(&["n1"]).await;
    for (path, found) in [
        ("namespaces/default/pods", 1),
        ("namespaces/kube-system/pods", 0),
        ("namespaces/default/pods?labelSelector=app%3Da", 1),
        ("namespaces/default/pods?labelSelector=app%21%3Da", 0),
        ("pods?fieldSelector=metadata.name%3Da", 1),
        ("pods?fieldSelector=metadata.namespace%21%3Ddefault", 0),
        ("nodes?labelSelector=zone", 1),
        ("nodes?labelSelector=zone%3Dy", 0),
    ] {
        let list = cluster.ok(&format!("GET {METRICS}/{path}"), "").await;
        assert_eq!(
            list["items"].as_array().map(Vec::len),
            Some(found),
            "{path}"
        );
    }
    expect!["400 BadRequest: field label not supported: spec.nodeName"].assert_eq(
        &cluster
            .failure(
                &format!("GET {METRICS}/pods?fieldSelector=spec.nodeName%3Dn1"),
                "",
            )
            .await,
    );
}

#[tokio::test]
async fn one_is_got_as_an_object_or_a_table() {
    let cluster = cluster(&["n1", "lost"]).await;
    let pod = cluster
        .ok(&format!("GET {METRICS}/namespaces/default/pods/a"), "")
        .await;
    assert_eq!(pod["containers"][1]["name"], "d");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let line = format!("GET {METRICS}/namespaces/default/pods");
    let table = cluster.send_with(&line, "", &table).await.json();
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| &column["name"])
        .collect();
    assert_eq!(json!(columns), json!(["Name", "cpu", "memory", "Window"]));
    assert_eq!(
        table["rows"][0]["cells"],
        json!(["a", "2500u", "1536Ki", "15s"])
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_as_metrics_server_says_it() {
    let cluster = cluster(&["n1", "lost"]).await;
    let mut failures = String::new();
    for line in [
        "GET /nodes/n2",
        "GET /nodes/lost",
        "GET /namespaces/default/pods/gone",
        "GET /namespaces/default/pods/b",
        "GET /namespaces/default/pods/c",
        "GET /pods?watch=true",
        "DELETE /nodes/n1",
        "POST /nodes",
    ] {
        let line = line.replacen(' ', &format!(" {METRICS}"), 1);
        failures += &format!("{}\n", cluster.failure(&line, "{}").await);
    }
    expect![[r#"
        404 NotFound: nodes "n2" not found
        404 NotFound: nodemetrics.metrics.k8s.io "lost" not found
        404 NotFound: pods "gone" not found
        404 NotFound: podmetrics.metrics.k8s.io "default/b" not found
        404 NotFound: podmetrics.metrics.k8s.io "default/c" not found
        405 MethodNotAllowed: the server does not allow this method on the requested resource
        405 MethodNotAllowed: the server does not allow this method on the requested resource
        405 MethodNotAllowed: the server does not allow this method on the requested resource
    "#]]
    .assert_eq(&failures);
}

#[tokio::test]
async fn a_node_that_does_not_answer_holds_nobody_up_for_long() {
    let cluster = cluster(&["n1", "silent"]).await;
    let line = format!("GET {METRICS}/nodes");
    let asked = async || {
        cluster.ok(&line, "").await["items"]
            .as_array()
            .map(Vec::len)
    };
    let (first, second) = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::join!(asked(), asked())
    })
    .await
    .expect("the silent node is given up");
    assert_eq!((first, second), (Some(1), Some(1)));
}

#[tokio::test]
async fn who_may_view_may_see_what_pods_use() {
    let cluster = cluster(&["n1"]).await;
    let line = format!("GET {METRICS}/namespaces/default/pods");
    let refused = cluster.send_with(&line, "", &[JANE]).await;
    expect![[r#"403 Forbidden: pods.metrics.k8s.io is forbidden: User "jane" cannot list resource "pods" in API group "metrics.k8s.io" in the namespace "default""#]]
        .assert_eq(&refused.failure());
    let binding = json!({
        "metadata": {"name": "jane"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    cluster
        .ok(
            "POST /apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            &binding.to_string(),
        )
        .await;
    assert_eq!(cluster.send_with(&line, "", &[JANE]).await.code, 200);
}
