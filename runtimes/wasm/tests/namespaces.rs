//! Pods with a network namespace of their own, as those have that hold containers too.
//!
//! Every test runs in a host of its own: the test binary again, in a private network and mount namespace,
//! so the real host is never touched. An ordinary user is root there by a user namespace.

#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod node;

use std::{
    env,
    fs::File,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::Arc,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
    unistd::geteuid,
};
use node::{Node, SOON, at, example, fixture, get};
use runtimes::{ContainerId, ContainerSpec, Runtime as _, fake::FakeNetwork};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

const PRIVATE: &str = "WK_WASM_TEST_IS_PRIVATE";

/// Runs a test's body in a host of its own.
#[track_caller]
fn in_private_host<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if env::var_os(PRIVATE).is_some() {
        let none = None::<&str>;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        ip("link set lo up");
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(body());
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"]);
    let output = unshare.env(PRIVATE, "1").output();
    let output = output.expect("unshare (util-linux) is installed");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a private namespace (needs root, or user namespaces for ordinary users):\n{said}"
    );
}

/// Runs `ip` with the words of `line`.
#[track_caller]
fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output();
    let output = output.expect("ip (iproute2) is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {line}: {said}");
}

/// A pod with a namespace of its own: its IP on a link to the host, its loopback up.
struct Pod {
    namespace: PathBuf,
    ip: IpAddr,
}

impl Pod {
    fn new(name: &str, ip_address: IpAddr) -> Pod {
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("link set {name} up"));
        ip(&format!("address add 169.254.1.1/32 dev {name}"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} address add {ip_address}/32 dev eth0"));
        ip(&format!("-n {name} route add 169.254.1.1 dev eth0"));
        ip(&format!("-n {name} route add default via 169.254.1.1"));
        ip(&format!("route add {ip_address} dev {name}"));
        Pod {
            namespace: format!("/run/netns/{name}").into(),
            ip: ip_address,
        }
    }

    /// A component of the pod.
    fn holds(&self, mut spec: ContainerSpec) -> ContainerSpec {
        assert_eq!(spec.address.ip, self.ip);
        spec.address.loopback = Ipv4Addr::LOCALHOST.into();
        spec.namespaces.network = Some(self.namespace.clone());
        spec
    }

    /// What a container of the pod would do, on a thread of its own.
    async fn run<F: Future>(&self, work: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F::Output: Send + 'static,
    {
        let namespace = File::open(&self.namespace).unwrap();
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let _ = answer.send(runtime.unwrap().block_on(work()));
        });
        answered.await.expect("the thread does not panic")
    }
}

/// A node and its first pod, `one`, which has a namespace of its own.
fn node_and_pod() -> (Node, Pod) {
    let pod = Pod::new("one", [10, 64, 0, 1].into());
    (Node::with(FakeNetwork::new()), pod)
}

