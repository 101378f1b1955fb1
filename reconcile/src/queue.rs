//! A queue of keys that want reconciling, and the workers that reconcile them.
//!
//! A key is in the queue once however often it is added, is never worked on by two workers at
//! once, and comes again when it was added while being worked on. A failure brings it back after
//! a back-off that doubles. The queue is bounded by the number of objects there are.
//!
//! A key that comes again and again rests between its turns, the longer the busier it has been: changes then
//! gather, and a fight with another writer costs a bounded number of writes a minute.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::metrics::QueueMetrics;

const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// Nothing is waited for longer than this in one go.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How long a stopping queue waits for the work in hand.
const DRAIN: Duration = Duration::from_secs(5);
/// How fast a busy past is forgotten: after this long, to 37 %.
const MEMORY: Duration = Duration::from_secs(40);
/// Turns in the remembered past that cost no rest.
const FREE_TURNS: f64 = 100.0;
/// The rest for each turn beyond; together these let a key have eight turns a second for long.
const REST_PER_TURN: Duration = Duration::from_micros(500);
/// How much longer than its work a key of a costly queue rests.
const COSTLY_REST: u32 = 3;
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Pasts that are remembered before the quiet ones are forgotten.
const REMEMBERED_PASTS: usize = 4096;

/// What a reconcile asks for when it succeeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing until something changes.
    AwaitChange,
    /// To be called again after this long, changes or not.
    After(Duration),
}

impl From<Option<Duration>> for Action {
    fn from(again: Option<Duration>) -> Self {
        again.map_or(Self::AwaitChange, Self::After)
    }
}

