//! The threads that guests and their sockets run on.
//!
//! A runtime of its own: its threads have entered the pods' network before they run anything, so no
//! socket of a pod can be opened elsewhere (of a pod with a network of its own: see `namespace`).
//!
//! They give way to the process' other threads (the API's, the nodelet's) where there is not enough CPU for
//! all, and there are more of them than cores: so a guest that takes its whole turn, time and again,
//! competes with others before the kernel, which shares fairly, and not in one thread's queue.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use runtimes::PodNetwork;
use tokio_util::task::AbortOnDropHandle;

use crate::priority;

/// How far guests' threads stand back behind others: about a third of their share.
const NICE: i32 = 5;

/// How long one of them may keep others waiting for its core: about what a small request takes.
const TURN: Duration = Duration::from_micros(200);

/// Owns the threads; dropping it ends whatever they run.
pub(crate) struct Executor {
    /// `None` only while it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
    astray: Arc<AtomicBool>,
}

impl Executor {
    /// Starts the threads, after trying that one can enter the network.
    pub(crate) fn new(network: &Arc<dyn PodNetwork>) -> std::io::Result<Executor> {
        let trial = network.clone();
        let trial = std::thread::spawn(move || trial.enter()).join();
        trial
            .unwrap_or_else(|_| Err(std::io::Error::other("entering the pod network panicked")))?;
        let astray = Arc::new(AtomicBool::new(false));
        let (network, flag) = (network.clone(), astray.clone());
        let enter = move || {
            priority::lower(NICE);
            priority::shorten_turns(NICE, TURN);
            if let Err(error) = network.enter() {
                flag.store(true, Ordering::Relaxed);
                tracing::error!(%error, "a thread cannot enter the pod network");
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("wasm")
            .worker_threads(threads())
            .on_thread_start(enter)
            .enable_all()
            .build()?;
        Ok(Executor {
            runtime: Some(runtime),
            astray,
        })
    }

    /// False once a thread could not enter the pod network: nothing more may be started.
    pub(crate) fn is_sound(&self) -> bool {
        !self.astray.load(Ordering::Relaxed)
    }

    /// Runs a task until it ends or its handle is dropped.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.handle().spawn(task))
    }

    /// What spawns tasks there for somebody else to own. They end with the executor.
    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        let runtime = self.runtime.as_ref();
        let runtime = runtime.expect("it is there until the executor is dropped");
        runtime.handle()
    }
}

/// Two for each core, and at least four.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores * 2).max(4)
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for threads is not allowed in a task, where the last owner may well be.
            runtime.shutdown_background();
        }
    }
}
