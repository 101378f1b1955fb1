//! Keeps the cache current: loads it, follows the history, takes in this process' own batches, and
//! forgets old history.
//!
//! The only code that changes the tables. Never guesses: a batch that does not follow on the cache's
//! revision is read from the log with whatever came before it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{CacheConfig, Decode, Item, Shared, decode, list_all, tables::Tables, tables::Update};
use crate::{
    Change, Op, Revision, Store, StoreError, Writer,
    writer::{Committed, Progress},
};

/// Changes read at a time.
const PAGE: usize = 1_000;
/// Revisions before the newest that a cache loads as events, so that watches outlive a restart.
const REPLAY: u64 = 1_000;
/// Revisions that compaction leaves, however old they are.
const KEPT: u64 = 1_000;
/// How long a wake-up waits for a batch of this process that is on its way: it is most likely about that.
const SETTLE: Duration = Duration::from_millis(20);
/// Pauses after a failed read: doubling from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Loads that compaction may outrun before the load fails.
const LOADS: usize = 5;

/// Tells handles and watchers that nothing comes any more when the tasks are gone.
pub(super) struct StopOnDrop(pub(super) Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stopped.send_replace(true);
    }
}

/// Reads the whole state, and the events of the last revisions.
pub(super) async fn load(
    store: &Arc<dyn Store>,
    codec: &Arc<dyn Decode>,
    config: &CacheConfig,
) -> Result<Tables, StoreError> {
    let mut loads = 0;
    loop {
        loads += 1;
        match load_once(store, codec, config).await {
            // Another process compacted what this one was reading.
            Err(StoreError::Compacted { .. }) if loads < LOADS => {}
            loaded => return loaded,
        }
    }
}

async fn load_once(
    store: &Arc<dyn Store>,
    codec: &Arc<dyn Decode>,
    config: &CacheConfig,
) -> Result<Tables, StoreError> {
    let current = store.revision().await?;
    let start = Revision(current.0.saturating_sub(REPLAY)).max(store.floor().await?);
    let entries = list_all(store, "", None, start).await?;
    let items = entries
        .into_iter()
        .map(|entry| Item {
            decoded: decode(&**codec, &entry.key, entry.revision, &entry.value),
            key: entry.key,
            revision: entry.revision,
            created: entry.created,
        })
        .collect();
    let mut tables = Tables::new(start, items, config.ring);
    loop {
        let changes = store.changes(tables.revision(), PAGE).await?;
        let last = changes.len() < PAGE;
        tables.apply(changes.into_iter().map(|change| update(&**codec, change)));
        if last {
            return Ok(tables);
        }
    }
}

/// Feeds, writes and compacts until one of them fails or every handle is gone.
pub(super) async fn run(stop: StopOnDrop, writer: Writer) -> Result<(), StoreError> {
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(stop.0.clone()));
    tasks.spawn(compact(stop.0.clone()));
    let shared = stop.0.clone();
    tasks.spawn(async move {
        writer.run(|progress| shared.observe(progress)).await;
        Ok(())
    });
    match tasks.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(Err(_)) | None => Ok(()),
    }
}

