//! A pod's sockets: its own addresses, the cluster's names, Services.

mod node;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use node::{Node, SOON, at, example, fixture};
use runtimes::{Direction, PodNetwork as _, Protocol, Resolver, Runtime as _, Traffic};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_program_connects_by_localhost_to_another_of_its_pod() {
    let node = Node::new(148);
    let server = node.spec("server", &fixture("listen.wat")).await;
    node.start(&server).await.unwrap();
    let mut client = node.spec("client", &fixture("connect.wat")).await;
    (client.pod, client.address) = (server.pod.clone(), server.address);
    // The server may not listen yet.
    let mut attempt = 0;
    let connected = async {
        loop {
            attempt += 1;
            client.id = runtimes::ContainerId(format!("uid-server/client/{attempt}").into());
            if node.run(&client).await.code == 0 {
                return;
            }
        }
    };
    let connected = tokio::time::timeout(SOON, connected).await;
    connected.expect("it connects soon");
    assert_eq!(node.runtime.wait(&server.id).await.unwrap().code, 0);
}

/// What a NetworkPolicy of the fake network is about.
fn traffic(direction: Direction, peer: IpAddr, port: u16) -> Traffic {
    Traffic {
        direction,
        peer,
        port,
        protocol: Protocol::Tcp,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_keeps_a_client_from_an_endpoint_behind_a_service() {
    let node = Node::new(104);
    let server = node.spec("hello", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let service: SocketAddr = "10.43.0.9:80".parse().unwrap();
    node.network.set_service(service, vec![at(server.address)]);
    let denied = traffic(Direction::Egress, server.address.ip, 8080);
    node.network.deny("kept-in", denied);
    assert_eq!(
        fetch(&node, "kept-in", "10.43.0.9:80").await,
        (1, String::new())
    );
    assert_eq!(fetch(&node, "free", "10.43.0.9:80").await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_keeps_a_client_from_a_server() {
    let node = Node::new(106);
    let server = node.spec("hello", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let upstream = at(server.address).to_string();
    assert_eq!(fetch(&node, "before", &upstream).await.0, 0);
    let kept_out = node.spec("kept-out", &fixture("fetch.wat")).await;
    let denied = traffic(Direction::Ingress, kept_out.address.ip, 8080);
    node.network.deny("hello", denied);
    assert_eq!(fetch(&node, "kept-out", &upstream).await.0, 1);
    assert_eq!(fetch(&node, "other", &upstream).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_listens_does_not_see_whom_a_policy_keeps_out() {
    let node = Node::new(108);
    let program = node.spec("listen", &fixture("listen.wat")).await;
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    node.network
        .deny("listen", traffic(Direction::Ingress, local, 7777));
    node.start(&program).await.unwrap();
    let mut kept_out = connect(program.address.ip).await;
    let mut answer = Vec::new();
    // Closed at once, whatever was sent: an end or a reset.
    let _ = kept_out.write_all(b"ping").await;
    let read = tokio::time::timeout(SOON, kept_out.read_to_end(&mut answer)).await;
    let _ = read.expect("it is closed soon");
    assert_eq!(answer, b"");
    let let_in = tokio::net::TcpSocket::new_v4().unwrap();
    let_in.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut let_in = let_in
        .connect((program.address.ip, 7777).into())
        .await
        .unwrap();
    let_in.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    let_in.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_connects_only_where_its_annotation_lets_it() {
    let node = Node::new(110);
    let server = node.spec("hello", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let address = at(server.address);
    let service: SocketAddr = "10.43.0.9:80".parse().unwrap();
    node.network.set_name("hello.default", vec![service.ip()]);
    node.network.set_service(service, vec![address]);
    let ip = format!("{}/32:8080", address.ip());
    for (name, allowed, upstream, code) in [
        ("a", "", "hello.default", 1),
        ("b", "", &*address.to_string(), 1),
        ("c", "cluster", "hello.default", 0),
        ("d", "hello.default:80", "hello.default", 0),
        ("e", "hello.default:81", "hello.default", 1),
        ("f", &ip, &address.to_string(), 0),
        ("g", "example.org", "hello.default", 1),
    ] {
        let mut spec = node.spec(name, &fixture("fetch.wat")).await;
        spec.env = vec![("UPSTREAM".to_owned(), upstream.to_owned())];
        let annotation = ("wasm.wk.dev/allow-egress".to_owned(), allowed.to_owned());
        spec.annotations = Arc::new([annotation].into());
        assert_eq!(
            node.run(&spec).await.code,
            code,
            "{allowed:?} to {upstream}"
        );
    }
    let mut wrong = node.spec("wrong", &fixture("fetch.wat")).await;
    let annotation = ("wasm.wk.dev/allow-egress".to_owned(), "a b".to_owned());
    wrong.annotations = Arc::new([annotation].into());
    let refused = node.start(&wrong).await.unwrap_err().to_string();
    assert!(refused.contains("\"a b\""), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_own_names_come_first() {
    let node = Node::new(112);
    let server = node.spec("hello", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let mut spec = node.spec("client", &fixture("fetch.wat")).await;
    spec.env = vec![("UPSTREAM".to_owned(), "alias.example:8080".to_owned())];
    spec.resolver = Arc::new(Resolver {
        hosts: vec![("alias.example".to_owned(), server.address.ip)],
        ..Resolver::default()
    });
    assert_eq!(node.run(&spec).await.code, 0);
}

/// The fixture as a client.
fn datagram_client(node: &Node) -> std::path::PathBuf {
    let text = std::fs::read_to_string(fixture("datagrams.wat")).expect("the fixture");
    let server = "(global $client i32 (i32.const 0))";
    assert!(text.contains(server));
    let path = node.dir.path().join("client.wat");
    std::fs::write(
        &path,
        text.replace(server, "(global $client i32 (i32.const 1))"),
    )
    .expect("a file can be written");
    path
}

/// Waits until something has a UDP port: nobody else can have it then.
async fn binds(address: SocketAddr) {
    let bound = async {
        while std::net::UdpSocket::bind(address).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, bound).await.expect("it binds");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_go_to_a_service_and_come_back_from_it() {
    let node = Node::new(180);
    let server = node.spec("server", &fixture("datagrams.wat")).await;
    let service: SocketAddr = "10.43.0.9:53".parse().unwrap();
    let endpoint = SocketAddr::new(server.address.ip, 7777);
    node.network.set_service(service, vec![endpoint]);
    node.start(&server).await.unwrap();
    binds(endpoint).await;
    let client = node.spec("client", &datagram_client(&node)).await;
    let exit = node.run(&client).await;
    assert_eq!((exit.code, exit.message.as_str()), (0, ""));
    let exit = tokio::time::timeout(SOON, node.runtime.wait(&server.id)).await;
    assert_eq!(exit.unwrap().unwrap().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn localhost_is_what_listens_in_the_pod_on_either_of_its_addresses() {
    let node = Node::new(182);
    let server = node.spec("server", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    let mut client = node.spec("client", &fixture("fetch.wat")).await;
    client.pod = server.pod.clone();
    client.address = server.address;
    client.env = vec![("UPSTREAM".to_owned(), "localhost:8080".to_owned())];
    let exit = node.run(&client).await;
    let log = node.log(&client);
    assert_eq!(
        (exit.code, log.as_str()),
        (0, "stdout F Hello from server\n")
    );
    // What is on the loopback itself goes first.
    let own = SocketAddr::new(server.address.loopback, 8080);
    let listener = tokio::net::TcpListener::bind(own).await.unwrap();
    let mut again = client.clone();
    again.id = runtimes::ContainerId("uid-client/main/1".into());
    node.start(&again).await.unwrap();
    let accepted = tokio::time::timeout(SOON, listener.accept()).await;
    accepted.expect("it calls").unwrap();
    node.runtime.stop(&again.id, SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_keeps_datagrams_from_leaving() {
    let node = Node::new(150);
    let service: SocketAddr = "10.43.0.9:53".parse().unwrap();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint: SocketAddr = "127.150.9.9:7777".parse().unwrap();
    node.network.set_service(service, vec![endpoint]);
    let receiver = std::net::UdpSocket::bind(endpoint).unwrap();
    let denied = Traffic {
        protocol: Protocol::Udp,
        ..traffic(Direction::Egress, endpoint.ip(), endpoint.port())
    };
    node.network.deny("client", denied);
    let client = node.spec("client", &datagram_client(&node)).await;
    assert_eq!(node.run(&client).await.code, 1, "it is told so");
    // The first to arrive is another's.
    nobody.send_to(b"last", endpoint).unwrap();
    let mut first = [0; 4];
    receiver.recv(&mut first).unwrap();
    assert_eq!(&first, b"last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_does_not_see_datagrams_of_whom_a_policy_keeps_out() {
    let node = Node::new(152);
    let server = node.spec("server", &fixture("datagrams.wat")).await;
    let address = SocketAddr::new(server.address.ip, 7777);
    let socket = |ip: &str| {
        let socket = std::net::UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    };
    let (kept_out, let_in) = (socket("127.152.9.1"), socket("127.152.9.2"));
    let denied = Traffic {
        protocol: Protocol::Udp,
        ..traffic(Direction::Ingress, "127.152.9.1".parse().unwrap(), 7777)
    };
    node.network.deny("server", denied);
    node.start(&server).await.unwrap();
    binds(address).await;
    kept_out.send_to(b"out!", address).unwrap();
    let_in.send_to(b"ping", address).unwrap();
    // It sends the first that it sees back, and ends.
    let exit = tokio::time::timeout(SOON, node.runtime.wait(&server.id)).await;
    assert_eq!(exit.unwrap().unwrap().code, 0);
    let mut answer = [0; 4];
    let_in.recv(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    kept_out.set_nonblocking(true).unwrap();
    assert!(kept_out.recv(&mut answer).is_err());
}
