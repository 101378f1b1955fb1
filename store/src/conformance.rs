//! What every back end must do: one test per property, run on each of them.
//!
//! A back end's crate calls [`conformance!`](crate::conformance!) with an expression that makes a
//! [`Subject`]. Each property gets a subject of its own. Never looks at how values are kept.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use crate::{
    Change, Commit, Entry, Expect, Group, Key, MemoryStore, Op, ResourceKey, Revision, Store,
    StoreError, Token,
};

/// An empty database that can be opened again.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Opens the store; what an earlier one acknowledged is there.
    async fn open(&self) -> Arc<dyn Store>;
}

/// Makes one test per property; the argument makes a new [`Subject`] and may await.
#[macro_export]
macro_rules! conformance {
    ($subject:expr) => {
        $crate::conformance!(@ $subject;
            a_created_key_is_found
            an_update_needs_the_newest_revision
            a_delete_keeps_the_last_state_in_the_history
            a_key_created_again_starts_anew
            a_check_changes_nothing_and_guards_its_group
            a_group_commits_wholly_or_not_at_all
            a_group_sees_the_groups_before_it
            values_are_opaque_bytes
            revisions_have_no_gaps
            lists_are_in_key_order_and_come_in_pages
            a_prefix_does_not_match_its_neighbours
            a_past_state_can_be_listed
            changes_come_in_order_and_once
            compaction_forgets_the_past_and_keeps_the_present
            the_newest_row_is_never_forgotten
            a_revision_ahead_of_the_store_is_refused
            a_token_finds_its_batch
            a_batch_that_was_given_up_never_arrives
            concurrent_writers_lose_nothing
            a_store_opened_again_has_everything
            a_waiting_reader_wakes
            a_large_batch_commits
            a_long_random_history_equals_the_reference
        );
    };
    (@ $subject:expr; $($property:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                let subject = $subject;
                $crate::conformance::$property(&subject).await;
            }
        )*
    };
}

const DEADLINE: Duration = Duration::from_secs(30);

fn pods() -> ResourceKey {
    ResourceKey::new("", "pods")
}

fn pod(name: &str) -> Key {
    pods().key("default", name)
}

fn put(key: &Key, expect: Expect, value: &str) -> Op {
    Op::Put {
        key: key.clone(),
        expect,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn create(name: &str) -> Op {
    put(&pod(name), Expect::Absent, name)
}

fn update(name: &str, at: Revision, value: &str) -> Op {
    put(&pod(name), Expect::At(at), value)
}

fn delete(name: &str, at: Revision, last: &str) -> Op {
    Op::Delete {
        key: pod(name),
        expect: Expect::At(at),
        value: Bytes::copy_from_slice(last.as_bytes()),
    }
}

fn check(name: &str, expect: Expect) -> Op {
    Op::Check {
        key: pod(name),
        expect,
    }
}

fn done(revisions: &[u64]) -> Commit {
    Commit::Done(revisions.iter().copied().map(Revision).collect())
}

fn conflict(name: &str, current: Option<u64>) -> Commit {
    Commit::Conflict {
        key: pod(name),
        current: current.map(Revision),
    }
}

/// Fails the test when a call takes too long, or the store cannot answer.
async fn must<T>(call: impl Future<Output = Result<T, StoreError>>) -> T {
    match timeout(DEADLINE, call).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("the store failed: {error}; {error:?}"),
        Err(_) => panic!("the store did not answer within {DEADLINE:?}"),
    }
}

/// Numbers the batches of one test.
struct Writes<'a> {
    store: &'a dyn Store,
    token: u64,
}

impl<'a> Writes<'a> {
    fn to(store: &'a dyn Store) -> Self {
        Self { store, token: 0 }
    }

    async fn batch(&mut self, groups: Vec<Vec<Op>>) -> Vec<Commit> {
        self.token += 1;
        let groups: Vec<Group> = groups.into_iter().map(|ops| Group { ops }).collect();
        must(self.store.write(Token(self.token), &groups)).await
    }

