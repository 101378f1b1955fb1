//! A `wasi:http/incoming-handler` component as a server on its pod's address, at each TCP port that its
//! container declares.
//!
//! HTTP/1.1 and HTTP/2 in the clear, bodies streamed both ways, trailers. An instance serves one request
//! and is dropped when the response has been sent (see `instances`): at rest a server is its sockets and
//! a task. A request that traps is answered 500 and noted in the log; the server goes on.
//! Never anything that leaves HTTP: upgrades (WebSocket) and CONNECT are answered 501.

mod connection;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use runtimes::{Direction, Protocol};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};
use tokio_util::task::TaskTracker;
use wasmtime::Engine;
use wasmtime_wasi_http::p2::{
    bindings::{ProxyPre, http::types::Scheme},
    body::HyperOutgoingBody,
};

use self::connection::{Patient, protocols};
use crate::{
    container::{Container, End},
    guest::Guest,
    instances::{self, Answered, Bounds, Failure, IDLE, Instances},
};

/// Connections of one container at once; more wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 1024;

/// Requests of one container at once; more wait, at most as long as a request may take.
const MAX_REQUESTS: usize = 256;

/// Instances of one container that wait for a request.
const MAX_IDLE: usize = 16;

/// How long a component may take to begin its answer. What it does after the answer has been sent is
/// bounded by the container's life and `MAX_REQUESTS` alone.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// What serves a container's requests.
struct Server {
    container: Arc<Container>,
    instances: Instances,
    /// Requests that are served; they may outlive their connection by a little.
    tasks: TaskTracker,
}

/// Serves until the container is stopped, and records how it ended.
pub(crate) async fn run(
    container: Arc<Container>,
    engine: Engine,
    component: ProxyPre<Guest>,
    listeners: Vec<TcpListener>,
) {
    let bounds = Bounds {
        // What is wrong with the annotation was said when the container was made.
        pooled: instances::pooled(&container.spec).unwrap_or(false),
        max: MAX_REQUESTS,
        max_idle: MAX_IDLE,
        idle: IDLE,
    };
    let server = Arc::new(Server {
        container: container.clone(),
        instances: Instances::new(container.clone(), engine, component, bounds),
        tasks: TaskTracker::new(),
    });
    let end = tokio::select! {
        () = serve(server, listeners) => End::code(0),
        () = container.kill.cancelled() => End::killed("killed with requests under way"),
    };
    container.set_exited(end);
}

/// Accepts connections until asked to stop, then waits for those that are open.
async fn serve(server: Arc<Server>, listeners: Vec<TcpListener>) {
    let stop = server.container.stop.clone();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut retire = tokio::time::interval(IDLE);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            _ = retire.tick(), if server.instances.keeps() => server.instances.retire(),
            accepted = accept(&listeners), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer, port)) => {
                    if server.admits(peer, port) {
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
    drop(listeners);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
    server.tasks.close();
    server.tasks.wait().await;
}

/// The next connection to any of the ports, and which.
async fn accept(listeners: &[TcpListener]) -> std::io::Result<(TcpStream, SocketAddr, u16)> {
    std::future::poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                let port = listener.local_addr()?.port();
                return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, port)));
            }
        }
        Poll::Pending
    })
    .await
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
    let stream = TokioIo::new(Patient::new(stream));
    let connection = protocols().serve_connection(stream, service).into_owned();
    let connection = graceful.watch(connection);
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(error, "connection to a component");
        }
    }
}

type ResponseBody = UnsyncBoxBody<Bytes, wasmtime_wasi_http::Error>;

impl Server {
    /// Whether the NetworkPolicies let a client reach this server; if not, the connection is closed.
    fn admits(&self, peer: SocketAddr, port: u16) -> bool {
        let pod = &self.container.pod;
        pod.allows(Direction::Ingress, peer.ip(), port, Protocol::Tcp)
    }

