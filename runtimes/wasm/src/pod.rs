//! A pod as its components' sockets see it: its addresses, names and Services.
//!
//! A pod of components alone has two addresses of the namespace that all such pods share, and what its
//! sockets bind and connect to is made one of them. In a namespace of its own a pod's addresses are its
//! own already: wildcards and `127.0.0.1` stay what they are, for its containers and components alike.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use runtimes::{
    ContainerSpec, Direction, PodAddress, PodNetwork, PodRef, Protocol, Resolver, RuntimeError,
    Traffic,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};

use crate::{
    egress::{self, Egress},
    namespace::Namespace,
};

/// How long the host's resolver may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Requests of one container that are under way at once; further ones wait.
const MAX_REQUESTS: usize = 256;

/// Requests of one container that wait; further ones are refused.
const MAX_WAITING: usize = 4096;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Shared by all instances of a container.
pub(crate) struct Pod {
    pub(crate) pod: PodRef,
    pub(crate) address: PodAddress,
    /// `None`: its sockets are where those of all such pods are.
    namespace: Option<Namespace>,
    pub(crate) network: Arc<dyn PodNetwork>,
    /// Threads outside the pods' network, where the host's resolver works.
    pub(crate) host: tokio::runtime::Handle,
    /// `None`: the pod does not restrict itself.
    egress: Option<Egress>,
    resolver: Arc<Resolver>,
    /// Turns of outgoing requests.
    pub(crate) requests: Arc<Semaphore>,
    /// Places to wait for a turn.
    pub(crate) waiting: Semaphore,
    /// Bytes that its components' connections were given to send.
    pub(crate) sent: Arc<AtomicU64>,
}

/// Why a connection is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// A Service without a ready endpoint, or an address that is no pod's to reach.
    Unreachable,
    /// The pod's annotation or a NetworkPolicy.
    Denied,
}

impl From<Refused> for std::io::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unreachable => ErrorKind::ConnectionRefused.into(),
            Refused::Denied => ErrorKind::PermissionDenied.into(),
        }
    }
}

impl Pod {
    /// # Errors
    /// An annotation of the pod that cannot be read; a network namespace that is not there.
    pub(crate) fn new(
        spec: &ContainerSpec,
        network: Arc<dyn PodNetwork>,
        host: tokio::runtime::Handle,
    ) -> Result<Pod, RuntimeError> {
        let egress = spec.annotations.get(egress::ANNOTATION);
        let egress = egress.map(|text| Egress::parse(text)).transpose();
        let path = spec.namespaces.network.as_ref();
        let namespace = path.map(|path| Namespace::open(path)).transpose();
        let namespace = namespace.map_err(|source| RuntimeError::Unavailable {
            message: format!("open the network namespace of pod {}", spec.pod.name),
            source: Some(source.into()),
        })?;
        Ok(Pod {
            pod: spec.pod.clone(),
            address: spec.address,
            namespace,
            network,
            host,
            egress: egress.map_err(RuntimeError::Invalid)?,
            resolver: spec.resolver.clone(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            waiting: Semaphore::new(MAX_WAITING),
            sent: Arc::default(),
        })
    }

    /// Whether an address is the pod's own.
    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        ip == self.address.ip || self.is_loopback(ip)
    }

    /// Whether an address is one that only the pod itself reaches.
    fn is_loopback(&self, ip: IpAddr) -> bool {
        let all = self.namespace.is_some() && ip.is_ipv4() && ip.is_loopback();
        all || ip == self.address.loopback
    }

    /// What a bind to any address is to.
    fn wildcard(&self) -> IpAddr {
        match self.namespace {
            Some(_) => Ipv4Addr::UNSPECIFIED.into(),
            None => self.address.ip,
        }
    }

    /// Whether a socket may be bound to an address that has been through [`Pod::bind_address`].
    pub(crate) fn may_bind(&self, ip: IpAddr) -> bool {
        self.is_own(ip) || ip == self.wildcard()
    }

    /// Makes a socket where the pod's sockets live: see [`Namespace::within`].
    pub(crate) fn open<T>(&self, make: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
        match &self.namespace {
            Some(namespace) => namespace.within(make),
            None => make(),
        }
    }

