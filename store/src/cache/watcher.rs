//! One watch: a position in a resource's ring.
//!
//! Holds no events of its own, so a slow watcher costs nothing; when the ring has moved on, or it is
//! too far behind, it ends with `Compacted` and its client lists anew.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Event, Scope, Shared, tables::Lost};
use crate::{ResourceKey, Revision, StoreError, writer::stopped};

/// Follows one resource, or a part of it. Dropping it ends the watch.
pub struct Watcher {
    shared: Arc<Shared>,
    prefix: String,
    scope: Scope,
    /// Everything of the resource up to here was delivered.
    position: Revision,
    /// True once the backlog from before the watch began was delivered: what gathers after that is lag.
    live: bool,
    newest: watch::Receiver<Revision>,
    stopped: watch::Receiver<bool>,
}

impl Watcher {
    pub(super) fn new(
        shared: Arc<Shared>,
        resource: &ResourceKey,
        scope: Scope,
        after: Revision,
    ) -> Result<Self, StoreError> {
        let prefix = resource.prefix(None);
        let newest = {
            let mut tables = shared.tables_mut();
            if after > tables.revision() {
                return Err(StoreError::Future {
                    asked: after,
                    current: tables.revision(),
                });
            }
            tables
                .subscribe(&prefix, &scope, after)
                .map_err(|Lost::Before { start }| StoreError::Compacted {
                    asked: after,
                    floor: start,
                })?
        };
        let stopped = shared.stopped.subscribe();
        Ok(Self {
            shared,
            prefix,
            scope,
            position: after,
            live: false,
            newest,
            stopped,
        })
    }

    /// All events that are pending, in order, at least one; waits for it. `Compacted` if the watcher
    /// fell too far behind. Nothing is lost if the call is given up.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        loop {
            // Marked as seen before the ring is read: an event that comes after that wakes the wait below.
            let events = self.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
            tokio::select! {
                // The sender lives as long as the cache does, and `self.shared` holds that.
                _ = self.newest.changed() => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return Err(stopped()),
            }
        }
    }

    /// True if there are events that were not delivered; costs next to nothing.
    pub fn is_behind(&self) -> bool {
        self.newest.has_changed().unwrap_or_default()
    }

    /// All events that are pending, in order, without waiting for any. `Compacted` as for
    /// [`Self::next`].
    pub fn take(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        self.newest.mark_unchanged();
        let events = self.pending()?;
        if let Some(last) = events.last() {
            self.position = last.item.revision;
        }
        Ok(events)
    }

    /// Everything up to here was delivered or is not of this resource.
    pub fn progress(&self) -> Revision {
        self.shared
            .tables()
            .progress(&self.prefix, &self.scope, self.position)
    }

    fn pending(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        let events = self
            .shared
            .tables()
            .events(&self.prefix, &self.scope, self.position);
        let events = match events {
            Ok(events) if !self.live || events.len() <= self.shared.config.lag => events,
            Ok(events) => {
                return Err(StoreError::Compacted {
                    asked: self.position,
                    floor: events
                        .last()
                        .map_or(self.position, |event| event.item.revision),
                });
            }
            Err(Lost::Before { start }) => {
                return Err(StoreError::Compacted {
                    asked: self.position,
                    floor: start,
                });
            }
        };
        self.live = true;
        Ok(events)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.scope != Scope::All {
            self.shared.tables_mut().leave(&self.prefix, &self.scope);
        }
    }
}