    async fn answer(self: &Arc<Self>, mut request: Request<Incoming>) -> Response<ResponseBody> {
        if let Err((status, text)) = self.check(&mut request) {
            return failed(status, text);
        }
        let head = request.method() == Method::HEAD;
        let (sender, answer) = oneshot::channel();
        let server = self.clone();
        let failure = Arc::new(Failure::default());
        let told = failure.clone();
        let work = async move {
            let Ok(_turn) = server.instances.turns.acquire().await else {
                return;
            };
            let instances = &server.instances;
            instances.serve(Scheme::Http, request, sender, &told).await;
        };
        // Polled by the connection, not by a task of its own: most answers are made in one poll. Dropped with
        // the connection, when the client goes away or the container is killed, and the instance with it.
        let mut work = Some(Box::pin(work) as Work);
        let answer = answered(&mut work, answer);
        match tokio::time::timeout(REQUEST_DEADLINE, answer).await {
            Ok(Ok(Ok(response))) if head => {
                let (parts, body) = response.into_parts();
                self.drain(body, work);
                Response::from_parts(parts, empty())
            }
            Ok(Ok(Ok(response))) => response.map(|body| {
                let server = self.clone();
                let sent = Sent {
                    body,
                    work,
                    failure,
                    server,
                };
                sent.boxed_unsync()
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

    /// Refuses what no component can answer, and gives an HTTP/1.0 request the host it need not name.
    fn check(&self, request: &mut Request<Incoming>) -> Result<(), (StatusCode, &'static str)> {
        let named =
            request.uri().authority().is_some() || request.headers().contains_key(header::HOST);
        if !named && request.version() == Version::HTTP_10 {
            let host = self.container.pod.address.ip.to_string();
            if let Ok(host) = HeaderValue::from_str(&host) {
                request.headers_mut().insert(header::HOST, host);
            }
        }
        instances::check(request)
    }

    /// Takes a body that nobody is sent, so that the component can end as usual.
    fn drain(&self, mut body: HyperOutgoingBody, work: Option<Work>) {
        self.finish(async move {
            let body = async { while let Some(Ok(_)) = body.frame().await {} };
            let work = async {
                if let Some(work) = work {
                    work.await;
                }
            };
            tokio::join!(body, work);
        });
    }

    /// Goes on with what no connection waits for.
    fn finish(&self, work: impl Future<Output = ()> + Send + 'static) {
        let kill = self.container.kill.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = kill.cancelled() => {}
            }
        });
    }
}

/// What an instance does for a request, to its end.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Works until there is an answer, or none will come; takes work that has come to its end.
async fn answered(
    work: &mut Option<Work>,
    mut answer: oneshot::Receiver<Answered>,
) -> Result<Answered, oneshot::error::RecvError> {
    std::future::poll_fn(|context| {
        poll_work(work, context);
        Pin::new(&mut answer).poll(context)
    })
    .await
}

fn poll_work(work: &mut Option<Work>, context: &mut Context<'_>) {
    let ended = work
        .as_mut()
        .is_some_and(|work| work.as_mut().poll(context).is_ready());
    if ended {
        *work = None;
    }
}

fn empty() -> ResponseBody {
    let body = Empty::new().map_err(|never: Infallible| match never {});
    body.boxed_unsync()
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

/// A response's body, and what works on it. Dropped before its end, it ends the instance; at its end it lets
/// it go on.
struct Sent {
    body: HyperOutgoingBody,
    work: Option<Work>,
    failure: Arc<Failure>,
    server: Arc<Server>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let sent = &mut *self;
        poll_work(&mut sent.work, context);
        let frame = Pin::new(&mut sent.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            // What broke off must not look whole.
            if sent.failure.take().is_some() {
                return Poll::Ready(Some(Err(Self::Error::HttpResponseIncomplete)));
            }
            if let Some(work) = sent.work.take() {
                sent.server.finish(work);
            }
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
