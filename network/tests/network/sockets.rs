//! Servers in pods and questions to them, with deadlines.

use std::{
    fmt::Debug,
    future::Future,
    io::{self, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    thread,
    time::Duration,
};

use network::Handle;
use runtimes::{PodNetwork, PodRef};
use tokio::{
    io::AsyncReadExt,
    net::TcpSocket,
    time::{Instant, sleep, timeout},
};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn pod(name: &str) -> PodRef {
    PodRef {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
    }
}

/// Runs `work` on a thread that a pod's sockets are made on.
pub(crate) fn inside<T: Send + 'static>(
    handle: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let handle = handle.clone();
    let entered = move || {
        handle.enter().unwrap();
        work()
    };
    thread::spawn(entered).join().unwrap()
}

/// Serves TCP at a pod's address until the process ends: every client is told the server's IP and
/// its own, as in `10.64.0.4 10.64.0.1`.
pub(crate) fn serve_tcp(handle: &Handle, address: SocketAddr) {
    let listener = inside(handle, move || TcpListener::bind(address).unwrap());
    serve_listener(listener, address);
}

/// The same on a listener wherever it was made.
pub(crate) fn serve_listener(listener: TcpListener, address: SocketAddr) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let peer = client.peer_addr().unwrap().ip();
            // A client that is gone already is no matter.
            let _ = write!(client, "{} {peer}", address.ip());
        }
    });
}

/// The same over UDP: every datagram is answered so.
pub(crate) fn serve_udp(handle: &Handle, address: SocketAddr) {
    let socket = inside(handle, move || UdpSocket::bind(address).unwrap());
    serve_socket(socket, address);
}

/// The same on a socket wherever it was made.
pub(crate) fn serve_socket(socket: UdpSocket, address: SocketAddr) {
    thread::spawn(move || {
        loop {
            let (_, peer) = socket.recv_from(&mut [0; 64]).unwrap();
            let _ = socket.send_to(format!("{} {}", address.ip(), peer.ip()).as_bytes(), peer);
        }
    });
}

/// Connects, from `source` if one is given, and reads to the end.
pub(crate) async fn ask_from(source: Option<IpAddr>, server: SocketAddr) -> io::Result<String> {
    let ask = async {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        let mut text = String::new();
        socket
            .connect(server)
            .await?
            .read_to_string(&mut text)
            .await?;
        Ok(text)
    };
    timeout(DEADLINE, ask)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

pub(crate) async fn ask(server: SocketAddr) -> io::Result<String> {
    ask_from(None, server).await
}

/// The same, by a pod.
pub(crate) fn ask_from_pod(
    handle: &Handle,
    source: IpAddr,
    server: SocketAddr,
) -> io::Result<String> {
    inside(handle, move || blocking(ask_from(Some(source), server)))
}

/// Waits for the future on a thread that runs no others.
pub(crate) fn blocking<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(future)
}

/// Sends a datagram and reads the answer; lost or refused, it is an error.
pub(crate) async fn ask_udp(server: SocketAddr) -> io::Result<String> {
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(server).await?;
    socket.send(b"?").await?;
    let mut buffer = [0; 64];
    let answer = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await;
    let length = answer.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Asks again until the answer is the wanted one; says the last one if it never is.
pub(crate) async fn eventually<T: Debug, F: Future<Output = T>>(
    mut ask: impl FnMut() -> F,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        let seen = ask().await;
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "last seen: {seen:?}");
        sleep(Duration::from_millis(2)).await;
    }
}