/// The way into a queue: cheap to clone, callable from anywhere.
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<K> {
    name: &'static str,
    /// Whether a key rests in proportion to its work.
    costly: bool,
    metrics: QueueMetrics,
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there once the work in hand is done.
    wanted: HashSet<K>,
    /// Worked on, or resting since.
    running: HashSet<K>,
    resting: BTreeSet<(Instant, K)>,
    pasts: HashMap<K, Past>,
    /// How many pasts there may be before the quiet ones are looked for.
    most_pasts: usize,
    later: BTreeSet<(Instant, K)>,
    /// When each key of `later` is due: a key has one appointment, the last that it asked for.
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

/// How busy a key has been: the number of its turns, older ones counting less.
#[derive(Clone, Copy)]
struct Past {
    turns: f64,
    at: Instant,
}

impl Past {
    fn turns_at(&self, now: Instant) -> f64 {
        let age = now.duration_since(self.at).as_secs_f64();
        self.turns * (-age / MEMORY.as_secs_f64()).exp()
    }
}

impl<K> Queue<K>
where
    K: Clone + Eq + Ord + Hash + fmt::Display + Send + Sync + 'static,
{
    pub fn new(name: &'static str) -> Self {
        Self::with_cost(name, false)
    }

    /// A queue whose work is the larger the more there is: its keys rest in proportion to what they took.
    pub fn costly(name: &'static str) -> Self {
        Self::with_cost(name, true)
    }

    fn with_cost(name: &'static str, costly: bool) -> Self {
        let state = State {
            ready: VecDeque::new(),
            wanted: HashSet::new(),
            running: HashSet::new(),
            resting: BTreeSet::new(),
            pasts: HashMap::new(),
            most_pasts: REMEMBERED_PASTS,
            later: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        };
        Self {
            inner: Arc::new(Inner {
                name,
                costly,
                metrics: QueueMetrics::of(name),
                state: Mutex::new(state),
                wake: Notify::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants a key reconciled now.
    pub fn add(&self, key: K) {
        self.inner.metrics.adds.inc();
        if self.state().add(key) {
            self.inner.wake.notify_one();
        }
    }

    /// Works on keys, `workers` at a time, until `stop`; then waits for the work in hand.
    pub async fn run<F, R>(&self, workers: usize, stop: CancellationToken, reconcile: F)
    where
        F: Fn(K) -> R,
        R: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut keys = HashMap::new();
        loop {
            let next = loop {
                let mut state = self.state();
                state.bring_due(Instant::now());
                if tasks.len() >= workers {
                    break state.next_due();
                }
                let Some(key) = state.take() else {
                    break state.next_due();
                };
                self.tell_depth(&state);
                drop(state);
                let task = tasks.spawn(reconcile(key.clone()));
                keys.insert(task.id(), (key, Instant::now()));
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(joined) = tasks.join_next_with_id() => {
                    let (id, outcome) = match joined {
                        Ok((id, outcome)) => (id, outcome),
                        Err(panic) => {
                            let message = format!("reconcile ended: {panic}");
                            (panic.id(), Err(Error::Invalid(message)))
                        }
                    };
                    if let Some((key, begun)) = keys.remove(&id) {
                        let took = begun.elapsed();
                        self.inner.metrics.seconds.observe(took.as_secs_f64());
                        self.finish(key, outcome, took);
                    }
                }
                () = self.inner.wake.notified() => {}
                () = until(next) => {}
            }
        }
        if tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            tracing::warn!(
                controller = self.inner.name,
                "work in hand was cut off at the end"
            );
        }
    }

    fn tell_depth(&self, state: &State<K>) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.inner.metrics.depth.set(whole(state.ready.len()));
        self.inner.metrics.working.set(whole(state.running.len()));
    }

    fn finish(&self, key: K, outcome: Result<Action, Error>, took: Duration) {
        let name = self.inner.name;
        let mut state = self.state();
        let now = Instant::now();
        let mut rest = state.remember(&key, now);
        if self.inner.costly {
            rest = rest.max(took * COSTLY_REST);
        }
        let delay = match outcome {
            Ok(action) => {
                state.failures.remove(&key);
                match action {
                    Action::AwaitChange => None,
                    Action::After(delay) => Some(delay),
                }
            }
            Err(error @ Error::Ending(_)) => {
                tracing::debug!(controller = name, object = %key, %error, "nothing is made any more");
                state.failures.remove(&key);
                None
            }
            Err(error) => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                *failures += 1;
                self.inner.metrics.retries.inc();
                let delay = backoff(*failures, rand::rng().random_range(0.5..1.0));
                log_failure(name, &key, &error, *failures, delay);
                Some(delay)
            }
        };
        // Whatever a user asked to wait for: a key that comes too early is looked at once more.
        state.appoint(&key, delay.map(|delay| now + delay.min(LONGEST_WAIT)));
        if rest.is_zero() {
            state.free(key);
        } else {
            state.resting.insert((now + rest.min(LONGEST_REST), key));
        }
        self.tell_depth(&state);
    }
}

impl<K: Clone + Eq + Ord + Hash> State<K> {
    fn add(&mut self, key: K) -> bool {
        if !self.wanted.insert(key.clone()) {
            return false;
        }
        if self.running.contains(&key) {
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

    /// Counts a turn; answers how long the key should rest.
    fn remember(&mut self, key: &K, now: Instant) -> Duration {
        if self.pasts.len() >= self.most_pasts {
            self.pasts.retain(|_, past| past.turns_at(now) >= 1.0);
            self.most_pasts = (self.pasts.len() * 2).max(REMEMBERED_PASTS);
        }
        let past = self.pasts.get(key).map_or(0.0, |past| past.turns_at(now));
        let turns = past + 1.0;
        self.pasts.insert(key.clone(), Past { turns, at: now });
        REST_PER_TURN.mul_f64((turns - FREE_TURNS).max(0.0))
    }

    /// A key may be worked on again.
    fn free(&mut self, key: K) {
        self.running.remove(&key);
        if self.wanted.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn bring_due(&mut self, now: Instant) {
        while let Some((until, _)) = self.resting.first() {
            if *until > now {
                break;
            }
            if let Some((_, key)) = self.resting.pop_first() {
                self.free(key);
            }
        }
        while let Some((due, _)) = self.later.first() {
            if *due > now {
                break;
            }
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

    fn next_due(&self) -> Option<Instant> {
        let later = self.later.first().map(|(due, _)| *due);
        let rested = self.resting.first().map(|(until, _)| *until);
        later.into_iter().chain(rested).min()
    }
}

/// A conflict is the ordinary way to hear of someone else's write; anything else is worth a line.
fn log_failure(name: &str, key: &dyn fmt::Display, error: &Error, failures: u32, delay: Duration) {
    match error {
        Error::Conflict(_) | Error::NotFound(_) if failures < 5 => {
            tracing::debug!(controller = name, object = %key, %error, "reading again");
        }
        _ => {
            let cause = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(
                controller = name,
                object = %key,
                %error,
                cause,
                failures,
                ?delay,
                "reconcile failed"
            );
        }
    }
}

/// The pause after so many failures; `jitter` is between a half and one.
fn backoff(failures: u32, jitter: f64) -> Duration {
    FIRST_BACKOFF
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST_BACKOFF)
        .mul_f64(jitter)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    #[test]
    fn a_key_has_one_appointment_the_last_that_it_asked_for() {
        let queue = Queue::<String>::new("test");
        let minutes = |n: u64| Ok(Action::After(Duration::from_secs(60 * n)));
        let finish = |key: &str, outcome| queue.finish(key.into(), outcome, Duration::ZERO);
        finish("a", minutes(1));
        finish("a", minutes(2));
        finish("b", minutes(1));
        finish("b", Ok(Action::AwaitChange));
        let state = queue.state();
        let later: Vec<&str> = state.later.iter().map(|(_, key)| key.as_str()).collect();
        assert_eq!(later, ["a"]);
        assert_eq!(state.due.len(), 1);
    }

    #[test]
    fn back_off_doubles_up_to_a_minute() {
        let seen: Vec<u128> = [1, 2, 3, 10, 40]
            .map(|n| backoff(n, 1.0).as_millis())
            .into();
        assert_eq!(seen, [10, 20, 40, 5120, 60_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_worked_on_comes_again_and_never_twice_at_once() {
        let queue = Queue::<String>::new("test");
        let stop = CancellationToken::new();
        let gate = Arc::new(Semaphore::new(0));
        let at_once = Arc::new(AtomicUsize::new(0));
        let (started, mut starts) = mpsc::channel(16);
        queue.add("a".into());
        queue.add("a".into());
        let work = queue.run(4, stop.clone(), |_| {
            let (gate, at_once, started) = (gate.clone(), at_once.clone(), started.clone());
            async move {
                assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                started.send(()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                at_once.fetch_sub(1, Ordering::SeqCst);
                Ok(Action::AwaitChange)
            }
        });
        let test = async {
            starts.recv().await.unwrap();
            queue.add("a".into());
            queue.add("a".into());
            gate.add_permits(8);
            starts.recv().await.unwrap();
            assert!(
                tokio::time::timeout(Duration::from_secs(100), starts.recv())
                    .await
                    .is_err()
            );
            stop.cancel();
        };
        tokio::join!(work, test);
    }

    /// How many turns a key has that is wanted again as soon as it had one.
    async fn turns(queue: Queue<String>, work: Duration, within: Duration) -> usize {
        let stop = CancellationToken::new();
        let turns = Arc::new(AtomicUsize::new(0));
        let (counted, again) = (turns.clone(), queue.clone());
        queue.add("a".into());
        let run = queue.run(1, stop.clone(), move |key| {
            let (turns, again) = (counted.clone(), again.clone());
            async move {
                tokio::time::sleep(work).await;
                turns.fetch_add(1, Ordering::SeqCst);
                again.add(key);
                Ok(Action::AwaitChange)
            }
        });
        let end = async {
            tokio::time::sleep(within).await;
            stop.cancel();
        };
        tokio::join!(run, end);
        turns.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_never_stops_has_a_bounded_number_of_turns() {
        let quick = Duration::from_millis(1);
        let queue = || Queue::new("test");
        let at_once = turns(queue(), quick, Duration::from_millis(100)).await;
        assert!(at_once > 90, "{at_once} in a tenth of a second");
        let minute = turns(queue(), quick, Duration::from_secs(60)).await;
        assert!((500..900).contains(&minute), "{minute} in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn costly_work_rests() {
        let work = Duration::from_millis(100);
        let turns = turns(Queue::costly("test"), work, Duration::from_secs(8)).await;
        assert!((18..=22).contains(&turns), "{turns}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_may_want_to_wait_for_ever() {
        let queue = Queue::<String>::new("test");
        let stop = CancellationToken::new();
        queue.add("a".into());
        let end = stop.clone();
        let run = queue.run(1, stop, move |_| {
            let end = end.clone();
            async move {
                end.cancel();
                Ok(Action::After(Duration::MAX))
            }
        });
        run.await;
        queue.finish("a".into(), Ok(Action::After(Duration::MAX)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_brings_the_key_back() {
        let queue = Queue::<String>::new("test");
        let stop = CancellationToken::new();
        let tries = Arc::new(AtomicUsize::new(0));
        queue.add("a".into());
        let (counted, end) = (tries.clone(), stop.clone());
        queue
            .run(1, stop, move |_| {
                let (tries, end) = (counted.clone(), end.clone());
                async move {
                    if tries.fetch_add(1, Ordering::SeqCst) < 3 {
                        return Err(Error::Conflict("taken".into()));
                    }
                    end.cancel();
                    Ok(Action::AwaitChange)
                }
            })
            .await;
        assert_eq!(tries.load(Ordering::SeqCst), 4);
    }
}
