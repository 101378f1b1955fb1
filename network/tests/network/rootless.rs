//! Rootless: addresses of 127/8 and the proxy. The host's loopback is shared by all, so every test
//! claims a place in it that no other test, of whatever process, has.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use network::{Config, Handle, Mode, Network};
use runtimes::{PodNetwork, Protocol};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{cluster::Cluster, sockets::*};

pub(crate) struct Running {
    pub(crate) cluster: Cluster,
    pub(crate) handle: Handle,
    /// Pods are in 127.150.`place`.0/24, Services in 127.151.`place`.0/24.
    place: u8,
    _tasks: JoinSet<anyhow::Result<()>>,
}

/// A place is taken by whoever listens at its last address: here until the process ends, for so long
/// do the servers of a test live.
fn claim() -> u8 {
    let claimed = |place: &u8| {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 150, *place, 254), 50_000));
        listener.map(std::mem::forget).is_ok()
    };
    (0..=255).find(claimed).expect("one of 256 places is free")
}

pub(crate) async fn start() -> Running {
    let place = claim();
    let cluster = Cluster::new();
    let config = Config {
        node_name: "rootless".to_owned(),
        mode: Mode::Rootless,
        pod_range: None,
        cluster_pod_range: format!("127.150.{place}.0/24").parse().unwrap(),
        service_range: format!("127.151.{place}.0/24").parse().unwrap(),
        cluster_domain: "cluster.local".to_owned(),
        gateway: true,
        state_dir: "/nonexistent".into(),
    };
    cluster.put_node("rootless", &format!("127.150.{place}.0/25"));
    let (handle, network) = Network::start(config, cluster.client()).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(network.run(CancellationToken::new()));
    Running {
        cluster,
        handle,
        place,
        _tasks: tasks,
    }
}

impl Running {
    async fn host_address(&self, service: &str, port: u16) -> SocketAddr {
        let address = || async { self.handle.host_address("default", service, port) };
        eventually(address, Option::is_some).await.unwrap()
    }

    fn pod(&self, number: u8) -> String {
        format!("127.150.{}.{number}", self.place)
    }

    pub(crate) fn service(&self) -> String {
        format!("127.151.{}.9", self.place)
    }
}

fn served(seen: &std::io::Result<String>) -> bool {
    seen.is_ok()
}

#[tokio::test]
async fn a_pod_gets_an_address_of_the_range_that_its_node_names() {
    let running = start().await;
    let address = running.handle.add(&pod("a"), None).await.unwrap();
    assert_eq!(address.ip.to_string(), running.pod(4));
    assert_eq!(address.loopback.to_string(), "127.44.0.4");
    assert_eq!(running.handle.add(&pod("a"), None).await.unwrap(), address);
}

#[tokio::test]
async fn a_service_is_served_by_its_ready_endpoints_in_turn() {
    let running = start().await;
    let (one, two) = (running.pod(4), running.pod(5));
    for pod in [&one, &two] {
        serve_tcp(&running.handle, format!("{pod}:8080").parse().unwrap());
    }
    running
        .cluster
        .put_endpoints("web", &[&one, &two], 8080, "TCP");
    running
        .cluster
        .put_service("web", &running.service(), 8000, "TCP");
    let address = running.host_address("web", 8000).await;
    assert_eq!(address.to_string(), format!("{}:8000", running.service()));
    let both = || async { running.handle.route(&pod("a"), address, Protocol::Tcp) };
    eventually(both, Option::is_some).await;
    let mut seen = [ask(address).await.unwrap(), ask(address).await.unwrap()];
    seen.sort();
    assert_eq!(
        seen,
        [format!("{one} 127.0.0.1"), format!("{two} 127.0.0.1")]
    );

    running.cluster.put_endpoints("web", &[&two], 8080, "TCP");
    // Two in a row: no longer in turn.
    let routed = || async {
        [(); 2].map(|()| {
            running
                .handle
                .route(&pod("a"), address, Protocol::Tcp)
                .unwrap()
                .to_string()
        })
    };
    eventually(routed, |seen| {
        seen.iter().all(|seen| *seen == format!("{two}:8080"))
    })
    .await;
    for _ in 0..4 {
        assert_eq!(ask(address).await.unwrap(), format!("{two} 127.0.0.1"));
    }
}

#[tokio::test]
async fn a_service_without_ready_endpoints_resets_connections() {
    let running = start().await;
    running
        .cluster
        .put_service("web", &running.service(), 8000, "TCP");
    let address = running.host_address("web", 8000).await;
    assert_eq!(
        ask(address).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(
        running.handle.route(&pod("a"), address, Protocol::Tcp),
        None
    );
}

#[tokio::test]
async fn a_port_that_the_host_refuses_is_served_at_another() {
    let running = start().await;
    let taken = TcpListener::bind((running.service().as_str(), 8000)).unwrap();
    let pod = running.pod(4);
    serve_tcp(&running.handle, format!("{pod}:8080").parse().unwrap());
    running.cluster.put_endpoints("web", &[&pod], 8080, "TCP");
    running
        .cluster
        .put_service("web", &running.service(), 8000, "TCP");
    let address = running.host_address("web", 8000).await;
    assert_eq!(address.ip().to_string(), running.service());
    assert_ne!(address.port(), taken.local_addr().unwrap().port());
    let answer = eventually(|| ask(address), served).await.unwrap();
    assert_eq!(answer, format!("{pod} 127.0.0.1"));
}

#[tokio::test]
async fn a_udp_service_is_served() {
    let running = start().await;
    let pod = running.pod(4);
    serve_udp(&running.handle, format!("{pod}:5353").parse().unwrap());
    running.cluster.put_endpoints("dns", &[&pod], 5353, "UDP");
    running
        .cluster
        .put_service("dns", &running.service(), 5300, "UDP");
    let address = running.host_address("dns", 5300).await;
    let answer = eventually(|| ask_udp(address), served).await.unwrap();
    assert_eq!(answer, format!("{pod} 127.0.0.1"));
}
