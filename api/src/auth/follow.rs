//! What an authorizer knows of the objects it goes by: an index that follows the watch cache.
//!
//! Before a question is answered the index takes in what changed, so whoever wrote an object through this
//! process finds it at work. A watch that fell behind makes the index anew.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use store::{Cache, Item, Key, ResourceKey, StoreError, Watcher};
use tokio_util::sync::CancellationToken;

/// How long changes may gather before they are taken in though nobody asks.
const REST: Duration = Duration::from_millis(50);

/// What is kept of some resources' objects. Pure.
pub(crate) trait Index: Default {
    /// One of the resources.
    type Table: Copy + 'static;
    /// All of them.
    const TABLES: &'static [Self::Table];

    fn resource(table: Self::Table) -> ResourceKey;

    /// An object came or changed.
    fn put(&mut self, table: Self::Table, item: &Item);

    fn remove(&mut self, table: Self::Table, key: &Key);
}

/// An index and the cache that it follows.
pub(crate) struct Following<I: Index> {
    cache: Cache,
    followed: RwLock<Followed<I>>,
}

/// The index and the watches that keep it current.
struct Followed<I: Index> {
    index: I,
    /// Empty before the first question, and after a watch fell behind: then everything is listed.
    watches: Vec<(I::Table, Watcher)>,
}

impl<I: Index> Following<I> {
    pub(crate) fn new(cache: Cache) -> Self {
        Self {
            cache,
            followed: RwLock::new(Followed::empty()),
        }
    }

    /// Asks the index once it has everything that the cache has.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&I) -> T) -> T {
        {
            let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
            if followed.is_current() {
                return ask(&followed.index);
            }
        }
        let mut followed = self
            .followed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        followed.catch_up(&self.cache);
        ask(&followed.index)
    }

    /// Takes changes in while nobody asks, until `stop`: else a question after a quiet hour would pay for
    /// all of it. `busiest` is the resource that changes most; the others' changes come along.
    pub(crate) async fn keep_current(&self, busiest: I::Table, stop: CancellationToken) {
        let resource = I::resource(busiest);
        let mut watch = None;
        loop {
            self.with(|_| ());
            let changed = async {
                tokio::time::sleep(REST).await;
                match &mut watch {
                    Some(watch) => Watcher::next(watch).await.map(drop),
                    None => Ok(()),
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changed => match changed {
                    Ok(()) if watch.is_some() => {}
                    Ok(()) | Err(StoreError::Compacted { .. }) => {
                        watch = self.cache.watch(&resource, self.cache.revision()).ok();
                    }
                    // The store has ended, and with it what could be followed.
                    Err(_) => return,
                }
            }
        }
    }
}

impl<I: Index> Followed<I> {
    fn empty() -> Self {
        Self {
            index: I::default(),
            watches: Vec::new(),
        }
    }

    fn is_current(&self) -> bool {
        !self.watches.is_empty() && self.watches.iter().all(|(_, watch)| !watch.is_behind())
    }

    fn catch_up(&mut self, cache: &Cache) {
        if self.watches.is_empty() || self.take_changes().is_err() {
            self.start(cache);
        }
    }

    fn take_changes(&mut self) -> Result<(), StoreError> {
        for (table, watch) in &mut self.watches {
            for event in watch.take()? {
                if event.deleted {
                    self.index.remove(*table, &event.item.key);
                } else {
                    self.index.put(*table, &event.item);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, cache: &Cache) {
        *self = Self::empty();
        for table in I::TABLES {
            let resource = I::resource(*table);
            let snapshot = cache.list(&resource, None);
            match cache.watch(&resource, snapshot.revision) {
                Ok(watch) => self.watches.push((*table, watch)),
                // Changes came in between and are forgotten already: the next question starts again.
                Err(error) => {
                    let resource = &*resource.resource;
                    tracing::warn!(%error, resource, "the authorizer cannot follow a resource");
                    self.watches.clear();
                    return;
                }
            }
            for item in snapshot.items {
                self.index.put(*table, &item);
            }
        }
        // What came between the list and the watch, of which the watch does not tell.
        if self.take_changes().is_err() {
            self.watches.clear();
        }
    }
}
