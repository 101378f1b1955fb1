//! The watch cache over the reference back end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use expect_test::{Expect as Text, expect};
use store::{
    Cache, CacheConfig, Change, Commit, Decode, Decoded, Entry, Event, Expect, Group, Item, Key,
    MemoryStore, Op, Page, ResourceKey, Revision, Store, StoreError, Token, Watcher,
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// Shows the revision it was called with in the value; "broken" cannot be decoded.
struct Stamp;

impl Decode for Stamp {
    fn decode(&self, _: &Key, revision: Revision, value: &Bytes) -> Result<Decoded, String> {
        let text = String::from_utf8_lossy(value);
        if text == "broken" {
            return Err("broken".into());
        }
        Ok(Decoded {
            value: Bytes::from(format!("{text}@{revision}")),
            ..Decoded::default()
        })
    }
}

struct Running {
    cache: Cache,
    tasks: JoinSet<()>,
}

async fn start(store: &Arc<impl Store>, config: CacheConfig) -> Running {
    let (cache, run) = Cache::start(store.clone(), Arc::new(Stamp), config)
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { run.await.unwrap() });
    Running { cache, tasks }
}

fn config() -> CacheConfig {
    CacheConfig::default()
}

fn pods() -> ResourceKey {
    ResourceKey::new("", "pods")
}

fn nodes() -> ResourceKey {
    ResourceKey::new("", "nodes")
}

fn pod(name: &str) -> Key {
    pods().key("default", name)
}

fn put(key: Key, at: u64, value: &str) -> Group {
    let expect = match at {
        0 => Expect::Absent,
        at => Expect::At(Revision(at)),
    };
    let value = Bytes::copy_from_slice(value.as_bytes());
    Group {
        ops: vec![Op::Put { key, expect, value }],
    }
}

fn delete(key: Key, at: u64, last: &str) -> Group {
    let op = Op::Delete {
        key,
        expect: Expect::At(Revision(at)),
        value: Bytes::copy_from_slice(last.as_bytes()),
    };
    Group { ops: vec![op] }
}

async fn soon<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), call)
        .await
        .expect("in time")
}

async fn write(cache: &Cache, group: Group) {
    let commit = soon(cache.write(group)).await.unwrap();
    assert!(matches!(commit, Commit::Done(_)), "{commit:?}");
}

fn shown(item: &Item) -> String {
    let value = String::from_utf8_lossy(&item.decoded.value);
    format!(
        "{} {value} r{} c{}",
        item.key.name(),
        item.revision,
        item.created
    )
}

fn shown_items(items: &[Arc<Item>]) -> Vec<String> {
    items.iter().map(|item| shown(item)).collect()
}

fn shown_event(event: &Event) -> String {
    let sign = if event.deleted { '-' } else { '+' };
    let previous = event.previous.as_deref().map_or("nothing".into(), shown);
    format!("{sign} {} after {previous}\n", shown(&event.item))
}

async fn next(watcher: &mut Watcher, count: usize) -> String {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(soon(watcher.next()).await.unwrap());
    }
    events.iter().map(|event| shown_event(event)).collect()
}

fn check(found: &str, expected: Text) {
    expected.assert_eq(found);
}

#[tokio::test]
async fn a_write_is_in_the_cache_when_it_is_acknowledged() {
    let running = start(&Arc::new(MemoryStore::new()), config()).await;
    let cache = &running.cache;
    write(cache, put(pod("a"), 0, "x")).await;
    write(cache, put(pod("a"), 1, "y")).await;
    write(cache, put(nodes().key("", "n"), 0, "z")).await;
    assert_eq!(shown(&cache.get(&pod("a")).unwrap()), "a y@2 r2 c1");
    let list = cache.list(&pods(), None);
    assert_eq!(list.revision, Revision(3));
    assert_eq!(shown_items(&list.items), ["a y@2 r2 c1"]);
    assert_eq!(cache.list(&pods(), Some("default")).items.len(), 1);
    assert_eq!(cache.list(&pods(), Some("other")).items.len(), 0);
    let late = soon(cache.write(put(pod("a"), 1, "z"))).await.unwrap();
    let conflict = Commit::Conflict {
        key: pod("a"),
        current: Some(Revision(2)),
    };
    assert_eq!(late, conflict);
}