    async fn one(&mut self, op: Op) -> Commit {
        self.batch(vec![vec![op]]).await.remove(0)
    }
}

fn shown(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| {
            let value = String::from_utf8_lossy(&entry.value);
            let (name, revision, created) = (entry.key.name(), entry.revision, entry.created);
            format!("{name}@{revision}/{created}={value}")
        })
        .collect()
}

fn shown_changes(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| {
            let entry = &shown(std::slice::from_ref(&change.entry))[0];
            let sign = if change.deleted { '-' } else { '+' };
            format!("{sign}{entry}<{}", change.previous)
        })
        .collect()
}

async fn list(store: &dyn Store, at: Option<u64>) -> Vec<String> {
    let page = must(store.list(&pods().prefix(None), at.map(Revision), None, 1000)).await;
    assert!(!page.more);
    shown(&page.entries)
}

async fn changes(store: &dyn Store, after: u64) -> Vec<String> {
    shown_changes(&must(store.changes(Revision(after), 10_000)).await)
}

pub async fn a_created_key_is_found(subject: &dyn Subject) {
    let store = subject.open().await;
    assert_eq!(must(store.revision()).await, Revision(0));
    assert_eq!(must(store.get(&pod("a"))).await, None);
    let mut writes = Writes::to(&*store);
    assert_eq!(writes.one(create("a")).await, done(&[1]));
    assert_eq!(writes.one(create("a")).await, conflict("a", Some(1)));
    let entry = must(store.get(&pod("a"))).await;
    assert_eq!(shown(entry.as_slice()), ["a@1/1=a"]);
    assert_eq!(must(store.revision()).await, Revision(1));
}

pub async fn an_update_needs_the_newest_revision(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes.one(create("a")).await;
    assert_eq!(writes.one(update("a", Revision(1), "x")).await, done(&[2]));
    let late = writes.one(update("a", Revision(1), "y")).await;
    assert_eq!(late, conflict("a", Some(2)));
    let absent = writes.one(update("b", Revision(1), "y")).await;
    assert_eq!(absent, conflict("b", None));
    assert_eq!(list(&*store, None).await, ["a@2/1=x"]);
}

pub async fn a_delete_keeps_the_last_state_in_the_history(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes.one(create("a")).await;
    let late = writes.one(delete("a", Revision(9), "a")).await;
    assert_eq!(late, conflict("a", Some(1)));
    assert_eq!(writes.one(delete("a", Revision(1), "a")).await, done(&[2]));
    let again = writes.one(delete("a", Revision(2), "a")).await;
    assert_eq!(again, conflict("a", None));
    assert_eq!(must(store.get(&pod("a"))).await, None);
    assert_eq!(list(&*store, None).await, [""; 0]);
    assert_eq!(changes(&*store, 0).await, ["+a@1/1=a<0", "-a@2/1=a<1"]);
}

pub async fn a_key_created_again_starts_anew(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes.one(create("a")).await;
    writes.one(delete("a", Revision(1), "a")).await;
    assert_eq!(writes.one(create("a")).await, done(&[3]));
    writes.one(update("a", Revision(3), "x")).await;
    assert_eq!(list(&*store, None).await, ["a@4/3=x"]);
    assert_eq!(changes(&*store, 2).await, ["+a@3/3=a<0", "+a@4/3=x<3"]);
}

pub async fn a_check_changes_nothing_and_guards_its_group(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes.one(create("a")).await;
    let holds = vec![
        check("a", Expect::At(Revision(1))),
        create("b"),
        check("c", Expect::Absent),
    ];
    let fails = vec![create("d"), check("a", Expect::At(Revision(7)))];
    let only = vec![check("a", Expect::At(Revision(1)))];
    assert_eq!(
        writes.batch(vec![holds, fails, only]).await,
        [done(&[1, 2, 0]), conflict("a", Some(1)), done(&[1])]
    );
    assert_eq!(must(store.revision()).await, Revision(2));
    let absent = writes.one(check("a", Expect::Absent)).await;
    assert_eq!(absent, conflict("a", Some(1)));
}

