//! Group commit over a store whose answers are lost, or that refuses some groups.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use store::{
    Change, Commit, Entry, Expect, Group, Key, MemoryStore, Op, Page, ResourceKey, Revision, Store,
    StoreError, Token, WriteHandle, Writer,
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// What becomes of the next writes, first to last; after that they succeed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// Committed, but the answer is lost.
    AnswerLost,
    /// Lost on the way.
    NeverArrived,
    /// Lost on the way, and arrives after the writer asked for it.
    ArrivesLate,
}

/// A store with faults.
struct Faulty {
    inner: MemoryStore,
    faults: Mutex<Vec<Fault>>,
    late: Mutex<Vec<(Token, Vec<Group>)>>,
    down: AtomicBool,
    /// A batch with this key is refused.
    poison: Key,
    /// Sizes of the batches that were written.
    batches: Mutex<Vec<usize>>,
    /// A write takes one.
    gate: Semaphore,
}

impl Faulty {
    fn new(faults: &[Fault]) -> Arc<Self> {
        let mut faults = faults.to_vec();
        faults.reverse();
        Arc::new(Self {
            inner: MemoryStore::new(),
            faults: Mutex::new(faults),
            late: Mutex::default(),
            down: AtomicBool::new(false),
            poison: key("poison"),
            batches: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    fn unavailable() -> StoreError {
        StoreError::Unavailable {
            message: "refused".into(),
            source: None,
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn write(&self, token: Token, batch: &[Group]) -> Result<Vec<Commit>, StoreError> {
        self.gate.acquire().await.unwrap().forget();
        self.batches.lock().unwrap().push(batch.len());
        let poisoned = |group: &Group| group.ops.iter().any(|op| *op.key() == self.poison);
        if self.down.load(Ordering::SeqCst) || batch.iter().any(poisoned) {
            return Err(Self::unavailable());
        }
        let fault = self.faults.lock().unwrap().pop();
        match fault {
            None => self.inner.write(token, batch).await,
            Some(fault) => {
                if fault == Fault::AnswerLost {
                    self.inner.write(token, batch).await?;
                }
                if fault == Fault::ArrivesLate {
                    let late = (token, batch.to_vec());
                    self.late.lock().unwrap().push(late);
                }
                Err(StoreError::Ambiguous)
            }
        }
    }

    async fn find_token(
        &self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        let found = self.inner.find_token(token, after).await?;
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (token, batch) in late {
            assert!(self.inner.write(token, &batch).await.is_err());
        }
        Ok(found)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Self::unavailable()),
            false => self.inner.revision().await,
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.inner.list(prefix, at, after, limit).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.inner.changes(after, limit).await
    }

    async fn floor(&self) -> Result<Revision, StoreError> {
        self.inner.floor().await
    }

    async fn compact(&self, until: Revision) -> Result<Revision, StoreError> {
        self.inner.compact(until).await
    }

    async fn wait(&self, after: Revision) {
        self.inner.wait(after).await;
    }
}

fn key(name: &str) -> Key {
    ResourceKey::new("", "pods").key("default", name)
}

fn put(name: &str, expect: Expect) -> Op {
    Op::Put {
        key: key(name),
        expect,
        value: Bytes::from_static(b"v"),
    }
}

fn create(name: &str) -> Group {
    Group {
        ops: vec![put(name, Expect::Absent)],
    }
}

fn done(revision: u64) -> Commit {
    Commit::Done(vec![Revision(revision)])
}

/// A writer at work; it ends with the set.
fn writer(store: &Arc<Faulty>) -> (WriteHandle, JoinSet<()>) {
    let (handle, writer) = Writer::new(store.clone(), Revision(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(|_| ()));
    (handle, tasks)
}

async fn soon<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), call)
        .await
        .expect("in time")
}

/// Holds the store shut, has all groups wait, lets them pass; answers in the groups' order.
async fn together(
    store: &Arc<Faulty>,
    handle: &WriteHandle,
    groups: Vec<Group>,
) -> Vec<Result<Commit, StoreError>> {
    store.gate.forget_permits(Semaphore::MAX_PERMITS);
    let mut calls = Vec::new();
    for group in groups {
        let handle = handle.clone();
        let mut call = Box::pin(async move { handle.write(group).await });
        // The first poll puts the group into the queue.
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        calls.push(call);
    }
    store.gate.add_permits(1000);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(soon(call).await);
    }
    answers
}

#[tokio::test]
async fn groups_that_wait_share_a_batch() {
    let store = Faulty::new(&[]);
    let (handle, _tasks) = writer(&store);
    let groups = (0..100).map(|n| create(&format!("p{n}"))).collect();
    let answers = together(&store, &handle, groups).await;
    for (answer, revision) in answers.into_iter().zip(1..) {
        assert_eq!(answer.unwrap(), done(revision));
    }
    assert_eq!(*store.batches.lock().unwrap(), [100]);
}

#[tokio::test]
async fn a_key_is_written_once_a_batch_and_checked_often() {
    let store = Faulty::new(&[]);
    let (handle, _tasks) = writer(&store);
    let checked = |name: &str| Group {
        ops: vec![
            Op::Check {
                key: key("shared"),
                expect: Expect::Absent,
            },
            put(name, Expect::Absent),
        ],
    };
    let groups = vec![
        checked("a"),
        checked("b"),
        create("a"),
        create("shared"),
        checked("c"),
        create("d"),
    ];
    let answers = together(&store, &handle, groups).await;
    let answers: Vec<Commit> = answers.into_iter().map(Result::unwrap).collect();
    let conflict = Commit::Conflict {
        key: key("a"),
        current: Some(Revision(1)),
    };
    assert_eq!(answers[2], conflict);
    // a, b, c and d in the first batch; what names their keys again in the second.
    assert_eq!(*store.batches.lock().unwrap(), [4, 2]);
    assert_eq!(answers[3], done(5));
}

#[tokio::test]
async fn a_committed_batch_whose_answer_was_lost_is_found() {
    let store = Faulty::new(&[Fault::AnswerLost]);
    let (handle, _tasks) = writer(&store);
    let groups = vec![create("a"), create("b")];
    let answers = together(&store, &handle, groups).await;
    let answers: Vec<Commit> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [done(1), done(2)]);
    assert_eq!(store.revision().await.unwrap(), Revision(2));
}

