//! The SQLite back end: one database file in a directory that one process holds.
//!
//! Reading order: [`lock`] keeps other processes out; [`open`] makes or finds the database; `write`,
//! `read` and `compact` are the statements; [`error`] says what failed. One connection writes, a few
//! read. The base revision is kept in memory, as nobody else writes. Every commit is on the disk
//! before it is answered (`synchronous=FULL`): less could lose it and give its revision away twice.

mod compact;
mod error;
mod lock;
mod open;
mod read;
mod write;

use async_trait::async_trait;
use sqlx::SqlitePool;
use store::{Change, Commit, Entry, Group, Key, Page, Revision, Store, StoreError, Token};
use tokio::sync::{Mutex, watch};

pub use error::OpenError;
pub use open::open;

/// An open database. The directory is free for another process once this is dropped.
pub struct SqliteStore {
    writer: Mutex<write::Writer>,
    readers: SqlitePool,
    /// The newest revision that is on the disk.
    committed: watch::Sender<Revision>,
    cluster_id: String,
    /// Held, not read: dropping it lets the next process in.
    _lock: lock::DirectoryLock,
}

impl SqliteStore {
    /// Names this store for ever: a copy has the same, a new one another.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn write(&self, token: Token, batch: &[Group]) -> Result<Vec<Commit>, StoreError> {
        let mut writer = self.writer.lock().await;
        writer.write(&self.committed, token, batch).await
    }

    async fn find_token(
        &self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        let mut writer = self.writer.lock().await;
        writer.find_token(&self.committed, token, after).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(*self.committed.borrow())
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        read::get(&self.readers, key).await
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        read::list(&self.readers, prefix, at, after, limit).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        read::changes(&self.readers, after, limit).await
    }

    async fn floor(&self) -> Result<Revision, StoreError> {
        read::floor(&self.readers).await
    }

    async fn compact(&self, until: Revision) -> Result<Revision, StoreError> {
        loop {
            // The writer is free between two windows.
            let mut writer = self.writer.lock().await;
            if let Some(floor) = writer.compact_window(&self.committed, until).await? {
                return Ok(floor);
            }
        }
    }

    async fn wait(&self, after: Revision) {
        let mut committed = self.committed.subscribe();
        // The sender lives in `self`, so it cannot be gone.
        drop(committed.wait_for(|revision| *revision > after).await);
    }
}