pub async fn a_group_commits_wholly_or_not_at_all(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes.one(create("a")).await;
    let broken = vec![create("b"), create("a"), create("c")];
    let whole = vec![create("d"), delete("a", Revision(1), "a"), create("e")];
    assert_eq!(
        writes.batch(vec![broken, whole]).await,
        [conflict("a", Some(1)), done(&[2, 3, 4])]
    );
    assert_eq!(list(&*store, None).await, ["d@2/2=d", "e@4/4=e"]);
}

pub async fn a_group_sees_the_groups_before_it(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    let commits = writes
        .batch(vec![
            vec![create("a"), create("b")],
            vec![update("a", Revision(1), "x")],
            vec![create("a")],
            vec![delete("a", Revision(3), "x")],
            vec![create("a")],
            vec![check("a", Expect::At(Revision(5))), create("c")],
            vec![create("d")],
        ])
        .await;
    assert_eq!(
        commits,
        [
            done(&[1, 2]),
            done(&[3]),
            conflict("a", Some(3)),
            done(&[4]),
            done(&[5]),
            done(&[5, 6]),
            done(&[7]),
        ]
    );
    assert_eq!(
        list(&*store, None).await,
        ["a@5/5=a", "b@2/2=b", "c@6/6=c", "d@7/7=d"]
    );
    assert_eq!(list(&*store, Some(3)).await, ["a@3/1=x", "b@2/2=b"]);
}

pub async fn values_are_opaque_bytes(subject: &dyn Subject) {
    let store = subject.open().await;
    let all: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for (name, value) in [("all", Bytes::from(all)), ("empty", Bytes::new())] {
        let op = Op::Put {
            key: pod(name),
            expect: Expect::Absent,
            value: value.clone(),
        };
        let commit = Writes::to(&*store).one(op).await;
        assert!(matches!(commit, Commit::Done(_)));
        let entry = must(store.get(&pod(name))).await;
        assert_eq!(entry.map(|entry| entry.value), Some(value));
    }
}

pub async fn revisions_have_no_gaps(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    for round in 0..10 {
        let groups = (0..5).map(|n| vec![create(&format!("p{}", round / 2 * 5 + n))]);
        writes.batch(groups.collect()).await;
    }
    let changes = must(store.changes(Revision(0), 1000)).await;
    let revisions: Vec<u64> = changes.iter().map(|c| c.entry.revision.0).collect();
    assert_eq!(revisions, (1..=25).collect::<Vec<_>>());
}

pub async fn lists_are_in_key_order_and_come_in_pages(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    let names = ["c", "a", "e", "B", "d", "a-b", "a.b"];
    for name in names {
        writes.one(create(name)).await;
    }
    writes.one(delete("c", Revision(1), "c")).await;
    for at in [None, Some(Revision(8))] {
        let mut found = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let prefix = pods().prefix(Some("default"));
            let page = must(store.list(&prefix, at, after.as_ref(), 2)).await;
            assert_eq!(page.revision, Revision(8));
            assert!(page.entries.len() <= 2);
            found.extend(page.entries.iter().map(|entry| entry.key.name().to_owned()));
            after = page.entries.last().map(|entry| entry.key.clone());
            if !page.more {
                break;
            }
        }
        assert_eq!(found, ["B", "a", "a-b", "a.b", "d", "e"]);
    }
}

pub async fn a_prefix_does_not_match_its_neighbours(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    let services = ResourceKey::new("", "pods-like");
    for key in [
        pods().key("default", "a"),
        pods().key("default-2", "a"),
        pods().key("", "cluster"),
        services.key("default", "a"),
    ] {
        writes.one(put(&key, Expect::Absent, "v")).await;
    }
    let count = async |prefix: &str| must(store.list(prefix, None, None, 10)).await.entries.len();
    assert_eq!(count(&pods().prefix(Some("default"))).await, 1);
    assert_eq!(count(&pods().prefix(None)).await, 3);
    assert_eq!(count("").await, 4);
    assert_eq!(count("apps/").await, 0);
}

