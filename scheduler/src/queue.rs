//! The pods that wait to be placed.
//!
//! Pure: the clock is passed in. A pod is *active* (decided next, by priority and then by how long it has been in the
//! queue), *in flight* (being bound), *parked* (no node admits it; it waits for a change that may help, or for the
//! flush), *backing off* (such a change came too soon after the last attempt), or *gated* (a plugin does not let it in).

mod rejections;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::framework::Change;
use crate::pod::Pod;
use crate::profile::Plugins;
use crate::told::{Amendment, Status, Told};
use rejections::Rejections;

/// Attempts before retries are spaced: a node that becomes ready in two steps costs no second.
const FREE_ATTEMPTS: u32 = 2;
/// How long a pod is parked at most: no change that could help it is missed for longer.
const FLUSH: Duration = Duration::from_secs(300);

/// Who comes next: the highest priority, then who came first.
type Turn = (Reverse<i32>, u64, Arc<str>);

/// Every pod that is ours to place.
pub(crate) struct Queue {
    entries: HashMap<Arc<str>, Entry>,
    active: BTreeSet<Turn>,
    /// Parked until; pods in the order of time.
    parked: BTreeSet<(Instant, Arc<str>)>,
    /// The same pods by what keeps them there.
    rejected: Rejections,
    /// Backing off until; pods in the order of time.
    backing_off: BTreeSet<(Instant, Arc<str>)>,
    gated: usize,
    arrivals: u64,
    first_backoff: Duration,
    longest_backoff: Duration,
}

struct Entry {
    pod: Arc<Pod>,
    /// When it came, or was parked last.
    arrival: u64,
    /// When it came first.
    since: Instant,
    attempts: u32,
    attempted: Option<Instant>,
    place: Place,
    /// The plugins that kept it from every node, when it was last decided.
    rejected_by: Plugins,
    /// What its status says.
    status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    InFlight,
    Parked { until: Instant },
    BackingOff { until: Instant },
    Gated,
}

/// A pod whose turn it is.
pub(crate) struct Attempt {
    pub(crate) pod: Arc<Pod>,
    /// How often it was tried, this time included.
    pub(crate) number: u32,
    /// When it came.
    pub(crate) since: Instant,
}

