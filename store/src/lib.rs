//! The store: one commit-ordered history of every object, whatever database holds it.
//!
//! Reading order:
//! - [`key`]: what a stored value is called.
//! - [`contract`]: the [`Store`] trait that a back end implements, and the values it takes and gives.
//! - [`batch`]: what a batch does to a state: pure, for back ends that decide in the process.
//! - [`writer`]: group commit: many callers' groups become one call to the back end.
//! - [`cache`]: the watch cache: the latest state in memory, fed from the history.
//! - [`memory`]: the in-memory reference back end.
//! - [`conformance`]: what every back end must pass.
//!
//! Never knows what a value means: encoding, schemas and selectors' syntax live above it.

pub mod batch;
pub mod cache;
pub mod conformance;
pub mod contract;
pub mod key;
pub mod memory;
pub mod writer;

pub use cache::{
    Cache, CacheConfig, Decode, Decoded, Event, Item, Portion, Range, Scope, Snapshot, Watcher,
};
pub use contract::{
    Change, Commit, Entry, Expect, Group, Op, Page, Revision, Store, StoreError, Token,
};
pub use key::{Key, ResourceKey};
pub use memory::MemoryStore;
pub use writer::{WriteHandle, Writer};
