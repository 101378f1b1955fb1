//! The threads that guests and their sockets run on.
//!
//! A runtime of its own: its threads have entered the pods' network before they run anything, so no
//! socket of a pod can be opened elsewhere.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use runtimes::PodNetwork;
use tokio_util::task::AbortOnDropHandle;

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
            if let Err(error) = network.enter() {
                flag.store(true, Ordering::Relaxed);
                tracing::error!(%error, "a thread cannot enter the pod network");
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("wasm")
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
        let runtime = self.runtime.as_ref();
        let runtime = runtime.expect("it is there until the executor is dropped");
        AbortOnDropHandle::new(runtime.spawn(task))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for threads is not allowed in a task, where the last owner may well be.
            runtime.shutdown_background();
        }
    }
}
