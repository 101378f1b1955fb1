//! The watch cache: every resource's latest state in memory, fed from the history in order.
//!
//! Reads the store's changes; answers gets, lists and watches; sends writes through the group-commit
//! writer. Never answers a read that must be consistent before it has caught up with the store.

//!
//! Inside: [`tables`] is the state and its rings, without IO, and [`lanes`] the rings of its parts;
//! [`feed`] brings the history in; [`watcher`] hands it out.

mod feed;
mod lanes;
mod tables;
mod watcher;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Mutex, Notify, watch},
    time::timeout,
};

use crate::{
    Commit, Entry, Group, Key, ResourceKey, Revision, Store, StoreError, WriteHandle, Writer,
};
pub use lanes::Scope;
use tables::Tables;
pub use watcher::Watcher;

/// How long a reader waits for the cache to reach a revision.
const REACH: Duration = Duration::from_secs(3);
/// Entries read at a time when a state is listed from the store.
const PAGE: usize = 2_000;

/// Turns a stored value into what the cache keeps. Called once per change and process.
pub trait Decode: Send + Sync + 'static {
    /// `value` as stored; an error is logged and the object kept undecoded with no labels or fields.
    fn decode(&self, key: &Key, revision: Revision, value: &Bytes) -> Result<Decoded, String>;
}

