//! Sessions of exec, attach and port-forward: tasks that outlive the request whose connection was upgraded.
//!
//! Owns them: they end with the nodelet. There is a bound on their number, and `wk_nodelet_sessions` tells it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tracing::error;

/// Sessions at once; more are turned away.
const MOST: usize = 512;

/// What a session is for, as the server's paths say it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Exec,
    Attach,
    PortForward,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Exec => "exec",
            Kind::Attach => "attach",
            Kind::PortForward => "portForward",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    kind: &'static str,
}

/// The sessions of a node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    tasks: Arc<Mutex<JoinSet<()>>>,
    free: Arc<Semaphore>,
    open: Family<Labels, Gauge>,
    opened: Family<Labels, Counter>,
}

/// Room for one session; counted while it is kept.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Sessions {
    pub(crate) fn new(metrics: &Metrics) -> Sessions {
        let (open, opened) = (Family::default(), Family::default());
        metrics.register(|registry| {
            let help = "Sessions of exec, attach and port-forward that are open";
            registry.register("wk_nodelet_sessions", help, Family::clone(&open));
            let help = "Sessions of exec, attach and port-forward that were opened";
            registry.register("wk_nodelet_sessions_opened", help, Family::clone(&opened));
        });
        Sessions {
            tasks: Arc::default(),
            free: Arc::new(Semaphore::new(MOST)),
            open,
            opened,
        }
    }

    /// Room for a session; `None` if there are too many already, or the nodelet stops.
    pub(crate) fn reserve(&self, kind: Kind) -> Option<Slot> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        let labels = Labels { kind: kind.name() };
        self.opened.get_or_create(&labels).inc();
        let open = self.open.get_or_create_owned(&labels);
        open.inc();
        Some(Slot {
            _permit: permit,
            open,
        })
    }

    /// Runs a session to its end, or the nodelet's.
    pub(crate) fn run(&self, slot: Slot, session: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        if self.free.is_closed() {
            return;
        }
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                error!(%error, "a session panicked");
            }
        }
        tasks.spawn(async move {
            session.await;
            drop(slot);
        });
    }

    /// Ends all of them; there are no more after that.
    pub(crate) async fn end(&self) {
        self.free.close();
        let mut tasks = std::mem::take(&mut *self.lock());
        tasks.shutdown().await;
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
