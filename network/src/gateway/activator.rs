//! The pods of a container revision, as its requests see them: who takes the next one, and who waits.
//!
//! A request gets the ready pod that serves the fewest, as far as its concurrency allows; otherwise it waits in turn, for
//! so long as its deadline allows. While there is no pod and should be none, the revision is asked for its first. The bound of a
//! pod's concurrency is this gateway's: where several nodes have a gateway, each keeps it for itself.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtimes::RevisionRef;
use tokio::{
    sync::oneshot,
    time::{Instant, interval_at, timeout_at},
};

/// Requests that may wait for a revision's pods; one more is refused.
const WAITING: usize = 1000;

/// A revision without pods is asked for one again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What a revision was asked for lately.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct DemandSample {
    /// Requests at once, those that wait among them, on average over the last second.
    pub concurrency: f64,
    /// New ones in the last second.
    pub requests_per_second: f64,
    /// Those that wait for a pod now.
    pub waiting: u64,
}

/// Has the first pod made for revisions that have none.
pub(super) trait Wake: Send + Sync {
    /// Asks, and does not wait. Asked again while it is being done, it does nothing.
    fn wake(&self, revision: &RevisionRef);
}

/// Why a request gets no pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoPod {
    /// As many as may wait do.
    Full,
    /// None was free or ready in time.
    Late,
}

/// A revision's pods and the requests for them.
pub(crate) struct Capacity {
    revision: RevisionRef,
    state: Mutex<State>,
}

struct State {
    pods: Vec<Slot>,
    /// Requests at once in one pod; 0 is no bound.
    concurrency: u32,
    /// Whether there should be no pod: only then one is asked for.
    at_zero: bool,
    /// When one was asked for last, by whichever request.
    asked: Option<Instant>,
    waiting: VecDeque<oneshot::Sender<Permit>>,
    meter: Meter,
}

struct Slot {
    address: SocketAddr,
    active: u32,
    /// Still offered: others only end what they serve.
    ready: bool,
}

/// Counts over time.
struct Meter {
    active: u32,
    since: Instant,
    /// Request-seconds up to `since`.
    area: f64,
    started: u64,
    last: Option<(Instant, f64, u64)>,
    sample: DemandSample,
}

/// One request's place in a pod.
pub(super) struct Permit {
    capacity: Option<Arc<Capacity>>,
    pub(super) address: SocketAddr,
}

/// Counts a request from its arrival to its end.
pub(super) struct Counted(Arc<Capacity>);