/// Reads the log whenever there may be more in it than the cache has.
async fn follow(shared: Arc<Shared>) -> Result<(), StoreError> {
    let mut pause = PAUSES.0;
    loop {
        match shared.catch_up().await {
            Ok(()) => {
                pause = PAUSES.0;
                shared.await_reason().await;
            }
            Err(StoreError::Unavailable { message, .. }) => {
                tracing::warn!(message, "the history cannot be read: trying again");
                sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Forgets history by age, and the events that go with it.
async fn compact(shared: Arc<Shared>) -> Result<(), StoreError> {
    let history = shared.config.history;
    let period = (history / 10).clamp(Duration::from_millis(100), Duration::from_secs(30));
    let mut seen: VecDeque<(Instant, Revision)> = VecDeque::new();
    loop {
        sleep(period).await;
        let (now, current) = (Instant::now(), shared.revision());
        seen.push_back((now, current));
        let mut old = Revision(0);
        while let Some((at, revision)) = seen.front().copied()
            && now - at >= history
        {
            old = revision;
            seen.pop_front();
        }
        let until = old.min(Revision(current.0.saturating_sub(KEPT)));
        if until == Revision(0) {
            continue;
        }
        match shared.store.compact(until).await {
            Ok(floor) => shared.tables_mut().trim(floor),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the history was not compacted: trying again later"
            ),
        }
    }
}

impl Shared {
    /// Reads the log to its end.
    async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let after = self.revision();
            match self.store.changes(after, PAGE).await {
                Ok(changes) => {
                    let last = changes.len() < PAGE;
                    let updates = self.updates(changes);
                    self.apply(updates);
                    if last {
                        return Ok(());
                    }
                }
                // This process slept through more than the history keeps.
                Err(StoreError::Compacted { .. }) => {
                    tracing::warn!(
                        after = after.0,
                        "the history went on without the cache: loading anew"
                    );
                    let loaded = load(&self.store, &self.decode, &self.config).await?;
                    let revision = loaded.revision();
                    self.tables_mut().replace(loaded);
                    self.reached.send_replace(revision);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a sign that the log has more than the cache.
    async fn await_reason(&self) {
        loop {
            let revision = self.revision();
            tokio::select! {
                () = self.store.wait(revision) => {}
                () = self.behind.notified() => return,
            }
            let mut writing = self.writing.subscribe();
            if !*writing.borrow_and_update() {
                return;
            }
            // Our own batch comes without the log being read; the sender lives in `self`.
            drop(timeout(SETTLE, writing.wait_for(|writing| !writing)).await);
            if self.revision() == revision {
                return;
            }
        }
    }

    /// Takes in a batch of this process if it follows on what is here; else has the log read.
    fn observe(&self, progress: Progress<'_>) {
        match progress {
            Progress::Started => {
                self.writing.send_replace(true);
            }
            Progress::Ended(Committed { ops }) => {
                if self.follows(&ops) {
                    let updates = ops
                        .into_iter()
                        .filter_map(|(revision, op)| own_update(&*self.decode, revision, op))
                        .collect();
                    self.apply(updates);
                } else if !ops.is_empty() {
                    self.behind.notify_one();
                }
                self.writing.send_replace(false);
            }
        }
    }

    fn follows(&self, ops: &[(Revision, &Op)]) -> bool {
        let next = self.revision().0 + 1;
        !ops.is_empty()
            && (next..)
                .zip(ops)
                .all(|(next, (revision, _))| revision.0 == next)
    }

    fn updates(&self, changes: Vec<Change>) -> Vec<Update> {
        let reached = self.revision();
        changes
            .into_iter()
            .filter(|change| change.entry.revision > reached)
            .map(|change| update(&*self.decode, change))
            .collect()
    }

    fn apply(&self, updates: Vec<Update>) {
        let revision = {
            let mut tables = self.tables_mut();
            tables.apply(updates);
            tables.revision()
        };
        // Two may apply at once; the later state is the one to tell.
        self.reached.send_if_modified(|reached| {
            let newer = revision > *reached;
            *reached = revision.max(*reached);
            newer
        });
    }
}

fn update(codec: &dyn Decode, change: Change) -> Update {
    let entry = change.entry;
    Update {
        decoded: decode(codec, &entry.key, entry.revision, &entry.value),
        key: entry.key,
        revision: entry.revision,
        created: Some(entry.created),
        deleted: change.deleted,
    }
}

fn own_update(codec: &dyn Decode, revision: Revision, op: &Op) -> Option<Update> {
    let (key, value, deleted) = match op {
        Op::Check { .. } => return None,
        Op::Put { key, value, .. } => (key, value, false),
        Op::Delete { key, value, .. } => (key, value, true),
    };
    Some(Update {
        key: key.clone(),
        revision,
        created: None,
        deleted,
        decoded: decode(codec, key, revision, value),
    })
}