    /// Whether the NetworkPolicies let the pod take part in that traffic.
    pub(crate) fn allows(
        &self,
        direction: Direction,
        peer: IpAddr,
        port: u16,
        protocol: Protocol,
    ) -> bool {
        let traffic = Traffic {
            direction,
            peer,
            port,
            protocol,
        };
        self.is_own(peer) || self.network.allows(&self.pod, traffic)
    }

    /// Whether the pod's own list lets it connect there.
    fn permits(&self, to: SocketAddr) -> bool {
        let Some(egress) = &self.egress else {
            return true;
        };
        self.is_own(to.ip()) || egress.permits(to, self.network.is_of_cluster(to.ip()))
    }

    /// Whether something may be sent to an address that has been through [`Pod::destination`].
    pub(crate) fn may_send(&self, to: SocketAddr, protocol: Protocol) -> bool {
        self.permits(to) && self.allows(Direction::Egress, to.ip(), to.port(), protocol)
    }

    /// Where a bind really goes: a wildcard becomes the pod's IP (in its own namespace it stays), the
    /// loopback its own; other addresses are not the pod's to bind.
    pub(crate) fn bind_address(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let ip = wanted.ip();
        let ip = if ip.is_unspecified() {
            self.wildcard()
        } else if self.is_own(ip) {
            ip
        } else if is_localhost(ip) {
            self.address.loopback
        } else {
            return None;
        };
        // A pod has no IPv6 address: a wildcard of the other family binds nothing.
        (ip.is_ipv4() == wanted.is_ipv4()).then(|| SocketAddr::new(ip, wanted.port()))
    }

    /// Where a connection or a datagram really goes: the loopback becomes the pod's own (its IP if
    /// nothing is on the loopback), a Service one of its endpoints.
    pub(crate) fn destination(
        &self,
        wanted: SocketAddr,
        protocol: Protocol,
    ) -> Result<SocketAddr, Refused> {
        if self.namespace.is_some() && self.is_loopback(wanted.ip()) {
            return Ok(wanted);
        }
        if is_localhost(wanted.ip()) {
            return Ok(self.local(wanted.port(), protocol));
        }
        if !self.permits(wanted) {
            return Err(Refused::Denied);
        }
        let routed = self
            .network
            .route(&self.pod, wanted, protocol)
            .ok_or(Refused::Unreachable)?;
        // Rootless, Services have loopback addresses too: one that is itself where it leads is the gateway's.
        let of_service = routed.ip() == wanted.ip() && self.network.is_of_cluster(routed.ip());
        if routed.ip().is_loopback() && !self.is_of_pods(routed.ip()) && !of_service {
            return Err(Refused::Unreachable);
        }
        if let Some(egress) = &self.egress
            && routed != wanted
        {
            egress.learn_endpoint(routed);
        }
        if !self.allows(Direction::Egress, routed.ip(), routed.port(), protocol) {
            return Err(Refused::Denied);
        }
        Ok(routed)
    }

    /// What `localhost` is to the pod: its loopback address where something has that port, otherwise its
    /// IP, which wildcard binds became. In its own namespace they became nothing else.
    fn local(&self, port: u16, protocol: Protocol) -> SocketAddr {
        let loopback = SocketAddr::new(self.address.loopback, port);
        if self.namespace.is_some() {
            return loopback;
        }
        // Only a socket that has the port keeps another from having it.
        let taken = match protocol {
            Protocol::Tcp => TcpSocket::new_v4().and_then(|socket| {
                // Past what the last connections have left.
                socket.set_reuseaddr(true)?;
                socket.bind(loopback)
            }),
            Protocol::Udp => std::net::UdpSocket::bind(loopback).map(drop),
        };
        match taken {
            Err(error) if error.kind() == ErrorKind::AddrInUse => loopback,
            _ => SocketAddr::new(self.address.ip, port),
        }
    }

