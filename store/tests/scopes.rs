//! A watcher of a part of a resource gets what a watcher of the whole gets of that part.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use store::{
    Cache, CacheConfig, Decode, Decoded, Event, Expect, Group, Key, MemoryStore, Op, ResourceKey,
    Revision, Scope, Watcher,
};
use tokio::{task::JoinSet, time::timeout};

/// The value is the field `at`.
struct Field;

impl Decode for Field {
    fn decode(&self, _: &Key, _: Revision, value: &Bytes) -> Result<Decoded, String> {
        let text = String::from_utf8_lossy(value).into_owned();
        Ok(Decoded {
            value: value.clone(),
            labels: BTreeMap::new(),
            fields: BTreeMap::from([("at", text)]),
        })
    }
}

fn pods() -> ResourceKey {
    ResourceKey::new("", "pods")
}

fn scopes() -> Vec<Scope> {
    vec![
        Scope::All,
        Scope::Namespace("a".into()),
        Scope::Namespace("none".into()),
        Scope::Object(pods().key("b", "p1")),
        Scope::Field("at".into(), "n1".into()),
        Scope::Field("at".into(), String::new()),
        Scope::Field("other".into(), String::new()),
    ]
}

fn is_of(scope: &Scope, event: &Event) -> bool {
    let at = |item: &store::Item, field: &str| {
        item.decoded.fields.get(field).cloned().unwrap_or_default()
    };
    match scope {
        Scope::All => true,
        Scope::Namespace(namespace) => event.item.key.namespace() == namespace,
        Scope::Object(key) => event.item.key == *key,
        Scope::Field(field, value) => {
            let before = event.previous.as_ref();
            at(&event.item, field) == *value || before.is_some_and(|item| at(item, field) == *value)
        }
    }
}

/// Writes some objects anew, some changed, some removed.
async fn write(cache: &Cache, round: u64) {
    let key = pods().key(["a", "b"][(round % 2) as usize], &format!("p{}", round % 3));
    let value = Bytes::from(["", "n1", "n2"][(round / 2 % 3) as usize]);
    let current = cache.get(&key).map(|item| item.revision);
    let expect = current.map_or(Expect::Absent, Expect::At);
    let op = match (round % 5, current) {
        (4, Some(_)) => Op::Delete { key, expect, value },
        _ => Op::Put { key, expect, value },
    };
    cache.write(Group { ops: vec![op] }).await.unwrap();
}

async fn revisions(watcher: &mut Watcher, count: usize) -> Vec<Revision> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let events = timeout(Duration::from_secs(20), watcher.next()).await;
        let events = events.expect("events in time").unwrap();
        seen.extend(events.iter().map(|event| event.item.revision));
    }
    seen
}

#[tokio::test]
async fn a_part_is_told_as_the_whole_is() {
    let config = CacheConfig {
        ring: 40,
        ..CacheConfig::default()
    };
    let (cache, run) = Cache::start(Arc::new(MemoryStore::new()), Arc::new(Field), config)
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { run.await.unwrap() });
    let mut whole = cache.watch(&pods(), Revision(0)).unwrap();
    let mut events: Vec<Arc<Event>> = Vec::new();
    let mut watchers: Vec<(Scope, Revision, Watcher, Vec<Revision>)> = Vec::new();
    for round in 0..120 {
        write(&cache, round).await;
        while events.last().map(|event| event.item.revision) != Some(cache.revision()) {
            events.extend(whole.next().await.unwrap());
        }
        if round % 25 == 7 {
            // From now and from a while ago, while others watch the same and after they left.
            for after in [cache.revision(), Revision(cache.revision().0 - 7)] {
                for scope in scopes() {
                    let watcher = cache.watch_scope(&pods(), scope.clone(), after).unwrap();
                    watchers.push((scope, after, watcher, Vec::new()));
                }
            }
        }
        for (scope, after, watcher, seen) in &mut watchers {
            let last = events.last().expect("an event");
            if is_of(scope, last) && last.item.revision > *after {
                let known = seen.len();
                let wanted = events
                    .iter()
                    .filter(|event| event.item.revision > *after && is_of(scope, event));
                let wanted = wanted.count() - known;
                seen.extend(revisions(watcher, wanted).await);
            }
        }
        if round == 60 {
            watchers.truncate(3);
        }
    }
    for (scope, after, _, seen) in &watchers {
        let wanted: Vec<Revision> = events
            .iter()
            .filter(|event| event.item.revision > *after && is_of(scope, event))
            .map(|event| event.item.revision)
            .filter(|revision| seen.last().is_some_and(|last| revision <= last))
            .collect();
        assert_eq!(*seen, wanted, "{scope:?} after {after}");
    }
    assert!(
        watchers
            .iter()
            .any(|(scope, .., seen)| *scope != Scope::All && seen.len() > 10)
    );
    let old = cache.watch_scope(&pods(), Scope::Namespace("a".into()), Revision(1));
    assert!(old.is_err(), "what is forgotten is refused");
}
