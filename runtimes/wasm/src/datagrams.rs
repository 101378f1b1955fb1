//! UDP: what a socket binds, sends to and receives from is its pod's.
//!
//! As for TCP, binds become the pod's addresses, and a Service or the loopback becomes where it leads.
//! A guest goes on seeing the address that it asked for: a datagram from a Service's endpoint comes from
//! the Service. Datagrams to one Service keep to one endpoint for a while, as the kernel's tracking of
//! connections has it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use runtimes::Protocol;
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    p2::{
        Network, SocketError, UdpSocket,
        bindings::sockets::{
            network::{ErrorCode, IpSocketAddress},
            udp::{
                HostIncomingDatagramStream as _, HostOutgoingDatagramStream as _,
                HostUdpSocket as _, IncomingDatagram, IncomingDatagramStream, OutgoingDatagram,
                OutgoingDatagramStream,
            },
        },
    },
    sockets::WasiSocketsView as _,
};

use crate::{
    guest::Guest,
    sockets::{answer, refusal},
};

const UDP: &str = "wasi:sockets/udp@0.2.12";

/// How long datagrams to a Service go to one endpoint.
const STICKY: Duration = Duration::from_secs(30);

/// Flows of one instance; when there are more, all are forgotten.
const MAX_FLOWS: usize = 1024;

type Store<'a> = StoreContextMut<'a, Guest>;
type Answer<T> = std::result::Result<T, SocketError>;
type Streams = (
    Resource<IncomingDatagramStream>,
    Resource<OutgoingDatagramStream>,
);

/// Where an instance's datagrams really go.
#[derive(Default)]
pub(crate) struct Flows {
    /// By the address that the guest uses.
    real: HashMap<SocketAddr, (SocketAddr, Instant)>,
    /// By where it leads: the address that the guest uses.
    shown: HashMap<SocketAddr, SocketAddr>,
}

impl Flows {
    fn find(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let (real, since) = self.real.get(&wanted)?;
        (since.elapsed() < STICKY).then_some(*real)
    }

    fn insert(&mut self, wanted: SocketAddr, real: SocketAddr) {
        if self.real.len() >= MAX_FLOWS || self.shown.len() >= MAX_FLOWS {
            *self = Flows::default();
        }
        self.real.insert(wanted, (real, Instant::now()));
        self.shown.insert(real, wanted);
    }

    fn shown(&self, real: SocketAddr) -> SocketAddr {
        self.shown.get(&real).copied().unwrap_or(real)
    }
}

/// Replaces what takes or gives an address.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut udp = linker.instance(UDP)?;
    udp.func_wrap_async("[method]udp-socket.start-bind", |store, params| {
        Box::new(async move { Ok((answer(start_bind(store, params).await)?,)) })
    })?;
    udp.func_wrap_async("[method]udp-socket.stream", |store, params| {
        Box::new(async move { Ok((answer(stream(store, params).await)?,)) })
    })?;
    udp.func_wrap("[method]outgoing-datagram-stream.send", |store, params| {
        Ok((answer(send(store, params))?,))
    })?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |store, params| Ok((answer(receive(store, params))?,)),
    )?;
    Ok(())
}

async fn start_bind(
    mut store: Store<'_>,
    (socket, network, wanted): (Resource<UdpSocket>, Resource<Network>, IpSocketAddress),
) -> Answer<()> {
    let guest = store.data_mut();
    let address = guest.pod.bind_address(wanted.into());
    let address = address.ok_or(ErrorCode::AddressNotBindable)?;
    let mut sockets = guest.sockets();
    sockets.start_bind(socket, network, address.into()).await
}

async fn stream(
    mut store: Store<'_>,
    (socket, remote): (Resource<UdpSocket>, Option<IpSocketAddress>),
) -> Answer<Streams> {
    let guest = store.data_mut();
    let remote = remote.map(|wanted| destination(guest, wanted.into()));
    let remote = remote.transpose()?.map(IpSocketAddress::from);
    guest.sockets().stream(socket, remote).await
}

fn send(
    mut store: Store<'_>,
    (stream, mut datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>),
) -> Answer<u64> {
    let guest = store.data_mut();
    for number in 0..datagrams.len() {
        let Some(wanted) = datagrams[number].remote_address else {
            continue;
        };
        match destination(guest, wanted.into()) {
            Ok(real) => datagrams[number].remote_address = Some(real.into()),
            // Those before it are sent; the guest meets the error when it sends this one again.
            Err(_) if number > 0 => {
                datagrams.truncate(number);
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let sizes: Vec<u64> = datagrams.iter().map(|one| one.data.len() as u64).collect();
    let sent = guest.sockets().send(stream, datagrams)?;
    let bytes = sizes
        .iter()
        .take(usize::try_from(sent).unwrap_or(usize::MAX));
    guest.pod.sent.fetch_add(bytes.sum(), Ordering::Relaxed);
    Ok(sent)
}

fn receive(
    mut store: Store<'_>,
    (stream, most): (Resource<IncomingDatagramStream>, u64),
) -> Answer<Vec<IncomingDatagram>> {
    let guest = store.data_mut();
    let mut datagrams = guest.sockets().receive(stream, most)?;
    for datagram in &mut datagrams {
        let from = guest.flows.shown(datagram.remote_address.into());
        datagram.remote_address = from.into();
    }
    Ok(datagrams)
}

/// Where a datagram to `wanted` goes.
fn destination(
    guest: &mut Guest,
    wanted: SocketAddr,
) -> std::result::Result<SocketAddr, ErrorCode> {
    if let Some(real) = guest.flows.find(wanted) {
        return Ok(real);
    }
    let real = guest
        .pod
        .destination(wanted, Protocol::Udp)
        .map_err(refusal)?;
    if real != wanted {
        guest.flows.insert(wanted, real);
    }
    Ok(real)
}
