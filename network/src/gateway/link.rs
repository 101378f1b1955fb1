//! One connection of a client: its requests, its end.
//!
//! Ends when the client does; when it is idle, takes nothing of its answers, or does not send whole headers for too long;
//! and when the gateway stops, after the requests under way.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{future::BoxFuture, task::AtomicWaker};
use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Config, Shared, serve};

/// An HTTP/2 connection is asked for a sign of life this often.
const ALIVE: Duration = Duration::from_secs(30);
/// A client that takes nothing of an answer for so long is cut off.
const STALLED: Duration = Duration::from_secs(60);
/// How often both are looked at.
const TICK: Duration = Duration::from_secs(5);

/// Bytes of a request's headers, on either protocol.
const HEADER_BYTES: u32 = 64 * 1024;
/// Header lines of an HTTP/1.1 request.
const HEADER_LINES: usize = 100;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 250;
/// Bytes that one HTTP/2 stream may send before the function reads.
const WINDOW: u32 = 256 * 1024;

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    u64::try_from(BEGUN.elapsed().as_millis()).expect("the process is not that old")
}

/// What a connection's parts share.
#[derive(Default)]
pub(super) struct State {
    usage: Arc<Usage>,
    /// Since when the client takes nothing, in milliseconds; 0 if it does.
    blocked: AtomicU64,
    draining: AtomicBool,
    waker: AtomicWaker,
    /// What to do with the connection once it is no HTTP any more.
    tunnel: Mutex<Option<BoxFuture<'static, ()>>>,
    /// What streams have become; they end with the connection.
    tunnels: Mutex<JoinSet<()>>,
}

/// What a connection is used for.
#[derive(Default)]
struct Usage {
    /// Requests whose answers have not ended, and streams that are tunnels.
    active: AtomicU32,
    /// Whether there was any.
    begun: AtomicBool,
    /// When the last of them came or ended, in milliseconds.
    last: AtomicU64,
}

impl State {
    /// Lets requests under way end, and then the connection.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Has a tunnel take the connection over.
    pub(super) fn tunnel(&self, tunnel: BoxFuture<'static, ()>) {
        let mut place = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(tunnel);
    }

    /// Has a stream of the connection be a tunnel. There are never more than streams.
    pub(super) fn tunnel_beside(&self, tunnel: BoxFuture<'static, ()>) {
        let active = Active::new(self);
        let mut tunnels = self.tunnels();
        while tunnels.try_join_next().is_some() {}
        tunnels.spawn(async move {
            tunnel.await;
            drop(active);
        });
    }

    fn take_tunnel(&self) -> Option<BoxFuture<'static, ()>> {
        let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        tunnel.take()
    }

    fn tunnels(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stalled(&self) -> bool {
        let since = self.blocked.load(Ordering::Relaxed);
        since != 0 && now().saturating_sub(since) > STALLED.as_millis() as u64
    }

    /// Until its first request a connection has as long as for a request's headers, whatever its protocol.
    fn is_idle(&self, config: &Config) -> bool {
        let allowed = match self.usage.begun.load(Ordering::Relaxed) {
            true => config.idle,
            false => config.headers_within,
        };
        let idle = now().saturating_sub(self.usage.last.load(Ordering::Relaxed));
        self.usage.active.load(Ordering::Relaxed) == 0 && u128::from(idle) > allowed.as_millis()
    }
}

/// A request until its answer has ended, or a tunnel: the connection is not idle.
pub(super) struct Active(Arc<Usage>);

impl Active {
    fn new(state: &State) -> Self {
        let usage = state.usage.clone();
        usage.active.fetch_add(1, Ordering::Relaxed);
        usage.begun.store(true, Ordering::Relaxed);
        usage.last.store(now(), Ordering::Relaxed);
        Self(usage)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.last.store(now(), Ordering::Relaxed);
    }
}

/// Who is at the other end.
pub(super) struct Client {
    pub(super) ip: IpAddr,
    /// Its address as a header's value.
    pub(super) shown: HeaderValue,
    /// Where it connected to.
    pub(super) local: IpAddr,
    pub(super) tls: bool,
}

impl Client {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr, tls: bool) -> Self {
        let ip = peer.ip().to_canonical();
        let shown = HeaderValue::from_str(&ip.to_string());
        Self {
            ip,
            shown: shown.expect("an address is a header's value"),
            local: local.ip().to_canonical(),
            tls,
        }
    }
}

/// A client's connection, and what is known of it.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    /// The Function (`NAME.NAMESPACE`) that the connection was made to, whatever host its requests name.
    pub(super) to: Option<Box<str>>,
    pub(super) state: Arc<State>,
}

impl Link {
    /// Serves requests until the connection ends.
    pub(super) async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = Arc::new(self);
        let state = link.state.clone();
        state.usage.last.store(now(), Ordering::Relaxed);
        let stream = TokioIo::new(Watched {
            inner: stream,
            state: state.clone(),
        });
        let config = &link.shared.config;
        let builder = builder(config.headers_within);
        let service = {
            let link = link.clone();
            service_fn(move |request| {
                let link = link.clone();
                async move {
                    let active = Active::new(&link.state);
                    Ok::<_, std::convert::Infallible>(serve::answer(&link, active, request).await)
                }
            })
        };
        let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
        let every = TICK.min(config.headers_within).min(config.idle);
        let mut tick = pin!(sleep(every));
        let mut told = false;
        let ended = poll_fn(|context| {
            state.waker.register(context.waker());
            if !told && state.draining.load(Ordering::Acquire) {
                told = true;
                state.tunnels().abort_all();
                connection.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            while tick.as_mut().poll(context).is_ready() {
                tick.as_mut().reset(Instant::now() + every);
                if state.is_stalled() || state.is_idle(config) {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending
        })
        .await;
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(error, "a client's connection broke"),
            None => tracing::debug!(client = %link.client.ip, "an idle connection was cut off"),
        }
        if let Some(mut tunnel) = state.take_tunnel() {
            poll_fn(|context| {
                state.waker.register(context.waker());
                match state.draining.load(Ordering::Acquire) {
                    true => Poll::Ready(()),
                    false => tunnel.as_mut().poll(context),
                }
            })
            .await;
        }
    }
}

fn builder(headers_within: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .half_close(true)
        .max_headers(HEADER_LINES)
        .max_buf_size(HEADER_BYTES as usize)
        .header_read_timeout(headers_within);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .keep_alive_interval(Some(ALIVE))
        .keep_alive_timeout(ALIVE);
    builder
}

/// A stream that notes since when its other end takes nothing.
struct Watched<S> {
    inner: S,
    state: Arc<State>,
}

impl<S> Watched<S> {
    fn note<T>(&self, polled: Poll<T>) -> Poll<T> {
        let blocked = &self.state.blocked;
        match &polled {
            Poll::Ready(_) => {
                if blocked.load(Ordering::Relaxed) != 0 {
                    blocked.store(0, Ordering::Relaxed);
                }
            }
            Poll::Pending => {
                let _ =
                    blocked.compare_exchange(0, now().max(1), Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