fn localhost(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Connects once something listens, and tells whether `ping` comes back.
async fn echoes(address: SocketAddr) -> bool {
    let talk = async {
        let mut stream = loop {
            match tokio::net::TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.is_ok() && &answer == b"ping"
    };
    tokio::time::timeout(SOON, talk).await.unwrap_or(false)
}

#[test]
fn a_server_is_reached_by_localhost_in_its_pod_and_at_the_pods_ip_from_outside() {
    let test = "a_server_is_reached_by_localhost_in_its_pod_and_at_the_pods_ip_from_outside";
    in_private_host(test, || async {
        let (node, pod) = node_and_pod();
        let server = pod.holds(node.spec("one", &example("hello.wat")).await);
        node.start(&server).await.unwrap();
        let answer = (200, "Hello from one\n".to_owned());
        let inside = pod.run(|| async { get(localhost(8080), "/").await });
        assert_eq!(inside.await.unwrap(), answer);
        assert_eq!(get(at(server.address), "/").await.unwrap(), answer);
        assert!(get(localhost(8080), "/").await.is_err(), "the host's own");
        node.runtime.stop(&server.id, SOON).await.unwrap();
    });
}

#[test]
fn a_program_that_listens_anywhere_is_reached_by_localhost_in_its_pod() {
    let test = "a_program_that_listens_anywhere_is_reached_by_localhost_in_its_pod";
    in_private_host(test, || async {
        let (node, pod) = node_and_pod();
        let program = pod.holds(node.spec("one", &fixture("listen.wat")).await);
        node.start(&program).await.unwrap();
        assert!(pod.run(|| echoes(localhost(7777))).await);
        let exit = tokio::time::timeout(SOON, node.runtime.wait(&program.id)).await;
        assert_eq!(exit.unwrap().unwrap().code, 0);
        // Another in its place; and one that connects, as a container would.
        let mut again = program.clone();
        again.id = ContainerId("uid-one/main/1".into());
        node.start(&again).await.unwrap();
        let mut client = pod.holds(node.spec("one", &fixture("connect.wat")).await);
        let mut attempt = 0;
        let reached = async {
            loop {
                attempt += 1;
                client.id = ContainerId(format!("uid-one/client/{attempt}").into());
                if node.run(&client).await.code == 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, reached)
            .await
            .expect("it connects soon");
    });
}

#[test]
fn a_component_reaches_a_containers_localhost_and_what_is_outside_as_its_pod() {
    let test = "a_component_reaches_a_containers_localhost_and_what_is_outside_as_its_pod";
    in_private_host(test, || async {
        let (node, pod) = node_and_pod();
        let serve = |listener: tokio::net::TcpListener| async move {
            let (mut stream, from) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi\n";
            stream.write_all(answer).await.unwrap();
            from.ip()
        };
        let fetch = |name: &'static str, upstream: &'static str| {
            let (node, pod) = (&node, &pod);
            async move {
                let mut spec = pod.holds(node.spec("one", &fixture("fetch.wat")).await);
                spec.id = ContainerId(format!("uid-one/{name}/0").into());
                spec.env = vec![("UPSTREAM".to_owned(), upstream.to_owned())];
                node.run(&spec).await.code
            }
        };
        // A container's own loopback.
        let (ready, listening) = tokio::sync::oneshot::channel();
        let container = pod.run(move || async move {
            let listener = tokio::net::TcpListener::bind(localhost(9000))
                .await
                .unwrap();
            ready.send(()).unwrap();
            serve(listener).await
        });
        let component = async {
            listening.await.unwrap();
            fetch("inside", "localhost:9000").await
        };
        let (from, code) = tokio::join!(container, component);
        assert_eq!((from, code), (Ipv4Addr::LOCALHOST.into(), 0));
        // A Service, whose endpoint is not in the pod.
        let endpoint: SocketAddr = "169.254.1.1:9001".parse().unwrap();
        node.network
            .set_service("10.43.0.9:80".parse().unwrap(), vec![endpoint]);
        let listener = tokio::net::TcpListener::bind(endpoint).await.unwrap();
        let (from, code) = tokio::join!(serve(listener), fetch("outside", "10.43.0.9:80"));
        assert_eq!((from, code), (pod.ip, 0));
    });
}

#[test]
fn datagrams_come_and_go_in_the_pods_own_namespace() {
    let test = "datagrams_come_and_go_in_the_pods_own_namespace";
    in_private_host(test, || async {
        let (node, pod) = node_and_pod();
        let program = pod.holds(node.spec("one", &fixture("datagrams.wat")).await);
        node.start(&program).await.unwrap();
        // It may not listen yet: a datagram to nobody is refused.
        let answered = pod.run(|| async {
            let socket = tokio::net::UdpSocket::bind(localhost(0)).await.unwrap();
            socket.connect(localhost(7777)).await.unwrap();
            let mut answer = [0; 4];
            let exchange = async {
                loop {
                    let sent = socket.send(b"ping").await;
                    if sent.is_ok() && socket.recv(&mut answer).await.is_ok() {
                        return answer;
                    }
                }
            };
            tokio::time::timeout(SOON, exchange).await
        });
        assert_eq!(&answered.await.expect("it answers soon"), b"ping");
        let exit = tokio::time::timeout(SOON, node.runtime.wait(&program.id)).await;
        assert_eq!(exit.unwrap().unwrap().code, 0);
    });
}

#[test]
fn pods_with_and_without_a_namespace_side_by_side_each_keep_to_their_own() {
    let test = "pods_with_and_without_a_namespace_side_by_side_each_keep_to_their_own";
    in_private_host(test, || async {
        let node = Arc::new(Node::with(FakeNetwork::new()));
        let mut pods = Vec::new();
        for (number, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
            let spec = node.spec(name, &example("hello.wat")).await;
            let spec = if number % 2 == 0 {
                Pod::new(name, spec.address.ip).holds(spec)
            } else {
                // A pod of components alone: its addresses are where the guests' threads stand.
                ip(&format!("address add {}/32 dev lo", spec.address.ip));
                spec
            };
            node.start(&spec).await.unwrap();
            pods.push(spec);
        }
        // All at once and time and again, each calls its own `localhost`, and meets its own server.
        let mut calls = JoinSet::new();
        for turn in 0..25 {
            for server in pods.clone() {
                let node = node.clone();
                calls.spawn(async move {
                    let name = server.pod.name.clone();
                    let mut client = node.spec(&name, &fixture("fetch.wat")).await;
                    client.id = ContainerId(format!("uid-{name}/client/{turn}").into());
                    client.log = node.dir.path().join(format!("{name}-{turn}.log"));
                    (client.address, client.namespaces) = (server.address, server.namespaces);
                    client.env = vec![("UPSTREAM".to_owned(), "localhost:8080".to_owned())];
                    let exit = node.run(&client).await;
                    (exit.code, node.log(&client), name)
                });
            }
        }
        while let Some(called) = calls.join_next().await {
            let (code, log, name) = called.unwrap();
            assert_eq!((code, log), (0, format!("stdout F Hello from {name}\n")));
        }
    });
}

#[test]
fn a_namespace_that_is_not_there_is_an_error_that_names_the_pod() {
    let test = "a_namespace_that_is_not_there_is_an_error_that_names_the_pod";
    in_private_host(test, || async {
        let node = Node::with(FakeNetwork::new());
        let mut spec = node.spec("one", &example("hello.wat")).await;
        spec.namespaces.network = Some("/run/netns/one".into());
        let refused = node.start(&spec).await.unwrap_err();
        assert_eq!(refused.to_string(), "open the network namespace of pod one");
    });
}
