//! Several processes on one database: here, several stores with a cache each.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use postgres_server::Database;
use sqlx::{Connection, PgConnection};
use store::{
    Cache, CacheConfig, Commit, Decode, Decoded, Expect, Group, Key, Op, ResourceKey, Revision,
    Store, StoreError, Token, Watcher,
};
use tokio::{task::JoinSet, time::timeout};

use crate::create_database;

const DEADLINE: Duration = Duration::from_secs(60);

/// Values are kept as they are.
struct Plain;

impl Decode for Plain {
    fn decode(&self, _: &Key, _: Revision, value: &Bytes) -> Result<Decoded, String> {
        Ok(Decoded {
            value: value.clone(),
            ..Decoded::default()
        })
    }
}

/// One process: a store, its cache, and the tasks that keep it.
struct Process {
    cache: Cache,
    _tasks: JoinSet<()>,
}

impl Process {
    async fn start(database: &Database) -> Self {
        let store = Arc::new(store_postgres::connect(&database.url).await.unwrap());
        let (cache, run) = Cache::start(store, Arc::new(Plain), CacheConfig::default())
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { run.await.unwrap() });
        Self {
            cache,
            _tasks: tasks,
        }
    }
}

fn pods() -> ResourceKey {
    ResourceKey::new("", "pods")
}

pub(crate) fn create(name: &str) -> Group {
    let op = Op::Put {
        key: pods().key("default", name),
        expect: Expect::Absent,
        value: Bytes::copy_from_slice(name.as_bytes()),
    };
    Group { ops: vec![op] }
}

async fn soon<T>(what: &str, call: impl Future<Output = T>) -> T {
    timeout(DEADLINE, call)
        .await
        .unwrap_or_else(|_| panic!("{what} within {DEADLINE:?}"))
}

async fn seen(mut watcher: Watcher, count: usize) -> Vec<(Revision, String)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let events = soon("the next event", watcher.next()).await.unwrap();
        seen.extend(
            events
                .iter()
                .map(|event| (event.item.revision, event.item.key.name().to_owned())),
        );
    }
    seen
}

/// A session for a test's own questions.
async fn session(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url).await.unwrap()
}