#[tokio::test]
async fn a_batch_that_never_arrived_is_sent_again() {
    for fault in [Fault::NeverArrived, Fault::ArrivesLate] {
        let store = Faulty::new(&[fault, fault, Fault::AnswerLost]);
        let (handle, _tasks) = writer(&store);
        assert_eq!(soon(handle.write(create("a"))).await.unwrap(), done(1));
        assert_eq!(store.revision().await.unwrap(), Revision(1));
        assert_eq!(store.batches.lock().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_lost_answer_keeps_conflicts_conflicts() {
    let store = Faulty::new(&[]);
    let (handle, _tasks) = writer(&store);
    soon(handle.write(create("a"))).await.unwrap();
    store.faults.lock().unwrap().push(Fault::AnswerLost);
    let answers = together(&store, &handle, vec![create("a"), create("b")]).await;
    let conflict = Commit::Conflict {
        key: key("a"),
        current: Some(Revision(1)),
    };
    let answers: Vec<Commit> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [conflict, done(2)]);
}

#[tokio::test]
async fn one_bad_group_does_not_fail_the_rest() {
    let store = Faulty::new(&[]);
    let (handle, _tasks) = writer(&store);
    let names = ["a", "b", "poison", "c", "d"];
    let groups = names.iter().map(|name| create(name)).collect();
    let answers = together(&store, &handle, groups).await;
    let failed: Vec<bool> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, true, false, false]);
    assert_eq!(store.revision().await.unwrap(), Revision(4));
}

#[tokio::test]
async fn a_store_that_is_down_fails_a_batch_once() {
    let store = Faulty::new(&[]);
    store.down.store(true, Ordering::SeqCst);
    let (handle, _tasks) = writer(&store);
    let groups = (0..10).map(|n| create(&format!("p{n}"))).collect();
    let answers = together(&store, &handle, groups).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(*store.batches.lock().unwrap(), [10]);
    store.down.store(false, Ordering::SeqCst);
    assert_eq!(soon(handle.write(create("a"))).await.unwrap(), done(1));
}

#[tokio::test]
async fn a_group_that_repeats_a_key_is_refused() {
    let store = Faulty::new(&[]);
    let (handle, _tasks) = writer(&store);
    let ops = vec![put("a", Expect::Absent), put("a", Expect::Absent)];
    let error = soon(handle.write(Group { ops })).await.unwrap_err();
    assert!(
        error.to_string().contains("/pods/default/a twice"),
        "{error}"
    );
    assert!(store.batches.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_writer_that_has_ended_says_so() {
    let store = Faulty::new(&[]);
    let (handle, mut tasks) = writer(&store);
    tasks.shutdown().await;
    let error = soon(handle.write(create("a"))).await.unwrap_err();
    assert!(matches!(error, StoreError::Stopped), "{error}");
}
