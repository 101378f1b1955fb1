//! Servers: requests over real sockets on the pods' own addresses.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::time::Duration;

use node::{Node, SOON, at, example, fixture, get};
use runtimes::{Runtime as _, RuntimeError};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_says_hello_from_each_pod() {
    let node = Node::new(80);
    for name in ["hello-a", "hello-b"] {
        let spec = node.spec(name, &example("hello.wat")).await;
        node.start(&spec).await.unwrap();
        let (status, body) = get(at(spec.address), "/").await.unwrap();
        assert_eq!((status, body), (200, format!("Hello from {name}\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_sees_the_path_and_query() {
    let node = Node::new(82);
    let spec = node.spec("echo", &fixture("echo.wat")).await;
    node.start(&spec).await.unwrap();
    let answer = get(at(spec.address), "/a/b?c=d").await.unwrap();
    assert_eq!(answer, (200, "/a/b?c=d".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_traps_is_answered_500_and_the_server_goes_on() {
    let node = Node::new(84);
    let spec = node.spec("trap", &fixture("http-trap.wat")).await;
    node.start(&spec).await.unwrap();
    for _ in 0..2 {
        let (status, _) = get(at(spec.address), "/").await.unwrap();
        assert_eq!(status, 500);
    }
    let log = node.log(&spec);
    assert!(log.contains("unreachable"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_refuses_connections_and_exits_0() {
    let node = Node::new(86);
    let spec = node.spec("hello", &example("hello.wat")).await;
    node.start(&spec).await.unwrap();
    get(at(spec.address), "/").await.unwrap();
    node.runtime.stop(&spec.id, SOON).await.unwrap();
    let exit = node.runtime.wait(&spec.id).await.unwrap();
    assert_eq!((exit.code, exit.reason), (0, "Completed"));
    assert!(get(at(spec.address), "/").await.is_err());
    let mut again = spec.clone();
    again.id = runtimes::ContainerId("uid-hello/main/1".into());
    node.start(&again).await.unwrap();
    get(at(spec.address), "/").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_killed_after_the_grace_period() {
    let node = Node::new(88);
    let spec = node.spec("loop", &fixture("http-loop.wat")).await;
    node.start(&spec).await.unwrap();
    let address = at(spec.address);
    let mut requests = tokio::task::JoinSet::new();
    requests.spawn(async move { get(address, "/").await });
    let busy = async {
        while node.runtime.stats(&spec.id).await.unwrap().cpu.is_zero() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, busy)
        .await
        .expect("the request is served");
    node.runtime
        .stop(&spec.id, Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(node.runtime.wait(&spec.id).await.unwrap().code, 137);
    assert!(requests.join_next().await.unwrap().unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_declared_port_is_invalid() {
    let node = Node::new(90);
    let mut spec = node.spec("hello", &example("hello.wat")).await;
    spec.ports.clear();
    match node.start(&spec).await {
        Err(RuntimeError::Invalid(message)) => {
            assert!(message.contains("containerPort"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_says_which() {
    let node = Node::new(92);
    let spec = node.spec("hello", &example("hello.wat")).await;
    let taken = std::net::TcpListener::bind(at(spec.address)).unwrap();
    match node.start(&spec).await {
        Err(error @ RuntimeError::Unavailable { .. }) => {
            assert!(error.to_string().contains("127.92.0.1:8080"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(taken);
    node.runtime.start(&spec.id).await.unwrap();
    get(at(spec.address), "/").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_pods_of_one_component_serve() {
    let node = Node::new(94);
    let before = resident_bytes();
    let begun = std::time::Instant::now();
    let mut specs = Vec::new();
    for number in 0..200 {
        let spec = node
            .spec(&format!("pod-{number}"), &example("hello.wat"))
            .await;
        node.start(&spec).await.unwrap();
        specs.push(spec);
    }
    let took = begun.elapsed();
    let each = resident_bytes().saturating_sub(before) / 200;
    for spec in &specs {
        let (status, body) = get(at(spec.address), "/").await.unwrap();
        assert_eq!(
            (status, body),
            (200, format!("Hello from {}\n", spec.pod.name))
        );
    }
    let served = resident_bytes().saturating_sub(before) / 200;
    eprintln!("200 pods in {took:?}; {each} bytes of memory each, {served} after a request");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
