//! A pod network without a network.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::net::TcpStream;

use crate::{HostPort, Isolated, NetworkError, PodAddress, PodNetwork, PodRef, Protocol, Traffic};

/// Addresses of one range handed out in order; names and Services are what the test set.
///
/// A pod's IP is `a.b.x.y` and its own loopback `127.(b + 1).x.y`: with [`FakeNetwork::loopback`]
/// both are addresses that any Linux process can listen on.
#[derive(Debug)]
pub struct FakeNetwork {
    /// What addresses are counted from: the first is the next one.
    base: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By uid; the number is added to the base.
    pods: BTreeMap<String, u16>,
    names: HashMap<String, Vec<IpAddr>>,
    services: HashMap<SocketAddr, Vec<SocketAddr>>,
    denied: Vec<(String, Traffic)>,
    /// Uids of the pods with a namespace of their own.
    isolated: HashSet<String>,
    /// The node's ports that lead to pods, by uid.
    opened: BTreeMap<String, Vec<HostPort>>,
    routed: usize,
    /// By uid.
    declared: BTreeMap<String, BTreeMap<String, String>>,
}

impl FakeNetwork {
    /// Pods in `10.64.0.0/16`, where nothing can listen.
    pub fn new() -> Self {
        FakeNetwork::after(Ipv4Addr::new(10, 64, 0, 0))
    }

    /// Pods in `127.<net>.0.0/16`, where sockets really open. Tests that run side by side take
    /// different numbers, leaving each other's `net + 1` alone.
    pub fn loopback(net: u8) -> Self {
        FakeNetwork::after(Ipv4Addr::new(127, net, 0, 0))
    }

    /// Pods from the address after `base` on, 65,534 at most: several nodes' must not overlap.
    pub fn after(base: Ipv4Addr) -> Self {
        FakeNetwork {
            base: base.to_bits(),
            state: Mutex::default(),
        }
    }

    /// Makes `name` a name of the cluster.
    pub fn set_name(&self, name: &str, addresses: Vec<IpAddr>) {
        self.state().names.insert(name.to_owned(), addresses);
    }

    /// Makes `address` a Service's, reached in turn at `endpoints`; with none, connections are refused.
    pub fn set_service(&self, address: SocketAddr, endpoints: Vec<SocketAddr>) {
        self.state().services.insert(address, endpoints);
    }

    /// The node's ports that lead to a pod.
    pub fn opened(&self, uid: &str) -> Vec<HostPort> {
        self.state().opened.get(uid).cloned().unwrap_or_default()
    }

    /// The labels that were told of a pod which no object tells of.
    pub fn declared(&self, uid: &str) -> Option<BTreeMap<String, String>> {
        self.state().declared.get(uid).cloned()
    }

    /// Keeps the pod of that name from that traffic.
    pub fn deny(&self, pod: &str, traffic: Traffic) {
        self.state().denied.push((pod.to_owned(), traffic));
    }

    fn address(&self, number: u16) -> PodAddress {
        let ip = Ipv4Addr::from_bits(self.base.wrapping_add(number.into()));
        let [_, b, c, d] = ip.octets();
        PodAddress {
            ip: ip.into(),
            loopback: Ipv4Addr::new(127, b.wrapping_add(1), c, d).into(),
        }
    }

    /// The inverse of `address`.
    fn number(&self, ip: IpAddr) -> Option<u16> {
        match ip {
            IpAddr::V4(ip) => u16::try_from(ip.to_bits().checked_sub(self.base)?).ok(),
            IpAddr::V6(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FakeNetwork {
    fn default() -> Self {
        FakeNetwork::new()
    }
}

#[async_trait]
impl PodNetwork for FakeNetwork {
    fn declare(&self, pod: &PodRef, labels: &BTreeMap<String, String>) {
        let mut state = self.state();
        state.declared.insert(pod.uid.clone(), labels.clone());
    }

    async fn add(&self, pod: &PodRef, wanted: Option<IpAddr>) -> Result<PodAddress, NetworkError> {
        let mut state = self.state();
        if let Some(number) = state.pods.get(&pod.uid) {
            return Ok(self.address(*number));
        }
        let used: HashSet<u16> = state.pods.values().copied().collect();
        let free = |number: &u16| !used.contains(number);
        let number = wanted
            .and_then(|ip| self.number(ip))
            .filter(free)
            .or_else(|| (1..u16::MAX).find(free))
            .ok_or_else(|| NetworkError::Exhausted {
                range: format!("{}/16", Ipv4Addr::from_bits(self.base)),
            })?;
        state.pods.insert(pod.uid.clone(), number);
        Ok(self.address(number))
    }

    fn find(&self, uid: &str) -> Option<PodAddress> {
        if let Some(isolated) = self.isolated(uid) {
            return Some(isolated.address);
        }
        let number = *self.state().pods.get(uid)?;
        Some(self.address(number))
    }

    async fn isolate(&self, uid: &str) -> Result<Isolated, NetworkError> {
        let mut state = self.state();
        if !state.pods.contains_key(uid) {
            return Err(NetworkError::Unavailable {
                message: format!("pod {uid} has no address"),
                source: None,
            });
        }
        state.isolated.insert(uid.to_owned());
        drop(state);
        Ok(self.isolated(uid).expect("it was just made"))
    }

    fn isolated(&self, uid: &str) -> Option<Isolated> {
        let state = self.state();
        let number = *state.pods.get(uid)?;
        state.isolated.contains(uid).then(|| Isolated {
            address: PodAddress {
                loopback: Ipv4Addr::LOCALHOST.into(),
                ..self.address(number)
            },
            namespace: format!("/run/fake/{uid}").into(),
        })
    }

    fn open(&self, uid: &str, ports: &[HostPort]) -> Result<(), NetworkError> {
        self.state().opened.insert(uid.to_owned(), ports.to_vec());
        Ok(())
    }

    fn held(&self) -> Vec<String> {
        self.state().pods.keys().cloned().collect()
    }

    async fn remove(&self, uid: &str) -> Result<(), NetworkError> {
        let mut state = self.state();
        state.pods.remove(uid);
        state.isolated.remove(uid);
        state.opened.remove(uid);
        state.declared.remove(uid);
        Ok(())
    }

    fn enter(&self) -> std::io::Result<()> {
        Ok(())
    }

    async fn connect(&self, address: PodAddress, port: u16) -> std::io::Result<TcpStream> {
        match TcpStream::connect((address.ip, port)).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                TcpStream::connect((address.loopback, port)).await
            }
            connected => connected,
        }
    }

    fn resolve(&self, _pod: &PodRef, name: &str) -> Option<Vec<IpAddr>> {
        self.state().names.get(name).cloned()
    }

    fn route(
        &self,
        _pod: &PodRef,
        destination: SocketAddr,
        _protocol: Protocol,
    ) -> Option<SocketAddr> {
        let mut state = self.state();
        state.routed += 1;
        let turn = state.routed;
        match state.services.get(&destination) {
            None => Some(destination),
            Some(endpoints) => endpoints
                .get(turn.checked_rem(endpoints.len()).unwrap_or(0))
                .copied(),
        }
    }

    fn allows(&self, pod: &PodRef, traffic: Traffic) -> bool {
        let state = self.state();
        !state
            .denied
            .iter()
            .any(|(name, denied)| *name == pod.name && *denied == traffic)
    }

    fn is_of_cluster(&self, address: IpAddr) -> bool {
        self.number(address).is_some()
            || self
                .state()
                .services
                .keys()
                .any(|service| service.ip() == address)
    }
}
