//! How many sockets a container may hold, and who may connect to them.
//!
//! Every open socket is a descriptor of the process that all pods share: so a container has a number of
//! them, over all its instances. Making one more, or accepting one, fails as it does for any process that
//! is out of descriptors. A connection from whom the pod's NetworkPolicies keep out is closed unseen.

use std::{
    future::Future as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use runtimes::{Direction, Protocol};
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    p2::{
        DynInputStream, DynOutputStream, SocketError, TcpSocket, UdpSocket,
        bindings::sockets::{
            network::{ErrorCode, IpAddressFamily},
            tcp::HostTcpSocket as _,
            tcp_create_socket::Host as _,
            udp_create_socket::Host as _,
        },
    },
    sockets::WasiSocketsView as _,
};

use crate::{guest::Guest, sockets::answer, traffic};

/// Sockets of one container at once.
const MAX_SOCKETS: usize = 1024;

/// Resources of one instance at once: streams, requests, fields, sockets.
pub(crate) const MAX_RESOURCES: usize = 65_536;

const TCP: &str = "wasi:sockets/tcp@0.2.12";
const CREATE_TCP: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const CREATE_UDP: &str = "wasi:sockets/udp-create-socket@0.2.12";

/// Sockets of all of a container's instances together.
pub(crate) type SocketUse = AtomicUsize;

/// One instance's sockets, counted among its container's.
pub(crate) struct Held {
    count: usize,
    total: Arc<SocketUse>,
}

impl Held {
    pub(crate) fn new(total: Arc<SocketUse>) -> Held {
        Held { count: 0, total }
    }

    /// Counts them anew; whether there is room for one more.
    fn has_room(&mut self, table: &mut ResourceTable) -> bool {
        let sockets = table.iter_mut();
        let sockets = sockets.filter(|entry| entry.is::<TcpSocket>() || entry.is::<UdpSocket>());
        let count = sockets.count();
        // Adding before taking away never lets the sum go below zero.
        self.total.fetch_add(count, Ordering::Relaxed);
        let before = self.total.fetch_sub(self.count, Ordering::Relaxed) - self.count;
        self.count = count;
        before < MAX_SOCKETS
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Puts the bounds before the functions that make sockets.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut create = linker.instance(CREATE_TCP)?;
    create.func_wrap(
        "create-tcp-socket",
        |store, (family,): (IpAddressFamily,)| Ok((answer(create_tcp_socket(store, family))?,)),
    )?;
    let mut create = linker.instance(CREATE_UDP)?;
    create.func_wrap_async(
        "create-udp-socket",
        |store, (family,): (IpAddressFamily,)| {
            Box::new(async move { Ok((answer(create_udp_socket(store, family).await)?,)) })
        },
    )?;
    let mut tcp = linker.instance(TCP)?;
    tcp.func_wrap(
        "[method]tcp-socket.accept",
        |store, (socket,): (Resource<TcpSocket>,)| Ok((answer(accept(store, &socket))?,)),
    )?;
    Ok(())
}

fn room(guest: &mut Guest) -> std::result::Result<(), SocketError> {
    let (held, table) = guest.sockets_and_table();
    if held.has_room(table) {
        return Ok(());
    }
    Err(ErrorCode::NewSocketLimit.into())
}

fn create_tcp_socket(
    mut store: StoreContextMut<'_, Guest>,
    family: IpAddressFamily,
) -> std::result::Result<Resource<TcpSocket>, SocketError> {
    let guest = store.data_mut();
    room(guest)?;
    let pod = guest.pod.clone();
    let mut sockets = guest.sockets();
    pod.open(|| Ok(sockets.create_tcp_socket(family)))?
}

async fn create_udp_socket(
    mut store: StoreContextMut<'_, Guest>,
    family: IpAddressFamily,
) -> std::result::Result<Resource<UdpSocket>, SocketError> {
    let guest = store.data_mut();
    room(guest)?;
    let pod = guest.pod.clone();
    let mut sockets = guest.sockets();
    let mut making = std::pin::pin!(sockets.create_udp_socket(family));
    // The socket is made by the first poll; others wait for it to be ready, wherever they do.
    std::future::poll_fn(
        |context| match pod.open(|| Ok(making.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(error) => Poll::Ready(Err(error.into())),
        },
    )
    .await
}

type Accepted = (
    Resource<TcpSocket>,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

fn accept(
    mut store: StoreContextMut<'_, Guest>,
    socket: &Resource<TcpSocket>,
) -> std::result::Result<Accepted, SocketError> {
    let guest = store.data_mut();
    room(guest)?;
    let pod = guest.pod.clone();
    let mut sockets = guest.sockets();
    // One call takes what waits: whom the policies keep out is as if they had never come.
    loop {
        let (client, input, output) = sockets.accept(Resource::new_borrow(socket.rep()))?;
        let again = || Resource::new_borrow(client.rep());
        let ends = (
            sockets.local_address(again()),
            sockets.remote_address(again()),
        );
        let (Ok(local), Ok(remote)) = ends else {
            // Gone again already: the guest will see.
            return Ok((client, input, output));
        };
        let (local, remote) = (
            std::net::SocketAddr::from(local),
            std::net::SocketAddr::from(remote),
        );
        if pod.allows(Direction::Ingress, remote.ip(), local.port(), Protocol::Tcp) {
            let stream = sockets.table.get_mut(&output).map_err(SocketError::trap)?;
            traffic::count(stream, pod.sent.clone());
            return Ok((client, input, output));
        }
        sockets.table.delete(input).map_err(SocketError::trap)?;
        sockets.table.delete(output).map_err(SocketError::trap)?;
        sockets.drop(client).map_err(SocketError::trap)?;
    }
}
