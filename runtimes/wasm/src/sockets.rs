//! The linker: everything a component may import, with sockets that are its pod's.
//!
//! wasmtime's own implementation stands below; what opens a socket or resolves a name is replaced by a
//! function that changes the address first.

use runtimes::Protocol;
use wasmtime::{
    Engine, Result, StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    p2::{
        DynInputStream, DynOutputStream, Network, SocketError, TcpSocket,
        bindings::sockets::{
            ip_name_lookup::{Host as _, ResolveAddressStream},
            network::{ErrorCode, IpSocketAddress},
            tcp::HostTcpSocket as _,
        },
    },
    sockets::WasiSocketsView as _,
};

use crate::{bounds, config, datagrams, filesystem, guest::Guest, logging, pod::Refused, traffic};

const TCP: &str = "wasi:sockets/tcp@0.2.12";
const NAMES: &str = "wasi:sockets/ip-name-lookup@0.2.12";

pub(crate) type Answer<T> = std::result::Result<T, ErrorCode>;
type Bind = (Resource<TcpSocket>, Resource<Network>, IpSocketAddress);
type Lookup = (Resource<Network>, String);

/// The linker for programs and servers alike.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    filesystem::add_to_linker(&mut linker)?;
    config::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    let mut tcp = linker.instance(TCP)?;
    tcp.func_wrap_async("[method]tcp-socket.start-bind", |store, params: Bind| {
        Box::new(async move { Ok((answer(start_bind(store, params).await)?,)) })
    })?;
    tcp.func_wrap_async("[method]tcp-socket.start-connect", |store, params: Bind| {
        Box::new(async move { Ok((answer(start_connect(store, params).await)?,)) })
    })?;
    tcp.func_wrap(
        "[method]tcp-socket.finish-connect",
        |store, (socket,): (Resource<TcpSocket>,)| Ok((answer(finish_connect(store, socket))?,)),
    )?;
    bounds::add_to_linker(&mut linker)?;
    datagrams::add_to_linker(&mut linker)?;
    let mut names = linker.instance(NAMES)?;
    names.func_wrap_async("resolve-addresses", |store, params: Lookup| {
        Box::new(async move { Ok((answer(resolve_addresses(store, params).await)?,)) })
    })?;
    Ok(linker)
}

/// An error of the socket is the guest's to handle; any other is a trap.
pub(crate) fn answer<T>(result: std::result::Result<T, SocketError>) -> Result<Answer<T>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

/// What the guest is told of a destination that it may not or cannot reach.
pub(crate) fn refusal(refused: Refused) -> ErrorCode {
    match refused {
        Refused::Unreachable => ErrorCode::ConnectionRefused,
        Refused::Denied => ErrorCode::AccessDenied,
    }
}

async fn start_bind(
    mut store: StoreContextMut<'_, Guest>,
    (socket, network, wanted): Bind,
) -> std::result::Result<(), SocketError> {
    let guest = store.data_mut();
    let address = guest.pod.bind_address(wanted.into());
    let address = address.ok_or(ErrorCode::AddressNotBindable)?;
    guest
        .sockets()
        .start_bind(socket, network, address.into())
        .await
}

async fn start_connect(
    mut store: StoreContextMut<'_, Guest>,
    (socket, network, wanted): Bind,
) -> std::result::Result<(), SocketError> {
    let guest = store.data_mut();
    let destination = guest.pod.destination(wanted.into(), Protocol::Tcp);
    let destination = destination.map_err(refusal)?;
    let source = guest.pod.source_address(destination);
    let again = |rep: u32| Resource::new_borrow(rep);
    let (socket, network) = (socket.rep(), network.rep());
    let mut sockets = guest.sockets();
    let bound = sockets.start_bind(again(socket), Resource::new_borrow(network), source.into());
    match bound.await {
        Ok(()) => sockets.finish_bind(again(socket))?,
        // It is bound already, by the guest: to an address of the pod.
        Err(error) if matches!(error.downcast_ref(), Some(ErrorCode::InvalidState)) => {}
        Err(error) => return Err(error),
    }
    let network = Resource::new_borrow(network);
    sockets.start_connect(again(socket), network, destination.into())
}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

fn finish_connect(
    mut store: StoreContextMut<'_, Guest>,
    socket: Resource<TcpSocket>,
) -> std::result::Result<Streams, SocketError> {
    let guest = store.data_mut();
    let sent = guest.pod.sent.clone();
    let mut sockets = guest.sockets();
    let streams = sockets.finish_connect(socket)?;
    let output = sockets.table.get_mut(&streams.1);
    traffic::count(output.map_err(SocketError::trap)?, sent);
    Ok(streams)
}

/// Gives the guest one address, chosen here: the stream of addresses can only be made by the
/// implementation below, from a name or one literal address.
async fn resolve_addresses(
    mut store: StoreContextMut<'_, Guest>,
    (network, name): Lookup,
) -> std::result::Result<Resource<ResolveAddressStream>, SocketError> {
    let pod = store.data().pod.clone();
    let addresses = pod.resolve(&name).await;
    let addresses = addresses.map_err(|_| ErrorCode::NameUnresolvable)?;
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let chosen = v4
        .or(addresses.first())
        .ok_or(ErrorCode::NameUnresolvable)?;
    let literal = chosen.to_string();
    store
        .data_mut()
        .sockets()
        .resolve_addresses(network, literal)
}
