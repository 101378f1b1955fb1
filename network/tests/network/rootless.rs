//! Rootless: addresses of 127/8 and the proxy. Every test has ranges of its own, for the host's
//! loopback is shared by all.

use std::{io::ErrorKind, net::SocketAddr};

use network::{Config, Handle, Mode, Network};
use runtimes::PodNetwork;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{cluster::Cluster, sockets::*};

struct Running {
    cluster: Cluster,
    handle: Handle,
    _task: AbortOnDropHandle<anyhow::Result<()>>,
}

/// A cluster of its own in 127.`number`.0.0/16 (pods) and 127.`number + 1`.0.0/16 (Services).
async fn start(number: u8) -> Running {
    let cluster = Cluster::new();
    let config = Config {
        node_name: "rootless".to_owned(),
        mode: Mode::Rootless,
        pod_range: None,
        cluster_pod_range: format!("127.{number}.0.0/16").parse().unwrap(),
        service_range: format!("127.{}.0.0/16", number + 1).parse().unwrap(),
        cluster_domain: "cluster.local".to_owned(),
        state_dir: "/nonexistent".into(),
    };
    cluster.put_node("rootless", &format!("127.{number}.0.0/18"));
    let (handle, network) = Network::start(config, cluster.client()).await.unwrap();
    let task = AbortOnDropHandle::new(tokio::spawn(network.run(CancellationToken::new())));
    Running {
        cluster,
        handle,
        _task: task,
    }
}

impl Running {
    async fn host_address(&self, service: &str, port: u16) -> SocketAddr {
        let address = || async { self.handle.host_address("default", service, port) };
        eventually(address, Option::is_some).await.unwrap()
    }
}

#[tokio::test]
async fn a_pod_gets_an_address_of_the_range_that_its_node_names() {
    let running = start(150).await;
    let address = running.handle.add(&pod("a"), None).await.unwrap();
    assert_eq!(address.ip.to_string(), "127.150.0.4");
    assert_eq!(address.loopback.to_string(), "127.44.0.4");
    assert_eq!(running.handle.add(&pod("a"), None).await.unwrap(), address);
}

#[tokio::test]
async fn a_service_is_served_by_its_ready_endpoints_in_turn() {
    let running = start(152).await;
    serve_tcp(&running.handle, "127.152.0.4:8080".parse().unwrap());
    serve_tcp(&running.handle, "127.152.0.5:8080".parse().unwrap());
    running
        .cluster
        .put_endpoints("web", &["127.152.0.4", "127.152.0.5"], 8080, "TCP");
    running
        .cluster
        .put_service("web", "127.153.0.9", 8000, "TCP");
    let address = running.host_address("web", 8000).await;
    assert_eq!(address.to_string(), "127.153.0.9:8000");
    let mut seen = [ask(address).await.unwrap(), ask(address).await.unwrap()];
    seen.sort();
    assert_eq!(seen, ["127.152.0.4 127.0.0.1", "127.152.0.5 127.0.0.1"]);

    running
        .cluster
        .put_endpoints("web", &["127.152.0.5"], 8080, "TCP");
    let routed = || async {
        running
            .handle
            .route(&pod("a"), address)
            .unwrap()
            .to_string()
    };
    eventually(routed, |seen| seen == "127.152.0.5:8080").await;
    for _ in 0..4 {
        assert_eq!(ask(address).await.unwrap(), "127.152.0.5 127.0.0.1");
    }
}

#[tokio::test]
async fn a_service_without_ready_endpoints_resets_connections() {
    let running = start(154).await;
    running
        .cluster
        .put_service("web", "127.155.0.9", 8000, "TCP");
    let address = running.host_address("web", 8000).await;
    assert_eq!(
        ask(address).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(running.handle.route(&pod("a"), address), None);
}

#[tokio::test]
async fn a_port_that_the_host_refuses_is_served_at_another() {
    let running = start(156).await;
    let taken = std::net::TcpListener::bind("127.157.0.9:8000").unwrap();
    serve_tcp(&running.handle, "127.156.0.4:8080".parse().unwrap());
    running
        .cluster
        .put_endpoints("web", &["127.156.0.4"], 8080, "TCP");
    running
        .cluster
        .put_service("web", "127.157.0.9", 8000, "TCP");
    let address = running.host_address("web", 8000).await;
    assert_eq!(address.ip().to_string(), "127.157.0.9");
    assert_ne!(address.port(), taken.local_addr().unwrap().port());
    let served = |seen: &std::io::Result<String>| seen.is_ok();
    assert_eq!(
        eventually(|| ask(address), served).await.unwrap(),
        "127.156.0.4 127.0.0.1"
    );
}

#[tokio::test]
async fn a_udp_service_is_served() {
    let running = start(158).await;
    serve_udp(&running.handle, "127.158.0.4:5353".parse().unwrap());
    running
        .cluster
        .put_endpoints("dns", &["127.158.0.4"], 5353, "UDP");
    running
        .cluster
        .put_service("dns", "127.159.0.9", 5300, "UDP");
    let address = running.host_address("dns", 5300).await;
    let served = |seen: &std::io::Result<String>| seen.is_ok();
    let answer = eventually(|| ask_udp(address), served).await.unwrap();
    assert_eq!(answer, "127.158.0.4 127.0.0.1");
}