pub async fn a_past_state_can_be_listed(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes.one(create("a")).await;
    writes.one(create("b")).await;
    writes.one(update("a", Revision(1), "x")).await;
    writes.one(delete("b", Revision(2), "b")).await;
    writes.one(create("b")).await;
    writes.one(update("a", Revision(3), "y")).await;
    let expected: [&[&str]; 7] = [
        &[],
        &["a@1/1=a"],
        &["a@1/1=a", "b@2/2=b"],
        &["a@3/1=x", "b@2/2=b"],
        &["a@3/1=x"],
        &["a@3/1=x", "b@5/5=b"],
        &["a@6/1=y", "b@5/5=b"],
    ];
    for (at, expected) in (0..).zip(expected) {
        assert_eq!(list(&*store, Some(at)).await, expected, "at {at}");
    }
}

pub async fn changes_come_in_order_and_once(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes
        .batch(vec![vec![create("b")], vec![create("a")]])
        .await;
    writes.one(update("b", Revision(1), "x")).await;
    assert_eq!(
        changes(&*store, 0).await,
        ["+b@1/1=b<0", "+a@2/2=a<0", "+b@3/1=x<1"]
    );
    assert_eq!(changes(&*store, 2).await, ["+b@3/1=x<1"]);
    assert_eq!(changes(&*store, 3).await, [""; 0]);
    let two = must(store.changes(Revision(0), 2)).await;
    assert_eq!(shown_changes(&two), ["+b@1/1=b<0", "+a@2/2=a<0"]);
}

pub async fn compaction_forgets_the_past_and_keeps_the_present(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    writes.one(create("a")).await;
    writes.one(create("gone")).await;
    writes.one(update("a", Revision(1), "x")).await;
    writes.one(delete("gone", Revision(2), "gone")).await;
    writes.one(create("b")).await;
    writes.one(update("a", Revision(3), "y")).await;
    assert_eq!(must(store.floor()).await, Revision(0));
    assert_eq!(must(store.compact(Revision(4))).await, Revision(4));
    assert_eq!(must(store.floor()).await, Revision(4));
    // Asking for less changes nothing.
    assert_eq!(must(store.compact(Revision(2))).await, Revision(4));
    for asked in [0, 3] {
        let gone = store.changes(Revision(asked), 10).await;
        assert!(
            matches!(gone, Err(StoreError::Compacted { floor, .. }) if floor == Revision(4)),
            "{gone:?}"
        );
        let gone = store.list("", Some(Revision(asked)), None, 10).await;
        assert!(
            matches!(gone, Err(StoreError::Compacted { .. })),
            "{gone:?}"
        );
    }
    assert_eq!(list(&*store, Some(4)).await, ["a@3/1=x"]);
    assert_eq!(list(&*store, None).await, ["a@6/1=y", "b@5/5=b"]);
    assert_eq!(changes(&*store, 4).await, ["+b@5/5=b<0", "+a@6/1=y<3"]);
    // A key whose delete was forgotten can be created, and one that lives cannot.
    assert_eq!(writes.one(create("gone")).await, done(&[7]));
    assert_eq!(writes.one(create("b")).await, conflict("b", Some(5)));
    let updated = writes.one(update("a", Revision(6), "z")).await;
    assert_eq!(updated, done(&[8]));
}

pub async fn the_newest_row_is_never_forgotten(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    assert_eq!(must(store.compact(Revision(5))).await, Revision(0));
    writes.one(create("a")).await;
    writes.one(delete("a", Revision(1), "a")).await;
    assert_eq!(
        must(store.compact(Revision(u64::MAX >> 1))).await,
        Revision(1)
    );
    assert_eq!(must(store.revision()).await, Revision(2));
    drop(store);
    let store = subject.open().await;
    assert_eq!(must(store.revision()).await, Revision(2));
    assert_eq!(must(store.floor()).await, Revision(1));
    assert_eq!(
        Writes {
            store: &*store,
            token: 50
        }
        .one(create("a"))
        .await,
        done(&[3])
    );
}

