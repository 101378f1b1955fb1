//! The cache's state: a table of objects and a ring of recent events per resource.
//!
//! Pure memory: no IO, no waiting; the one place where a change becomes an [`Event`]. Changes are
//! applied in revision order, each once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use tokio::sync::watch;

use super::{Decoded, Event, Item};
use crate::{Key, ResourceKey, Revision};

/// Every resource's table at one revision.
pub(super) struct Tables {
    revision: Revision,
    /// Where the history that was loaded begins: a table's events after it are known.
    start: Revision,
    /// Events kept per table.
    ring: usize,
    /// By the prefix that the keys of a resource share.
    tables: HashMap<Box<str>, Table>,
}

/// One resource.
struct Table {
    items: BTreeMap<Key, Arc<Item>>,
    ring: VecDeque<Arc<Event>>,
    /// Every event after this revision is in the ring.
    start: Revision,
    /// The revision of the newest event, for watchers.
    newest: watch::Sender<Revision>,
}

/// A change on its way in.
pub(super) struct Update {
    pub(super) key: Key,
    pub(super) revision: Revision,
    /// `None`: as the version before it was.
    pub(super) created: Option<Revision>,
    pub(super) deleted: bool,
    pub(super) decoded: Decoded,
}

/// Why a watcher gets no events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Events after its position are gone; those after `start` are there.
    Before { start: Revision },
}

impl Tables {
    /// A state without history before its revision.
    pub(super) fn new(revision: Revision, items: Vec<Item>, ring: usize) -> Self {
        let mut tables = Self {
            revision,
            start: revision,
            ring,
            tables: HashMap::new(),
        };
        for item in items {
            let table = tables.table(item.key.resource_prefix());
            table.items.insert(item.key.clone(), Arc::new(item));
        }
        tables
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Item>> {
        self.tables
            .get(key.resource_prefix())?
            .items
            .get(key)
            .cloned()
    }

    /// In key order.
    pub(super) fn list(&self, resource: &ResourceKey, namespace: Option<&str>) -> Vec<Arc<Item>> {
        self.tables
            .get(resource.prefix(None).as_str())
            .map(|table| {
                table
                    .items_of(&resource.prefix(namespace))
                    .cloned()
                    .collect()
            })
            .unwrap_or_default()
    }

    /// The state at an earlier revision, found by undoing events; `None` if they do not reach back.
    pub(super) fn list_at(
        &self,
        resource: &ResourceKey,
        namespace: Option<&str>,
        at: Revision,
    ) -> Option<Vec<Arc<Item>>> {
        let Some(table) = self.tables.get(resource.prefix(None).as_str()) else {
            return (at >= self.start).then(Vec::new);
        };
        if at < table.start {
            return None;
        }
        let prefix = resource.prefix(namespace);
        let mut items: BTreeMap<&Key, &Arc<Item>> = table
            .items_of(&prefix)
            .map(|item| (&item.key, item))
            .collect();
        let undone = table.events_after(at).rev();
        for event in undone.filter(|event| event.item.key.as_str().starts_with(&prefix)) {
            match &event.previous {
                Some(previous) => items.insert(&previous.key, previous),
                None => items.remove(&event.item.key),
            };
        }
        Some(items.into_values().cloned().collect())
    }

    /// Brings changes in, in revision order; those already known are skipped.
    pub(super) fn apply(&mut self, updates: impl IntoIterator<Item = Update>) {
        let ring = self.ring;
        let mut touched = BTreeSet::new();
        for update in updates {
            if update.revision <= self.revision {
                continue;
            }
            self.revision = update.revision;
            let prefix = update.key.resource_prefix();
            if !touched.contains(prefix) {
                touched.insert(prefix.to_owned());
            }
            self.table(update.key.resource_prefix()).apply(update, ring);
        }
        for prefix in touched {
            self.table(&prefix).wake();
        }
    }

    /// Drops events up to a revision.
    pub(super) fn trim(&mut self, floor: Revision) {
        for table in self.tables.values_mut() {
            while table
                .ring
                .front()
                .is_some_and(|event| event.item.revision <= floor)
            {
                table.evict();
            }
        }
    }

    /// Becomes another state. Watchers go on at their positions, or find that the events are gone.
    pub(super) fn replace(&mut self, mut loaded: Self) {
        for (prefix, old) in self.tables.drain() {
            let table = loaded.table(&prefix);
            table.newest = old.newest;
        }
        *self = loaded;
        for table in self.tables.values() {
            table.newest.send_replace(self.revision);
        }
    }

    /// A receiver that is told of a resource's newest event.
    pub(super) fn subscribe(&mut self, prefix: &str) -> watch::Receiver<Revision> {
        self.table(prefix).newest.subscribe()
    }

    /// The events of a resource after a position, if none of them is gone.
    pub(super) fn events(&self, prefix: &str, after: Revision) -> Result<Vec<Arc<Event>>, Lost> {
        let start = self
            .tables
            .get(prefix)
            .map_or(self.start, |table| table.start);
        if after < start {
            return Err(Lost::Before { start });
        }
        Ok(self
            .tables
            .get(prefix)
            .map(|table| table.events_after(after).cloned().collect())
            .unwrap_or_default())
    }

    /// Up to where a watcher at `position` has everything.
    pub(super) fn progress(&self, prefix: &str, position: Revision) -> Revision {
        let newest = self
            .tables
            .get(prefix)
            .and_then(|table| table.ring.back())
            .map_or(Revision(0), |event| event.item.revision);
        if newest > position {
            position
        } else {
            self.revision.max(position)
        }
    }

    fn table(&mut self, prefix: &str) -> &mut Table {
        if !self.tables.contains_key(prefix) {
            let table = Table {
                items: BTreeMap::new(),
                ring: VecDeque::new(),
                start: self.start,
                newest: watch::Sender::new(Revision(0)),
            };
            self.tables.insert(prefix.into(), table);
        }
        self.tables
            .get_mut(prefix)
            .expect("it was there or is there now")
    }
}

impl Table {
    fn apply(&mut self, update: Update, ring: usize) {
        let previous = match update.deleted {
            true => self.items.remove(&update.key),
            false => self.items.get(&update.key).cloned(),
        };
        let before = previous.as_ref().map(|item| item.created);
        let item = Arc::new(Item {
            created: update.created.or(before).unwrap_or(update.revision),
            key: update.key,
            revision: update.revision,
            decoded: update.decoded,
        });
        if !update.deleted {
            self.items.insert(item.key.clone(), item.clone());
        }
        while self.ring.len() >= ring.max(1) {
            self.evict();
        }
        self.ring.push_back(Arc::new(Event {
            item,
            previous,
            deleted: update.deleted,
        }));
    }

    fn evict(&mut self) {
        if let Some(event) = self.ring.pop_front() {
            self.start = event.item.revision;
        }
    }

    fn wake(&self) {
        if let Some(event) = self.ring.back() {
            self.newest.send_replace(event.item.revision);
        }
    }

    fn items_of(&self, prefix: &str) -> impl Iterator<Item = &Arc<Item>> {
        self.items
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
            .map(|(_, item)| item)
    }

    fn events_after(&self, after: Revision) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let first = self
            .ring
            .partition_point(|event| event.item.revision <= after);
        self.ring.range(first..)
    }
}