    /// From where a connection to `destination` is made.
    pub(crate) fn source_address(&self, destination: SocketAddr) -> SocketAddr {
        if self.is_loopback(destination.ip()) {
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

    /// The addresses of a name: the pod's own names', the cluster's, or, for a name that is not of the
    /// cluster, the host resolver's. Empty if there is none.
    pub(crate) async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        if name.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let bare = name.trim_end_matches('.');
        let own = self.resolver.hosts.iter();
        let own = own.filter(|(own, _)| own.eq_ignore_ascii_case(bare));
        let own: Vec<IpAddr> = own.map(|(_, ip)| *ip).collect();
        if !own.is_empty() {
            return self.restrict(name, own, false);
        }
        if let Some(found) = self.cluster_addresses(name) {
            return self.restrict(name, found, true);
        }
        if !name.ends_with('.') {
            for domain in &self.resolver.searches {
                let full = format!("{name}.{}.", domain.trim_end_matches('.'));
                if let Some(found) = self
                    .cluster_addresses(&full)
                    .filter(|found| !found.is_empty())
                {
                    return self.restrict(name, found, true);
                }
                let found = self.host_addresses(name, &full).await;
                if let Some(found) = found.ok().filter(|found| !found.is_empty()) {
                    return self.restrict(name, found, false);
                }
            }
        }
        let found = self.host_addresses(name, name).await?;
        self.restrict(name, found, false)
    }

    fn cluster_addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        if self.resolver.skips_cluster {
            return None;
        }
        self.network.resolve(&self.pod, name)
    }

    /// Leaves out what the pod's own list does not let it connect to.
    fn restrict(
        &self,
        name: &str,
        found: Vec<IpAddr>,
        of_cluster: bool,
    ) -> std::io::Result<Vec<IpAddr>> {
        let Some(egress) = &self.egress else {
            return Ok(found);
        };
        if !egress.may_look_up(name, of_cluster) && !found.iter().any(|ip| self.is_own(*ip)) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let (own, others) = found
            .into_iter()
            .partition::<Vec<_>, _>(|ip| self.is_own(*ip));
        let others = egress.learn(name, others, |ip| self.network.is_of_cluster(ip));
        Ok(own.into_iter().chain(others).collect())
    }