impl Capacity {
    pub(crate) fn new(revision: RevisionRef) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            revision,
            state: Mutex::new(State {
                pods: Vec::new(),
                concurrency: 0,
                at_zero: true,
                asked: None,
                waiting: VecDeque::new(),
                meter: Meter {
                    active: 0,
                    since: now,
                    area: 0.0,
                    started: 0,
                    last: None,
                    sample: DemandSample::default(),
                },
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how many requests one pod serves at once; 0 is no bound.
    pub(crate) fn bound(self: &Arc<Self>, concurrency: u32) {
        let mut state = self.state();
        state.concurrency = concurrency;
        self.serve_waiting(state);
    }

    /// Sets whether there should be no pod.
    pub(crate) fn scaled(&self, at_zero: bool) {
        let mut state = self.state();
        state.at_zero = at_zero;
        if !at_zero {
            state.asked = None;
        }
    }

    /// Sets the ready pods.
    pub(crate) fn offer(self: &Arc<Self>, addresses: Vec<SocketAddr>) {
        let mut state = self.state();
        for slot in &mut state.pods {
            slot.ready = addresses.contains(&slot.address);
        }
        state.pods.retain(|slot| slot.ready || slot.active > 0);
        for address in addresses {
            if !state.pods.iter().any(|slot| slot.address == address) {
                state.pods.push(Slot {
                    address,
                    active: 0,
                    ready: true,
                });
            }
        }
        self.serve_waiting(state);
    }

    /// Counts a request, also while it waits.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        let mut state = self.state();
        state.meter.change(1);
        state.meter.started += 1;
        drop(state);
        Counted(self.clone())
    }

    /// A place in a pod, other than those `tried` where there is another.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        deadline: Instant,
        tried: &[SocketAddr],
        wake: &dyn Wake,
    ) -> Result<Permit, NoPod> {
        let mut place = {
            let mut state = self.state();
            if state.waiting.is_empty()
                && let Some(address) = state.take(tried).or_else(|| state.take(&[]))
            {
                return Ok(self.permit(address));
            }
            // Those that gave up still stand in line.
            if state.waiting.len() >= WAITING {
                state.waiting.retain(|waiter| !waiter.is_closed());
            }
            if state.waiting.len() >= WAITING {
                return Err(NoPod::Full);
            }
            let (waiter, place) = oneshot::channel();
            state.waiting.push_back(waiter);
            place
        };
        let mut again = interval_at(Instant::now(), ASK_AGAIN);
        let granted = async {
            loop {
                tokio::select! {
                    granted = &mut place => return granted.ok(),
                    _ = again.tick() => {
                        let wanted = self.state().wants_first();
                        if wanted {
                            wake.wake(&self.revision);
                        }
                    }
                }
            }
        };
        match timeout_at(deadline, granted).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) | Err(_) => Err(NoPod::Late),
        }
    }

    fn permit(self: &Arc<Self>, address: SocketAddr) -> Permit {
        Permit {
            capacity: Some(self.clone()),
            address,
        }
    }

    fn release(self: &Arc<Self>, address: SocketAddr) {
        let mut state = self.state();
        if let Some(slot) = state.pods.iter_mut().find(|slot| slot.address == address) {
            slot.active = slot.active.saturating_sub(1);
        }
        state.pods.retain(|slot| slot.ready || slot.active > 0);
        self.serve_waiting(state);
    }

    /// Gives places to those that wait, the first first.
    fn serve_waiting(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        while !state.waiting.is_empty() {
            let Some(address) = state.take(&[]) else {
                return;
            };
            let mut permit = self.permit(address);
            loop {
                let Some(waiter) = state.waiting.pop_front() else {
                    // Nobody wants it any more.
                    state.give_back(address);
                    permit.capacity = None;
                    return;
                };
                match waiter.send(permit) {
                    Ok(()) => break,
                    Err(refused) => permit = refused,
                }
            }
        }
    }

    /// Works the last second out; called about once a second.
    pub(super) fn sample(&self, now: Instant) {
        let mut state = self.state();
        state.waiting.retain(|waiter| !waiter.is_closed());
        let waiting = state.waiting.len() as u64;
        state.meter.sample(now, waiting);
    }

    /// What it was asked for lately.
    pub(super) fn demand(&self) -> (RevisionRef, DemandSample) {
        (self.revision.clone(), self.state().meter.sample)
    }
}

impl State {
    /// Whether the first pod is to be asked for now: once for all that wait.
    fn wants_first(&mut self) -> bool {
        let now = Instant::now();
        let lately = |asked| now.saturating_duration_since(asked) < ASK_AGAIN;
        if !self.at_zero
            || self.asked.is_some_and(lately)
            || self.pods.iter().any(|slot| slot.ready)
        {
            return false;
        }
        self.asked = Some(now);
        true
    }

    /// A place in the ready pod that serves the fewest.
    fn take(&mut self, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let bound = self.concurrency;
        let free = self.pods.iter_mut().filter(|slot| {
            slot.ready && (bound == 0 || slot.active < bound) && !tried.contains(&slot.address)
        });
        let slot = free.min_by_key(|slot| slot.active)?;
        slot.active += 1;
        Some(slot.address)
    }

    fn give_back(&mut self, address: SocketAddr) {
        if let Some(slot) = self.pods.iter_mut().find(|slot| slot.address == address) {
            slot.active = slot.active.saturating_sub(1);
        }
    }
}

impl Meter {
    fn change(&mut self, by: i32) {
        let now = Instant::now();
        self.area += f64::from(self.active) * (now - self.since).as_secs_f64();
        self.since = now;
        self.active = self.active.saturating_add_signed(by);
    }

    fn sample(&mut self, now: Instant, waiting: u64) {
        let now = now.max(self.since);
        self.area += f64::from(self.active) * (now - self.since).as_secs_f64();
        self.since = now;
        if let Some((then, area, started)) = self.last {
            let seconds = (now - then).as_secs_f64().max(0.001);
            self.sample = DemandSample {
                concurrency: (self.area - area) / seconds,
                requests_per_second: (self.started - started) as f64 / seconds,
                waiting,
            };
        }
        self.last = Some((now, self.area, self.started));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(capacity) = self.capacity.take() {
            capacity.release(self.address);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.state().meter.change(-1);
    }
}

impl fmt::Debug for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capacity({})", self.revision)
    }
}

#[cfg(test)]
mod tests;
