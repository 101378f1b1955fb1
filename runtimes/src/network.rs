//! The pod network contract: addresses, and what a pod's sockets see.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use async_trait::async_trait;
use tokio::net::TcpStream;

use crate::{PodRef, Protocol};

/// Where a pod's sockets live.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PodAddress {
    /// The pod's IP: wildcard binds become this one.
    pub ip: IpAddr,
    /// The pod's own loopback address: loopback binds and connects become this one.
    pub loopback: IpAddr,
}

/// A pod that has a network namespace of its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Isolated {
    /// The pod's IP, as before; its loopback is the namespace's own, 127.0.0.1.
    pub address: PodAddress,
    /// What holds the namespace: a file to enter it by.
    pub namespace: PathBuf,
}

/// A port of the node that leads to one of a pod's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    /// The node's address that it is on; unspecified is every one but loopback.
    pub address: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
    /// The pod's own port.
    pub to: u16,
}

/// Which way a connection or a datagram goes, as its pod sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// Traffic that a pod is about to take part in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Traffic {
    pub direction: Direction,
    /// Who is at the other end; for a Service, the endpoint.
    pub peer: IpAddr,
    /// Where it goes to: the peer's port on the way out, the pod's own on the way in.
    pub port: u16,
    pub protocol: Protocol,
}

/// Why a pod has no network.
#[derive(thiserror::Error, Debug)]
pub enum NetworkError {
    /// No address is free.
    #[error("no free pod address in {range}")]
    Exhausted { range: String },
    /// This host cannot give it: trying again will not help.
    #[error("{0}")]
    Unsupported(String),
    /// The host refused: try again.
    #[error("{message}")]
    Unavailable {
        message: String,
        #[source]
        source: Option<std::io::Error>,
    },
}

/// Gives pods addresses and tells their sockets where names and Services lead.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Tells the labels of a pod that no object in the API tells of, before it is given its address: NetworkPolicies
    /// select it by them until [`remove`](Self::remove).
    fn declare(&self, pod: &PodRef, labels: &BTreeMap<String, String>);

    /// Gives a pod its address. Asked again for the same uid it answers the same; `wanted` is the
    /// address that the pod had before a restart, kept if it is free.
    async fn add(&self, pod: &PodRef, wanted: Option<IpAddr>) -> Result<PodAddress, NetworkError>;

    /// The address that a pod has.
    fn find(&self, uid: &str) -> Option<PodAddress>;

    /// Gives a pod that has an address a network namespace of its own, where its containers' sockets live
    /// from then on, and its components' that are started later. Asked again it answers the same, also after
    /// a restart of this process. Containers need it; components do well without.
    async fn isolate(&self, uid: &str) -> Result<Isolated, NetworkError>;

    /// The namespace that a pod was given, if it was.
    fn isolated(&self, uid: &str) -> Option<Isolated>;

    /// Leads ports of the node to a pod that has an address, in place of those that did; [`remove`](Self::remove)
    /// takes them back.
    fn open(&self, uid: &str, ports: &[HostPort]) -> Result<(), NetworkError>;

    /// The uids of pods that have something on this host, also from before a restart of this process.
    fn held(&self) -> Vec<String>;

    /// Frees a pod's address, and its namespace. `Ok` if it had none.
    async fn remove(&self, uid: &str) -> Result<(), NetworkError>;

    /// Moves the calling thread to where Wasm pods' sockets are made (their network namespace), for
    /// good. Called at the start of every thread that opens sockets for components.
    fn enter(&self) -> std::io::Result<()>;

    /// Connects to a port of a pod as its own containers would by `localhost`: to what listens on the
    /// pod's IP, otherwise to what listens on its loopback address alone. The caller has the deadline.
    async fn connect(&self, address: PodAddress, port: u16) -> std::io::Result<TcpStream>;

    /// Looks a name up as the pod's resolver would (search domains included); `None` if it is not a
    /// name of the cluster, an empty list if it is one that has no address.
    fn resolve(&self, pod: &PodRef, name: &str) -> Option<Vec<IpAddr>>;

    /// Where a connection or a datagram to `destination` goes: a ClusterIP's port becomes one of its ready endpoints;
    /// anything else stays as it is. `None` refuses: the Service has no ready endpoint or no such port.
    fn route(
        &self,
        pod: &PodRef,
        destination: SocketAddr,
        protocol: Protocol,
    ) -> Option<SocketAddr>;

    /// Whether the NetworkPolicies let a pod take part in that traffic. Asked when a connection is
    /// made or accepted, and for datagrams; answers to what was let through are not asked about.
    fn allows(&self, pod: &PodRef, traffic: Traffic) -> bool;

    /// Whether an address is of the cluster: a pod's or a Service's.
    fn is_of_cluster(&self, address: IpAddr) -> bool;
}
