//! Commits writes together with the quotas that they use, and counts again what was freed.
//!
//! One task a server. Writes of one namespace that wait are put into one group with one new sum for each
//! quota, so that a storm of them costs a few commits and not one after another. A group fails as a
//! whole: a write that is the reason gets its answer, the others are tried again without it. Another
//! server that was faster only means that they are tried again on the new sums.
//! Never holds a sum in memory between two groups.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use serde_json::Value;
use store::{Commit, Expect, Group, Key, Op, ResourceKey, Revision, StoreError};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Charge,
    account::{Account, Objects, charge_all},
    quotas,
    usage::Kind,
};
use crate::{codec, error::Error, server::state::Server, verbs::create::ATTEMPTS};

/// Writes that wait for the ledger; more wait for a place in the queue, until their request's deadline.
const QUEUE: usize = 1_024;
/// Writes that one group holds at most.
const TOGETHER: usize = 128;
/// How long freed amounts may gather before they are counted.
const GATHER: Duration = Duration::from_millis(50);
/// How often everything is counted, whatever is known to have changed.
const RECOUNT: Duration = Duration::from_secs(300);

/// The way to the ledger.
pub(crate) struct Ledger {
    queue: mpsc::Sender<Entry>,
    /// Taken by the task that runs.
    entries: Mutex<Option<mpsc::Receiver<Entry>>>,
    /// Namespaces whose quotas are to be counted.
    touched: Mutex<BTreeSet<String>>,
    wake: Notify,
}

/// A write that waits, and who waits for it.
struct Entry {
    charge: Charge,
    ops: Vec<Op>,
    answer: oneshot::Sender<Result<Commit, Error>>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        Self {
            queue,
            entries: Mutex::new(Some(entries)),
            touched: Mutex::default(),
            wake: Notify::new(),
        }
    }
}

