//! Pods with a network namespace of their own, as containers have them.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

use network::Handle;
use runtimes::{Isolated, PodNetwork};

use crate::{cluster::Cluster, host::*, sockets::*};

/// A pod of its own namespace, which serves TCP and UDP at 8080.
pub(crate) struct Own {
    pub(crate) ip: IpAddr,
    pub(crate) namespace: PathBuf,
}

impl Own {
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    /// What a server tells the pod.
    pub(crate) fn ask(&self, server: SocketAddr) -> io::Result<String> {
        within(&self.namespace, move || blocking(ask(server)))
    }

    pub(crate) fn ask_udp(&self, server: SocketAddr) -> io::Result<String> {
        within(&self.namespace, move || blocking(ask_udp(server)))
    }

    /// Serves TCP at an address until the process ends.
    pub(crate) fn serve(&self, address: SocketAddr) {
        let listen = move || TcpListener::bind(address).unwrap();
        serve_listener(within(&self.namespace, listen), address);
    }
}

async fn isolate(handle: &Handle, name: &str) -> Isolated {
    handle.add(&pod(name), None).await.unwrap();
    handle.isolate(&pod(name).uid).await.unwrap()
}

pub(crate) async fn start_own(handle: &Handle, name: &str) -> Own {
    let Isolated { address, namespace } = isolate(handle, name).await;
    let ip = address.ip;
    let own = Own { ip, namespace };
    own.serve(own.at(8080));
    let address = own.at(8080);
    let open = move || UdpSocket::bind(address).unwrap();
    serve_socket(within(&own.namespace, open), address);
    own
}

/// A Wasm pod that serves at 8080.
pub(crate) async fn start_wasm(handle: &Handle, name: &str) -> IpAddr {
    let ip = handle.add(&pod(name), None).await.unwrap().ip;
    serve_tcp(handle, (ip, 8080).into());
    serve_udp(handle, (ip, 8080).into());
    ip
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[test]
fn an_isolated_pod_keeps_its_address_and_is_isolated_once() {
    in_private_host(
        "isolation::an_isolated_pod_keeps_its_address_and_is_isolated_once",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let before = handle.add(&pod("a"), None).await.unwrap();
            assert!(handle.isolated("uid-a").is_none());
            let one = handle.isolate("uid-a").await.unwrap();
            assert_eq!(one.address.ip, before.ip);
            assert_eq!(one.address.loopback.to_string(), "127.0.0.1");
            assert_eq!(handle.find("uid-a"), Some(one.address));
            assert_eq!(handle.add(&pod("a"), None).await.unwrap(), one.address);
            let file = inode(&one.namespace);
            assert_eq!(handle.isolate("uid-a").await.unwrap(), one);
            assert_eq!(handle.isolated("uid-a").unwrap(), one);
            assert_eq!(inode(&one.namespace), file);
            let error = handle.isolate("uid-unknown").await.unwrap_err();
            assert_eq!(error.to_string(), "pod uid-unknown has no address");
            assert_eq!(handle.held(), ["uid-a"]);
        },
    );
}

#[test]
fn isolated_pods_wasm_pods_and_the_host_reach_each_other_by_address() {
    in_private_host(
        "isolation::isolated_pods_wasm_pods_and_the_host_reach_each_other_by_address",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let (one, two) = (
                start_own(handle, "one").await,
                start_own(handle, "two").await,
            );
            let wasm = start_wasm(handle, "wasm").await;
            let host = serve_on_host(TcpListener::bind("10.64.0.1:0").unwrap());

            let saw = |server: IpAddr, client: IpAddr| format!("{server} {client}");
            let node: IpAddr = "10.64.0.1".parse().unwrap();
            assert_eq!(one.ask(two.at(8080)).unwrap(), saw(two.ip, one.ip));
            assert_eq!(one.ask(one.at(8080)).unwrap(), saw(one.ip, one.ip));
            assert_eq!(one.ask_udp(two.at(8080)).unwrap(), saw(two.ip, one.ip));
            assert_eq!(one.ask((wasm, 8080).into()).unwrap(), saw(wasm, one.ip));
            assert_eq!(one.ask_udp((wasm, 8080).into()).unwrap(), saw(wasm, one.ip));
            assert_eq!(one.ask(host).unwrap(), format!("host {}", one.ip));
            let from_wasm = ask_from_pod(handle, wasm, two.at(8080));
            assert_eq!(from_wasm.unwrap(), saw(two.ip, wasm));
            assert_eq!(ask(two.at(8080)).await.unwrap(), saw(two.ip, node));
            assert_eq!(ask_udp(two.at(8080)).await.unwrap(), saw(two.ip, node));
            assert!(refused(&one.ask(two.at(9))));
        },
    );
}

#[test]
fn the_node_connects_to_what_a_pod_serves_on_its_own_loopback() {
    in_private_host(
        "isolation::the_node_connects_to_what_a_pod_serves_on_its_own_loopback",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let own = start_own(handle, "own").await;
            own.serve(address("127.0.0.1:9000"));
            own.serve((own.ip, 80).into());
            let address = handle.find("uid-own").unwrap();
            for (port, server) in [
                (8080, format!("{0} {0}", own.ip)),
                (80, format!("{0} {0}", own.ip)),
                (9000, "127.0.0.1 127.0.0.1".to_owned()),
            ] {
                let mut connected = handle.connect(address, port).await.unwrap();
                let mut seen = String::new();
                let read = tokio::io::AsyncReadExt::read_to_string(&mut connected, &mut seen);
                read.await.unwrap();
                assert_eq!(seen, server);
            }
            let nobody = handle.connect(address, 9001).await.unwrap_err();
            assert_eq!(nobody.kind(), io::ErrorKind::ConnectionRefused);
        },
    );
}

