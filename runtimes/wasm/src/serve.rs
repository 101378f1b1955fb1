//! Answers requests without a socket: [`Serve`] for components.
//!
//! What is opened is a container that never starts: its code, mounts and log, and what it may use. A request is
//! a task on the guests' threads, which have entered the pods' network; it is ended with whoever waits for its
//! answer, at its deadline, and when the component is closed at once. Its limits are those of each instance.
//! Never a listening socket, and never anything that leaves HTTP.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, uri};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body as _, Frame, SizeHint};
use runtimes::{
    Body, ContainerSpec, RuntimeError, Serve, ServeError, ServeOptions, ServeUsage, Served,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use wasmtime_wasi_http::p2::{bindings::http::types::Scheme, body::HyperOutgoingBody};

use crate::{
    code::Code,
    container::Container,
    instances::{self, Bounds, Counted, Failure, Instances},
    runtime::WasmRuntime,
};

/// How often pooled instances are looked through for those that waited long enough, within their time.
const LOOKS: u32 = 4;

/// At least that long between looks.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

#[async_trait]
impl Serve for WasmRuntime {
    async fn open(
        &self,
        mut spec: ContainerSpec,
        options: ServeOptions,
    ) -> Result<Arc<dyn Served>, RuntimeError> {
        self.check_sound()?;
        spec.stdin = false;
        let code = self.code(&spec.image, spec.limits.memory_bytes).await?;
        let Code::Server(component, _) = &*code else {
            return Err(RuntimeError::Invalid(format!(
                "image {} is a program (it exports wasi:cli/run): a function must export \
                 wasi:http/incoming-handler@0.2.x",
                spec.image.reference
            )));
        };
        let (engine, component) = (code.engine().clone(), component.clone());
        let container = Arc::new(self.make(spec, code, true).await?);
        let bounds = Bounds {
            pooled: options.pooled,
            max: options.max,
            max_idle: options.max,
            idle: options.idle,
        };
        let instances = Arc::new(Instances::new(container.clone(), engine, component, bounds));
        let retire = instances.keeps().then(|| {
            let period = (options.idle / LOOKS).max(SHORTEST_LOOK);
            self.executor
                .spawn(retire(Arc::downgrade(&instances), period))
        });
        Ok(Arc::new(Opened {
            container,
            instances,
            options,
            counts: Arc::default(),
            tasks: TaskTracker::new(),
            threads: self.executor.handle().clone(),
            _retire: retire,
        }))
    }
}

/// Drops instances that waited too long, for as long as the component is open.
async fn retire(instances: Weak<Instances>, period: Duration) {
    let mut look = tokio::time::interval(period);
    loop {
        look.tick().await;
        let Some(instances) = instances.upgrade() else {
            return;
        };
        instances.retire();
    }
}

/// A component that answers requests.
struct Opened {
    container: Arc<Container>,
    instances: Arc<Instances>,
    options: ServeOptions,
    counts: Arc<Counts>,
    tasks: TaskTracker,
    threads: tokio::runtime::Handle,
    _retire: Option<AbortOnDropHandle<()>>,
}

/// What [`ServeUsage`] counts and nobody else does.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    active: Arc<AtomicU64>,
    answered_bytes: AtomicU64,
    waiting: AtomicUsize,
}

#[async_trait]
impl Served for Opened {
    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, ServeError> {
        if let Err((status, text)) = instances::check(&request) {
            return Ok(refused(status, text));
        }
        let deadline = Instant::now() + self.options.timeout;
        let turn = self.turn(deadline).await?;
        let head = request.method() == Method::HEAD;
        let failure = Arc::new(Failure::default());
        let (sender, answer) = oneshot::channel();
        let work = self.work(request, sender, failure.clone(), deadline, turn);
        let task = self.tasks.spawn_on(work, &self.threads);
        // Dropped with whoever waits for the answer, and the instance with it.
        let task = AbortOnDropHandle::new(task);
        let said = match answer.await {
            Ok(said) => said,
            Err(_) => return Err(failure.take().unwrap_or_else(broke_off)),
        };
        let response =
            said.map_err(|code| self.failed(format!("the component answered {code:?}")))?;
        if response.status().is_informational() {
            let status = response.status().as_u16();
            let text = format!("the component answered {status}, which is no final answer");
            return Err(self.failed(text));
        }
        let (parts, body) = response.into_parts();
        let sent = Sent {
            left: length(&parts.headers),
            body,
            task: Some(task),
            failure,
            counts: self.counts.clone(),
        };
        if head {
            self.drain(sent);
            return Ok(Response::from_parts(parts, nothing()));
        }
        Ok(Response::from_parts(parts, Body::new(sent)))
    }

    fn usage(&self) -> ServeUsage {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        ServeUsage {
            requests: get(&counts.requests),
            failed: get(&counts.failed),
            cpu: self.container.meter.used(),
            memory_byte_ms: self.container.memory.byte_ms(),
            egress_bytes: get(&counts.answered_bytes) + get(&self.container.pod.sent),
            active: get(&counts.active),
            instances: self.instances.count(),
        }
    }