async fn end_sessions(session: &mut PgConnection, which: &str) -> u64 {
    let ended = sqlx::query(
        "SELECT pg_terminate_backend(pid)
         FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE $1",
    )
    .bind(which)
    .execute(session)
    .await
    .unwrap();
    ended.rows_affected()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_caches_see_each_others_writes_in_one_order() {
    const WRITES: usize = 200;
    let database = create_database().await;
    let processes = [
        Process::start(&database).await,
        Process::start(&database).await,
    ];
    let watchers: Vec<Watcher> = processes
        .iter()
        .map(|process| process.cache.watch(&pods(), Revision(0)).unwrap())
        .collect();
    let mut writers = JoinSet::new();
    for (number, process) in processes.iter().enumerate() {
        for writer in 0..4 {
            let cache = process.cache.clone();
            writers.spawn(async move {
                for n in 0..WRITES / 8 {
                    let name = format!("p{number}-{writer}-{n}");
                    let commit = soon("a write", cache.write(create(&name))).await.unwrap();
                    assert!(matches!(commit, Commit::Done(_)));
                    // What was acknowledged is in this cache.
                    assert!(cache.get(&pods().key("default", &name)).is_some());
                }
            });
        }
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let mut orders = Vec::new();
    for watcher in watchers {
        orders.push(seen(watcher, WRITES).await);
    }
    assert_eq!(orders[0], orders[1]);
    let revisions: Vec<u64> = orders[0].iter().map(|(revision, _)| revision.0).collect();
    assert_eq!(revisions, (1..=WRITES as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_read_sees_what_another_process_acknowledged() {
    let database = create_database().await;
    let (one, other) = (
        Process::start(&database).await,
        Process::start(&database).await,
    );
    for n in 0..50 {
        let name = format!("p{n}");
        soon("a write", one.cache.write(create(&name)))
            .await
            .unwrap();
        soon("a fresh revision", other.cache.fresh()).await.unwrap();
        assert!(other.cache.get(&pods().key("default", &name)).is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_listening_session_loses_no_event() {
    let database = create_database().await;
    let (one, other) = (
        Process::start(&database).await,
        Process::start(&database).await,
    );
    let watcher = other.cache.watch(&pods(), Revision(0)).unwrap();
    let mut admin = session(&database).await;
    for n in 0..30 {
        if n % 10 == 5 {
            end_sessions(&mut admin, "LISTEN%").await;
        }
        let group = create(&format!("p{n}"));
        soon("a write", one.cache.write(group)).await.unwrap();
    }
    let names: Vec<String> = seen(watcher, 30)
        .await
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    let expected: Vec<String> = (0..30).map(|n| format!("p{n}")).collect();
    assert_eq!(names, expected);
}

/// Every session is ended again and again while writers write, at a pace that leaves room for
/// progress: whatever was acknowledged is there once, and a watch has every event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_lose_nothing_that_was_acknowledged() {
    write_while_sessions_end(Duration::from_millis(100), 80).await;
}

/// Sessions end faster than they can be set up, so that next to nothing gets through meanwhile; the
/// writers finish once that stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_finish_once_a_storm_of_ended_sessions_is_over() {
    write_while_sessions_end(Duration::from_millis(30), 150).await;
}

/// Writes while all sessions are ended every `pace`, at most so many times.
async fn write_while_sessions_end(pace: Duration, times: u32) {
    const WRITERS: usize = 8;
    const WRITES: usize = 60;
    let database = create_database().await;
    let process = Process::start(&database).await;
    let watcher = process.cache.watch(&pods(), Revision(0)).unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let cache = process.cache.clone();
        writers.spawn(async move {
            for n in 0..WRITES {
                write_until_acknowledged(&cache, &format!("p{writer}-{n}")).await;
            }
        });
    }
    let mut admin = session(&database).await;
    let mut storms = 0;
    let everything = async {
        while !writers.is_empty() {
            if storms < times {
                end_sessions(&mut admin, "%").await;
                storms += 1;
            }
            if let Ok(Some(ended)) = timeout(pace, writers.join_next()).await {
                ended.unwrap();
            }
        }
    };
    soon("all writes", everything).await;
    let expected: BTreeSet<String> = (0..WRITERS)
        .flat_map(|writer| (0..WRITES).map(move |n| format!("p{writer}-{n}")))
        .collect();
    let events = seen(watcher, WRITERS * WRITES).await;
    let revisions: Vec<u64> = events.iter().map(|(revision, _)| revision.0).collect();
    let all = 1..=(WRITERS * WRITES) as u64;
    assert_eq!(revisions, all.collect::<Vec<_>>());
    let names: BTreeSet<String> = events.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, expected);
}

/// An error other than a lost answer says that nothing was written: a later attempt may not find it
/// there. One whose answer stayed lost may have been written.
async fn write_until_acknowledged(cache: &Cache, name: &str) {
    let mut in_doubt = false;
    loop {
        match soon("a write", cache.write(create(name))).await {
            Ok(Commit::Done(_)) => return,
            Ok(Commit::Conflict { .. }) if in_doubt => return,
            Ok(commit) => panic!("{name}: {commit:?}"),
            Err(StoreError::Ambiguous) => in_doubt = true,
            Err(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_heard_of_at_once() {
    let database = create_database().await;
    let one = store_postgres::connect(&database.url).await.unwrap();
    let other = store_postgres::connect(&database.url).await.unwrap();
    assert_eq!(one.cluster_id(), other.cluster_id());
    one.write(Token(1), &[create("a")]).await.unwrap();
    soon("the wait", other.wait(Revision(0))).await;
    assert_eq!(other.revision().await.unwrap(), Revision(1));
}