#[test]
fn the_next_start_adopts_isolated_pods_and_makes_a_broken_link_again() {
    in_private_host(
        "isolation::the_next_start_adopts_isolated_pods_and_makes_a_broken_link_again",
        || async {
            let running = start(&Cluster::new()).await;
            let whole = start_own(&running.handle, "whole").await;
            let broken = start_own(&running.handle, "broken").await;
            let wasm = start_wasm(&running.handle, "wasm").await;
            assert!(whole.ask(broken.at(8080)).is_ok());
            let file = inode(&broken.namespace);
            let cluster = running.cluster.clone();
            drop(running);
            assert!(ask(whole.at(8080)).await.is_ok(), "pods keep their network");
            let route = format!("ip route show {}", broken.ip);
            let link = run(&route).split_whitespace().nth(2).unwrap().to_owned();
            run(&format!("ip link delete {link}"));

            let running = start(&cluster).await;
            let handle = &running.handle;
            assert_eq!(handle.held(), ["uid-broken", "uid-whole"]);
            let adopted = handle.isolated("uid-whole").unwrap();
            assert_eq!(
                (adopted.address.ip, &adopted.namespace),
                (whole.ip, &whole.namespace)
            );
            assert!(handle.isolated("uid-broken").is_none());
            let again = handle.add(&pod("broken"), Some(broken.ip)).await.unwrap();
            assert_eq!(
                (again.ip, again.loopback),
                (broken.ip, address("127.0.0.1:0").ip())
            );
            let other = handle.add(&pod("other"), Some(whole.ip)).await.unwrap();
            assert_ne!(other.ip, whole.ip, "it is taken");
            assert_eq!(handle.add(&pod("whole"), None).await.unwrap().ip, whole.ip);
            assert_eq!(inode(&broken.namespace), file, "its containers are in it");
            assert!(whole.ask(broken.at(8080)).is_ok());
            let from_wasm = ask_from_pod(handle, wasm, broken.at(8080));
            assert_eq!(from_wasm.unwrap(), format!("{} {wasm}", broken.ip));
        },
    );
}

#[test]
fn a_removed_pod_leaves_nothing_and_its_address_is_another_pods() {
    in_private_host(
        "isolation::a_removed_pod_leaves_nothing_and_its_address_is_another_pods",
        || async {
            let running = start(&Cluster::new()).await;
            let handle = &running.handle;
            let wasm = start_wasm(handle, "wasm").await;
            let clean = || [run("ip route show table main"), run("ip link")];
            let before = clean();
            let own = start_own(handle, "own").await;
            assert_ne!(clean(), before);
            handle.remove("uid-own").await.unwrap();
            assert!(handle.isolated("uid-own").is_none() && handle.find("uid-own").is_none());
            assert!(!own.namespace.exists());
            assert_eq!(handle.held(), ["uid-wasm"]);
            let now = handle.add(&pod("heir"), Some(own.ip)).await.unwrap();
            assert_eq!(now.ip, own.ip);
            serve_tcp(handle, (now.ip, 8080).into());
            let seen = ask_from_pod(handle, wasm, (now.ip, 8080).into());
            assert_eq!(seen.unwrap(), format!("{} {wasm}", now.ip));
            assert!(ask((now.ip, 8080).into()).await.is_ok());
            eventually(|| async { clean() }, |now| *now == before).await;
            handle
                .remove("uid-own")
                .await
                .expect("a second time is as good");
        },
    );
}

#[test]
fn what_a_crash_left_of_a_pod_is_removed_at_the_next_start() {
    in_private_host(
        "isolation::what_a_crash_left_of_a_pod_is_removed_at_the_next_start",
        || async {
            let running = start(&Cluster::new()).await;
            let before = run("ip link");
            let own = start_own(&running.handle, "own").await;
            let cluster = running.cluster.clone();
            drop(running);
            run(&format!("umount {}", own.namespace.display()));
            std::fs::remove_file(&own.namespace).unwrap();
            let running = start(&cluster).await;
            assert_eq!(running.handle.held(), Vec::<String>::new());
            eventually(|| async { run("ip link") }, |now| *now == before).await;
            let heir = start_wasm(&running.handle, "heir").await;
            assert_eq!(heir, own.ip);
            let seen = ask_from_pod(&running.handle, heir, (heir, 8080).into());
            assert_eq!(seen.unwrap(), format!("{heir} {heir}"));
            network::teardown("a").await.unwrap();
        },
    );
}

#[test]
fn teardown_takes_isolated_pods_away() {
    in_private_host("isolation::teardown_takes_isolated_pods_away", || async {
        let running = start(&Cluster::new()).await;
        start_own(&running.handle, "own").await;
        running.handle.teardown().await.unwrap();
        assert!(!run("ip link").contains("wk"), "{}", run("ip link"));
        assert_eq!(run("ip route"), "");
        assert_eq!(std::fs::read_dir("/run/netns").unwrap().count(), 0);
    });
}

#[test]
fn a_pod_is_isolated_within_milliseconds() {
    in_private_host(
        "isolation::a_pod_is_isolated_within_milliseconds",
        || async {
            let running = start(&Cluster::new()).await;
            let mut elapsed = Vec::new();
            for number in 0..50 {
                let pod = pod(&format!("p{number}"));
                running.handle.add(&pod, None).await.unwrap();
                let started = Instant::now();
                running.handle.isolate(&pod.uid).await.unwrap();
                elapsed.push(started.elapsed());
            }
            elapsed.sort();
            eprintln!(
                "isolated in {:?} (p50), {:?} (p90)",
                elapsed[25], elapsed[45]
            );
            assert!(elapsed[25].as_secs() < 1, "{elapsed:?}");
        },
    );
}
