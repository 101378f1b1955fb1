//! The Postgres back end: any number of processes share one history.
//!
//! Reading order: [`connection`] makes sessions; [`writer`] is the one that writes, through functions
//! that the migrations define and that hold one lock until they commit; `read` is everything else;
//! [`listener`] hears of other processes' commits; [`diagnosis`]
//! says why a database cannot be used. Every call has a deadline. Never reads from a
//! standby, and never opens a transaction on the session that listens.

mod connection;
mod diagnosis;
mod listener;
mod read;
mod writer;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;
use store::{Change, Commit, Entry, Group, Key, Page, Revision, Store, StoreError, Token};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::timeout,
};

use connection::{Identity, Sessions};

/// How often the log is looked at although nobody notified us.
const POLL: Duration = Duration::from_secs(1);

/// A connected database.
pub struct PostgresStore {
    writer: Mutex<writer::Writer>,
    readers: PgPool,
    /// The newest revision that was heard of.
    heard: watch::Sender<Revision>,
    identity: Identity,
    /// Listens until it is dropped with the store.
    _listener: JoinSet<()>,
}

/// Connects to the database of a `postgres://` URL and brings the schema `wk` in it up to date.
pub async fn connect(url: &str) -> Result<PostgresStore, StoreError> {
    let sessions = Sessions::parse(url)?;
    let (session, identity) = sessions.prepare().await?;
    let readers = sessions.pool();
    let heard = watch::Sender::new(Revision(0));
    let mut listener = JoinSet::new();
    listener.spawn(listener::listen(
        sessions.listener_pool(),
        readers.clone(),
        heard.clone(),
    ));
    Ok(PostgresStore {
        writer: Mutex::new(writer::Writer::new(sessions, identity.clone(), session)),
        readers,
        heard,
        identity,
        _listener: listener,
    })
}

impl PostgresStore {
    /// Names this store for ever: a copy has the same, a new one another.
    pub fn cluster_id(&self) -> &str {
        &self.identity.cluster_id
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn write(&self, token: Token, batch: &[Group]) -> Result<Vec<Commit>, StoreError> {
        self.writer.lock().await.write(token, batch).await
    }

    async fn find_token(
        &self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        self.writer.lock().await.find_token(token, after).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        read::revision(&self.readers).await
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
            let (floor, finished) = read::compact_window(&self.readers, until).await?;
            if finished {
                return Ok(floor);
            }
        }
    }

    async fn wait(&self, after: Revision) {
        let mut heard = self.heard.subscribe();
        // The sender lives in `self`: this ends by a notification or by the poll interval.
        drop(timeout(POLL, heard.wait_for(|revision| *revision > after)).await);
    }
}
