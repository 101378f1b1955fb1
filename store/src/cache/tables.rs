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

use super::{Decoded, Event, Item, Portion, Scope, lanes::Lanes};
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
    /// The revision of the newest event, for watchers of the whole resource.
    newest: watch::Sender<Revision>,
    /// For watchers of a part of it.
    lanes: Lanes,
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
                    .items_of(&resource.prefix(namespace), None)
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
        self.portion(
            &resource.prefix(namespace),
            Some(at),
            None,
            usize::MAX,
            |_| true,
        )
        .map(|portion| portion.items)
    }

    /// The first objects after a key, in key order, that match, as they are or as they were; `None` if
    /// the events do not reach back.
    pub(super) fn portion(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&str>,
        limit: usize,
        matches: impl Fn(&Item) -> bool,
    ) -> Option<Portion> {
        let revision = at.unwrap_or(self.revision);
        let Some(table) = self.tables.get(Key::resource_prefix_of(prefix)) else {
            return (revision >= self.start).then(|| Portion::empty(revision));
        };
        if revision < table.start {
            return None;
        }
        let follows = |key: &str| after.is_none_or(|after| key > after);
        let mut undone: BTreeMap<&str, Option<&Arc<Item>>> = BTreeMap::new();
        for event in table.events_after(revision).rev() {
            let key = event.item.key.as_str();
            if key.starts_with(prefix) && follows(key) {
                undone.insert(key, event.previous.as_ref());
            }
        }
        let mut newer = table
            .items_of(prefix, after)
            .filter(|item| !undone.contains_key(item.key.as_str()))
            .peekable();
        let mut older = undone.values().copied().flatten().peekable();
        let merged = std::iter::from_fn(|| match (newer.peek(), older.peek()) {
            (Some(new), Some(old)) if old.key < new.key => older.next(),
            (Some(_), _) => newer.next(),
            (None, _) => older.next(),
        });
        Some(Portion::cut(revision, merged, limit, matches))
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
            table.lanes = old.lanes;
            table.lanes.reload(table.start, &table.ring);
        }
        *self = loaded;
        for table in self.tables.values() {
            table.newest.send_replace(self.revision);
            table.lanes.wake(self.revision);
        }
    }

    /// A receiver that is told of the newest event of a scope, of which the events after a position are
    /// there, if none of them is gone.
    pub(super) fn subscribe(
        &mut self,
        prefix: &str,
        scope: &Scope,
        after: Revision,
    ) -> Result<watch::Receiver<Revision>, Lost> {
        let table = self.table(prefix);
        if after < table.start {
            return Err(Lost::Before { start: table.start });
        }
        let first = table.first_after(after);
        let lane = table
            .lanes
            .subscribe(scope, after, table.ring.range(first..));
        Ok(lane.unwrap_or_else(|| table.newest.subscribe()))
    }

    /// Forgets a watcher that is about to go.
    pub(super) fn leave(&mut self, prefix: &str, scope: &Scope) {
        if let Some(table) = self.tables.get_mut(prefix) {
            table.lanes.leave(scope);
        }
    }

    /// The events of a scope after a position, if none of them is gone.
    pub(super) fn events(
        &self,
        prefix: &str,
        scope: &Scope,
        after: Revision,
    ) -> Result<Vec<Arc<Event>>, Lost> {
        let Some(table) = self.tables.get(prefix) else {
            return match after < self.start {
                true => Err(Lost::Before { start: self.start }),
                false => Ok(Vec::new()),
            };
        };
        let lane = table.lanes.get(scope);
        let start = lane.map_or(table.start, |lane| lane.start.max(table.start));
        if after < start {
            return Err(Lost::Before { start });
        }
        let ring = lane.map_or(&table.ring, |lane| &lane.ring);
        let first = ring.partition_point(|event| event.item.revision <= after);
        Ok(ring.range(first..).cloned().collect())
    }

    /// Up to where a watcher at `position` has everything.
    pub(super) fn progress(&self, prefix: &str, scope: &Scope, position: Revision) -> Revision {
        let newest = self
            .tables
            .get(prefix)
            .and_then(|table| {
                let lane = table.lanes.get(scope);
                lane.map_or(&table.ring, |lane| &lane.ring).back()
            })
            .map_or(Revision(0), |event| event.item.revision);
        if newest > position {
            position
        } else {
            self.revision.max(position)
        }
    }

    /// How many objects each resource has.
    pub(super) fn counts(&self) -> Vec<(ResourceKey, usize)> {
        let counts = self.tables.values().filter_map(|table| {
            let (key, _) = table.items.first_key_value()?;
            Some((key.resource_key(), table.items.len()))
        });
        counts.collect()
    }

    fn table(&mut self, prefix: &str) -> &mut Table {
        if !self.tables.contains_key(prefix) {
            let table = Table {
                items: BTreeMap::new(),
                ring: VecDeque::new(),
                start: self.start,
                newest: watch::Sender::new(Revision(0)),
                lanes: Lanes::default(),
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
        let event = Arc::new(Event {
            item,
            previous,
            deleted: update.deleted,
        });
        self.lanes.push(&event);
        self.ring.push_back(event);
    }

    fn evict(&mut self) {
        if let Some(event) = self.ring.pop_front() {
            self.start = event.item.revision;
            self.lanes.evict(&event);
        }
    }

    fn wake(&self) {
        if let Some(event) = self.ring.back() {
            self.newest.send_replace(event.item.revision);
        }
    }

    /// The objects whose keys have a prefix and come after a key.
    fn items_of(&self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = &Arc<Item>> {
        let from = match after {
            Some(after) if after > prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.items
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
            .map(|(_, item)| item)
    }

    /// Where in the ring the events after a revision begin.
    fn first_after(&self, after: Revision) -> usize {
        self.ring
            .partition_point(|event| event.item.revision <= after)
    }

    fn events_after(&self, after: Revision) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.ring.range(self.first_after(after)..)
    }
}