pub async fn a_revision_ahead_of_the_store_is_refused(subject: &dyn Subject) {
    let store = subject.open().await;
    Writes::to(&*store).one(create("a")).await;
    let ahead = store.list("", Some(Revision(2)), None, 10).await;
    assert!(
        matches!(
            ahead,
            Err(StoreError::Future {
                current: Revision(1),
                ..
            })
        ),
        "{ahead:?}"
    );
    let ahead = store.changes(Revision(2), 10).await;
    assert!(matches!(ahead, Err(StoreError::Future { .. })), "{ahead:?}");
}

pub async fn a_token_finds_its_batch(subject: &dyn Subject) {
    let store = subject.open().await;
    let groups = [
        Group {
            ops: vec![create("a"), create("b")],
        },
        Group {
            ops: vec![update("a", Revision(9), "x")],
        },
        Group {
            ops: vec![create("c")],
        },
    ];
    let token = Token(u64::MAX - 3);
    must(store.write(token, &groups)).await;
    let found = must(store.find_token(token, Revision(0))).await;
    let expected = [("a", 1), ("b", 2), ("c", 3)].map(|(n, r)| (pod(n), Revision(r)));
    assert_eq!(found, expected);
    let later = must(store.find_token(Token(77), Revision(0))).await;
    assert_eq!(later, []);
}

pub async fn a_batch_that_was_given_up_never_arrives(subject: &dyn Subject) {
    let store = subject.open().await;
    let token = Token(7);
    assert_eq!(must(store.find_token(token, Revision(0))).await, []);
    let late = store
        .write(
            token,
            &[Group {
                ops: vec![create("a")],
            }],
        )
        .await;
    assert!(
        matches!(late, Err(StoreError::Unavailable { .. })),
        "{late:?}"
    );
    assert_eq!(must(store.revision()).await, Revision(0));
    let other = must(store.write(
        Token(8),
        &[Group {
            ops: vec![create("a")],
        }],
    ))
    .await;
    assert_eq!(other, [done(&[1])]);
}