impl Ledger {
    /// Commits a write with what it uses. If the caller goes away meanwhile, it may still be committed.
    pub(super) async fn commit(&self, charge: Charge, ops: Vec<Op>) -> Result<Commit, Error> {
        let (answer, answered) = oneshot::channel();
        let stopped = || Error::Unavailable {
            message: "the server is shutting down, please try again later".to_owned(),
            source: Some(StoreError::Stopped.into()),
        };
        let entry = Entry {
            charge,
            ops,
            answer,
        };
        self.queue.send(entry).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Has a namespace's quotas counted again soon.
    pub(crate) fn touch(&self, namespace: String) {
        self.lock().insert(namespace);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles writes and counts until `stop`.
pub(crate) async fn run(server: &Server, stop: CancellationToken) {
    let taken = {
        let mut entries = server.quota.entries.lock();
        entries
            .as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut())
            .take()
    };
    // Another handle of the same server runs it.
    let Some(mut entries) = taken else {
        return stop.cancelled().await;
    };
    let counts = count_touched(server);
    let settlements = async {
        let mut batch = Vec::new();
        while entries.recv_many(&mut batch, TOGETHER).await > 0 {
            settle(server, std::mem::take(&mut batch)).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = counts => {}
        () = settlements => {}
    }
}

/// Settles the writes of all namespaces at once.
async fn settle(server: &Server, batch: Vec<Entry>) {
    let mut namespaces: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in batch {
        let namespace = entry.charge.namespace.clone();
        namespaces.entry(namespace).or_default().push(entry);
    }
    let settlements = namespaces
        .into_iter()
        .map(|(namespace, entries)| settle_namespace(server, namespace, entries));
    join_all(settlements).await;
}

/// Settles the writes of a namespace: some in the first group, those in whose way others were in later ones.
async fn settle_namespace(server: &Server, namespace: String, mut waiting: Vec<Entry>) {
    for _ in 0..ATTEMPTS.saturating_add(waiting.len()) {
        // Who waits for an answer no longer has gone away before anything was done.
        waiting.retain(|entry| !entry.answer.is_closed());
        if waiting.is_empty() {
            return;
        }
        let accounts = match current(server, &namespace).await {
            Ok(accounts) => accounts,
            Err(error) => return fail(waiting, &error),
        };
        let round = Round::of(accounts, std::mem::take(&mut waiting), server);
        match round.commit(server).await {
            Ok(rest) => waiting = rest,
            Err((entries, error)) => return fail(entries, &error),
        }
    }
    for entry in waiting {
        let _ = entry.answer.send(Err(Error::TooManyRequests));
    }
}

/// A namespace's quotas with their revisions, each with its sums: those it has, or counted now.
pub(super) async fn current(
    server: &Server,
    namespace: &str,
) -> Result<Vec<(Key, Revision, Account)>, Error> {
    server.cache.fresh().await?;
    let snapshot = server.cache.list(&quotas(), Some(namespace));
    let mut accounts = Vec::new();
    for item in snapshot.items {
        let quota = serde_json::from_slice(&item.decoded.value).map_err(Error::internal)?;
        let mut account = Account::read(quota);
        if !account.is_counted() {
            let objects = objects(server, namespace, account.kinds());
            account.count(&objects, server.now());
        }
        accounts.push((item.key.clone(), item.revision, account));
    }
    Ok(accounts)
}

/// What a namespace holds of some kinds.
fn objects(server: &Server, namespace: &str, kinds: BTreeSet<Kind>) -> BTreeMap<Kind, Objects> {
    kinds
        .into_iter()
        .map(|kind| {
            let (group, plural) = kind.names();
            let key = server
                .catalog
                .served()
                .key(group, plural)
                .unwrap_or_else(|| ResourceKey::new(group, plural));
            let items = server.cache.list(&key, Some(namespace)).items;
            let objects = match kind {
                Kind::Counted(..) => Objects::Number(items.len()),
                _ => Objects::Values(
                    items
                        .iter()
                        .filter_map(|item| {
                            serde_json::from_slice::<Value>(&item.decoded.value).ok()
                        })
                        .collect(),
                ),
            };
            (kind, objects)
        })
        .collect()
}

/// One group in the making.
struct Round {
    ops: Vec<Op>,
    /// How many of the operations, the first ones, are the quotas' own.
    own: usize,
    /// Writes in the group, with the places of their operations.
    joined: Vec<(Entry, Vec<usize>)>,
    /// Writes that the quotas do not allow, if the rest of the group is as it seems.
    refused: Vec<(Entry, Error)>,
    /// Writes that cannot be in one group with others.
    later: Vec<Entry>,
}

impl Round {
    fn of(found: Vec<(Key, Revision, Account)>, waiting: Vec<Entry>, server: &Server) -> Self {
        let now = server.now();
        let (places, mut accounts): (Vec<_>, Vec<_>) = found
            .into_iter()
            .map(|(key, revision, account)| ((key, revision), account))
            .unzip();
        let mut known: HashMap<Key, usize> = HashMap::new();
        let mut writes: Vec<Op> = Vec::new();
        let mut round = Self {
            ops: Vec::new(),
            own: 0,
            joined: Vec::new(),
            refused: Vec::new(),
            later: Vec::new(),
        };
        for entry in waiting {
            let fits = entry.ops.iter().all(|op| {
                let quota = places.iter().any(|(key, _)| key == op.key());
                let shared = known.get(op.key()).map(|&at| &writes[at]);
                !quota && shared.is_none_or(|other| is_same_check(other, op))
            });
            if !fits && !round.joined.is_empty() {
                round.later.push(entry);
                continue;
            }
            if let Err(error) = charge_all(&mut accounts, &entry.charge, now) {
                round.refused.push((entry, error));
                continue;
            }
            let at = entry
                .ops
                .iter()
                .map(|op| {
                    *known.entry(op.key().clone()).or_insert_with(|| {
                        writes.push(op.clone());
                        writes.len() - 1
                    })
                })
                .collect();
            round.joined.push((entry, at));
        }
        for ((key, revision), account) in places.into_iter().zip(&accounts) {
            // A write of a quota itself brings its own operation.
            if account.changed && !known.contains_key(&key) {
                round.ops.push(Op::Put {
                    key,
                    expect: Expect::At(revision),
                    value: codec::stored(&mut account.write()),
                });
            }
        }
        round.own = round.ops.len();
        round.ops.extend(writes);
        round
    }

    /// Commits the group and answers; gives back the writes to be tried again.
    async fn commit(self, server: &Server) -> Result<Vec<Entry>, (Vec<Entry>, Error)> {
        let mut again = self.later;
        if self.joined.is_empty() {
            refuse(self.refused);
            return Ok(again);
        }
        let committed = server
            .cache
            .write(Group {
                ops: self.ops.clone(),
            })
            .await;
        match committed {
            Ok(Commit::Done(revisions)) => {
                refuse(self.refused);
                for (entry, places) in self.joined {
                    let of_write = places
                        .iter()
                        .filter_map(|place| revisions.get(self.own + place).copied())
                        .collect();
                    let _ = entry.answer.send(Ok(Commit::Done(of_write)));
                }
            }
            Ok(Commit::Conflict { key, current }) => {
                let quotas = self.ops[..self.own].iter().any(|op| *op.key() == key);
                for (entry, _) in self.joined {
                    let to_blame = !quotas && entry.ops.iter().any(|op| *op.key() == key);
                    if to_blame {
                        let key = key.clone();
                        let _ = entry.answer.send(Ok(Commit::Conflict { key, current }));
                    } else {
                        again.push(entry);
                    }
                }
                again.extend(self.refused.into_iter().map(|(entry, _)| entry));
            }
            Err(error) => {
                let refused = self.refused.into_iter().map(|(entry, _)| entry);
                again.extend(refused);
                fail_ambiguously(self.joined, &error);
                return Err((again, error.into()));
            }
        }
        Ok(again)
    }
}

fn is_same_check(one: &Op, other: &Op) -> bool {
    matches!((one, other), (Op::Check { .. }, Op::Check { .. })) && one.expect() == other.expect()
}

fn refuse(refused: Vec<(Entry, Error)>) {
    for (entry, error) in refused {
        let _ = entry.answer.send(Err(error));
    }
}

/// The group's end is the store's failure, for each of its writes alike.
fn fail_ambiguously(joined: Vec<(Entry, Vec<usize>)>, error: &StoreError) {
    for (entry, _) in joined {
        let same = match error {
            StoreError::Ambiguous => StoreError::Ambiguous,
            StoreError::Stopped => StoreError::Stopped,
            other => StoreError::Unavailable {
                message: other.to_string(),
                source: None,
            },
        };
        let _ = entry.answer.send(Err(same.into()));
    }
}

fn fail(entries: Vec<Entry>, error: &Error) {
    for entry in entries {
        let error = Error::Unavailable {
            message: error.to_string(),
            source: None,
        };
        let _ = entry.answer.send(Err(error));
    }
}

/// Counts what was touched, and everything now and then; does not end.
async fn count_touched(server: &Server) {
    let mut all = interval_at(Instant::now(), RECOUNT);
    all.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = server.quota.wake.notified() => sleep(GATHER).await,
            _ = all.tick() => touch_all(server),
        }
        let namespaces = std::mem::take(&mut *server.quota.lock());
        for namespace in namespaces {
            if let Err(error) = count(server, &namespace).await {
                tracing::warn!(namespace, %error, "a namespace's quotas were not counted");
                server.quota.touch(namespace);
            }
        }
    }
}

fn touch_all(server: &Server) {
    let snapshot = server.cache.list(&quotas(), None);
    let namespaces = snapshot.items.iter().map(|item| item.key.namespace());
    server.quota.lock().extend(namespaces.map(str::to_owned));
}

/// Counts all that a namespace's quotas limit and writes the sums that are not right.
async fn count(server: &Server, namespace: &str) -> Result<(), Error> {
    for _ in 0..ATTEMPTS {
        let mut ops = Vec::new();
        for (key, revision, mut account) in current(server, namespace).await? {
            let objects = objects(server, namespace, account.kinds());
            account.count(&objects, server.now());
            // What was added since the quota was read changed the quota: then this write is refused.
            if account.changed {
                ops.push(Op::Put {
                    key,
                    expect: Expect::At(revision),
                    value: codec::stored(&mut account.write()),
                });
            }
        }
        if ops.is_empty() {
            return Ok(());
        }
        if let Commit::Done(_) = server.cache.write(Group { ops }).await? {
            return Ok(());
        }
    }
    Err(Error::TooManyRequests)
}
