//! Ingresses: endpoints of Services, tunnels, status and conflicts.

use futures::{SinkExt, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    Running, SOON,
    clients::*,
    containers::{ip, server},
    ok, start,
};

fn put_ingress(running: &Running, name: &str, host: &str, service: &str) {
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    let spec = json!({
        "ingressClassName": "wk",
        "rules": [{"host": host, "http": {"paths": [path]}}],
    });
    let ingress: Value = json!({"metadata": {"uid": name}, "spec": spec});
    running
        .node
        .cluster
        .put("ingresses", "default", name, ingress);
}

async fn answered(running: &Running, host: &str) -> Seen {
    let ask = || async { get(running.plain, host, "/").await };
    let answered = |seen: &Seen| seen.status == StatusCode::OK;
    crate::sockets::eventually(ask, answered).await
}

#[tokio::test]
async fn a_rule_leads_to_the_ready_endpoints_of_its_service() {
    let running = start(|_, _| async { ok("") }).await;
    let mut tasks = JoinSet::new();
    let one = server(&mut tasks, ip(&running, 201), 0).await;
    server(&mut tasks, ip(&running, 202), one.port()).await;
    put_ingress(&running, "web", "web.example", "web");
    let cluster = &running.node.cluster;
    running.known("web.example").await;
    let missing = get(running.plain, "web.example", "/").await;
    assert_eq!(missing.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        missing
            .body
            .starts_with("Service default/web does not exist"),
        "{missing:?}"
    );
    cluster.put_service("web", &running.node.service(), 80, "TCP");
    let ready = [201, 202].map(|number| ip(&running, number).to_string());
    cluster.put_endpoints("web", &[&ready[0], &ready[1]], one.port(), "TCP");
    answered(&running, "web.example").await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        seen.insert(get(running.plain, "web.example", "/").await.body);
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_accept_is_passed_over() {
    let running = start(|_, _| async { ok("") }).await;
    let mut tasks = JoinSet::new();
    let one = server(&mut tasks, ip(&running, 201), 0).await;
    let cluster = &running.node.cluster;
    cluster.put_service("web", &running.node.service(), 80, "TCP");
    let ready = [201, 203].map(|number| ip(&running, number).to_string());
    cluster.put_endpoints("web", &[&ready[0], &ready[1]], one.port(), "TCP");
    put_ingress(&running, "web", "web.example", "web");
    answered(&running, "web.example").await;
    for _ in 0..6 {
        let seen = send(running.plain, "web.example", "POST", "/", "x").await;
        assert_eq!(seen.status, StatusCode::OK, "{seen:?}");
    }
}

#[tokio::test]
async fn a_websocket_is_tunnelled() {
    let running = start(|_, _| async { ok("") }).await;
    let listener = TcpListener::bind((ip(&running, 201), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                continue;
            };
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() || socket.send(message).await.is_err() {
                    break;
                }
            }
        }
    });
    let cluster = &running.node.cluster;
    cluster.put_service("web", &running.node.service(), 80, "TCP");
    cluster.put_endpoints("web", &[&ip(&running, 201).to_string()], port, "TCP");
    put_ingress(&running, "web", "web.example", "web");
    running.known("web.example").await;
    let opened = || async {
        let stream = TcpStream::connect(running.plain).await.unwrap();
        tokio_tungstenite::client_async("ws://web.example/socket", stream)
            .await
            .ok()
    };
    let (mut socket, response) = crate::sockets::eventually(opened, Option::is_some)
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    for word in ["one", "two"] {
        socket.send(Message::text(word)).await.unwrap();
        let back = timeout(SOON, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(back.into_text().unwrap(), word);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_service_of_a_function_is_the_function() {
    let running = start(|revision, _| async move { ok(revision.name) }).await;
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
    put_ingress(&running, "web", "web.example", "hello");
    assert_eq!(answered(&running, "web.example").await.body, "hello-00001");
}

#[tokio::test]
async fn an_ingress_is_told_where_it_is_reached_and_what_it_does_not_get() {
    let running = start(|_, _| async { ok("") }).await;
    let addresses = json!([{"type": "InternalIP", "address": "192.0.2.5"}]);
    let conditions = json!([{"type": "Ready", "status": "True"}]);
    let status = json!({"addresses": addresses, "conditions": conditions});
    running
        .node
        .cluster
        .put("nodes", "", "one", json!({"status": status}));
    put_ingress(&running, "a", "web.example", "web");
    let written = running.node.cluster.written("/ingresses/a/status").await;
    let wanted = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.5"}]}}});
    assert_eq!(written, wanted);
    put_ingress(&running, "b", "web.example", "other");
    let event = running.node.cluster.written("/events").await;
    assert_eq!(event["reason"], "RouteConflict");
    assert_eq!(event["regarding"]["name"], "b");
    assert_eq!(
        event["note"],
        "host web.example path / is served by the older Ingress default/a"
    );
}

#[tokio::test]
async fn a_backend_that_is_no_service_is_told_and_answers_503() {
    let running = start(|_, _| async { ok("") }).await;
    let resource = json!({"apiGroup": "example.org", "kind": "Bucket", "name": "files"});
    let path = json!({"path": "/f", "pathType": "Exact", "backend": {"resource": resource}});
    let rules = json!([{"host": "web.example", "http": {"paths": [path]}}]);
    let spec = json!({"ingressClassName": "wk", "rules": rules});
    let ingress = json!({"metadata": {"uid": "a"}, "spec": spec});
    let cluster = &running.node.cluster;
    cluster.put("nodes", "", "one", json!({}));
    cluster.put("ingresses", "default", "a", ingress);
    let event = cluster.written("/events").await;
    assert_eq!(event["reason"], "BackendNotServed");
    assert_eq!(
        event["note"],
        "the backend of host web.example path /f is Bucket files: only Services are served, requests get 503"
    );
    let seen = get(running.plain, "web.example", "/f").await;
    assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE);
}
