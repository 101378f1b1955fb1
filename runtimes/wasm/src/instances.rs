//! The instances that serve a component's requests: a fresh one for each, or pooled.
//!
//! The annotation `wasm.wk.dev/instances: pooled` lets an instance serve one request after another, so a
//! component that is slow to begin does so seldom; what it keeps in memory it then keeps between requests.
//! Never two requests at once in one instance. One that trapped, or whose client went away, is not used
//! again; nor is one that has served many, or that nobody has asked for a while.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Body;
use runtimes::{ContainerSpec, RuntimeError, ServeError};
use tokio::sync::{Semaphore, oneshot};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::{
        bindings::{
            Proxy, ProxyPre,
            http::types::{ErrorCode, Scheme},
        },
        body::HyperOutgoingBody,
    },
};

use crate::{
    container::{Container, End},
    guest::{Guest, OutOfMemory, new_store, own_streams},
    meter::Meter,
};

const ANNOTATION: &str = "wasm.wk.dev/instances";

/// How long an instance of a pod waits for a request.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// How many requests one serves: what a guest leaks does not grow for ever.
const MAX_SERVED: u32 = 1000;

/// What a component says to a request.
pub(crate) type Answered = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// How many instances there are, and how long they live.
pub(crate) struct Bounds {
    /// They serve one request after another.
    pub(crate) pooled: bool,
    /// Requests at once; more wait.
    pub(crate) max: usize,
    /// Instances that wait for a request.
    pub(crate) max_idle: usize,
    /// How long one waits.
    pub(crate) idle: Duration,
}

/// Makes and keeps the instances.
pub(crate) struct Instances {
    container: Arc<Container>,
    engine: Engine,
    component: ProxyPre<Guest>,
    pub(crate) turns: Arc<Semaphore>,
    bounds: Bounds,
    /// The one that waited least is last, and is taken first.
    waiting: Mutex<Vec<Idle>>,
    alive: Arc<AtomicU64>,
}

struct Idle {
    instance: Instance,
    since: Instant,
}

struct Instance {
    store: Store<Guest>,
    proxy: Proxy,
    meter: Arc<Meter>,
    served: u32,
    _alive: Counted,
}

/// Why a request has no whole answer, for whoever sends it; said before the answer breaks off.
#[derive(Default)]
pub(crate) struct Failure {
    error: Mutex<Option<ServeError>>,
    happened: AtomicBool,
}

impl Failure {
    /// The first stands.
    pub(crate) fn set(&self, error: ServeError) {
        if !self.happened.swap(true, Ordering::Relaxed) {
            *self.error() = Some(error);
        }
    }

    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self) -> Option<ServeError> {
        self.error().take()
    }

    fn error(&self) -> MutexGuard<'_, Option<ServeError>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a container's instances are pooled.
pub(crate) fn pooled(spec: &ContainerSpec) -> Result<bool, RuntimeError> {
    match spec.annotations.get(ANNOTATION).map(String::as_str) {
        None | Some("fresh") => Ok(false),
        Some("pooled") => Ok(true),
        Some(other) => Err(RuntimeError::Invalid(format!(
            "annotation {ANNOTATION}: {other:?} is neither fresh (an instance for each request) nor pooled"
        ))),
    }
}

/// Refuses what no component can answer.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), (StatusCode, &'static str)> {
    if request.method() == Method::CONNECT {
        let text = "CONNECT is not offered: this server is a WebAssembly component, not a proxy";
        return Err((StatusCode::NOT_IMPLEMENTED, text));
    }
    // HTTP/2 is spoken to those who begin with it; an offer to change to it may be ignored.
    let upgrade = request.headers().get(header::UPGRADE);
    if upgrade.is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c")) {
        let text = "upgrades (WebSocket among them) are not offered: this server is a WebAssembly \
                    component, and wasi:http has none";
        return Err((StatusCode::NOT_IMPLEMENTED, text));
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        return Err((StatusCode::BAD_REQUEST, "a request must name its host"));
    }
    Ok(())
}

impl Instances {
    pub(crate) fn new(
        container: Arc<Container>,
        engine: Engine,
        component: ProxyPre<Guest>,
        bounds: Bounds,
    ) -> Instances {
        Instances {
            container,
            engine,
            component,
            turns: Arc::new(Semaphore::new(bounds.max)),
            bounds,
            waiting: Mutex::default(),
            alive: Arc::default(),
        }
    }