/// An object as clients get it, and what selectors look at.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// Serialised as it is sent to a client: `metadata.resourceVersion` filled in.
    pub value: Bytes,
    pub labels: BTreeMap<String, String>,
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`: `spec.nodeName` → `n1`.
    pub fields: BTreeMap<&'static str, String>,
}

/// One object in the cache.
#[derive(Debug)]
pub struct Item {
    pub key: Key,
    pub revision: Revision,
    pub created: Revision,
    pub decoded: Decoded,
}

/// A change as watchers see it.
#[derive(Clone, Debug)]
pub struct Event {
    /// The state after the change; for a delete, the last state, its `resourceVersion` the delete's.
    pub item: Arc<Item>,
    /// The state before it; `None` if the object is new.
    pub previous: Option<Arc<Item>>,
    pub deleted: bool,
}

/// A consistent state of a resource.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub revision: Revision,
    /// In key order.
    pub items: Vec<Arc<Item>>,
}

/// Some objects of a resource's consistent state, in key order.
#[derive(Clone, Debug)]
pub struct Portion {
    pub revision: Revision,
    pub items: Vec<Arc<Item>>,
    /// True if objects that match follow.
    pub more: bool,
    /// Objects that follow the last of the items, whether or not they match; counted if there are
    /// `more`.
    pub remaining: usize,
}

impl Portion {
    fn empty(revision: Revision) -> Self {
        Self {
            revision,
            items: Vec::new(),
            more: false,
            remaining: 0,
        }
    }

    /// The first of a state's objects that match.
    fn cut<'i>(
        revision: Revision,
        state: impl Iterator<Item = &'i Arc<Item>>,
        limit: usize,
        matches: impl Fn(&Item) -> bool,
    ) -> Self {
        let mut portion = Self::empty(revision);
        for item in state {
            let room = portion.items.len() < limit;
            if room && matches(item) {
                portion.items.push(item.clone());
                portion.remaining = 0;
            } else {
                portion.more |= !room && !portion.more && matches(item);
                portion.remaining += 1;
            }
        }
        portion
    }
}

/// Which objects a reader wants.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    pub resource: &'a ResourceKey,
    pub namespace: Option<&'a str>,
    /// The state that is wanted; `None`: the one that the cache has.
    pub at: Option<Revision>,
    /// The text of the key that they come after.
    pub after: Option<&'a str>,
    /// How many at most.
    pub limit: usize,
}

/// Bounds of the cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Recent changes kept per resource for watches that start in the past.
    pub ring: usize,
    /// Events that one watcher may lag behind before it is closed.
    pub lag: usize,
    /// How long history is kept before it is compacted.
    pub history: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ring: 10_000,
            lag: 10_000,
            history: Duration::from_secs(5 * 60),
        }
    }
}

/// The way to the cache; cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
    writer: WriteHandle,
}

/// What the handles, the watchers and the tasks of one cache share.
struct Shared {
    store: Arc<dyn Store>,
    decode: Arc<dyn Decode>,
    config: CacheConfig,
    tables: RwLock<Tables>,
    /// The revision of `tables`, for those who wait.
    reached: watch::Sender<Revision>,
    /// Asks the feed to read the log now.
    behind: Notify,
    /// True while a batch of this process is on its way.
    writing: watch::Sender<bool>,
    /// True once nothing will change any more.
    stopped: watch::Sender<bool>,
    /// Questions for the store's revision that were begun, and the last answer.
    questions: AtomicU64,
    answer: Mutex<Answer>,
}

/// What the store last said its revision was.
struct Answer {
    /// Which question it answers; 0 before the first.
    question: u64,
    revision: Result<Revision, String>,
}

impl Cache {
    /// Loads the state and answers a handle, and the future that keeps it current, writes and compacts.
    /// That future ends with an error when the history cannot be followed; watchers end with it.
    pub async fn start(
        store: Arc<dyn Store>,
        decode: Arc<dyn Decode>,
        config: CacheConfig,
    ) -> Result<
        (
            Self,
            impl Future<Output = Result<(), StoreError>> + Send + 'static,
        ),
        StoreError,
    > {
        let tables = feed::load(&store, &decode, &config).await?;
        let revision = tables.revision();
        let (handle, writer) = Writer::new(store.clone(), revision);
        let shared = Arc::new(Shared {
            store,
            decode,
            config,
            tables: RwLock::new(tables),
            reached: watch::Sender::new(revision),
            behind: Notify::new(),
            writing: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            questions: AtomicU64::new(0),
            answer: Mutex::new(Answer {
                question: 0,
                revision: Ok(revision),
            }),
        });
        let run = feed::run(feed::StopOnDrop(shared.clone()), writer);
        let cache = Self {
            shared,
            writer: handle,
        };
        Ok((cache, run))
    }

    /// The revision that the cache has reached.
    pub fn revision(&self) -> Revision {
        self.shared.revision()
    }

    /// Waits until the cache has everything that was committed before this call, by whomever.
    /// One question to the store answers all readers that came before it was asked.
    pub async fn fresh(&self) -> Result<Revision, StoreError> {
        let revision = self.shared.ask_revision().await?;
        self.reach(revision).await?;
        Ok(revision)
    }

    /// Waits, 3 seconds at most, until the cache has a revision; `Future` if it did not come.
    pub async fn reach(&self, revision: Revision) -> Result<(), StoreError> {
        let mut reached = self.shared.reached.subscribe();
        if *reached.borrow_and_update() >= revision {
            return Ok(());
        }
        self.shared.behind.notify_one();
        let mut ended = self.shared.stopped.subscribe();
        tokio::select! {
            waited = timeout(REACH, reached.wait_for(|reached| *reached >= revision)) => {
                // The sender lives in `self.shared`, so only the time can have run out.
                waited.map(drop).map_err(|_| StoreError::Future {
                    asked: revision,
                    current: self.revision(),
                })
            }
            _ = ended.wait_for(|ended| *ended) => Err(StoreError::Stopped),
        }
    }

    /// Finds an object in memory, without waiting: call [`Self::fresh`] or [`Self::reach`] first if it
    /// must be current.
    pub fn get(&self, key: &Key) -> Option<Arc<Item>> {
        self.shared.tables().get(key)
    }

    /// The objects of a resource, or of one namespace of it, without waiting.
    pub fn list(&self, resource: &ResourceKey, namespace: Option<&str>) -> Snapshot {
        let tables = self.shared.tables();
        Snapshot {
            revision: tables.revision(),
            items: tables.list(resource, namespace),
        }
    }

    /// The objects as they were at a revision: from memory if recent changes reach back that far,
    /// else from the store's history.
    pub async fn list_at(
        &self,
        resource: &ResourceKey,
        namespace: Option<&str>,
        at: Revision,
    ) -> Result<Snapshot, StoreError> {
        self.reach(at).await?;
        let found = self.shared.tables().list_at(resource, namespace, at);
        let items = match found {
            Some(items) => items,
            None => self.past(&resource.prefix(namespace), None, at).await?,
        };
        Ok(Snapshot {
            revision: at,
            items,
        })
    }

    /// The first objects of a range that match, without waiting if no revision is named.
    pub async fn portion(
        &self,
        range: Range<'_>,
        matches: impl Fn(&Item) -> bool,
    ) -> Result<Portion, StoreError> {
        if let Some(at) = range.at {
            self.reach(at).await?;
        }
        let prefix = range.resource.prefix(range.namespace);
        let found =
            self.shared
                .tables()
                .portion(&prefix, range.at, range.after, range.limit, &matches);
        if let Some(portion) = found {
            return Ok(portion);
        }
        let at = range.at.unwrap_or(self.revision());
        let items = self.past(&prefix, range.after, at).await?;
        Ok(Portion::cut(at, items.iter(), range.limit, matches))
    }

    /// Objects as the store's history has them.
    async fn past(
        &self,
        prefix: &str,
        after: Option<&str>,
        at: Revision,
    ) -> Result<Vec<Arc<Item>>, StoreError> {
        let after = after.filter(|after| after.starts_with(prefix));
        let entries = list_all(&self.shared.store, prefix, after.and_then(Key::parse), at).await?;
        let items = entries.into_iter();
        Ok(items
            .map(|entry| Arc::new(self.shared.item(entry)))
            .collect())
    }

    /// How many objects each resource has.
    pub fn counts(&self) -> Vec<(ResourceKey, usize)> {
        self.shared.tables().counts()
    }

    /// Follows a resource from a revision on. `Compacted` if the changes since then are not all in
    /// memory; `Future` if the cache has not reached it.
    pub fn watch(&self, resource: &ResourceKey, after: Revision) -> Result<Watcher, StoreError> {
        self.watch_scope(resource, Scope::All, after)
    }

    /// Follows a part of a resource: changes of the rest cost this watcher nothing.
    pub fn watch_scope(
        &self,
        resource: &ResourceKey,
        scope: Scope,
        after: Revision,
    ) -> Result<Watcher, StoreError> {
        Watcher::new(self.shared.clone(), resource, scope, after)
    }

    /// Commits a group together with others that wait. When it answers `Done`, the cache has it.
    /// If the caller goes away meanwhile, the group may still be committed.
    pub async fn write(&self, group: Group) -> Result<Commit, StoreError> {
        let commit = self.writer.write(group).await?;
        let newest = match &commit {
            Commit::Done(revisions) => revisions.iter().max().copied(),
            Commit::Conflict { current, .. } => *current,
        };
        if let Some(newest) = newest
            && let Err(error) = self.reach(newest).await
            && !matches!(error, StoreError::Stopped)
        {
            // It is committed whatever the cache knows; a reader who must see it waits in `fresh`.
            tracing::warn!(
                revision = newest.0,
                error = &error as &dyn std::error::Error,
                "a write was answered before the cache had it"
            );
        }
        Ok(commit)
    }
}

impl Shared {
    fn revision(&self) -> Revision {
        *self.reached.borrow()
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables
            .read()
            .expect("no holder of this lock can panic between two changes")
    }

    fn tables_mut(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables
            .write()
            .expect("no holder of this lock can panic between two changes")
    }

    fn item(&self, entry: Entry) -> Item {
        let decoded = decode(&*self.decode, &entry.key, entry.revision, &entry.value);
        Item {
            key: entry.key,
            revision: entry.revision,
            created: entry.created,
            decoded,
        }
    }

    /// The store's revision as it was at some moment after this call.
    async fn ask_revision(&self) -> Result<Revision, StoreError> {
        let begun = self.questions.load(Ordering::SeqCst);
        let mut answer = self.answer.lock().await;
        // Only a question begun after this reader came is late enough for it.
        if answer.question <= begun {
            let question = self.questions.fetch_add(1, Ordering::SeqCst) + 1;
            let revision = self.store.revision().await;
            *answer = Answer {
                question,
                revision: revision.map_err(|error| error.to_string()),
            };
        }
        answer
            .revision
            .clone()
            .map_err(|message| StoreError::Unavailable {
                message,
                source: None,
            })
    }
}

/// Everything under a prefix and after a key as it was at a revision.
async fn list_all(
    store: &Arc<dyn Store>,
    prefix: &str,
    start: Option<Key>,
    at: Revision,
) -> Result<Vec<Entry>, StoreError> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.key.clone());
        let after = after.or_else(|| start.clone());
        let page = store.list(prefix, Some(at), after.as_ref(), PAGE).await?;
        let last = !page.more || page.entries.is_empty();
        entries.extend(page.entries);
        if last {
            return Ok(entries);
        }
    }
}

/// What the cache keeps of a value; the value as it is stored if it cannot be decoded.
fn decode(decode: &dyn Decode, key: &Key, revision: Revision, value: &Bytes) -> Decoded {
    decode
        .decode(key, revision, value)
        .unwrap_or_else(|message| {
            tracing::error!(%key, revision = revision.0, message, "a stored object cannot be decoded");
            Decoded {
                value: value.clone(),
                ..Decoded::default()
            }
        })
}
