//! What Services, pods and nodes serve, through the API.

use std::net::SocketAddr;

use api::auth::{MASTERS, User};
use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::harness::{Cluster, DEADLINE, JANE, PODS, pod};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Answers what it was sent.
async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/moved" {
        return (StatusCode::FOUND, [("location", "/there?a=b")]).into_response();
    }
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .expect("a body");
    let mut lines = vec![format!("{} {}", parts.method, parts.uri)];
    for name in [
        "authorization",
        "cookie",
        "x-forwarded-uri",
        "impersonate-user",
    ] {
        if let Some(value) = parts.headers.get(name) {
            lines.push(format!("{name}: {}", value.to_str().expect("text")));
        }
    }
    lines.push(format!("{} bytes", body.len()));
    (
        [("x-backend", "yes"), ("connection", "close")],
        lines.join("\n"),
    )
        .into_response()
}

/// Serves until the tasks end.
async fn serve(tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tasks.spawn(async move {
        axum::serve(listener, Router::new().fallback(echo))
            .await
            .expect("it serves");
    });
    address
}

/// A cluster with a pod at an address, and a Service of it.
async fn cluster(address: SocketAddr) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {PODS}"), &pod("web")).await;
    let status = json!({"status": {"podIP": address.ip(), "podIPs": [{"ip": address.ip()}]}});
    cluster
        .ok(&format!("PATCH {PODS}/web/status"), &status.to_string())
        .await;
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": address.port()}], "selector": {"app": "web"}},
    });
    cluster
        .ok(&format!("POST {SERVICES}"), &service.to_string())
        .await;
    let slice = json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": address.port()}],
        "endpoints": [{
            "addresses": [address.ip()], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "web"},
        }],
    });
    cluster
        .ok(&format!("POST {SLICES}"), &slice.to_string())
        .await;
    cluster
}

#[tokio::test]
async fn a_request_goes_on_with_its_path_query_and_body() {
    let mut tasks = JoinSet::new();
    let address = serve(&mut tasks).await;
    let cluster = cluster(address).await;
    for name in ["web", "web:80", "web:http", "http:web:80"] {
        let line = format!("POST {SERVICES}/{name}/proxy/a//b%2Fc/?x=1&y=%20");
        let reply = cluster
            .send_with(&line, "hello", &[("cookie", "k=v")])
            .await;
        assert_eq!(reply.code, 200, "{}", reply.text);
        assert_eq!(
            reply.text,
            format!(
                "POST /a//b%2Fc/?x=1&y=%20\ncookie: k=v\nx-forwarded-uri: {SERVICES}/{name}/proxy/a//b%2Fc/\n5 bytes"
            )
        );
        assert_eq!(reply.headers["x-backend"], "yes");
        assert!(!reply.headers.contains_key("connection"));
    }
    let line = format!("PUT {PODS}/web:{}/proxy/x", address.port());
    let reply = cluster.send(&line, "hello").await;
    assert!(reply.text.starts_with("PUT /x\n"), "{}", reply.text);
    let line = format!("GET {SERVICES}/web/proxy/moved");
    let reply = cluster.send(&line, "").await;
    assert_eq!(reply.code, 302);
    assert_eq!(
        reply.headers["location"],
        format!("{SERVICES}/web/proxy/there?a=b")
    );
    let reply = cluster
        .send(&format!("GET {SERVICES}/web/proxy?a=b"), "")
        .await;
    assert_eq!(reply.code, 301);
    assert_eq!(
        reply.headers["location"],
        format!("{SERVICES}/web/proxy/?a=b")
    );
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let cluster = cluster(address).await;
    let line = format!("{SERVICES}/web/proxy/stream");
    let request = http::Request::get(line)
        .header("authorization", format!("Bearer {}", crate::harness::TOKEN))
        .body(Body::empty())
        .expect("a request");
    let backend = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.expect("a request");
        assert!(head[..length].starts_with(b"GET /stream HTTP/1.1\r\n"));
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(answer).await.expect("it is sent");
        stream
    };
    let (response, mut backend) = tokio::join!(cluster.pass(request), backend);
    let mut body = response.into_body().into_data_stream();
    let mut next = async || -> Bytes {
        use futures::StreamExt as _;
        let chunk = timeout(DEADLINE, body.next())
            .await
            .expect("a chunk in time");
        chunk.expect("a chunk").expect("no error")
    };
    assert_eq!(next().await, "one");
    backend
        .write_all(b"3\r\ntwo\r\n")
        .await
        .expect("it is sent");
    assert_eq!(next().await, "two");
}