    /// Serves one request, whose turn it is. If that fails, `failure` says why, and then `answer` is dropped
    /// unanswered or the answer's body ends.
    pub(crate) async fn serve<B>(
        &self,
        scheme: Scheme,
        request: Request<B>,
        answer: oneshot::Sender<Answered>,
        failure: &Failure,
    ) where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let mut instance = self.take();
        let meter = match &instance {
            Some(instance) => instance.meter.clone(),
            None => self.container.instance_meter(),
        };
        // A short request may never meet the epoch clock: so a limit holds here too.
        meter.rest().await;
        let work = async {
            let served = self.work(&mut instance, &meter, scheme, request, answer);
            match served.await {
                Ok(true) if self.bounds.pooled => self.keep(instance),
                Ok(true) => {}
                Ok(false) => {
                    let text = "the component returned without an answer";
                    failure.set(ServeError::Failed(text.to_owned()));
                    self.container
                        .log
                        .note(&format!("a request failed: {text}"));
                }
                Err(error) => {
                    failure.set(reason(&error));
                    self.container.request_failed(&error);
                }
            }
            // What is left of the instance is dropped here, after its failure was told.
        };
        meter.measure(work).await;
    }

    /// Whether the instance, made if there is none, gave an answer.
    async fn work<B>(
        &self,
        instance: &mut Option<Instance>,
        meter: &Arc<Meter>,
        scheme: Scheme,
        request: Request<B>,
        answer: oneshot::Sender<Answered>,
    ) -> wasmtime::Result<bool>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let instance = match instance {
            Some(instance) => instance,
            None => instance.insert(self.make(meter.clone()).await?),
        };
        instance.serve(scheme, request, answer).await
    }

    /// Whether any wait.
    pub(crate) fn keeps(&self) -> bool {
        self.bounds.pooled
    }

    /// How many there are, waiting ones too.
    pub(crate) fn count(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Drops those that have waited too long.
    pub(crate) fn retire(&self) {
        let old = self
            .waiting()
            .extract_if(.., |idle| idle.since.elapsed() >= self.bounds.idle)
            .collect::<Vec<_>>();
        // Not while others wait for the lock.
        drop(old);
    }

    async fn make(&self, meter: Arc<Meter>) -> wasmtime::Result<Instance> {
        let alive = Counted::new(&self.alive);
        let mut store = new_store(&self.engine, &self.container, meter.clone(), |wasi| {
            own_streams(&self.container, wasi)
        });
        let proxy = self.component.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            meter,
            served: 0,
            _alive: alive,
        })
    }

    fn take(&self) -> Option<Instance> {
        self.waiting().pop().map(|idle| idle.instance)
    }

    fn keep(&self, instance: Option<Instance>) {
        let Some(instance) = instance.filter(|instance| instance.served < MAX_SERVED) else {
            return;
        };
        let since = Instant::now();
        let mut waiting = self.waiting();
        if waiting.len() < self.bounds.max_idle {
            waiting.push(Idle { instance, since });
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance {
    /// Whether it gave an answer; it may have kept what it should have answered by.
    async fn serve<B>(
        &mut self,
        scheme: Scheme,
        request: Request<B>,
        answer: oneshot::Sender<Answered>,
    ) -> wasmtime::Result<bool>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        self.served += 1;
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(scheme, request)?;
        let answered = Arc::new(AtomicBool::new(false));
        let flag = answered.clone();
        let out = http.new_response_outparam_from_callback(move |said| {
            flag.store(true, Ordering::Relaxed);
            // Nobody waits for it any more: that is no trap.
            let _ = answer.send(said);
        })?;
        let handler = self.proxy.wasi_http_incoming_handler();
        handler.call_handle(&mut self.store, request, out).await?;
        Ok(answered.load(Ordering::Relaxed))
    }
}

/// What an error out of the guest is to whoever sent the request.
fn reason(error: &wasmtime::Error) -> ServeError {
    if let Some(error) = error.downcast_ref::<OutOfMemory>() {
        return ServeError::OutOfMemory(error.to_string());
    }
    let end = End::error(error);
    ServeError::Failed(if end.message.is_empty() {
        format!("the component exited with code {}", end.code)
    } else {
        end.message
    })
}

/// One more, until it is dropped.
pub(crate) struct Counted(Arc<AtomicU64>);

impl Counted {
    pub(crate) fn new(sum: &Arc<AtomicU64>) -> Counted {
        sum.fetch_add(1, Ordering::Relaxed);
        Counted(sum.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
