//! A pod as its components' sockets see it: its addresses, names and Services.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use runtimes::{PodAddress, PodNetwork, PodRef};
use tokio::net::{TcpSocket, TcpStream};

/// How long the host's resolver may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Shared by all instances of a container.
pub(crate) struct Pod {
    pub(crate) pod: PodRef,
    pub(crate) address: PodAddress,
    pub(crate) network: Arc<dyn PodNetwork>,
    /// Threads outside the pods' network, where the host's resolver works.
    pub(crate) host: tokio::runtime::Handle,
}

impl Pod {
    /// Where a bind really goes: a wildcard becomes the pod's IP, the loopback its own; other
    /// addresses are not the pod's to bind.
    pub(crate) fn bind_address(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let ip = wanted.ip();
        let ip = if ip.is_unspecified() {
            self.address.ip
        } else if is_localhost(ip) {
            self.address.loopback
        } else if ip == self.address.ip || ip == self.address.loopback {
            ip
        } else {
            return None;
        };
        // A pod has no IPv6 address: a wildcard of the other family binds nothing.
        (ip.is_ipv4() == wanted.is_ipv4()).then(|| SocketAddr::new(ip, wanted.port()))
    }

    /// Where a connection really goes: the loopback becomes the pod's own, a Service one of its
    /// endpoints. `None` refuses it.
    pub(crate) fn connect_address(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        if is_localhost(wanted.ip()) {
            return Some(SocketAddr::new(self.address.loopback, wanted.port()));
        }
        let routed = self.network.route(&self.pod, wanted)?;
        let strange = routed.ip().is_loopback() && !self.is_of_pods(routed.ip());
        (!strange).then_some(routed)
    }

    /// From where a connection to `destination` is made.
    pub(crate) fn source_address(&self, destination: SocketAddr) -> SocketAddr {
        if destination.ip() == self.address.loopback {
            SocketAddr::new(self.address.loopback, 0)
        } else {
            SocketAddr::new(self.address.ip, 0)
        }
    }

    /// Whether a loopback address is a pod's: where pods live on the loopback (rootless), in the same
    /// /16 as this one. Any other is the host's own, which no guest may reach.
    fn is_of_pods(&self, ip: IpAddr) -> bool {
        match (ip, self.address.ip) {
            (IpAddr::V4(ip), IpAddr::V4(own)) => ip.octets()[..2] == own.octets()[..2],
            _ => ip == self.address.ip,
        }
    }

    /// The addresses of a name: the cluster's, or, for a name that is not of the cluster, the host
    /// resolver's. Empty if there is none.
    pub(crate) async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        if name == "localhost" {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        if let Some(addresses) = self.network.resolve(&self.pod, name) {
            return Ok(addresses);
        }
        let host_name = (name.to_owned(), 0);
        let lookup = self.host.spawn(async move {
            let found = tokio::net::lookup_host(host_name).await?;
            Ok::<_, std::io::Error>(found.map(|address| address.ip()).collect())
        });
        match tokio::time::timeout(RESOLVE_DEADLINE, lookup).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(std::io::Error::other(error)),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }

    /// Connects as the pod.
    pub(crate) async fn connect(&self, destination: SocketAddr) -> std::io::Result<TcpStream> {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let destination = self.connect_address(destination).ok_or_else(refused)?;
        let source = self.source_address(destination);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(std::io::ErrorKind::NetworkUnreachable.into());
        }
        let socket = if destination.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // The port is chosen by connect, which knows the destination: bind alone would run out of
        // them. A kernel without the option binds as usual.
        let _ = nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::IpBindAddressNoPort,
            &true,
        );
        socket.bind(source)?;
        socket.connect(destination).await
    }
}

/// `127.0.0.1` and `::1`: what programs mean by the loopback.
fn is_localhost(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST,
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use runtimes::fake::FakeNetwork;

    use super::*;

    fn pod(network: FakeNetwork) -> Pod {
        Pod {
            pod: PodRef {
                namespace: "default".to_owned(),
                name: "web".to_owned(),
                uid: "1".to_owned(),
            },
            address: PodAddress {
                ip: Ipv4Addr::new(127, 42, 0, 1).into(),
                loopback: Ipv4Addr::new(127, 43, 0, 1).into(),
            },
            network: Arc::new(network),
            host: tokio::runtime::Handle::current(),
        }
    }

    #[track_caller]
    fn check(change: fn(&Pod, SocketAddr) -> Option<SocketAddr>, wanted: &[&str], want: Expect) {
        let network = FakeNetwork::loopback(42);
        let service = "10.43.0.9:80".parse().unwrap();
        network.set_service(service, vec!["127.42.0.7:8080".parse().unwrap()]);
        network.set_service("10.43.0.8:80".parse().unwrap(), Vec::new());
        let pod = pod(network);
        let mut got = String::new();
        for text in wanted {
            let to = change(&pod, text.parse().unwrap());
            let to = to.map_or("refused".to_owned(), |to| to.to_string());
            got += &format!("{text} -> {to}\n");
        }
        want.assert_eq(&got);
    }

    #[tokio::test]
    async fn a_bind_is_always_to_the_pods_own_addresses() {
        check(
            Pod::bind_address,
            &[
                "0.0.0.0:80",
                "127.0.0.1:80",
                "127.42.0.1:80",
                "127.42.0.2:80",
                "[::]:80",
                "10.0.0.1:1",
            ],
            expect![[r#"
                0.0.0.0:80 -> 127.42.0.1:80
                127.0.0.1:80 -> 127.43.0.1:80
                127.42.0.1:80 -> 127.42.0.1:80
                127.42.0.2:80 -> refused
                [::]:80 -> refused
                10.0.0.1:1 -> refused
            "#]],
        );
    }

    #[tokio::test]
    async fn a_connection_reaches_pods_services_and_the_world_but_not_the_hosts_loopback() {
        check(
            Pod::connect_address,
            &[
                "127.0.0.1:80",
                "10.43.0.9:80",
                "10.43.0.8:80",
                "127.42.0.2:80",
                "127.0.0.53:53",
                "1.2.3.4:5",
            ],
            expect![[r#"
                127.0.0.1:80 -> 127.43.0.1:80
                10.43.0.9:80 -> 127.42.0.7:8080
                10.43.0.8:80 -> refused
                127.42.0.2:80 -> 127.42.0.2:80
                127.0.0.53:53 -> refused
                1.2.3.4:5 -> 1.2.3.4:5
            "#]],
        );
    }
}
