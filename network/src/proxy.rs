//! Serves ClusterIPs from within the process (rootless).
//!
//! One listener a Service port, on the ClusterIP itself: every address of 127/8 can be bound by
//! anyone. Where the host refuses the port (below 1024), the kernel chooses another on the same
//! address. A connection that finds no ready endpoint is reset at once.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    directory::{Frontend, Transport},
    handle::Shared,
    task,
};

/// Connections at one time, of all Services; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4096;

/// UDP clients at one time of one Service port; datagrams of further ones are dropped.
const MAX_UDP_CLIENTS: usize = 1024;

/// How long an endpoint may take to accept.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A UDP client that hears nothing for so long is forgotten.
const UDP_IDLE: Duration = Duration::from_secs(60);

/// The pause after a refused accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Room for the largest UDP datagram.
const MAX_DATAGRAM: usize = 65_535;

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut changes = shared.subscribe();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut listeners: HashMap<Frontend, AbortOnDropHandle<()>> = HashMap::new();
    loop {
        changes.changed().await?;
        let wanted = shared.directory().frontends();
        listeners.retain(|frontend, _| wanted.contains_key(frontend));
        shared
            .listeners()
            .retain(|frontend, _| wanted.contains_key(frontend));
        for frontend in wanted.into_keys() {
            if listeners.contains_key(&frontend) {
                continue;
            }
            match listen(&shared, &room, frontend).await {
                Ok((address, listener)) => {
                    shared.listeners().insert(frontend, address);
                    listeners.insert(frontend, listener);
                }
                Err(error) => {
                    let address = frontend.address;
                    tracing::warn!(%address, %error, "could not listen for a Service port");
                }
            }
        }
    }
}

async fn listen(
    shared: &Arc<Shared>,
    room: &Arc<Semaphore>,
    frontend: Frontend,
) -> io::Result<(SocketAddr, AbortOnDropHandle<()>)> {
    let shared = shared.clone();
    match frontend.transport {
        Transport::Tcp => {
            let listener = match TcpListener::bind(frontend.address).await {
                Err(error) if refused(&error) => TcpListener::bind(any_port(frontend)).await?,
                bound => bound?,
            };
            let address = listener.local_addr()?;
            let serve = serve_tcp(shared, room.clone(), frontend, listener);
            Ok((address, task::owned(serve)))
        }
        Transport::Udp => {
            let socket = match UdpSocket::bind(frontend.address).await {
                Err(error) if refused(&error) => UdpSocket::bind(any_port(frontend)).await?,
                bound => bound?,
            };
            let address = socket.local_addr()?;
            let serve = serve_udp(shared, frontend, Arc::new(socket));
            Ok((address, task::owned(serve)))
        }
    }
}

/// Whether another port of the same address may do.
fn refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse
    )
}

fn any_port(frontend: Frontend) -> SocketAddrV4 {
    SocketAddrV4::new(*frontend.address.ip(), 0)
}

async fn serve_tcp(
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    frontend: Frontend,
    listener: TcpListener,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let permit = room.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(address = %frontend.address, %error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(endpoint) = shared.directory().pick(&frontend).flatten() else {
            reset(&client);
            continue;
        };
        connections.spawn(async move {
            forward_tcp(client, endpoint).await;
            drop(permit);
        });
    }
}

async fn forward_tcp(mut client: TcpStream, endpoint: SocketAddrV4) {
    let Ok(Ok(mut server)) = timeout(CONNECT_DEADLINE, TcpStream::connect(endpoint)).await else {
        tracing::debug!(%endpoint, "an endpoint does not accept");
        return reset(&client);
    };
    // Whatever ends it, both ends see it end; small writes go through as they come.
    let _ = client
        .set_nodelay(true)
        .and_then(|()| server.set_nodelay(true));
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// Makes closing the connection a refusal (RST) instead of an orderly end.
fn reset(client: &TcpStream) {
    if let Err(error) = client.set_zero_linger() {
        tracing::debug!(%error, "could not reset a connection");
    }
}

/// One client's way to an endpoint, and the task that carries the answers.
struct UdpClient {
    endpoint: SocketAddrV4,
    socket: Arc<UdpSocket>,
    answers: AbortOnDropHandle<()>,
}

async fn serve_udp(shared: Arc<Shared>, frontend: Frontend, socket: Arc<UdpSocket>) {
    let mut clients: HashMap<SocketAddr, UdpClient> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        clients.retain(|_, client| {
            !client.answers.is_finished() && shared.directory().ready(&frontend, &client.endpoint)
        });
        if !clients.contains_key(&from) {
            let endpoint = shared.directory().pick(&frontend).flatten();
            let Some(endpoint) = endpoint.filter(|_| clients.len() < MAX_UDP_CLIENTS) else {
                continue;
            };
            match udp_client(endpoint, from, socket.clone()).await {
                Ok(client) => drop(clients.insert(from, client)),
                Err(error) => {
                    tracing::warn!(%endpoint, %error, "could not open a socket for a UDP client");
                    continue;
                }
            }
        }
        let sent = clients[&from].socket.send(&buffer[..length]).await;
        if let Err(error) = sent {
            tracing::debug!(%from, %error, "a UDP endpoint refuses");
        }
    }
}

async fn udp_client(
    endpoint: SocketAddrV4,
    from: SocketAddr,
    front: Arc<UdpSocket>,
) -> io::Result<UdpClient> {
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?);
    socket.connect(endpoint).await?;
    let back = socket.clone();
    let answers = async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while let Ok(Ok(length)) = timeout(UDP_IDLE, back.recv(&mut buffer)).await {
            if front.send_to(&buffer[..length], from).await.is_err() {
                return;
            }
        }
    };
    Ok(UdpClient {
        endpoint,
        socket,
        answers: task::owned(answers),
    })
}
