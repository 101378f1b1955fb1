//! The instances that serve a container's requests: a fresh one for each, or pooled.
//!
//! The annotation `wasm.wk.dev/instances: pooled` lets an instance serve one request after another, so a
//! component that is slow to begin does so seldom; what it keeps in memory it then keeps between requests.
//! Never two requests at once in one instance. One that trapped, or whose client went away, is not used
//! again; nor is one that has served many, or that nobody has asked for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::Request;
use hyper::body::Incoming;
use runtimes::{ContainerSpec, RuntimeError};
use tokio::sync::{Semaphore, oneshot};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::bindings::{Proxy, ProxyPre, http::types::Scheme},
};

use super::Answered;
use crate::{
    container::Container,
    guest::{Guest, new_store, own_streams},
};

const ANNOTATION: &str = "wasm.wk.dev/instances";

/// Requests of one container at once; more wait, at most as long as a request may take.
const MAX_REQUESTS: usize = 256;

/// Instances of one container that wait for a request.
const MAX_IDLE: usize = 16;

/// How long one waits.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// How many requests one serves: what a guest leaks does not grow for ever.
const MAX_SERVED: u32 = 1000;

/// Makes and keeps the instances.
pub(super) struct Instances {
    container: Arc<Container>,
    engine: Engine,
    component: ProxyPre<Guest>,
    turns: Semaphore,
    pooled: bool,
    /// The one that waited least is last, and is taken first.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    instance: Instance,
    since: Instant,
}

struct Instance {
    store: Store<Guest>,
    proxy: Proxy,
    served: u32,
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

impl Instances {
    pub(super) fn new(
        container: Arc<Container>,
        engine: Engine,
        component: ProxyPre<Guest>,
    ) -> Instances {
        Instances {
            // What is wrong with the annotation was said when the container was made.
            pooled: pooled(&container.spec).unwrap_or(false),
            container,
            engine,
            component,
            turns: Semaphore::new(MAX_REQUESTS),
            idle: Mutex::default(),
        }
    }

    /// Serves one request; `answer` is dropped unanswered if that fails.
    pub(super) async fn serve(
        &self,
        request: Request<Incoming>,
        answer: oneshot::Sender<Answered>,
    ) {
        let Ok(_turn) = self.turns.acquire().await else {
            return;
        };
        // A short request may never meet the epoch clock: so a limit holds here too.
        self.container.meter.rest().await;
        let served = async {
            let mut instance = match self.take() {
                Some(instance) => instance,
                None => self.make().await?,
            };
            instance.serve(request, answer).await?;
            Ok::<_, wasmtime::Error>(instance)
        };
        match served.await {
            Ok(instance) if self.pooled => self.keep(instance),
            Ok(_) => {}
            Err(error) => self.container.request_failed(&error),
        }
    }

    /// Whether any wait.
    pub(super) fn keeps(&self) -> bool {
        self.pooled
    }

    /// Drops those that have waited too long.
    pub(super) fn retire(&self) {
        self.idle().retain(|idle| idle.since.elapsed() < IDLE);
    }

    async fn make(&self) -> wasmtime::Result<Instance> {
        let mut store = new_store(&self.engine, &self.container, |wasi| {
            own_streams(&self.container, wasi);
        });
        let proxy = self.component.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            served: 0,
        })
    }

    fn take(&self) -> Option<Instance> {
        self.idle().pop().map(|idle| idle.instance)
    }

    fn keep(&self, instance: Instance) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE && instance.served < MAX_SERVED {
            idle.push(Idle {
                instance,
                since: Instant::now(),
            });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance {
    async fn serve(
        &mut self,
        request: Request<Incoming>,
        answer: oneshot::Sender<Answered>,
    ) -> wasmtime::Result<()> {
        self.served += 1;
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam(answer)?;
        let handler = self.proxy.wasi_http_incoming_handler();
        handler.call_handle(&mut self.store, request, out).await
    }
}
