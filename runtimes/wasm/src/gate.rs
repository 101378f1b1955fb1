//! The last look at an address before a guest's socket uses it.
//!
//! `sockets` has put every address through the pod already; this is the second lock on that door, and the
//! only one for datagrams, whose addresses come with each of them. A datagram passes if the pod's rules
//! let it, or if it answers one that they let. A component that binds several UDP ports takes datagrams
//! of a peer that may reach any of them.

use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use runtimes::{Direction, Protocol};
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::pod::Pod;

/// Peers whose datagrams have been let through; when there are more, all are judged anew.
const MAX_PEERS: usize = 4096;

/// The gate of one instance.
pub(crate) struct Gate {
    pod: Arc<Pod>,
    datagrams: Mutex<Datagrams>,
}

#[derive(Default)]
struct Datagrams {
    ports: BTreeSet<u16>,
    peers: HashSet<SocketAddr>,
}

impl Gate {
    pub(crate) fn new(pod: Arc<Pod>) -> Gate {
        Gate {
            pod,
            datagrams: Mutex::default(),
        }
    }

    /// Whether the socket may use the address so.
    pub(crate) fn admits(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        let bindable = self.pod.may_bind(address.ip());
        match usage {
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen => bindable,
            SocketAddrUse::UdpBind => {
                if bindable && address.port() != 0 {
                    self.datagrams(|datagrams| datagrams.ports.insert(address.port()));
                }
                bindable
            }
            SocketAddrUse::TcpConnect => self.pod.may_send(address, Protocol::Tcp),
            SocketAddrUse::UdpSend => {
                self.is_known(address)
                    || (self.pod.may_send(address, Protocol::Udp) && self.remember(address))
            }
            SocketAddrUse::UdpReceive => {
                self.is_known(address) || (self.may_receive(address) && self.remember(address))
            }
            // Which port was connected to is known once it is accepted: see `bounds`.
            SocketAddrUse::TcpAccept => true,
        }
    }

    fn may_receive(&self, from: SocketAddr) -> bool {
        let ports = self.datagrams(|datagrams| datagrams.ports.clone());
        let allowed = |port| {
            let ip = from.ip();
            self.pod.allows(Direction::Ingress, ip, port, Protocol::Udp)
        };
        ports.into_iter().any(allowed)
    }

    fn is_known(&self, peer: SocketAddr) -> bool {
        self.datagrams(|datagrams| datagrams.peers.contains(&peer))
    }

    fn remember(&self, peer: SocketAddr) -> bool {
        self.datagrams(|datagrams| {
            if datagrams.peers.len() >= MAX_PEERS {
                datagrams.peers.clear();
            }
            datagrams.peers.insert(peer)
        })
    }

    fn datagrams<T>(&self, work: impl FnOnce(&mut Datagrams) -> T) -> T {
        work(
            &mut self
                .datagrams
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}