#[tokio::test]
async fn an_upgraded_connection_is_joined() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let cluster = cluster(listener.local_addr().expect("an address")).await;
    let front = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = front.local_addr().expect("an address");
    let router = cluster
        .router
        .clone()
        .layer(Extension(User::new("admin", &[MASTERS])));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = front.accept().await.expect("a connection");
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .with_upgrades();
        served.await.expect("it is served");
    });
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.expect("a request");
        let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-key: abc"));
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(answer).await.expect("it is sent");
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.expect("a word");
        stream.write_all(&word).await.expect("it is sent");
    });
    let mut client = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "GET {SERVICES}/web/proxy/ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n"
    );
    client
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    let mut answer = Vec::new();
    timeout(DEADLINE, async {
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.expect("a byte"));
        }
    })
    .await
    .expect("an answer in time");
    assert!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    client.write_all(b"ping").await.expect("it is sent");
    let mut word = [0; 4];
    timeout(DEADLINE, client.read_exact(&mut word))
        .await
        .expect("an echo in time")
        .expect("an echo");
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn what_cannot_be_reached_is_said() {
    let free = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address")
    };
    let cluster = cluster(free).await;
    let failure = async |path: &str| cluster.failure(&format!("GET {path}"), "").await;
    let reached = failure(&format!("{SERVICES}/web/proxy/")).await;
    assert!(
        reached.starts_with(
            "503 ServiceUnavailable: error trying to reach service: dial tcp 127.0.0.1:"
        ),
        "{reached}"
    );
    assert_eq!(
        failure(&format!("{SERVICES}/none/proxy/")).await,
        r#"404 NotFound: services "none" not found"#
    );
    assert_eq!(
        failure(&format!("{SERVICES}/web:81/proxy/")).await,
        r#"503 ServiceUnavailable: no service port 81 found for service "web""#
    );
    assert_eq!(
        failure(&format!("{SERVICES}/web:api/proxy/")).await,
        r#"503 ServiceUnavailable: no endpoints available for service "web:api""#
    );
    // Its endpoint is no pod.
    assert_eq!(
        failure(&format!("{SERVICES}/kubernetes/proxy/")).await,
        r#"503 ServiceUnavailable: no endpoints available for service "kubernetes""#
    );
    assert_eq!(
        failure(&format!("{SERVICES}/ftp:web:80/proxy/")).await,
        r#"400 BadRequest: invalid service request "ftp:web:80""#
    );
    assert_eq!(
        failure(&format!("{PODS}/web:0/proxy/")).await,
        r#"400 BadRequest: invalid port "0" of pod "web""#
    );
    let refused = cluster
        .send_with(&format!("DELETE {PODS}/web:80/proxy/x"), "", &[JANE])
        .await;
    assert_eq!(
        refused.failure(),
        r#"403 Forbidden: pods "web:80" is forbidden: User "jane" cannot delete resource "pods/proxy" in API group "" in the namespace "default""#
    );
}

#[tokio::test]
async fn a_nodes_nodelet_is_asked() {
    let cluster = Cluster::start().await;
    cluster
        .ok("POST /api/v1/nodes", r#"{"metadata":{"name":"n1"}}"#)
        .await;
    for name in ["n1", "n1:10250"] {
        let reply = cluster
            .send(&format!("GET /api/v1/nodes/{name}/proxy/pods?a=b"), "")
            .await;
        assert_eq!(reply.text, "n1:10250 /pods?a=b");
    }
}
