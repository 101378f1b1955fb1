//! A `wasi:http/incoming-handler` component as a server on its pod's address.
//!
//! HTTP/1.1 and HTTP/2 in the clear. Every request has an instance of its own, dropped when the response
//! has been sent: at rest a server is a socket and a task. A request that traps is answered 500 and noted
//! in the log; the server goes on.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use runtimes::{Direction, Protocol};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinSet,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use wasmtime::Engine;
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::{
        bindings::{
            ProxyPre,
            http::types::{ErrorCode, Scheme},
        },
        body::HyperOutgoingBody,
    },
};

use crate::{
    container::{Container, End},
    guest::{Guest, new_store, own_streams},
};

/// Connections of one container at once; more wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 1024;

/// Requests of one container at once; more wait, at most as long as a request may take.
const MAX_REQUESTS: usize = 256;

/// How long a client may take to send a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// How long a component may take to begin its answer. What it does after the answer has been sent is
/// bounded by the container's life and `MAX_REQUESTS` alone.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// What serves a container's requests.
struct Server {
    container: Arc<Container>,
    engine: Engine,
    component: ProxyPre<Guest>,
    port: u16,
    requests: Semaphore,
    /// Instances that run; they may outlive their connection by a little.
    instances: TaskTracker,
}

/// Serves until the container is stopped, and records how it ended.
pub(crate) async fn run(
    container: Arc<Container>,
    engine: Engine,
    component: ProxyPre<Guest>,
    listener: TcpListener,
) {
    let server = Arc::new(Server {
        container: container.clone(),
        engine,
        component,
        port: listener.local_addr().map_or(0, |address| address.port()),
        requests: Semaphore::new(MAX_REQUESTS),
        instances: TaskTracker::new(),
    });
    let end = tokio::select! {
        () = serve(server, listener) => End::code(0),
        () = container.kill.cancelled() => End::killed("killed with requests under way"),
    };
    container.set_exited(end);
}

/// Accepts connections until asked to stop, then waits for those that are open.
async fn serve(server: Arc<Server>, listener: TcpListener) {
    let stop = server.container.stop.clone();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    if server.admits(peer) {
                        connections.spawn(connection(server.clone(), &graceful, stream));
                    }
                }
                Err(error) => {
                    // Out of file descriptors, most likely: let others close some.
                    tracing::warn!(%error, container = %server.container.spec.id, "accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
    server.instances.close();
    server.instances.wait().await;
}

/// The future that serves one connection.
fn connection(
    server: Arc<Server>,
    graceful: &GracefulShutdown,
    stream: TcpStream,
) -> impl Future<Output = ()> + Send + 'static {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection.into_owned());
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(error, "connection to a component");
        }
    }
}

type ResponseBody = UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>;
type Answered = Result<Response<HyperOutgoingBody>, ErrorCode>;

impl Server {
    /// Whether the NetworkPolicies let a client reach this server; if not, the connection is closed.
    fn admits(&self, peer: SocketAddr) -> bool {
        let pod = &self.container.pod;
        pod.allows(Direction::Ingress, peer.ip(), self.port, Protocol::Tcp)
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        // Dropped when the client goes away, or with the response's body: the instance ends with it.
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let (sender, answer) = oneshot::channel();
        let server = self.clone();
        self.instances.spawn(async move {
            let container = server.container.clone();
            tokio::select! {
                () = container.meter.measure(server.instance(request, sender)) => {}
                () = gone.cancelled() => {}
                () = container.kill.cancelled() => {}
            }
        });
        match tokio::time::timeout(REQUEST_DEADLINE, answer).await {
            Ok(Ok(Ok(response))) => response.map(|body| {
                Sent {
                    body,
                    guard: Some(guard),
                }
                .boxed_unsync()
            }),
            Ok(Ok(Err(code))) => failed(
                StatusCode::BAD_GATEWAY,
                &format!("the component answered {code:?}"),
            ),
            Ok(Err(_)) => failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the component failed: its log says why",
            ),
            Err(_) => {
                let text = format!("no answer in {} s", REQUEST_DEADLINE.as_secs());
                self.container.log.note(&text);
                failed(StatusCode::GATEWAY_TIMEOUT, &text)
            }
        }
    }

    /// Runs one instance for one request; `answer` is dropped unanswered if it fails.
    async fn instance(&self, request: Request<Incoming>, answer: oneshot::Sender<Answered>) {
        let Ok(_turn) = self.requests.acquire().await else {
            return;
        };
        // A short request may never meet the epoch clock: so a limit holds here too.
        self.container.meter.rest().await;
        let mut store = new_store(&self.engine, &self.container, |wasi| {
            own_streams(&self.container, wasi);
        });
        let handle = async {
            let component = self.component.instantiate_async(&mut store).await?;
            let mut http = store.data_mut().http();
            let request = http.new_incoming_request(Scheme::Http, request)?;
            let out = http.new_response_outparam(answer)?;
            component
                .wasi_http_incoming_handler()
                .call_handle(&mut store, request, out)
                .await
        };
        if let Err(error) = handle.await {
            self.container.request_failed(&error);
        }
    }
}

fn failed(status: StatusCode, text: &str) -> Response<ResponseBody> {
    let body = Full::new(Bytes::from(format!("{text}\n")));
    let body = body
        .map_err(|never: Infallible| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A response's body. Dropped before its end, it ends the instance; at its end it lets it go on.
struct Sent {
    body: HyperOutgoingBody,
    guard: Option<DropGuard>,
}

impl Sent {
    fn release(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.disarm();
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.release();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
