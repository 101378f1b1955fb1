//! HTTP in its details: streaming, trailers, what is refused, ends.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use expect_test::{Expect, expect};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use node::{Node, SOON, at, example, fixture, get};
use runtimes::{ContainerSpec, Port, Protocol, Runtime as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

async fn start(
    node: &Node,
    fixture_name: &str,
    change: impl FnOnce(&mut ContainerSpec),
) -> ContainerSpec {
    let mut spec = node.spec("server", &fixture(fixture_name)).await;
    change(&mut spec);
    node.start(&spec).await.unwrap();
    spec
}

/// Sends bytes, ends, and shows the answer's first line and its body.
async fn check(address: SocketAddr, request: &str, want: Expect) {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server that refuses may close before it has read all.
        let _ = stream.read_to_string(&mut answer).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let body = body.replace('\r', "");
        format!("{}\n{body}", head.lines().next().unwrap_or_default())
    };
    let got = tokio::time::timeout(SOON, talk).await.expect("it answers");
    want.assert_eq(&got);
}

type Frames =
    StreamBody<tokio_stream::wrappers::ReceiverStream<Result<Frame<Bytes>, std::io::Error>>>;

/// An open request: what is sent comes back.
struct Exchange {
    send: Option<mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>>,
    answer: hyper::body::Incoming,
    /// Drives the connection; dropped, the client is gone.
    connection: JoinSet<()>,
}

impl Exchange {
    async fn begin(address: SocketAddr) -> Exchange {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let (send, frames) = mpsc::channel(4);
        let body: Frames = StreamBody::new(frames.into());
        let request = Request::post(format!("http://{address}/"))
            .body(body)
            .unwrap();
        let response = tokio::time::timeout(SOON, sender.send_request(request)).await;
        let response = response
            .expect("it answers before the body is there")
            .unwrap();
        assert_eq!(response.status(), 200);
        Exchange {
            send: Some(send),
            answer: response.into_body(),
            connection: tasks,
        }
    }

    async fn send(&mut self, frame: Frame<Bytes>) {
        self.send.as_mut().unwrap().send(Ok(frame)).await.unwrap();
    }

    async fn next(&mut self) -> Option<Frame<Bytes>> {
        let next = tokio::time::timeout(SOON, self.answer.frame()).await;
        next.expect("it comes back soon").map(Result::unwrap)
    }

    /// Ends the request; the answer ends too.
    async fn end(mut self) {
        self.send = None;
        while let Some(frame) = self.next().await {
            assert!(frame.into_data().is_ok_and(|data| data.is_empty()));
        }
        drop(self.connection);
    }

