//! A queue of keys that want reconciling, and the workers that reconcile them.
//!
//! A key is in the queue once however often it is added, is never worked on by two workers at once, and comes again
//! when it was added while being worked on. A failure brings it back after a back-off that doubles. The queue is
//! bounded by the number of objects there are.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fmt::Display,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Nothing is waited for longer than this in one go.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a stopping queue waits for the work in hand.
const DRAIN: Duration = Duration::from_secs(5);

/// When a key is to be worked on again though nothing changed.
pub(crate) type Again = Option<Duration>;

/// The way into a queue: cheap to clone, callable from anywhere.
pub(crate) struct Queue<K>(Arc<Inner<K>>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<K> {
    name: &'static str,
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there once the work in hand is done.
    wanted: HashSet<K>,
    running: HashSet<K>,
    later: BTreeSet<(Instant, K)>,
    /// A key has one appointment, the last that it asked for.
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K> Queue<K>
where
    K: Clone + Eq + Ord + Hash + Display + Send + Sync + 'static,
{
    pub(crate) fn new(name: &'static str) -> Self {
        Self(Arc::new(Inner {
            name,
            state: Mutex::new(State {
                ready: VecDeque::new(),
                wanted: HashSet::new(),
                running: HashSet::new(),
                later: BTreeSet::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
            }),
            wake: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants a key reconciled now.
    pub(crate) fn add(&self, key: K) {
        if self.state().add(key) {
            self.0.wake.notify_one();
        }
    }

    /// Works on keys, `workers` at a time, until `stop`; then waits for the work in hand.
    pub(crate) async fn run<F, R>(&self, workers: usize, stop: CancellationToken, reconcile: F)
    where
        F: Fn(K) -> R,
        R: Future<Output = Result<Again, Error>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut keys = HashMap::new();
        loop {
            let next = loop {
                let mut state = self.state();
                state.bring_due(Instant::now());
                let key = (tasks.len() < workers).then(|| state.take()).flatten();
                let Some(key) = key else {
                    break state.later.first().map(|(due, _)| *due);
                };
                drop(state);
                let task = tasks.spawn(reconcile(key.clone()));
                keys.insert(task.id(), key);
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(joined) = tasks.join_next_with_id() => {
                    let (id, outcome) = match joined {
                        Ok((id, outcome)) => (id, outcome),
                        Err(panic) => {
                            (panic.id(), Err(Error::Invalid(format!("reconcile ended: {panic}"))))
                        }
                    };
                    if let Some(key) = keys.remove(&id) {
                        self.finish(key, outcome);
                    }
                }
                () = self.0.wake.notified() => {}
                () = until(next) => {}
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(
                controller = self.0.name,
                "work in hand was cut off at the end"
            );
        }
    }

    fn finish(&self, key: K, outcome: Result<Again, Error>) {
        let mut state = self.state();
        let delay = match outcome {
            Ok(again) => {
                state.failures.remove(&key);
                again
            }
            Err(error) => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                *failures += 1;
                let delay = backoff(*failures, rand::rng().random_range(0.5..1.0));
                self.tell(&key, &error, *failures);
                Some(delay)
            }
        };
        let at = delay.map(|delay| Instant::now() + delay.min(LONGEST_WAIT));
        state.appoint(&key, at);
        state.running.remove(&key);
        if state.wanted.contains(&key) {
            state.ready.push_back(key);
        }
    }

    fn tell(&self, key: &K, error: &Error, failures: u32) {
        let (controller, cause) = (self.0.name, std::error::Error::source(error));
        // A lost race is seen again at once; only what goes on failing is somebody's business.
        if failures < 5 {
            tracing::debug!(controller, object = %key, %error, cause, "reconcile; trying again");
        } else {
            tracing::warn!(controller, object = %key, %error, cause, failures, "reconcile; trying again");
        }
    }
}

fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_BACKOFF).mul_f64(jitter)
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl<K: Clone + Eq + Ord + Hash> State<K> {
    fn add(&mut self, key: K) -> bool {
        let new = self.wanted.insert(key.clone());
        if !new || self.running.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.wanted.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    fn bring_due(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    fn appoint(&mut self, key: &K, at: Option<Instant>) {
        if let Some(old) = self.due.remove(key) {
            self.later.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.due.insert(key.clone(), at);
            self.later.insert((at, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_comes_again_and_a_key_is_worked_on_once_at_a_time() {
        let queue = Queue::<String>::new("test");
        let (calls, at_once) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let stop = CancellationToken::new();
        for _ in 0..3 {
            queue.add("a".to_owned());
        }
        let (again, end) = (queue.clone(), stop.clone());
        queue
            .run(4, stop, |key| {
                let (calls, at_once) = (calls.clone(), at_once.clone());
                let (again, end) = (again.clone(), end.clone());
                async move {
                    assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                    again.add(key);
                    tokio::task::yield_now().await;
                    at_once.fetch_sub(1, Ordering::SeqCst);
                    match calls.fetch_add(1, Ordering::SeqCst) {
                        0 => Err(Error::Invalid("no".to_owned())),
                        1..5 => Ok(Some(Duration::from_secs(3600))),
                        _ => {
                            end.cancel();
                            Ok(None)
                        }
                    }
                }
            })
            .await;
        assert_eq!(calls.load(Ordering::SeqCst), 6);
    }

    #[test]
    fn a_back_off_doubles_up_to_a_minute() {
        assert_eq!(backoff(1, 1.0), Duration::from_millis(10));
        assert_eq!(backoff(4, 1.0), Duration::from_millis(80));
        assert_eq!(backoff(40, 1.0), Duration::from_secs(60));
    }
}