impl Queue {
    /// A pod that could not be placed waits so long at first and at most.
    pub(crate) fn new(first_backoff: Duration, longest_backoff: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            active: BTreeSet::new(),
            parked: BTreeSet::new(),
            rejected: Rejections::default(),
            backing_off: BTreeSet::new(),
            gated: 0,
            arrivals: 0,
            first_backoff,
            longest_backoff,
        }
    }

    /// How many pods wait, by Kubernetes' names for where.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 4] {
        [
            ("active", self.active.len()),
            ("backoff", self.backing_off.len()),
            ("unschedulable", self.parked.len()),
            ("gated", self.gated),
        ]
    }

    /// Takes a pod that is to be placed, unless a plugin keeps it out. One already here is tried again if it changed.
    /// `reported` is the message its condition has.
    pub(crate) fn offer(&mut self, pod: Pod, let_in: bool, reported: Option<&str>, now: Instant) {
        let uid = Arc::clone(&pod.uid);
        let seen = Told {
            message: reported.map(str::to_owned),
            nominated: pod.nominated.clone(),
        };
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.status.see(seen);
            if entry.pod.asks_like(&pod) {
                entry.pod = Arc::new(pod);
                return;
            }
            let place = entry.place;
            self.take_out(&uid);
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.pod = Arc::new(pod);
            }
            match (place, let_in) {
                (Place::InFlight, _) => {}
                (_, false) => self.gate(&uid),
                (_, true) => self.activate(&uid),
            }
            return;
        }
        self.arrivals += 1;
        let entry = Entry {
            pod: Arc::new(pod),
            arrival: self.arrivals,
            since: now,
            attempts: 0,
            attempted: None,
            place: Place::InFlight,
            rejected_by: Plugins::new(),
            status: Status::new(seen),
        };
        self.entries.insert(Arc::clone(&uid), entry);
        if let_in {
            self.activate(&uid);
        } else {
            self.gate(&uid);
        }
    }

    /// Removes a pod that is not (or no longer) to be placed.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.take_out(uid);
        self.entries.remove(uid);
    }

    /// The pods that are here, by uid.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    /// A pod that is here.
    pub(crate) fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// The pod whose turn it is, from now in flight.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Attempt> {
        let (_, _, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight;
        entry.attempts += 1;
        entry.attempted = Some(now);
        Some(Attempt {
            pod: Arc::clone(&entry.pod),
            number: entry.attempts,
            since: entry.since,
        })
    }

    /// True if a pod's turn has come.
    pub(crate) fn is_ready(&self) -> bool {
        !self.active.is_empty()
    }

    /// Puts away a pod no node admits. An attempt while there were no nodes at all does not count.
    pub(crate) fn park(&mut self, uid: &str, rejected_by: Plugins, counts: bool, now: Instant) {
        let until = now + FLUSH;
        self.arrivals += 1;
        let arrival = self.arrivals;
        let Some((key, entry)) = self.in_flight(uid) else {
            return;
        };
        if !counts {
            entry.attempts -= 1;
        }
        entry.arrival = arrival;
        entry.rejected_by.clone_from(&rejected_by);
        entry.place = Place::Parked { until };
        self.rejected.insert(&key, &rejected_by);
        self.parked.insert((until, key));
    }

    /// Puts back a pod whose binding failed.
    pub(crate) fn retry(&mut self, uid: &str, now: Instant) {
        if let Some((key, _)) = self.in_flight(uid) {
            self.back_off(&key, now);
        }
    }

    /// Brings back the parked pods that a change may help, as the plugins that kept them from every node see it.
    pub(crate) fn wake(&mut self, change: &Change<'_>, now: Instant) {
        // That the room goes which was made for a pod does not help that pod.
        let own = match change {
            Change::PodRemoved { pod, .. } => Some(&pod.uid),
            _ => None,
        };
        let mut helped = BTreeSet::new();
        for (name, pods) in self.rejected.heard(change.kind()) {
            for uid in pods.iter().filter(|uid| Some(*uid) != own) {
                let Some(entry) = self.entries.get(uid) else {
                    continue;
                };
                let mut by = entry.rejected_by.iter();
                let plugin = by.find(|plugin| plugin.name() == name);
                if plugin.is_some_and(|plugin| plugin.may_help(change, &entry.pod)) {
                    helped.insert(Arc::clone(uid));
                }
            }
        }
        // A pod that no plugin objected to had no node at all.
        if change.node().is_some() {
            helped.extend(self.rejected.by_none().cloned());
        }
        for uid in helped {
            self.take_out(&uid);
            self.back_off(&uid, now);
        }
    }

    /// Brings back a pod at once, wherever it waits, unless it is gated.
    pub(crate) fn activate_now(&mut self, uid: &str) {
        let Some((key, entry)) = self.entries.get_key_value(uid) else {
            return;
        };
        if let Place::Parked { .. } | Place::BackingOff { .. } = entry.place {
            let key = Arc::clone(key);
            self.take_out(&key);
            self.activate(&key);
        }
    }

    /// Brings back the pods whose time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some((until, uid)) = self.backing_off.first().cloned()
            && until <= now
        {
            self.backing_off.pop_first();
            self.activate(&uid);
        }
        while let Some((until, uid)) = self.parked.first().cloned()
            && until <= now
        {
            self.take_out(&uid);
            self.activate(&uid);
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let firsts = [self.parked.first(), self.backing_off.first()];
        firsts.into_iter().flatten().map(|(until, _)| *until).min()
    }

    /// What must be written so that the pod's status says this. `None` if it does, or is about to.
    pub(crate) fn amend(&mut self, uid: &str, wanted: Told) -> Option<Amendment> {
        self.entries.get_mut(uid)?.status.amend(wanted)
    }

    fn in_flight(&mut self, uid: &str) -> Option<(Arc<str>, &mut Entry)> {
        let key = Arc::clone(self.entries.get_key_value(uid)?.0);
        let entry = self.entries.get_mut(uid)?;
        (entry.place == Place::InFlight).then_some((key, entry))
    }

    fn back_off(&mut self, uid: &Arc<str>, now: Instant) {
        let Some(entry) = self.entries.get(uid) else {
            return;
        };
        let until = entry.attempted.unwrap_or(now) + self.backoff(entry.attempts);
        if until <= now {
            self.activate(uid);
        } else {
            self.put(uid, Place::BackingOff { until });
            self.backing_off.insert((until, Arc::clone(uid)));
        }
    }

    /// How long after its last attempt a pod is tried again at the earliest.
    fn backoff(&self, attempts: u32) -> Duration {
        match attempts.checked_sub(FREE_ATTEMPTS + 1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let grown = self.first_backoff.checked_mul(1 << doublings.min(30));
                grown.map_or(self.longest_backoff, |grown| {
                    grown.min(self.longest_backoff)
                })
            }
        }
    }

    fn activate(&mut self, uid: &Arc<str>) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Active;
            self.active.insert(entry.turn(uid));
        }
    }

    fn gate(&mut self, uid: &Arc<str>) {
        self.put(uid, Place::Gated);
        self.gated += 1;
    }

    fn put(&mut self, uid: &Arc<str>, place: Place) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = place;
        }
    }

    /// Takes a pod out of the order it is in; its place is for the caller to set.
    fn take_out(&mut self, uid: &str) {
        let Some((uid, entry)) = self.entries.get_key_value(uid) else {
            return;
        };
        match entry.place {
            Place::Active => {
                self.active.remove(&entry.turn(uid));
            }
            Place::Parked { until } => {
                self.parked.remove(&(until, Arc::clone(uid)));
                self.rejected.remove(uid, &entry.rejected_by);
            }
            Place::BackingOff { until } => {
                self.backing_off.remove(&(until, Arc::clone(uid)));
            }
            Place::Gated => self.gated -= 1,
            Place::InFlight => {}
        }
    }
}

impl Entry {
    fn turn(&self, uid: &Arc<str>) -> Turn {
        (Reverse(self.pod.priority), self.arrival, Arc::clone(uid))
    }
}

#[cfg(test)]
mod tests;
