//! One watch: a position in a resource's ring.
//!
//! Holds no events of its own, so a slow watcher costs nothing; when the ring has moved on, or it is
//! too far behind, it ends with `Compacted` and its client lists anew.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Event, Scope, Shared, tables::Lost};
use crate::{ResourceKey, Revision, StoreError};

/// What telling one watcher costs, about.
const TURN: Duration = Duration::from_micros(10);
/// A shorter pause is none: few watchers are told at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Follows one resource, or a part of it. Dropping it ends the watch.
pub struct Watcher {
    shared: Arc<Shared>,
    prefix: String,
    scope: Scope,
    /// Everything of the resource up to here was delivered.
    position: Revision,
    /// True once the backlog from before the watch began was delivered: what gathers after that is lag.
    live: bool,
    /// The revision of the newest event when events were last taken: later ones are news.
    seen: Option<Revision>,
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
            seen: None,
            newest,
            stopped,
        })
    }

    /// All events that are pending, in order, at least one; waits for it. `Compacted` if the watcher
    /// fell too far behind. Nothing is lost if the call is given up.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        loop {
            self.wait().await?;
            let events = self.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Waits until there may be events that were not delivered.
    pub async fn wait(&mut self) -> Result<(), StoreError> {
        // What came before the watch began is not told of.
        let Some(seen) = self.seen else {
            return Ok(());
        };
        tokio::select! {
            // The sender lives as long as the cache does, and `self.shared` holds that.
            _ = self.newest.wait_for(|newest| *newest > seen) => Ok(()),
            _ = self.stopped.wait_for(|stopped| *stopped) => Err(StoreError::Stopped),
        }
    }

    /// True if there are events that were not delivered; costs next to nothing.
    pub fn is_behind(&self) -> bool {
        self.newest.has_changed().unwrap_or_default()
    }

    /// Everything up to here was delivered.
    pub fn position(&self) -> Revision {
        self.position
    }

    /// Goes on after a revision: the caller has the events up to there from elsewhere.
    pub fn skip(&mut self, until: Revision) {
        self.position = until;
        self.seen = Some(until);
        self.live = true;
    }

    /// All events that are pending, in order, without waiting for any. `Compacted` as for
    /// [`Self::next`].
    pub fn take(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        self.take_until(None)
    }

    /// The same up to a revision, of an event that is there.
    pub fn take_until(&mut self, until: Option<Revision>) -> Result<Vec<Arc<Event>>, StoreError> {
        // Marked as seen before the ring is read: what comes after that is news.
        let newest = *self.newest.borrow_and_update();
        let mut events = self.pending()?;
        if let Some(until) = until {
            let kept = events.partition_point(|event| event.item.revision <= until);
            events.truncate(kept);
        }
        if let Some(last) = events.last() {
            self.position = last.item.revision;
        }
        self.seen = Some(until.unwrap_or(newest).max(self.position));
        Ok(events)
    }

    /// How long to rest after something was told: as long as telling it to all takes, if they are many,
    /// so that what comes meanwhile is told together.
    pub fn pause(&self) -> Duration {
        let watchers = self.shared.tables().watchers(&self.prefix, &self.scope);
        let pause = TURN.saturating_mul(u32::try_from(watchers).unwrap_or(u32::MAX));
        if pause < SHORTEST_PAUSE {
            Duration::ZERO
        } else {
            pause.min(LONGEST_PAUSE)
        }
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
