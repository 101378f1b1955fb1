//! A map by name whose copies share what did not change.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// A copy costs this many counts; a change after it, the copy of one part of this many.
const COUNT: usize = 128;

type Shard<V> = Arc<HashMap<Box<str>, V>>;

/// The map. Names come from outside: the hash is keyed.
pub(crate) struct Shards<V> {
    hasher: RandomState,
    shards: Box<[Shard<V>]>,
}

impl<V> Clone for Shards<V> {
    fn clone(&self) -> Self {
        Self {
            hasher: self.hasher.clone(),
            shards: self.shards.clone(),
        }
    }
}

impl<V> Default for Shards<V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..COUNT).map(|_| Arc::default()).collect(),
        }
    }
}

impl<V: Clone> Shards<V> {
    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        self.shards[self.place(name)].get(name)
    }

    pub(crate) fn insert(&mut self, name: &str, value: V) {
        let place = self.place(name);
        Arc::make_mut(&mut self.shards[place]).insert(name.into(), value);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let place = self.place(name);
        if self.shards[place].contains_key(name) {
            Arc::make_mut(&mut self.shards[place]).remove(name);
        }
    }

    fn place(&self, name: &str) -> usize {
        let hash = self.hasher.hash_one(name);
        usize::try_from(hash % COUNT as u64).expect("it is less than their count")
    }
}