    async fn close(&self, now: bool) {
        self.instances.turns.close();
        self.tasks.close();
        if now {
            self.container.kill.cancel();
        }
        self.tasks.wait().await;
    }
}

impl Opened {
    /// Waits for an instance's turn, if there is room to wait.
    async fn turn(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, ServeError> {
        let turns = self.instances.turns.clone();
        if let Ok(turn) = turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let place = Place(&self.counts);
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= self.options.queue
            && !turns.is_closed()
        {
            return Err(ServeError::Busy(format!(
                "{} requests are served and {} wait: there is no room for another",
                self.options.max, self.options.queue
            )));
        }
        let turn = tokio::time::timeout_at(deadline, turns.acquire_owned()).await;
        drop(place);
        match turn {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(ServeError::Unavailable("it is being closed".to_owned())),
            Err(_) => {
                self.counts.requests.fetch_add(1, Ordering::Relaxed);
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                let text = format!("no instance was free in {:?}", self.options.timeout);
                self.container
                    .log
                    .note(&format!("a request failed: {text}"));
                Err(ServeError::TimedOut(text))
            }
        }
    }

    /// What an instance does for a request, to its end.
    fn work(
        &self,
        request: Request<Body>,
        answer: oneshot::Sender<instances::Answered>,
        failure: Arc<Failure>,
        deadline: Instant,
        turn: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (container, instances) = (self.container.clone(), self.instances.clone());
        let (counts, timeout) = (self.counts.clone(), self.options.timeout);
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let active = Counted::new(&counts.active);
        async move {
            let (_turn, _active) = (turn, active);
            let scheme = scheme(&request);
            let request = request.map(Incoming);
            {
                // Dropped only after what ends it was told.
                let serve = instances.serve(scheme, request, answer, &failure);
                let mut serve = std::pin::pin!(serve);
                tokio::select! {
                    biased;
                    () = &mut serve => {}
                    () = container.kill.cancelled() => {
                        failure.set(ServeError::Unavailable("it was closed".to_owned()));
                    }
                    () = tokio::time::sleep_until(deadline) => {
                        let text = format!("it was not done in {timeout:?}");
                        failure.set(ServeError::TimedOut(text.clone()));
                        container.log.note(&format!("a request failed: {text}"));
                    }
                }
            }
            if failure.happened() {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// An answer that is none.
    fn failed(&self, text: String) -> ServeError {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.container
            .log
            .note(&format!("a request failed: {text}"));
        ServeError::Failed(text)
    }

    /// Takes a body that nobody is sent, so that the component can end as usual.
    fn drain(&self, mut sent: Sent) {
        sent.counts = Arc::default();
        let drain = async move { while let Some(Ok(_)) = sent.frame().await {} };
        self.tasks.spawn_on(drain, &self.threads);
    }
}

/// A place among those that wait.
struct Place<'a>(&'a Counts);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The scheme that the client used, as the gateway says it.
fn scheme(request: &Request<Body>) -> Scheme {
    let forwarded = request.headers().get("x-forwarded-proto");
    let https = request.uri().scheme() == Some(&uri::Scheme::HTTPS)
        || forwarded.is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    if https { Scheme::Https } else { Scheme::Http }
}

fn length(headers: &http::HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn broke_off() -> ServeError {
    ServeError::Failed("the component broke off without an answer".to_owned())
}

fn nothing() -> Body {
    Body::new(Empty::new().map_err(|never| match never {}))
}

fn refused(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{text}\n")));
    let mut response = Response::new(Body::new(body.map_err(|never| match never {})));
    *response.status_mut() = status;
    response
}

/// A request's body, with errors that a guest can be told.
struct Incoming(Body);

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(|_| Self::Error::ConnectionTerminated)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A response's body. Dropped before its end, it ends the instance; at its end it lets it go on.
struct Sent {
    body: HyperOutgoingBody,
    /// Bytes that the answer's head said were to come.
    left: Option<u64>,
    task: Option<AbortOnDropHandle<()>>,
    failure: Arc<Failure>,
    counts: Arc<Counts>,
}

impl Sent {
    fn let_go(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let bytes = data.len() as u64;
                    let sum = &self.counts.answered_bytes;
                    sum.fetch_add(bytes, Ordering::Relaxed);
                    self.left = self.left.map(|left| left.saturating_sub(bytes));
                }
                // Nobody asks for more than what was announced.
                if self.left == Some(0) {
                    self.let_go();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error.into())),
            // What broke off must not look whole.
            None => match self.failure.take() {
                Some(error) => Some(Err(error.into())),
                None => {
                    self.let_go();
                    None
                }
            },
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.body.is_end_stream() || self.left == Some(0) {
            self.let_go();
        }
    }
}