#[tokio::test]
async fn a_watcher_gets_every_change_once_whoever_made_it() {
    let store = Arc::new(MemoryStore::new());
    let running = start(&store, config()).await;
    let mut watcher = running.cache.watch(&pods(), Revision(0)).unwrap();
    write(&running.cache, put(pod("a"), 0, "x")).await;
    // Another process.
    let groups = [put(pod("b"), 0, "o"), put(pod("a"), 1, "y")];
    store.write(Token(1), &groups).await.unwrap();
    write(&running.cache, delete(pod("b"), 2, "o")).await;
    write(&running.cache, put(pod("b"), 0, "n")).await;
    check(
        &next(&mut watcher, 5).await,
        expect![[r#"
            + a x@1 r1 c1 after nothing
            + b o@2 r2 c2 after nothing
            + a y@3 r3 c1 after a x@1 r1 c1
            - b o@4 r4 c2 after b o@2 r2 c2
            + b n@5 r5 c5 after nothing
        "#]],
    );
    let mut later = running.cache.watch(&pods(), Revision(3)).unwrap();
    check(
        &next(&mut later, 2).await,
        expect![[r#"
            - b o@4 r4 c2 after b o@2 r2 c2
            + b n@5 r5 c5 after nothing
        "#]],
    );
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let running = start(&store, config()).await;
    for (at, value) in [(0, "x"), (1, "y"), (2, "z")] {
        write(&running.cache, put(pod("a"), at, value)).await;
    }
    drop(running);
    let running = start(&store, config()).await;
    let mut watcher = running.cache.watch(&pods(), Revision(1)).unwrap();
    check(
        &next(&mut watcher, 2).await,
        expect![[r#"
            + a y@2 r2 c1 after a x@1 r1 c1
            + a z@3 r3 c1 after a y@2 r2 c1
        "#]],
    );
}

#[tokio::test]
async fn a_watcher_that_lags_is_closed() {
    let store = Arc::new(MemoryStore::new());
    let few = CacheConfig { lag: 3, ..config() };
    let running = start(&store, few).await;
    let mut slow = running.cache.watch(&pods(), Revision(0)).unwrap();
    write(&running.cache, put(pod("a"), 0, "v")).await;
    next(&mut slow, 1).await;
    for at in 1..=4 {
        write(&running.cache, put(pod("a"), at, "v")).await;
    }
    let error = soon(slow.next()).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    // A backlog that was asked for is not lag.
    let mut fresh = running.cache.watch(&pods(), Revision(0)).unwrap();
    assert_eq!(soon(fresh.next()).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_watch_from_before_the_ring_is_refused() {
    let store = Arc::new(MemoryStore::new());
    let small = CacheConfig {
        ring: 2,
        ..config()
    };
    let running = start(&store, small).await;
    for at in 0..5 {
        write(&running.cache, put(pod("a"), at, "v")).await;
    }
    let refused = running.cache.watch(&pods(), Revision(2)).err().unwrap();
    assert!(
        matches!(
            refused,
            StoreError::Compacted {
                floor: Revision(3),
                ..
            }
        ),
        "{refused}"
    );
    let mut watcher = running.cache.watch(&pods(), Revision(3)).unwrap();
    assert_eq!(soon(watcher.next()).await.unwrap().len(), 2);
    // Another resource has lost nothing.
    running.cache.watch(&nodes(), Revision(0)).unwrap();
}

#[tokio::test]
async fn progress_follows_the_whole_history() {
    let running = start(&Arc::new(MemoryStore::new()), config()).await;
    let cache = &running.cache;
    let mut watcher = cache.watch(&pods(), Revision(0)).unwrap();
    write(cache, put(nodes().key("", "n"), 0, "v")).await;
    assert_eq!(watcher.progress(), Revision(1));
    write(cache, put(pod("a"), 0, "v")).await;
    write(cache, put(nodes().key("", "n"), 1, "v")).await;
    assert_eq!(watcher.progress(), Revision(0));
    next(&mut watcher, 1).await;
    assert_eq!(watcher.progress(), Revision(3));
}

#[tokio::test]
async fn a_past_state_is_the_same_from_memory_and_from_the_store() {
    let store = Arc::new(MemoryStore::new());
    let memory = start(&store, config()).await;
    let no_ring = start(
        &store,
        CacheConfig {
            ring: 1,
            ..config()
        },
    )
    .await;
    let cache = &memory.cache;
    write(cache, put(pod("a"), 0, "x")).await;
    write(cache, put(pod("b"), 0, "x")).await;
    write(cache, put(pod("a"), 1, "y")).await;
    write(cache, delete(pod("b"), 2, "x")).await;
    write(cache, put(nodes().key("", "n"), 0, "v")).await;
    write(cache, put(pod("b"), 0, "z")).await;
    write(cache, put(pods().key("other", "c"), 0, "z")).await;
    let mut states = String::new();
    for at in 0..=7 {
        for namespace in [None, Some("default")] {
            let one = cache
                .list_at(&pods(), namespace, Revision(at))
                .await
                .unwrap();
            let other = no_ring
                .cache
                .list_at(&pods(), namespace, Revision(at))
                .await
                .unwrap();
            assert_eq!(
                shown_items(&one.items),
                shown_items(&other.items),
                "at {at}"
            );
            assert_eq!(one.revision, Revision(at));
            if namespace.is_none() {
                states += &format!("{at}: {}\n", shown_items(&one.items).join(", "));
            }
        }
    }
    check(
        &states,
        expect![[r#"
            0: 
            1: a x@1 r1 c1
            2: a x@1 r1 c1, b x@2 r2 c2
            3: a y@3 r3 c1, b x@2 r2 c2
            4: a y@3 r3 c1
            5: a y@3 r3 c1
            6: a y@3 r3 c1, b z@6 r6 c6
            7: a y@3 r3 c1, b z@6 r6 c6, c z@7 r7 c7
        "#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_does_not_come_is_in_the_future() {
    let running = start(&Arc::new(MemoryStore::new()), config()).await;
    let error = running.cache.reach(Revision(5)).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Future {
                asked: Revision(5),
                current: Revision(0)
            }
        ),
        "{error}"
    );
    let error = running.cache.watch(&pods(), Revision(5)).err().unwrap();
    assert!(matches!(error, StoreError::Future { .. }), "{error}");
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_is_kept_as_it_is() {
    let running = start(&Arc::new(MemoryStore::new()), config()).await;
    write(&running.cache, put(pod("a"), 0, "broken")).await;
    let item = running.cache.get(&pod("a")).unwrap();
    assert_eq!(item.decoded.value, "broken");
}

#[tokio::test]
async fn watchers_and_readers_end_with_the_cache() {
    let mut running = start(&Arc::new(MemoryStore::new()), config()).await;
    let mut watcher = running.cache.watch(&pods(), Revision(0)).unwrap();
    running.tasks.shutdown().await;
    for error in [
        soon(watcher.next()).await.unwrap_err(),
        soon(running.cache.reach(Revision(1))).await.unwrap_err(),
        soon(running.cache.write(put(pod("a"), 0, "v")))
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Stopped), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn old_history_is_compacted_but_a_thousand_revisions_stay() {
    let store = Arc::new(MemoryStore::new());
    let running = start(&store, config()).await;
    for at in 0..1500 {
        write(&running.cache, put(pod("a"), at, "v")).await;
    }
    // Time is virtual: this returns when the tasks have nothing to do before it.
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(store.floor().await.unwrap(), Revision(0));
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(store.floor().await.unwrap(), Revision(500));
    assert!(running.cache.watch(&pods(), Revision(499)).is_err());
    assert!(running.cache.watch(&pods(), Revision(500)).is_ok());
}

#[tokio::test]
async fn a_cache_that_slept_through_the_history_loads_anew() {
    let store = Arc::new(MemoryStore::new());
    let (cache, run) = Cache::start(store.clone(), Arc::new(Stamp), config())
        .await
        .unwrap();
    let mut watcher = cache.watch(&pods(), Revision(0)).unwrap();
    for at in 0..10 {
        store
            .write(Token(at), &[put(pod("a"), at, "v")])
            .await
            .unwrap();
    }
    store.compact(Revision(8)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { run.await.unwrap() });
    soon(cache.fresh()).await.unwrap();
    assert_eq!(shown(&cache.get(&pod("a")).unwrap()), "a v@10 r10 c1");
    let error = soon(watcher.next()).await.unwrap_err();
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
}

/// Counts the questions for the revision, and lets them pass one by one.
struct Gated {
    inner: MemoryStore,
    questions: AtomicUsize,
    gate: Semaphore,
}

#[async_trait]
impl Store for Gated {
    async fn write(&self, token: Token, batch: &[Group]) -> Result<Vec<Commit>, StoreError> {
        self.inner.write(token, batch).await
    }

    async fn find_token(
        &self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        self.inner.find_token(token, after).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.inner.revision().await
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

#[tokio::test]
async fn one_question_answers_all_readers_that_came_before_it() {
    let store = Arc::new(Gated {
        inner: MemoryStore::new(),
        questions: AtomicUsize::new(0),
        gate: Semaphore::new(1),
    });
    let running = start(&store, config()).await;
    assert_eq!(store.questions.load(Ordering::SeqCst), 1);
    let mut readers = Vec::new();
    for _ in 0..100 {
        let cache = running.cache.clone();
        let mut reader = Box::pin(async move { cache.fresh().await });
        std::future::poll_fn(|cx| {
            assert!(reader.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        readers.push(reader);
    }
    let token = Token(1);
    store.write(token, &[put(pod("a"), 0, "v")]).await.unwrap();
    store.gate.add_permits(100);
    for reader in readers {
        assert_eq!(soon(reader).await.unwrap(), Revision(1));
    }
    // The first reader's own, and one for all who came while that was under way.
    assert_eq!(store.questions.load(Ordering::SeqCst), 3);
    assert!(running.cache.get(&pod("a")).is_some());
}