    async fn round(&mut self, text: &'static str) {
        self.send(Frame::data(Bytes::from_static(text.as_bytes())))
            .await;
        assert_eq!(self.next().await.unwrap().into_data().unwrap(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_and_trailers_follow() {
    let node = Node::new(160);
    let spec = start(&node, "pass.wat", |_| {}).await;
    let mut exchange = Exchange::begin(at(spec.address)).await;
    exchange.round("one").await;
    exchange.round("two").await;
    let mut trailers = HeaderMap::new();
    trailers.insert("sum", "6".parse().unwrap());
    exchange.send(Frame::trailers(trailers.clone())).await;
    exchange.send = None;
    assert_eq!(
        exchange.next().await.unwrap().into_trailers().unwrap(),
        trailers
    );
    assert!(exchange.next().await.is_none());
    drop(exchange.connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_to_continue_is_told_to_or_answered() {
    let node = Node::new(162);
    let spec = start(&node, "pass.wat", |_| {}).await;
    let talk = async {
        let mut stream = TcpStream::connect(at(spec.address)).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\
                    connection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(b"hi").await.unwrap();
        // A component that answers before it reads may be first: then there is nothing to be told.
        assert!([b"HTTP/1.1 100", b"HTTP/1.1 200"].contains(&&line));
        let mut rest = String::from_utf8(line.to_vec()).unwrap();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
        assert!(rest.contains("2\r\nhi\r\n"), "{rest}");
    };
    tokio::time::timeout(SOON, talk).await.expect("it answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_component_can_answer_is_refused_in_words() {
    let node = Node::new(164);
    let spec = start(&node, "echo.wat", |_| {}).await;
    let address = at(spec.address);
    check(
        address,
        "GET /chat HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n",
        expect![[r#"
            HTTP/1.1 501 Not Implemented
            upgrades (WebSocket among them) are not offered: this server is a WebAssembly component, and wasi:http has none
        "#]],
    )
    .await;
    check(
        address,
        "GET /h2c HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n",
        expect![[r#"
            HTTP/1.1 200 OK
            4
            /h2c
            0

        "#]],
    )
    .await;
    check(
        address,
        "CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\nconnection: close\r\n\r\n",
        expect![[r#"
            HTTP/1.1 501 Not Implemented
            CONNECT is not offered: this server is a WebAssembly component, not a proxy
        "#]],
    )
    .await;
    check(
        address,
        "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
        expect![[r#"
            HTTP/1.1 400 Bad Request
            a request must name its host
        "#]],
    )
    .await;
    check(
        address,
        "GET /old HTTP/1.0\r\n\r\n",
        expect![[r#"
            HTTP/1.0 200 OK
            /old"#]],
    )
    .await;
    check(
        address,
        "HEAD /long HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        expect![[r#"
            HTTP/1.1 200 OK
        "#]],
    )
    .await;
    let huge = "x".repeat(80 << 10);
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\na: {huge}\r\n\r\n");
    let want = expect![[r#"
        HTTP/1.1 431 Request Header Fields Too Large
    "#]];
    check(address, &huge, want).await;
    // None of this is the component's failure.
    assert_eq!(node.log(&spec), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_serves_on_each_of_its_tcp_ports() {
    let node = Node::new(166);
    let port = |number, protocol| Port {
        name: None,
        number,
        protocol,
    };
    let spec = start(&node, "echo.wat", |spec| {
        spec.ports = vec![
            port(8080, Protocol::Tcp),
            port(53, Protocol::Udp),
            port(9090, Protocol::Tcp),
        ];
    })
    .await;
    for number in [8080, 9090] {
        let answer = get(SocketAddr::new(spec.address.ip, number), "/x").await;
        assert_eq!(answer.unwrap(), (200, "/x".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_ends_when_its_client_goes_away() {
    let node = Node::new(168);
    let spec = start(&node, "pass.wat", |_| {}).await;
    let mut exchange = Exchange::begin(at(spec.address)).await;
    exchange.round("one").await;
    assert!(node.runtime.stats(&spec.id).await.unwrap().memory_bytes > 0);
    drop(exchange);
    until_no_memory(&node, &spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_finished_within_the_grace_period() {
    let node = Node::new(170);
    let spec = start(&node, "pass.wat", |_| {}).await;
    let mut exchange = Exchange::begin(at(spec.address)).await;
    exchange.round("one").await;
    let mut stops = JoinSet::new();
    let (runtime, id) = (node.runtime.clone(), spec.id.clone());
    stops.spawn(async move { runtime.stop(&id, SOON).await });
    let refused = async {
        while TcpStream::connect(at(spec.address)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, refused)
        .await
        .expect("new ones are refused");
    exchange.round("two").await;
    exchange.end().await;
    stops.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(node.runtime.wait(&spec.id).await.unwrap().code, 0);
}

/// Waits until a container has no instance left.
async fn until_no_memory(node: &Node, spec: &ContainerSpec) {
    let ended = async {
        while node.runtime.stats(&spec.id).await.unwrap().memory_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("it ends");
}

/// Sends four requests, one after another, and shows how many each one's instance had served.
async fn counts(node: &Node, spec: &ContainerSpec) -> String {
    let mut counts = String::new();
    for _ in 0..4 {
        let exchange = Exchange::begin(at(spec.address)).await;
        exchange.end().await;
        counts += &count(at(spec.address)).await;
    }
    assert_eq!(node.log(spec), "");
    counts
}

/// The header `count` of an answer.
async fn count(address: SocketAddr) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = tokio::io::BufReader::new(stream);
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let line = answer.lines().find(|line| line.starts_with("count:"));
    line.unwrap().trim_start_matches("count: ").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_one_request_unless_it_is_pooled() {
    let node = Node::new(172);
    let fresh = start(&node, "pass.wat", |_| {}).await;
    assert_eq!(counts(&node, &fresh).await, "1111");
    node.runtime.stop(&fresh.id, SOON).await.unwrap();
    let mut pooled = fresh.clone();
    pooled.id = runtimes::ContainerId("uid-server/main/1".into());
    let annotation = |value: &str| {
        let annotation = ("wasm.wk.dev/instances".to_owned(), value.to_owned());
        Arc::new([annotation].into())
    };
    pooled.annotations = annotation("pooled");
    node.start(&pooled).await.unwrap();
    // An instance is back a moment after its client has the answer.
    let again = async { while counts(&node, &pooled).await == "1111" {} };
    tokio::time::timeout(SOON, again)
        .await
        .expect("one serves again");
    assert!(node.runtime.stats(&pooled.id).await.unwrap().memory_bytes > 0);
    let mut wrong = pooled.clone();
    wrong.id = runtimes::ContainerId("uid-server/main/2".into());
    wrong.annotations = annotation("many");
    let error = node.runtime.create(wrong).await.unwrap_err();
    expect![[r#"annotation wasm.wk.dev/instances: "many" is neither fresh (an instance for each request) nor pooled"#]]
        .assert_eq(&error.to_string());
    node.runtime.stop(&pooled.id, SOON).await.unwrap();
    until_no_memory(&node, &pooled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_answers_a_head_without_a_body() {
    let node = Node::new(174);
    let spec = node.spec("hello", &example("hello.wat")).await;
    node.start(&spec).await.unwrap();
    let want = expect![[r#"
        HTTP/1.1 200 OK
    "#]];
    let request = "HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    check(at(spec.address), request, want).await;
}