    /// Asks the host's resolver for `full`, if the pod may look `name` up.
    async fn host_addresses(&self, name: &str, full: &str) -> std::io::Result<Vec<IpAddr>> {
        let egress = self.egress.as_ref();
        if egress.is_some_and(|egress| !egress.may_look_up(name, false)) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let host_name = (full.to_owned(), 0);
        let lookup = self.host.spawn(async move {
            let found = tokio::net::lookup_host(host_name).await?;
            Ok::<_, std::io::Error>(found.map(|address| address.ip()).collect())
        });
        match tokio::time::timeout(RESOLVE_DEADLINE, lookup).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(std::io::Error::other(error)),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// Connects as the pod.
    pub(crate) async fn connect(&self, destination: SocketAddr) -> std::io::Result<TcpStream> {
        let destination = self.destination(destination, Protocol::Tcp)?;
        let source = self.source_address(destination);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(ErrorKind::NetworkUnreachable.into());
        }
        let socket = self.tcp_socket(destination)?;
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

    /// Where a server with that port listens.
    pub(crate) fn serving_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.wildcard(), port)
    }

    /// Listens at an address of [`Pod::serving_address`]. Called where tokio's sockets can be made.
    pub(crate) fn listen(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        let socket = self.tcp_socket(address)?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    /// A socket of the family of `address`.
    fn tcp_socket(&self, address: SocketAddr) -> std::io::Result<TcpSocket> {
        self.open(|| match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        })
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
            namespace: None,
            network: Arc::new(network),
            host: tokio::runtime::Handle::current(),
            egress: None,
            resolver: Arc::default(),
            requests: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(1),
            sent: Arc::default(),
        }
    }

    /// In a namespace of its own. Nothing here makes a socket in it.
    fn isolated(network: FakeNetwork) -> Pod {
        let namespace = Namespace::open(std::path::Path::new("/proc/self/ns/net"));
        Pod {
            address: PodAddress {
                ip: Ipv4Addr::new(10, 64, 0, 1).into(),
                loopback: Ipv4Addr::LOCALHOST.into(),
            },
            namespace: Some(namespace.unwrap()),
            ..pod(network)
        }
    }

    #[track_caller]
    fn check(
        pod: fn(FakeNetwork) -> Pod,
        change: fn(&Pod, SocketAddr) -> Result<SocketAddr, Refused>,
        wanted: &[&str],
        want: Expect,
    ) {
        let network = FakeNetwork::loopback(42);
        let service = "10.43.0.9:80".parse().unwrap();
        network.set_service(service, vec!["127.42.0.7:8080".parse().unwrap()]);
        network.set_service("10.43.0.8:80".parse().unwrap(), Vec::new());
        network.set_service(
            "10.43.0.7:80".parse().unwrap(),
            vec!["10.64.0.7:8080".parse().unwrap()],
        );
        let pod = pod(network);
        let mut got = String::new();
        for text in wanted {
            let to = change(&pod, text.parse().unwrap());
            let to = to.map_or_else(|refused| format!("{refused:?}"), |to| to.to_string());
            got += &format!("{text} -> {to}\n");
        }
        want.assert_eq(&got);
    }

    #[tokio::test]
    async fn a_bind_is_always_to_the_pods_own_addresses() {
        check(
            pod,
            |pod, wanted| pod.bind_address(wanted).ok_or(Refused::Unreachable),
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
                127.42.0.2:80 -> Unreachable
                [::]:80 -> Unreachable
                10.0.0.1:1 -> Unreachable
            "#]],
        );
    }

    #[tokio::test]
    async fn a_connection_reaches_pods_services_and_the_world_but_not_the_hosts_loopback() {
        check(
            pod,
            |pod, wanted| pod.destination(wanted, Protocol::Tcp),
            &[
                "127.0.0.1:80",
                "10.43.0.9:80",
                "10.43.0.8:80",
                "127.42.0.2:80",
                "127.0.0.53:53",
                "1.2.3.4:5",
            ],
            expect![[r#"
                127.0.0.1:80 -> 127.42.0.1:80
                10.43.0.9:80 -> 127.42.0.7:8080
                10.43.0.8:80 -> Unreachable
                127.42.0.2:80 -> 127.42.0.2:80
                127.0.0.53:53 -> Unreachable
                1.2.3.4:5 -> 1.2.3.4:5
            "#]],
        );
    }

    #[tokio::test]
    async fn in_a_namespace_of_its_own_wildcards_and_the_loopback_stay_what_they_are() {
        check(
            isolated,
            |pod, wanted| pod.bind_address(wanted).ok_or(Refused::Unreachable),
            &[
                "0.0.0.0:80",
                "127.0.0.1:80",
                "127.0.0.53:80",
                "10.64.0.1:80",
                "10.64.0.2:80",
                "[::]:80",
            ],
            expect![[r#"
                0.0.0.0:80 -> 0.0.0.0:80
                127.0.0.1:80 -> 127.0.0.1:80
                127.0.0.53:80 -> 127.0.0.53:80
                10.64.0.1:80 -> 10.64.0.1:80
                10.64.0.2:80 -> Unreachable
                [::]:80 -> Unreachable
            "#]],
        );
    }

    #[tokio::test]
    async fn in_a_namespace_of_its_own_every_loopback_address_is_the_pods() {
        check(
            isolated,
            |pod, wanted| pod.destination(wanted, Protocol::Tcp),
            &[
                "127.0.0.1:80",
                "127.0.0.53:53",
                "[::1]:80",
                "10.43.0.7:80",
                "10.43.0.9:80",
                "10.64.0.1:80",
                "1.2.3.4:5",
            ],
            expect![[r#"
                127.0.0.1:80 -> 127.0.0.1:80
                127.0.0.53:53 -> 127.0.0.53:53
                [::1]:80 -> 127.0.0.1:80
                10.43.0.7:80 -> 10.64.0.7:8080
                10.43.0.9:80 -> Unreachable
                10.64.0.1:80 -> 10.64.0.1:80
                1.2.3.4:5 -> 1.2.3.4:5
            "#]],
        );
    }
}
