//! The pods that wait to be placed.
//!
//! Pure: the clock is passed in. A pod is *active* (decided next, by priority and then age), *in flight*
//! (being bound), *parked* (no node admits it; it waits for a change that may help, or for the
//! flush), or *backing off* (such a change came too soon after the last attempt).

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::pod::Pod;

/// Attempts before retries are spaced: a node that becomes ready in two steps costs no second.
const FREE_ATTEMPTS: u32 = 2;
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// How long a pod is parked at most: no change that could help it is missed for longer.
const FLUSH: Duration = Duration::from_secs(300);

/// Who comes next: the highest priority, then the oldest.
type Turn = (Reverse<i32>, u64, Arc<str>);

/// Every pod that is ours to place.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: HashMap<Arc<str>, Entry>,
    active: BTreeSet<Turn>,
    /// Backing off until, and parked until; pods in the order of time.
    waiting: BTreeSet<(Instant, Arc<str>)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    arrival: u64,
    attempts: u32,
    attempted: Option<Instant>,
    place: Place,
    /// The plugins that kept it from every node, when it was last decided.
    rejected_by: BTreeSet<&'static str>,
    /// The message of the condition as last written.
    reported: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    InFlight,
    Parked { until: Instant },
    BackingOff { until: Instant },
}

impl Queue {
    /// How many pods wait, by Kubernetes' names for where; those that back off are with the unschedulable.
    pub(crate) fn counts(&self) -> [(&'static str, usize); 2] {
        [
            ("active", self.entries.len() - self.waiting.len()),
            ("unschedulable", self.waiting.len()),
        ]
    }

    /// Takes a pod that is to be placed. One already here is tried again if it changed.
    /// `reported` is the message its condition has.
    pub(crate) fn offer(&mut self, pod: Pod, reported: Option<&str>) {
        let uid = Arc::clone(&pod.uid);
        if let Some(entry) = self.entries.get_mut(&uid) {
            if *entry.pod == pod {
                return;
            }
            let place = entry.place;
            self.take_out(&uid);
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.pod = Arc::new(pod);
            }
            match place {
                Place::InFlight => {}
                Place::Active | Place::Parked { .. } | Place::BackingOff { .. } => {
                    self.activate(&uid);
                }
            }
            return;
        }
        self.arrivals += 1;
        let entry = Entry {
            pod: Arc::new(pod),
            arrival: self.arrivals,
            attempts: 0,
            attempted: None,
            place: Place::InFlight,
            rejected_by: BTreeSet::new(),
            reported: reported.map(str::to_owned),
        };
        self.entries.insert(Arc::clone(&uid), entry);
        self.activate(&uid);
    }

    /// Removes a pod that is not (or no longer) to be placed.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.take_out(uid);
        self.entries.remove(uid);
    }

    /// Keeps only the pods of which this is true.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<_> = self
            .entries
            .keys()
            .filter(|uid| !keep(uid))
            .cloned()
            .collect();
        for uid in gone {
            self.remove(&uid);
        }
    }

    /// The pod whose turn it is, from now in flight.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        let (_, _, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight;
        entry.attempts += 1;
        entry.attempted = Some(now);
        Some(Arc::clone(&entry.pod))
    }

    /// True if a pod's turn has come.
    pub(crate) fn is_ready(&self) -> bool {
        !self.active.is_empty()
    }

    /// Puts away a pod no node admits. An attempt while there were no nodes at all does not count.
    pub(crate) fn park(
        &mut self,
        uid: &str,
        rejected_by: BTreeSet<&'static str>,
        counts: bool,
        now: Instant,
    ) {
        let until = now + FLUSH;
        let Some((key, entry)) = self.in_flight(uid) else {
            return;
        };
        if !counts {
            entry.attempts -= 1;
        }
        entry.rejected_by = rejected_by;
        entry.place = Place::Parked { until };
        self.waiting.insert((until, key));
    }

    /// Puts back a pod whose binding failed.
    pub(crate) fn retry(&mut self, uid: &str, now: Instant) {
        if let Some((key, _)) = self.in_flight(uid) {
            self.back_off(&key, now);
        }
    }

    /// Brings back the parked pods that a change may help, given what kept them from every node.
    pub(crate) fn wake(
        &mut self,
        may_help: impl Fn(&Pod, &BTreeSet<&'static str>) -> bool,
        now: Instant,
    ) {
        let parked = self.waiting.iter().filter(|(_, uid)| {
            self.entries.get(uid).is_some_and(|entry| {
                matches!(entry.place, Place::Parked { .. })
                    && may_help(&entry.pod, &entry.rejected_by)
            })
        });
        let helped: Vec<_> = parked.map(|(_, uid)| Arc::clone(uid)).collect();
        for uid in helped {
            self.take_out(&uid);
            self.back_off(&uid, now);
        }
    }

    /// Brings back the pods whose time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some((until, uid)) = self.waiting.first().cloned()
            && until <= now
        {
            self.waiting.pop_first();
            self.activate(&uid);
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.waiting.first().map(|(until, _)| *until)
    }

    /// The message of the pod's condition as last written.
    pub(crate) fn reported(&self, uid: &str) -> Option<&str> {
        self.entries.get(uid)?.reported.as_deref()
    }

    /// Notes the message of the pod's condition.
    pub(crate) fn set_reported(&mut self, uid: &str, message: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.reported = Some(message.to_owned());
        }
    }

    fn in_flight(&mut self, uid: &str) -> Option<(Arc<str>, &mut Entry)> {
        let key = Arc::clone(self.entries.get_key_value(uid)?.0);
        let entry = self.entries.get_mut(uid)?;
        (entry.place == Place::InFlight).then_some((key, entry))
    }

    fn back_off(&mut self, uid: &Arc<str>, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else {
            return;
        };
        let until = entry.attempted.unwrap_or(now) + backoff(entry.attempts);
        if until <= now {
            self.activate(uid);
        } else {
            entry.place = Place::BackingOff { until };
            self.waiting.insert((until, Arc::clone(uid)));
        }
    }

    fn activate(&mut self, uid: &Arc<str>) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Active;
            self.active.insert(entry.turn(uid));
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
            Place::Parked { until } | Place::BackingOff { until } => {
                self.waiting.remove(&(until, Arc::clone(uid)));
            }
            Place::InFlight => {}
        }
    }
}

impl Entry {
    fn turn(&self, uid: &Arc<str>) -> Turn {
        (Reverse(self.pod.priority), self.arrival, Arc::clone(uid))
    }
}

/// How long after its last attempt a pod is tried again at the earliest.
fn backoff(attempts: u32) -> Duration {
    match attempts.checked_sub(FREE_ATTEMPTS + 1) {
        None => Duration::ZERO,
        Some(doublings) => LONGEST_BACKOFF.min(FIRST_BACKOFF * 2_u32.pow(doublings.min(8))),
    }
}
