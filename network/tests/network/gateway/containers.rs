//! Containers: requests wait for pods, which are real servers on the loopback.

use std::net::{Ipv4Addr, SocketAddr};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};

use super::{Running, SOON, clients::*, ok, start};

/// A server that answers every request of a connection with its address.
pub(super) async fn server(tasks: &mut JoinSet<()>, ip: Ipv4Addr, port: u16) -> SocketAddr {
    let listener = TcpListener::bind((ip, port)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                let mut held = Vec::new();
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    held.extend_from_slice(&buffer[..length]);
                    if !held.windows(4).any(|end| end == b"\r\n\r\n") {
                        continue;
                    }
                    held.clear();
                    let body = format!("from {}", address.ip());
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// An address of the loopback that no other test has: the node's own place, far up.
pub(super) fn ip(running: &Running, number: u8) -> Ipv4Addr {
    let service: Ipv4Addr = running.node.service().parse().unwrap();
    let [_, _, place, _] = service.octets();
    Ipv4Addr::new(127, 150, place, number)
}

fn put_pod(running: &Running, name: &str, revision: &str, ip: Ipv4Addr, ready: bool) {
    let status = if ready { "True" } else { "False" };
    let pod: Value = json!({
        "metadata": {"labels": {"functions.wk.dev/revision": revision}},
        "status": {"podIP": ip.to_string(), "conditions": [{"type": "Ready", "status": status}]},
    });
    running.node.cluster.put("pods", "default", name, pod);
}

async fn with_container(running: &Running, port: u16) {
    let labels = json!({"functions.wk.dev/function": "web"});
    let revision = json!({
        "metadata": {"labels": labels},
        "spec": {"port": port, "timeoutSeconds": 20},
        "status": {"runtime": "oci"},
    });
    let cluster = &running.node.cluster;
    cluster.put("functionrevisions", "default", "web-00001", revision);
    let traffic = json!([{"revision": "web-00001", "percent": 100}]);
    cluster.put(
        "functions",
        "default",
        "web",
        json!({"status": {"traffic": traffic}}),
    );
}

#[tokio::test]
async fn a_request_waits_while_the_first_pod_starts() {
    let running = start(|_, _| async { ok("component") }).await;
    let mut tasks = JoinSet::new();
    let pod = server(&mut tasks, ip(&running, 200), 0).await;
    with_container(&running, pod.port()).await;
    let pods = async {
        let scale = "/functionrevisions/web-00001/scale";
        let asked = running.node.cluster.written(scale).await;
        let from_zero = json!([
            {"op": "test", "path": "/spec/replicas", "value": 0},
            {"op": "replace", "path": "/spec/replicas", "value": 1},
        ]);
        assert_eq!(asked, from_zero);
        put_pod(&running, "web-1", "web-00001", ip(&running, 200), false);
        put_pod(&running, "web-1", "web-00001", ip(&running, 200), true);
    };
    let until = async {
        // The Function may not be known yet to the first request.
        loop {
            let seen = get(running.plain, "web.default.localhost", "/").await;
            if seen.status == StatusCode::OK {
                break seen;
            }
        }
    };
    let (seen, ()) = timeout(SOON, async { tokio::join!(until, pods) })
        .await
        .unwrap();
    assert_eq!(seen.body, format!("from {}", ip(&running, 200)));
}

#[tokio::test]
async fn another_pod_answers_for_one_that_does_not_accept() {
    let running = start(|_, _| async { ok("component") }).await;
    let mut tasks = JoinSet::new();
    let pod = server(&mut tasks, ip(&running, 200), 0).await;
    with_container(&running, pod.port()).await;
    put_pod(&running, "web-0", "web-00001", ip(&running, 199), true);
    put_pod(&running, "web-1", "web-00001", ip(&running, 200), true);
    running.known("web.default.localhost").await;
    for _ in 0..6 {
        let seen = send(running.plain, "web.default.localhost", "POST", "/", "x").await;
        assert_eq!(seen.body, format!("from {}", ip(&running, 200)), "{seen:?}");
    }
}

#[tokio::test]
async fn demand_tells_of_requests_that_wait() {
    let running = start(|_, _| async { ok("") }).await;
    with_container(&running, 1).await;
    let mut tasks = JoinSet::new();
    let plain = running.plain;
    for _ in 0..3 {
        tasks.spawn(async move {
            loop {
                get(plain, "web.default.localhost", "/").await;
            }
        });
    }
    let demand = || async { running.gateway.demand() };
    let seen = crate::sockets::eventually(demand, |demand| {
        demand
            .iter()
            .any(|(_, sample)| sample.waiting == 3 && sample.concurrency > 2.9)
    })
    .await;
    assert_eq!(seen[0].0.to_string(), "default/web-00001");
}