/// Every writer raises one of a few counters with compare and swap; the sums must agree.
pub async fn concurrent_writers_lose_nothing(subject: &dyn Subject) {
    const WRITERS: u64 = 8;
    const WRITES: u64 = 25;
    let store = subject.open().await;
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut token = writer << 40;
            let key = pod(&format!("counter-{}", writer % 3));
            for _ in 0..WRITES {
                loop {
                    token += 1;
                    let now = must(store.get(&key)).await;
                    let expect = now
                        .as_ref()
                        .map_or(Expect::Absent, |e| Expect::At(e.revision));
                    let count = now.map_or(0, |entry| entry.value.len()) + 1;
                    let group = Group {
                        ops: vec![put(&key, expect, &"x".repeat(count))],
                    };
                    let commits = must(store.write(Token(token), &[group])).await;
                    if matches!(commits[..], [Commit::Done(_)]) {
                        break;
                    }
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no writer fails");
    }
    let entries = must(store.list("", None, None, 10)).await.entries;
    let sum: usize = entries.iter().map(|entry| entry.value.len()).sum();
    assert_eq!(sum as u64, WRITERS * WRITES);
    let history = must(store.changes(Revision(0), 1000)).await;
    let revisions: Vec<u64> = history.iter().map(|c| c.entry.revision.0).collect();
    assert_eq!(revisions, (1..=WRITERS * WRITES).collect::<Vec<_>>());
}

pub async fn a_store_opened_again_has_everything(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    for name in ["a", "b", "c"] {
        writes.one(create(name)).await;
    }
    writes.one(delete("b", Revision(2), "b")).await;
    let before = (list(&*store, None).await, changes(&*store, 0).await);
    drop(store);
    let store = subject.open().await;
    let after = (list(&*store, None).await, changes(&*store, 0).await);
    assert_eq!(before, after);
    let mut writes = Writes {
        store: &*store,
        token: 100,
    };
    assert_eq!(writes.one(create("d")).await, done(&[5]));
}

pub async fn a_waiting_reader_wakes(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut waits = JoinSet::new();
    let waiting = store.clone();
    let (ready, seen_empty) = oneshot::channel();
    waits.spawn(async move {
        assert!(must(waiting.changes(Revision(0), 1)).await.is_empty());
        ready.send(()).expect("the test waits for it");
        // A back end may return early: the log decides.
        while must(waiting.changes(Revision(0), 1)).await.is_empty() {
            waiting.wait(Revision(0)).await;
        }
    });
    seen_empty.await.expect("the reader sees an empty log");
    Writes::to(&*store).one(create("a")).await;
    let woken = timeout(DEADLINE, waits.join_next()).await;
    woken
        .expect("it wakes in time")
        .expect("it was spawned")
        .expect("it does not fail");
    // What is there already is not waited for.
    timeout(DEADLINE, store.wait(Revision(0)))
        .await
        .expect("it returns");
}

pub async fn a_large_batch_commits(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut writes = Writes::to(&*store);
    let groups = (0..1000).map(|n| vec![create(&format!("p{n:04}"))]);
    let commits = writes.batch(groups.collect()).await;
    let expected: Vec<Commit> = (1..=1000).map(|revision| done(&[revision])).collect();
    assert_eq!(commits, expected);
    let page = must(store.list(&pods().prefix(None), None, None, 2000)).await;
    assert_eq!(page.entries.len(), 1000);
    assert!(!page.more);
}

/// Random batches, some of them failing, give the same answers, state and history as the reference.
pub async fn a_long_random_history_equals_the_reference(subject: &dyn Subject) {
    let store = subject.open().await;
    let reference = MemoryStore::new();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut heads: BTreeMap<Key, Revision> = BTreeMap::new();
    for token in 1..=120 {
        let batch: Vec<Group> = (0..=dice.roll(4)).map(|_| dice.group(&heads)).collect();
        let expected = must(reference.write(Token(token), &batch)).await;
        let commits = must(store.write(Token(token), &batch)).await;
        assert_eq!(commits, expected, "batch {token}: {batch:?}");
        heads = must(reference.list("", None, None, 100))
            .await
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.revision))
            .collect();
        if token % 40 == 0 {
            let until = Revision(must(reference.revision()).await.0.saturating_sub(20));
            let floor = must(reference.compact(until)).await;
            assert_eq!(must(store.compact(until)).await, floor);
        }
    }
    let (floor, newest) = (
        must(reference.floor()).await,
        must(reference.revision()).await,
    );
    assert_eq!(must(store.revision()).await, newest);
    for at in floor.0..=newest.0 {
        assert_eq!(
            list(&*store, Some(at)).await,
            list(&reference, Some(at)).await
        );
    }
    assert_eq!(
        changes(&*store, floor.0).await,
        changes(&reference, floor.0).await
    );
}

/// A small generator of its own, so that a failure repeats.
struct Dice(u64);

impl Dice {
    /// A number from 0 to `sides - 1`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn group(&mut self, heads: &BTreeMap<Key, Revision>) -> Group {
        let mut names: Vec<u64> = (0..6).collect();
        let ops = (0..=self.roll(2))
            .map(|_| {
                let name = names.swap_remove(self.roll(names.len() as u64) as usize);
                self.op(pod(&format!("k{name}")), heads)
            })
            .collect();
        Group { ops }
    }

    fn op(&mut self, key: Key, heads: &BTreeMap<Key, Revision>) -> Op {
        let expect = match heads.get(&key) {
            Some(revision) if self.roll(8) > 0 => Expect::At(*revision),
            None if self.roll(8) == 0 => Expect::At(Revision(1)),
            _ => Expect::Absent,
        };
        let value = Bytes::from(self.roll(1000).to_string());
        match (self.roll(6), expect) {
            (0, _) => Op::Check { key, expect },
            (1 | 2, Expect::At(_)) => Op::Delete { key, expect, value },
            _ => Op::Put { key, expect, value },
        }
    }
}
