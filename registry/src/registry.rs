//! The registry as one value: its parts, and the task that keeps it tidy.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{RwLock, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::Access, metrics::RegistryMetrics, quota::Sizes, storage::Storage, touched::Touched,
    uploads::Sessions,
};

/// Requests answered at once; more are asked to come later.
const REQUESTS: usize = 512;
/// How long what is being written may take once the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How the registry behaves. Plain data.
#[derive(Clone, Debug)]
pub struct Config {
    /// What nothing names is kept that long: so long may a push take from its first blob to its manifest.
    pub grace: Duration,
    /// An upload that nothing came of for so long is over.
    pub upload_expiry: Duration,
    /// How often what nothing names is looked for; `None`: never.
    pub collect_every: Option<Duration>,
    /// Manifests that no tag, list or subject names are removed after that long; `None`: kept, since pods and
    /// functions name manifests by their digests.
    pub untagged: Option<Duration>,
}

impl Default for Config {
    /// Six hours, a day, every hour, kept.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(6 * 3600),
            upload_expiry: Duration::from_secs(24 * 3600),
            collect_every: Some(Duration::from_secs(3600)),
            untagged: None,
        }
    }
}

/// The registry. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) storage: Storage,
    pub(crate) access: Arc<dyn Access>,
    pub(crate) config: Config,
    pub(crate) metrics: RegistryMetrics,
    pub(crate) sessions: Sessions,
    pub(crate) sizes: Sizes,
    /// Read by whoever links to content, written by whoever removes content that nothing links to.
    pub(crate) gate: RwLock<()>,
    /// What was linked to since the collection under way began.
    pub(crate) touched: Touched,
    /// Held by the collection under way.
    pub(crate) collecting: tokio::sync::Mutex<()>,
    /// Who commits to a namespace with a quota.
    pub(crate) committing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Writes that go on although their client has gone, so that it can take up what came.
    pub(crate) writes: TaskTracker,
    pub(crate) requests: Semaphore,
}

impl Registry {
    /// A registry over a storage; nothing is read yet.
    pub fn new(
        storage: Storage,
        access: Arc<dyn Access>,
        config: Config,
        metrics: RegistryMetrics,
    ) -> Registry {
        Registry(Arc::new(Inner {
            storage,
            access,
            config,
            metrics,
            sessions: Sessions::default(),
            sizes: Sizes::default(),
            gate: RwLock::default(),
            touched: Touched::default(),
            collecting: tokio::sync::Mutex::default(),
            committing: Mutex::default(),
            writes: TaskTracker::new(),
            requests: Semaphore::new(REQUESTS),
        }))
    }

    /// Where the content is, in words.
    pub fn place(&self) -> String {
        self.0.storage.to_string()
    }

    /// True if other processes may have the same storage.
    pub fn is_shared(&self) -> bool {
        !self.0.storage.is_local()
    }

    /// Removes what nothing names, from time to time, until `stop`. Of several processes with one storage, one does.
    pub async fn run(self, stop: CancellationToken) {
        let Some(every) = self.0.config.collect_every else {
            return stop.cancelled().await;
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                collected = self.collect() => match collected {
                    Ok(collected) => tracing::info!(?collected, "the registry was tidied"),
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the registry could not be tidied"
                    ),
                },
            }
        }
    }

    /// Waits until what clients have sent is written.
    pub async fn drain(&self) {
        self.0.writes.close();
        if tokio::time::timeout(DRAIN, self.0.writes.wait())
            .await
            .is_err()
        {
            tracing::warn!("writes to the registry's storage were cut off");
        }
    }
}
