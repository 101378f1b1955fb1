//! The watch cache: every resource's latest state in memory, fed from the history in order.
//!
//! Reads the store's changes; answers gets, lists and watches; sends writes through the group-commit
//! writer. Never answers a read that must be consistent before it has caught up with the store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{Commit, Group, Key, ResourceKey, Revision, Store, StoreError};

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

// The rest (Cache, Watcher and their methods) is specified here for those who build against it:
//
// impl Cache (cheap to clone: a handle)
//   pub async fn start(store: Arc<dyn Store>, decode: Arc<dyn Decode>, config: CacheConfig)
//       -> Result<(Cache, impl Future<Output = Result<(), StoreError>> /* run: feed, writer, compaction */), StoreError>
//   pub fn revision(&self) -> Revision                       // what the cache has reached
//   pub async fn fresh(&self) -> Result<Revision, StoreError> // coalesced store revision, waits until the cache has it
//   pub async fn reach(&self, revision) -> Result<(), StoreError> // waits (bounded, 3 s => Future) until the cache has it
//   pub fn get(&self, key: &Key) -> Option<Arc<Item>>        // from memory, no wait: call fresh()/reach() first if it must be
//   pub fn list(&self, resource: &ResourceKey, namespace: Option<&str>) -> Snapshot
//   pub async fn list_at(&self, resource, namespace: Option<&str>, at: Revision) -> Result<Snapshot, StoreError> // older state, for paging
//   pub fn watch(&self, resource: &ResourceKey, after: Revision) -> Result<Watcher, StoreError> // Compacted if before ring and floor
//   pub async fn write(&self, group: Group) -> Result<Commit, StoreError> // through group commit; when it returns Done, the cache has it
//
// impl Watcher
//   pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, StoreError> // all pending at once, at least one, in order; Compacted when it lagged
//   pub fn progress(&self) -> Revision // everything up to here was delivered or is not of this resource (for bookmarks)
pub struct Cache;
pub struct Watcher;
