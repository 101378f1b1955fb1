//! Group commit: the groups of many callers become one call to the back end.
//!
//! Takes what waits, writes it as one batch, answers each caller. One batch is in flight at a time;
//! that commit is the window in which the next batch gathers, so there is no timer. Never sends a
//! batch again whose outcome is unknown: it asks for the batch's token first.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use crate::{Commit, Expect, Group, Key, Op, Revision, Store, StoreError, Token, batch::KeySet};

/// Groups that may wait for the writer; when it is full, callers wait in line.
const QUEUE: usize = 4096;
/// Operations and bytes at which a batch is full.
const BATCH_OPS: usize = 500;
const BATCH_BYTES: usize = 8 << 20;
/// How long the outcome of a batch is asked for before its callers hear that it is unknown.
const RESOLVE: Duration = Duration::from_secs(20);
/// Pauses between two questions: doubling from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Bits of a token that count a writer's batches; the others name the writer.
const COUNTER_BITS: u32 = 40;

/// One caller's group, and where its answer goes.
struct Waiting {
    group: Group,
    reply: oneshot::Sender<Result<Commit, StoreError>>,
}

/// The way to the writer.
#[derive(Clone)]
pub struct WriteHandle {
    queue: mpsc::Sender<Waiting>,
}

impl WriteHandle {
    /// Commits a group. If the caller goes away meanwhile, the group may still be committed.
    pub async fn write(&self, group: Group) -> Result<Commit, StoreError> {
        if let Some(key) = repeated(&group) {
            return Err(StoreError::Unavailable {
                message: format!("a group names the key {key} twice"),
                source: None,
            });
        }
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { group, reply };
        if self.queue.send(waiting).await.is_err() {
            return Err(StoreError::Stopped);
        }
        // The writer ended with this group in its hands: it may have been committed.
        answer.await.unwrap_or(Err(StoreError::Ambiguous))
    }
}

/// What a batch committed, told before its callers hear of it.
pub struct Committed<'a> {
    /// Operations with the revisions they took, oldest first.
    pub ops: Vec<(Revision, &'a Op)>,
}

/// The task that writes. Make it with [`Writer::new`]; it works while [`Writer::run`] is polled.
pub struct Writer {
    store: Arc<dyn Store>,
    queue: mpsc::Receiver<Waiting>,
    /// Groups that name a key of the batch before them.
    carried: VecDeque<Waiting>,
    /// Names this writer in the upper bits and the last batch in the lower.
    token: u64,
    /// A revision that was there before the batch in flight.
    known: Revision,
}

impl Writer {
    /// A writer to `store`, which has reached `known`.
    pub fn new(store: Arc<dyn Store>, known: Revision) -> (WriteHandle, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let writer = Self {
            store,
            queue,
            carried: VecDeque::new(),
            token: u64::from(rand::random::<u32>()) << COUNTER_BITS,
            known,
        };
        (WriteHandle { queue: sender }, writer)
    }

    /// Writes until every handle is gone. `observe` hears of each batch before its callers do.
    pub async fn run(mut self, mut observe: impl FnMut(Progress<'_>) + Send) {
        while let Some(batch) = self.gather().await {
            observe(Progress::Started);
            let (groups, replies): (Vec<Group>, Vec<_>) = batch
                .into_iter()
                .map(|waiting| (waiting.group, waiting.reply))
                .unzip();
            let outcomes = self.commit(&groups).await;
            let committed = committed(&groups, &outcomes);
            if let Some((newest, _)) = committed.ops.last() {
                self.known = self.known.max(*newest);
            }
            observe(Progress::Ended(committed));
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                // A caller that has gone does not hear its answer.
                drop(reply.send(outcome));
            }
        }
    }

    /// Waits for a first group and takes what waits behind it, up to the bounds of a batch.
    async fn gather(&mut self) -> Option<Vec<Waiting>> {
        let first = match self.carried.pop_front() {
            Some(first) => first,
            None => self.queue.recv().await?,
        };
        let mut gathering = Gathering::default();
        let mut passed = VecDeque::new();
        let mut next = Some(first);
        while let Some(waiting) = next {
            if let Some(repeat) = gathering.add(waiting) {
                passed.push_back(repeat);
            }
            next = (!gathering.is_full())
                .then(|| {
                    self.carried
                        .pop_front()
                        .or_else(|| self.queue.try_recv().ok())
                })
                .flatten();
        }
        passed.append(&mut self.carried);
        self.carried = passed;
        Some(gathering.batch)
    }

