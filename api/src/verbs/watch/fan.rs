//! Watches that are told the same share the bytes: whoever comes first makes the frames of a batch of
//! events, the others send them too.
//!
//! A [`Fan`] lives as long as one of its watches. Its batches follow on each other without a gap, and are
//! few: a watch that is further behind, or between two batches, makes frames of its own. What a watch is
//! told never depends on the others. Pure memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use store::Revision;
use tokio::time::Instant;

use super::bare;
use crate::{
    server::state::Resource,
    verbs::{
        accept::{MetaVersion, View},
        call::Call,
    },
};

/// Bytes of the batches that a fan keeps, and of the objects of one batch.
pub(super) const KEPT: usize = 256 * 1024;

/// What makes watches tell the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Subject {
    /// Where the resource is in memory: the fan holds it, so nothing else comes to be there.
    resource: usize,
    namespace: String,
    name: String,
    labels: String,
    fields: String,
    metadata: Option<MetaVersion>,
    bare: bool,
}

/// Every fan of an apiserver.
#[derive(Default)]
pub(crate) struct Fans(Mutex<HashMap<Subject, Weak<Fan>>>);

impl Fans {
    /// The fan of a watch; `None` if what it tells depends on what it told before.
    pub(super) fn find(&self, call: &Call) -> Option<Arc<Fan>> {
        let metadata = match call.view {
            View::Object => None,
            View::Metadata(version) => Some(version),
            View::Table(_) => return None,
        };
        let text = |name| call.query.text(name).unwrap_or_default().to_owned();
        let subject = Subject {
            resource: Arc::as_ptr(&call.resource).addr(),
            namespace: call.namespace.clone(),
            name: call.name.clone(),
            labels: text("labelSelector"),
            fields: text("fieldSelector"),
            metadata,
            bare: bare::is_wanted(&call.headers),
        };
        let mut fans = lock(&self.0);
        if let Some(fan) = fans.get(&subject).and_then(Weak::upgrade) {
            return Some(fan);
        }
        // As often as the table is about to grow, so that fans without watches do not make it.
        if fans.len() == fans.capacity() {
            fans.retain(|_, fan| fan.strong_count() > 0);
        }
        let fan = Arc::new(Fan {
            _resource: call.resource.clone(),
            shared: Mutex::default(),
        });
        fans.insert(subject, Arc::downgrade(&fan));
        Some(fan)
    }
}

/// What watches that tell the same share.
pub(super) struct Fan {
    _resource: Arc<Resource>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// In order; each begins where the one before it ends.
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Until when those who were told something rest: all wake together, and share again.
    rests: Option<Instant>,
}

/// The frames of some events.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// A watch that was told everything up to here, or up to anything before `first`, is told this next.
    pub(super) after: Revision,
    pub(super) first: Revision,
    pub(super) last: Revision,
    /// How many events are told.
    pub(super) told: u64,
    pub(super) frames: Arc<[Bytes]>,
}

impl Batch {
    fn len(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    fn follows(&self, position: Revision) -> bool {
        self.after <= position && position < self.first
    }
}

impl Fan {
    /// What was made for others and comes next for a watch at a position.
    pub(super) fn after(&self, position: Revision) -> Vec<Batch> {
        let shared = lock(&self.shared);
        let next = shared
            .batches
            .partition_point(|batch| batch.last <= position);
        match shared.batches.get(next) {
            Some(batch) if batch.follows(position) => {
                shared.batches.range(next..).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Where the batches end.
    pub(super) fn end(&self) -> Option<Revision> {
        lock(&self.shared).batches.back().map(|batch| batch.last)
    }

    /// True if there is somebody to share with.
    pub(super) fn is_shared(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Keeps a batch for the others, if it follows on the last.
    pub(super) fn add(&self, batch: Batch) {
        let mut shared = lock(&self.shared);
        let end = shared.batches.back().map(|batch| batch.last);
        if end.is_some_and(|end| end != batch.after) {
            return;
        }
        shared.bytes += batch.len();
        shared.batches.push_back(batch);
        while shared.bytes > KEPT && shared.batches.len() > 1 {
            let oldest = shared.batches.pop_front();
            shared.bytes -= oldest.map_or(0, |batch| batch.len());
        }
    }

    /// Until when a watch that was just told something rests: with the others, if they rest, else as long
    /// as `pause` says.
    pub(super) fn rest(&self, pause: impl FnOnce() -> Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut shared = lock(&self.shared);
        if shared.rests.is_none_or(|until| until <= now) {
            let pause = pause();
            shared.rests = (!pause.is_zero()).then(|| now + pause);
        }
        shared.rests
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Registry;

    fn fan() -> Fan {
        let registry = Registry::builtin();
        let kind = registry.all().first().expect("a kind").clone();
        Fan {
            _resource: Arc::new(Resource::new(kind)),
            shared: Mutex::default(),
        }
    }

    fn batch(after: u64, first: u64, last: u64, bytes: usize) -> Batch {
        Batch {
            after: Revision(after),
            first: Revision(first),
            last: Revision(last),
            told: 1,
            frames: Arc::new([Bytes::from(vec![b'x'; bytes])]),
        }
    }

    #[track_caller]
    fn check(fan: &Fan, position: u64, expected: &[u64]) {
        let found = fan.after(Revision(position));
        let found: Vec<u64> = found.iter().map(|batch| batch.last.0).collect();
        assert_eq!(found, expected, "after {position}");
    }

    #[test]
    fn a_watch_is_told_what_follows_on_its_position_and_nothing_else() {
        let fan = fan();
        fan.add(batch(3, 6, 8, 1));
        fan.add(batch(8, 9, 12, 1));
        check(&fan, 2, &[]);
        check(&fan, 3, &[8, 12]);
        check(&fan, 5, &[8, 12]);
        check(&fan, 6, &[]);
        check(&fan, 8, &[12]);
        check(&fan, 10, &[]);
        check(&fan, 12, &[]);
    }

    #[test]
    fn a_batch_that_leaves_a_gap_or_overlaps_is_not_kept() {
        let fan = fan();
        fan.add(batch(3, 6, 8, 1));
        fan.add(batch(9, 10, 11, 1));
        fan.add(batch(6, 7, 9, 1));
        check(&fan, 3, &[8]);
        assert_eq!(fan.end(), Some(Revision(8)));
    }

    #[test]
    fn old_batches_make_room_for_new_ones() {
        let fan = fan();
        fan.add(batch(0, 1, 1, KEPT));
        fan.add(batch(1, 2, 2, KEPT));
        check(&fan, 0, &[]);
        check(&fan, 1, &[2]);
    }
}
