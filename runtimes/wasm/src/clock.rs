//! The epoch clock: at every tick, a guest that runs lets others have their turn.
//!
//! A thread of its own, since the threads that run guests may all be busy with guests. It rests while no
//! guest runs: an idle node pays nothing for it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use wasmtime::EngineWeak;

/// How long a guest runs before others get their turn.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// After so many ticks without a guest it rests.
const IDLE_TICKS: u32 = 100;

/// How long it rests before it looks whether its engines are still there.
const REST: Duration = Duration::from_secs(10);

/// Told whenever a guest runs.
#[derive(Default)]
pub(crate) struct Clock {
    /// A guest has run since the last tick.
    busy: AtomicBool,
    resting: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Clock {
    /// Starts the thread, which ends once one of the engines is dropped.
    pub(crate) fn start(engines: Vec<EngineWeak>) -> std::io::Result<Arc<Clock>> {
        let clock = Arc::new(Clock::default());
        let weak = Arc::downgrade(&clock);
        let run = move || {
            let mut idle = 0;
            while let Some(clock) = weak.upgrade() {
                let engines = engines.iter().map(EngineWeak::upgrade);
                let Some(engines) = engines.collect::<Option<Vec<_>>>() else {
                    return;
                };
                engines.iter().for_each(wasmtime::Engine::increment_epoch);
                drop(engines);
                idle = if clock.busy.swap(false, Ordering::SeqCst) {
                    0
                } else {
                    idle + 1
                };
                if idle > IDLE_TICKS {
                    clock.rest();
                } else {
                    drop(clock);
                    std::thread::sleep(TICK);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .spawn(run)?;
        let _ = clock.thread.set(thread.thread().clone());
        Ok(clock)
    }

    /// A guest is about to run.
    pub(crate) fn run(&self) {
        self.busy.store(true, Ordering::SeqCst);
        if self.resting.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        // Whoever is busy from here on sees that it rests.
        if !self.busy.load(Ordering::SeqCst) {
            std::thread::park_timeout(REST);
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}
