//! Pods that call Functions by their Service (rootless).

use std::net::SocketAddr;

use runtimes::{PodNetwork, Protocol};
use serde_json::json;

use super::{Running, clients::*, ok, start};
use crate::sockets::{eventually, pod};

async fn with_service() -> (Running, SocketAddr) {
    let running = start(|revision, request| async move {
        let from = request.headers()["x-forwarded-for"].to_str().unwrap();
        ok(format!("{revision} from {from}"))
    })
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let metadata = json!({"labels": {"functions.wk.dev/function": "hello"}});
    let spec = json!({"clusterIP": running.node.service(), "ports": [{"port": 80}]});
    let service = json!({"metadata": metadata, "spec": spec});
    running
        .node
        .cluster
        .put("services", "default", "hello", service);
    let service: SocketAddr = format!("{}:80", running.node.service()).parse().unwrap();
    let route = || async {
        let handle = &running.node.handle;
        handle.route(&pod("caller"), service, Protocol::Tcp)
    };
    let routed = eventually(route, |routed| {
        routed.is_some_and(|routed| routed.port() != service.port())
    });
    let routed = routed.await.unwrap();
    assert_eq!(
        routed.ip(),
        service.ip(),
        "the address says which Function it is"
    );
    (running, routed)
}

#[tokio::test]
async fn a_connection_to_a_functions_service_is_the_functions_whatever_host_it_names() {
    let (running, routed) = with_service().await;
    for host in ["hello", "hello.default.svc.cluster.local", "example.org"] {
        let seen = get(routed, host, "/").await;
        assert_eq!(seen.body, "default/hello-00001 from 127.0.0.1");
    }
    let on_host = running.node.handle.host_address("default", "hello", 80);
    assert_eq!(on_host, Some(routed));
}

#[tokio::test]
async fn an_address_of_no_function_is_closed() {
    let (_running, routed) = with_service().await;
    let wrong = SocketAddr::from(([127, 0, 0, 1], routed.port()));
    assert_eq!(
        raw(wrong, b"GET / HTTP/1.1\r\nHost: hello\r\n\r\n").await,
        ""
    );
}

#[tokio::test]
async fn a_policy_keeps_callers_out_that_it_does_not_name() {
    let (running, routed) = with_service().await;
    let cluster = &running.node.cluster;
    let address = running.node.handle.add(&pod("caller"), None).await.unwrap();
    let caller = json!({
        "metadata": {"uid": "uid-caller", "labels": {"app": "caller"}},
        "status": {"podIP": address.ip.to_string()},
    });
    cluster.put("pods", "default", "caller", caller);
    cluster.put("namespaces", "", "default", json!({}));
    let policy = |label: &str| {
        let from = json!([{"podSelector": {"matchLabels": {"app": label}}}]);
        let select = json!({"matchLabels": {"functions.wk.dev/function": "hello"}});
        let spec =
            json!({"podSelector": select, "ingress": [{"from": from}], "policyTypes": ["Ingress"]});
        cluster.put("networkpolicies", "default", "only", json!({"spec": spec}));
    };
    let call = || async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.ip, 0)).unwrap();
        let stream = socket.connect(routed).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(connection);
        whole(
            sender
                .send_request(request("hello", "GET", "/", ""))
                .await
                .unwrap(),
        )
        .await
    };
    let seen = call().await;
    assert_eq!(
        seen.body,
        format!("default/hello-00001 from {}", address.ip)
    );
    policy("other");
    let seen = eventually(call, |seen| seen.status != http::StatusCode::OK).await;
    assert_eq!(seen.status, http::StatusCode::FORBIDDEN);
    assert!(seen.body.contains("NetworkPolicy"), "{seen:?}");
    policy("caller");
    eventually(call, |seen| seen.status == http::StatusCode::OK).await;
}
