//! Events by what a watcher can be about, so that a watcher of one object, one namespace or one node's
//! pods costs nothing when others change.
//!
//! Pure memory. A lane is there as long as somebody watches it; it holds those of the table's recent
//! events that are its own, and never one that the table itself has forgotten.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::watch;

use super::{Event, Item};
use crate::{Key, Revision};

/// Which objects of a resource a watcher is about. It gets every event of theirs, and no other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    All,
    /// Those of one namespace.
    Namespace(String),
    /// One object.
    Object(Key),
    /// Those whose field has a value, or had it before the change; a field that an object does not
    /// have counts as empty.
    Field(String, String),
}

impl Scope {
    /// True if an event is of this scope.
    fn holds(&self, event: &Event) -> bool {
        let key = &event.item.key;
        match self {
            Self::All => true,
            Self::Namespace(namespace) => key.namespace() == namespace,
            Self::Object(object) => key == object,
            Self::Field(field, value) => states(event).any(|item| field_of(item, field) == value),
        }
    }
}

/// The object after an event, and before it.
fn states(event: &Event) -> impl Iterator<Item = &Arc<Item>> {
    std::iter::once(&event.item).chain(&event.previous)
}

fn field_of<'a>(item: &'a Item, field: &str) -> &'a str {
    item.decoded.fields.get(field).map_or("", String::as_str)
}

/// The events of one scope.
pub(super) struct Lane {
    /// Every event of the scope after this revision is in the ring, unless the table forgot it.
    pub(super) start: Revision,
    pub(super) ring: VecDeque<Arc<Event>>,
    newest: watch::Sender<Revision>,
}

impl Lane {
    fn push(&mut self, event: &Arc<Event>) {
        self.ring.push_back(event.clone());
        self.newest.send_replace(event.item.revision);
    }

    fn evict(&mut self, until: Revision) {
        while self
            .ring
            .front()
            .is_some_and(|event| event.item.revision <= until)
        {
            self.ring.pop_front();
        }
    }

    fn refill<'e>(
        &mut self,
        scope: &Scope,
        start: Revision,
        events: impl Iterator<Item = &'e Arc<Event>>,
    ) {
        self.start = start;
        self.ring = events.filter(|event| scope.holds(event)).cloned().collect();
    }
}

/// Every lane of a table.
#[derive(Default)]
pub(super) struct Lanes {
    namespaces: HashMap<String, Lane>,
    objects: HashMap<Key, Lane>,
    /// By field, then by value.
    fields: HashMap<String, HashMap<String, Lane>>,
}

impl Lanes {
    /// The lane of a scope, if somebody watches it; never one of [`Scope::All`].
    pub(super) fn get(&self, scope: &Scope) -> Option<&Lane> {
        match scope {
            Scope::All => None,
            Scope::Namespace(namespace) => self.namespaces.get(namespace),
            Scope::Object(key) => self.objects.get(key),
            Scope::Field(field, value) => self.fields.get(field)?.get(value),
        }
    }

    /// A receiver that is told of a scope's newest event. The lane reaches back to `start` at least:
    /// `events` are all that came after it. `None` for [`Scope::All`], which has no lane.
    pub(super) fn subscribe<'e>(
        &mut self,
        scope: &Scope,
        start: Revision,
        events: impl Iterator<Item = &'e Arc<Event>>,
    ) -> Option<watch::Receiver<Revision>> {
        let empty = || Lane {
            start: Revision(u64::MAX),
            ring: VecDeque::new(),
            newest: watch::Sender::new(Revision(0)),
        };
        let lane = match scope.clone() {
            Scope::All => return None,
            Scope::Namespace(namespace) => self.namespaces.entry(namespace).or_insert_with(empty),
            Scope::Object(key) => self.objects.entry(key).or_insert_with(empty),
            Scope::Field(field, value) => self
                .fields
                .entry(field)
                .or_default()
                .entry(value)
                .or_insert_with(empty),
        };
        if lane.start > start {
            lane.refill(scope, start, events);
        }
        Some(lane.newest.subscribe())
    }

    /// Drops the lane of a watcher that is about to go, if nobody else watches it.
    pub(super) fn leave(&mut self, scope: &Scope) {
        let last = |lane: &Lane| lane.newest.receiver_count() <= 1;
        if !self.get(scope).is_some_and(last) {
            return;
        }
        match scope {
            Scope::All => {}
            Scope::Namespace(namespace) => {
                self.namespaces.remove(namespace);
            }
            Scope::Object(key) => {
                self.objects.remove(key);
            }
            Scope::Field(field, value) => {
                if let Some(lanes) = self.fields.get_mut(field) {
                    lanes.remove(value);
                    if lanes.is_empty() {
                        self.fields.remove(field);
                    }
                }
            }
        }
    }

    /// Takes in a new event and tells those whom it concerns.
    pub(super) fn push(&mut self, event: &Arc<Event>) {
        self.each(event, |lane| lane.push(event));
    }

    /// Forgets an event, the oldest of the table.
    pub(super) fn evict(&mut self, event: &Event) {
        self.each(event, |lane| lane.evict(event.item.revision));
    }

    /// Begins anew with other events, for the same watchers.
    pub(super) fn reload(&mut self, start: Revision, events: &VecDeque<Arc<Event>>) {
        let namespaces = self
            .namespaces
            .iter_mut()
            .map(|(namespace, lane)| (Scope::Namespace(namespace.clone()), lane));
        let objects = self
            .objects
            .iter_mut()
            .map(|(key, lane)| (Scope::Object(key.clone()), lane));
        let fields = self.fields.iter_mut().flat_map(|(field, lanes)| {
            lanes
                .iter_mut()
                .map(|(value, lane)| (Scope::Field(field.clone(), value.clone()), lane))
        });
        for (scope, lane) in namespaces.chain(objects).chain(fields) {
            lane.refill(&scope, start, events.iter());
        }
    }

    /// Tells every watcher that there may be something.
    pub(super) fn wake(&self, revision: Revision) {
        let fields = self.fields.values().flat_map(HashMap::values);
        for lane in self
            .namespaces
            .values()
            .chain(self.objects.values())
            .chain(fields)
        {
            lane.newest.send_replace(revision);
        }
    }

    /// Every lane that an event belongs to, each once.
    fn each(&mut self, event: &Event, mut visit: impl FnMut(&mut Lane)) {
        let key = &event.item.key;
        if !self.namespaces.is_empty()
            && let Some(lane) = self.namespaces.get_mut(key.namespace())
        {
            visit(lane);
        }
        if let Some(lane) = self.objects.get_mut(key) {
            visit(lane);
        }
        for (field, lanes) in &mut self.fields {
            let after = field_of(&event.item, field);
            let before = event
                .previous
                .as_ref()
                .map(|item| field_of(item, field))
                .filter(|before| *before != after);
            for value in std::iter::once(after).chain(before) {
                if let Some(lane) = lanes.get_mut(value) {
                    visit(lane);
                }
            }
        }
    }
}
