//! The in-memory back end: the reference that the others must equal, and the store of tests.
//!
//! Keeps one log and the heads behind a lock. Never outlives its process.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
    sync::Mutex,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Change, Commit, Entry, Group, Key, Page, Revision, Store, StoreError, Token,
    batch::{Head, plan},
};

/// A store that lives as long as its value does.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    /// The newest revision, for those who wait.
    committed: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct State {
    log: BTreeMap<Revision, Row>,
    heads: BTreeMap<Key, Head>,
    floor: Revision,
    fenced: HashSet<Token>,
}

#[derive(Clone, Debug)]
struct Row {
    key: Key,
    created: Revision,
    /// The key's row before this one, a delete included.
    previous: Revision,
    deleted: bool,
    token: Token,
    value: Bytes,
}

impl MemoryStore {
    /// An empty store at revision 0.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            committed: watch::Sender::new(Revision(0)),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no holder of this lock can panic between two changes")
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn revision(&self) -> Revision {
        self.log
            .last_key_value()
            .map_or(Revision(0), |(revision, _)| *revision)
    }

    /// Refuses a past state that is gone or a future one.
    fn reachable(&self, asked: Revision) -> Result<(), StoreError> {
        let (floor, current) = (self.floor, self.revision());
        if asked < floor {
            return Err(StoreError::Compacted { asked, floor });
        }
        if asked > current {
            return Err(StoreError::Future { asked, current });
        }
        Ok(())
    }

    /// The version of a key that was current at a revision.
    fn version_at(&self, key: &Key, at: Revision) -> Option<Entry> {
        let mut revision = self.heads.get(key)?.revision;
        while revision > at {
            revision = self.log.get(&revision)?.previous;
        }
        let row = self.log.get(&revision)?;
        (!row.deleted).then(|| row.entry(revision))
    }
}

impl Row {
    fn entry(&self, revision: Revision) -> Entry {
        Entry {
            key: self.key.clone(),
            revision,
            created: self.created,
            value: self.value.clone(),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, token: Token, batch: &[Group]) -> Result<Vec<Commit>, StoreError> {
        let mut state = self.state();
        if state.fenced.contains(&token) {
            return Err(StoreError::Unavailable {
                message: "the batch was given up before it arrived".into(),
                source: None,
            });
        }
        let heads: HashMap<Key, Head> = batch
            .iter()
            .flat_map(|group| &group.ops)
            .filter_map(|op| Some((op.key().clone(), *state.heads.get(op.key())?)))
            .collect();
        let plan = plan(state.revision(), heads, batch);
        for row in plan.rows {
            let head = Head {
                revision: row.revision,
                created: row.created,
                deleted: row.deleted,
            };
            state.heads.insert(row.key.clone(), head);
            state.log.insert(
                row.revision,
                Row {
                    key: row.key.clone(),
                    created: row.created,
                    previous: row.previous,
                    deleted: row.deleted,
                    token,
                    value: row.value.clone(),
                },
            );
        }
        self.committed.send_replace(state.revision());
        Ok(plan.commits)
    }

    async fn find_token(
        &self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        let mut state = self.state();
        let found: Vec<_> = state
            .log
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, row)| row.token == token)
            .map(|(revision, row)| (row.key.clone(), *revision))
            .collect();
        if found.is_empty() {
            state.fenced.insert(token);
        }
        Ok(found)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.state().revision())
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let state = self.state();
        Ok(state.version_at(key, state.revision()))
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let state = self.state();
        let at = at.unwrap_or_else(|| state.revision());
        state.reachable(at)?;
        let start = match after {
            Some(key) if key.as_str() >= prefix => Bound::Excluded(key.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut entries: Vec<Entry> = state
            .heads
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .filter_map(|(key, _)| state.version_at(key, at))
            .take(limit.saturating_add(1))
            .collect();
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(Page {
            revision: at,
            entries,
            more,
        })
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        let state = self.state();
        state.reachable(after)?;
        Ok(state
            .log
            .range((Bound::Excluded(after), Bound::Unbounded))
            .take(limit)
            .map(|(revision, row)| Change {
                entry: row.entry(*revision),
                previous: Change::shown_previous(*revision, row.created, row.previous),
                deleted: row.deleted,
            })
            .collect())
    }

    async fn floor(&self) -> Result<Revision, StoreError> {
        Ok(self.state().floor)
    }

    async fn compact(&self, until: Revision) -> Result<Revision, StoreError> {
        let mut state = self.state();
        let newest = Revision(state.revision().0.saturating_sub(1));
        let until = until.min(newest);
        if until <= state.floor {
            return Ok(state.floor);
        }
        let window = (Bound::Excluded(state.floor), Bound::Included(until));
        let mut gone = Vec::new();
        let mut removed = Vec::new();
        for (revision, row) in state.log.range(window) {
            gone.push(row.previous);
            if row.deleted {
                gone.push(*revision);
                if state.heads.get(&row.key).map(|head| head.revision) == Some(*revision) {
                    removed.push(row.key.clone());
                }
            }
        }
        for revision in gone {
            state.log.remove(&revision);
        }
        for key in removed {
            state.heads.remove(&key);
        }
        state.floor = until;
        Ok(until)
    }

    async fn wait(&self, after: Revision) {
        let mut committed = self.committed.subscribe();
        // The sender lives in `self`, so it cannot be gone.
        drop(committed.wait_for(|revision| *revision > after).await);
    }
}