    /// Writes groups until the outcome of each is known, or is known to be unknown.
    async fn commit(&mut self, groups: &[Group]) -> Vec<Result<Commit, StoreError>> {
        let mut outcomes: Vec<Option<Result<Commit, StoreError>>> =
            groups.iter().map(|_| None).collect();
        // Parts of the batch still to be written: the whole at first, halves of it after a failure.
        let mut parts = vec![(0..groups.len()).collect::<Vec<_>>()];
        let deadline = Instant::now() + RESOLVE;
        while let Some(part) = parts.pop() {
            let batch: Vec<Group> = part.iter().map(|index| groups[*index].clone()).collect();
            let token = self.next_token();
            match self.store.write(token, &batch).await {
                Ok(commits) => {
                    for (index, commit) in part.into_iter().zip(commits) {
                        outcomes[index] = Some(Ok(commit));
                    }
                }
                Err(StoreError::Ambiguous) => match self.resolve(token, deadline).await {
                    Some(found) => {
                        let (done, rest): (Vec<_>, Vec<_>) = part
                            .into_iter()
                            .map(|index| (index, found_commit(&groups[index], &found)))
                            .partition(|(_, commit)| commit.is_some());
                        for (index, commit) in done {
                            outcomes[index] = commit.map(Ok);
                        }
                        // What the batch did not write is in no danger of being written twice.
                        if !rest.is_empty() && Instant::now() < deadline {
                            parts.push(rest.into_iter().map(|(index, _)| index).collect());
                        }
                    }
                    None => tracing::error!(
                        groups = part.len(),
                        "the outcome of a batch stays unknown: the store did not answer in time"
                    ),
                },
                Err(error) if part.len() > 1 && self.store.revision().await.is_ok() => {
                    tracing::warn!(
                        groups = part.len(),
                        error = &error as &dyn std::error::Error,
                        "a batch was refused: writing its halves one after the other"
                    );
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push(second.to_vec());
                    parts.push(first.to_vec());
                }
                Err(error) => {
                    for index in part {
                        outcomes[index] = Some(Err(same(&error)));
                    }
                }
            }
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(Err(StoreError::Ambiguous)))
            .collect()
    }

    /// Asks what became of a batch until the store answers or the deadline has passed.
    async fn resolve(&self, token: Token, deadline: Instant) -> Option<Vec<(Key, Revision)>> {
        let mut pause = PAUSES.0;
        loop {
            match self.store.find_token(token, self.known).await {
                Ok(found) => return Some(found),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot yet ask what became of a batch"
                ),
            }
            if Instant::now() + pause > deadline {
                return None;
            }
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn next_token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }
}

/// A batch on its way, as [`Writer::run`] tells it.
pub enum Progress<'a> {
    /// A batch is about to be written.
    Started,
    /// It was; not all of it need have been committed.
    Ended(Committed<'a>),
}

/// A batch as it grows.
#[derive(Default)]
struct Gathering {
    batch: Vec<Waiting>,
    keys: KeySet,
    /// Operations seen, those passed over included, so that the search for more has an end.
    ops: usize,
    bytes: usize,
}

impl Gathering {
    /// Takes a group, or gives it back if it names a key that the batch writes, or the reverse.
    fn add(&mut self, waiting: Waiting) -> Option<Waiting> {
        self.ops += waiting.group.ops.len().max(1);
        if !self.keys.add(&waiting.group) {
            return Some(waiting);
        }
        self.bytes += waiting.group.ops.iter().map(bytes).sum::<usize>();
        self.batch.push(waiting);
        None
    }

    fn is_full(&self) -> bool {
        self.ops >= BATCH_OPS || self.bytes >= BATCH_BYTES
    }
}

fn repeated(group: &Group) -> Option<&Key> {
    let mut seen = HashSet::new();
    group.ops.iter().map(Op::key).find(|key| !seen.insert(*key))
}

fn bytes(op: &Op) -> usize {
    match op {
        Op::Check { .. } => 0,
        Op::Put { value, .. } | Op::Delete { value, .. } => value.len(),
    }
}

/// A group's commit as the log tells it; `None` if the log has nothing of it.
fn found_commit(group: &Group, found: &[(Key, Revision)]) -> Option<Commit> {
    let wrote = group
        .ops
        .iter()
        .any(|op| !matches!(op, Op::Check { .. }) && found.iter().any(|(key, _)| key == op.key()));
    wrote.then(|| {
        let revision = |op: &Op| match (op, op.expect()) {
            (Op::Check { .. }, Expect::Absent) => Revision(0),
            (Op::Check { .. }, Expect::At(revision)) => revision,
            _ => found
                .iter()
                .find(|(key, _)| key == op.key())
                .map_or(Revision(0), |(_, revision)| *revision),
        };
        Commit::Done(group.ops.iter().map(revision).collect())
    })
}

fn committed<'a>(groups: &'a [Group], outcomes: &[Result<Commit, StoreError>]) -> Committed<'a> {
    let mut ops: Vec<(Revision, &Op)> = groups
        .iter()
        .zip(outcomes)
        .filter_map(|(group, outcome)| match outcome {
            Ok(Commit::Done(revisions)) => Some(revisions.iter().copied().zip(&group.ops)),
            _ => None,
        })
        .flatten()
        .filter(|(_, op)| !matches!(op, Op::Check { .. }))
        .collect();
    ops.sort_by_key(|(revision, _)| *revision);
    Committed { ops }
}

/// The same error once more: one failure answers every caller of a batch.
fn same(error: &StoreError) -> StoreError {
    match error {
        StoreError::Compacted { asked, floor } => StoreError::Compacted {
            asked: *asked,
            floor: *floor,
        },
        StoreError::Future { asked, current } => StoreError::Future {
            asked: *asked,
            current: *current,
        },
        StoreError::Unavailable { message, source } => StoreError::Unavailable {
            message: match source {
                Some(source) => format!("{message}: {source}"),
                None => message.clone(),
            },
            source: None,
        },
        StoreError::Stopped => StoreError::Stopped,
        StoreError::Ambiguous => StoreError::Ambiguous,
        StoreError::Corrupt { table, column, key } => StoreError::Corrupt {
            table,
            column,
            key: key.clone(),
        },
    }
}
