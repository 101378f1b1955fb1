//! A pod's sockets: its own addresses, the cluster's names, Services.

mod node;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use node::{Node, SOON, at, example, fixture};
use runtimes::Runtime as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Runs the client against `upstream` and shows its exit code and output.
async fn fetch(node: &Node, name: &str, upstream: &str) -> (i32, String) {
    let mut spec = node.spec(name, &fixture("fetch.wat")).await;
    spec.env = vec![("UPSTREAM".to_owned(), upstream.to_owned())];
    let exit = node.run(&spec).await;
    (exit.code, node.log(&spec))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_a_service_by_its_name() {
    let node = Node::new(96);
    let server = node.spec("hello", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let service: SocketAddr = "10.43.0.9:80".parse().unwrap();
    node.network.set_name("hello.default", vec![service.ip()]);
    node.network.set_service(service, vec![at(server.address)]);
    let answer = fetch(&node, "client", "hello.default").await;
    assert_eq!(answer, (0, "stdout F Hello from hello\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_endpoints_and_a_name_without_addresses_are_errors() {
    let node = Node::new(98);
    let service: SocketAddr = "10.43.0.9:80".parse().unwrap();
    node.network.set_name("empty", vec![]);
    node.network.set_service(service, vec![]);
    for (name, upstream) in [("a", "10.43.0.9:80"), ("b", "empty:80")] {
        assert_eq!(
            fetch(&node, name, upstream).await,
            (1, String::new()),
            "{upstream}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_comes_from_the_pods_own_address() {
    let node = Node::new(100);
    let server = node.spec("server", &example("hello.wat")).await;
    let listener = tokio::net::TcpListener::bind(at(server.address))
        .await
        .unwrap();
    let upstream = at(server.address).to_string();
    let client = fetch(&node, "client", &upstream);
    let serve = async {
        let (mut stream, from) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let size = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi\n";
        stream.write_all(answer).await.unwrap();
        (
            from.ip(),
            String::from_utf8_lossy(&request[..size]).into_owned(),
        )
    };
    let both = async { tokio::join!(client, serve) };
    let (answer, (from, request)) = tokio::time::timeout(SOON, both)
        .await
        .expect("it calls soon");
    assert_eq!(answer, (0, "stdout F hi\n".to_owned()));
    assert_eq!(
        Some(from),
        node.network.find("uid-client").map(|pod| pod.ip)
    );
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_bind_is_to_the_pods_own_address() {
    let node = Node::new(102);
    let one = node.spec("one", &fixture("listen.wat")).await;
    let two = node.spec("two", &fixture("listen.wat")).await;
    for spec in [&one, &two] {
        node.start(spec).await.unwrap();
    }
    for spec in [&one, &two] {
        let mut stream = connect(spec.address.ip).await;
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
        let exit = tokio::time::timeout(SOON, node.runtime.wait(&spec.id)).await;
        assert_eq!(exit.unwrap().unwrap().code, 0);
    }
}

/// Connects to the program once it listens.
async fn connect(ip: IpAddr) -> tokio::net::TcpStream {
    let attempt = async {
        loop {
            match tokio::net::TcpStream::connect((ip, 7777)).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(SOON, attempt)
        .await
        .expect("it listens soon")
}
