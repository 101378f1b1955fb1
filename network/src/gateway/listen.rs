//! Sockets: who may connect, how many at once, and how they end.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::OriginalDst};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    link::{Client, Link, State},
    metrics, upgrade,
};

/// A client that has not finished its handshake by then is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests under way may take once the gateway stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a listener that cannot accept (no file descriptors left) rests before it tries again.
const REST: Duration = Duration::from_millis(50);

/// How clients of a listener speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speech {
    Plain,
    Tls,
    /// Pods that connected to a Function's Service.
    Functions,
}

/// The sockets of a gateway.
#[derive(Default, Debug)]
pub struct Listeners(Vec<(TcpListener, Speech)>);

impl Listeners {
    /// Opens one for HTTP; where it is.
    ///
    /// # Errors
    /// The port is taken, or the host refuses.
    pub async fn open(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.add(address, Speech::Plain).await
    }

    /// Opens one for HTTP over TLS; where it is.
    ///
    /// # Errors
    /// The port is taken, or the host refuses.
    pub async fn open_tls(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.add(address, Speech::Tls).await
    }

    async fn add(&mut self, address: SocketAddr, speech: Speech) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.0.push((listener, speech));
        Ok(address)
    }
}

/// What accepting takes; every listener has the same.
struct Doors {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    acceptor: TlsAcceptor,
    /// The open connections, by a number, to be drained.
    links: Mutex<HashMap<u64, Arc<State>>>,
}

/// Serves until `stop`, and then until requests under way have ended, 10 s at most.
pub(super) async fn run(shared: Arc<Shared>, listeners: Listeners, stop: CancellationToken) {
    let doors = Arc::new(Doors {
        permits: Arc::new(Semaphore::new(shared.config.max_connections)),
        acceptor: TlsAcceptor::from(Arc::new(shared.certificates.server(&shared))),
        links: Mutex::default(),
        shared: shared.clone(),
    });
    let mut doorkeepers = JoinSet::new();
    for (listener, speech) in listeners.0 {
        doorkeepers.spawn(doors.clone().accept_all(listener, speech, stop.clone()));
    }
    doorkeepers.spawn(doors.clone().accept_pods(stop.clone()));
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            now = tick.tick() => {
                let capacities = shared.book().capacities();
                capacities.iter().for_each(|capacity| capacity.sample(now));
                shared.pool.sweep(now);
            }
        }
    }
    while doorkeepers.join_next().await.is_some() {}
}

impl Doors {
    /// Waits for the socket that pods reach Functions by, which opens with the node's network.
    async fn accept_pods(self: Arc<Self>, stop: CancellationToken) {
        let mut range = self.shared.network.subscribe_range();
        let known = async { range.wait_for(Option::is_some).await.is_ok() };
        let known = tokio::select! {
            known = known => known,
            () = stop.cancelled() => false,
        };
        if !known {
            return;
        }
        let Some(listener) = self.shared.network.take_functions_listener() else {
            return;
        };
        match TcpListener::from_std(listener) {
            Ok(listener) => self.accept_all(listener, Speech::Functions, stop).await,
            Err(error) => {
                tracing::error!(%error, "could not listen for pods: they cannot call Functions");
            }
        }
    }

    async fn accept_all(
        self: Arc<Self>,
        listener: TcpListener,
        speech: Speech,
        stop: CancellationToken,
    ) {
        let mut connections = JoinSet::new();
        let mut number = 0;
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    number += 1;
                    let serve = self.clone().serve(stream, peer, speech, number);
                    connections.spawn(async move {
                        serve.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the gateway could not accept a connection");
                    sleep(REST).await;
                }
            }
        }
        drop(listener);
        let drained = timeout(DRAIN, async {
            while !connections.is_empty() {
                // Those that came last may have missed it.
                self.drain();
                let _ = timeout(REST, connections.join_next()).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "the gateway cut connections off"
            );
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, permit))
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<State>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drain(&self) {
        self.links().values().for_each(|state| state.drain());
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        speech: Speech,
        number: u64,
    ) {
        // Small answers leave at once; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        upgrade::keep_alive(&stream);
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let to = match speech {
            Speech::Plain | Speech::Tls => None,
            Speech::Functions => match self.function(&stream, local) {
                Some(key) => Some(key),
                None => return,
            },
        };
        let state = Arc::new(State::default());
        // Numbers are a listener's own; its kind tells them apart.
        let number = number * 4 + speech as u64;
        self.links().insert(number, state.clone());
        let _open = metrics::Connection::new();
        let link = Link {
            shared: self.shared.clone(),
            client: Client::new(peer, local, speech == Speech::Tls),
            to,
            state,
        };
        match speech {
            Speech::Plain | Speech::Functions => link.run(stream).await,
            Speech::Tls => match timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
                Ok(Ok(stream)) => link.run(stream).await,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a TLS handshake with the gateway failed");
                }
                Err(_) => tracing::debug!("a TLS handshake with the gateway took too long"),
            },
        }
        self.links().remove(&number);
    }

    /// The Function whose Service a pod connected to.
    fn function(&self, stream: &TcpStream, local: SocketAddr) -> Option<Box<str>> {
        let original = match self.shared.network.namespace {
            // Rootless, the Service's address is the socket's own.
            None => local,
            Some(_) => {
                let original = getsockopt(stream, OriginalDst).ok()?;
                let ip = std::net::Ipv4Addr::from(u32::from_be(original.sin_addr.s_addr));
                SocketAddr::new(ip.into(), u16::from_be(original.sin_port))
            }
        };
        self.shared.network.directory().function_at(original.ip())
    }
}
