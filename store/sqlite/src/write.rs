//! The one connection that writes.
//!
//! A batch is decided in this process, between a statement that reads the heads of all its keys and
//! two that write all its rows: the lock on the directory makes that safe. Values are bound as blobs,
//! many rows a statement; passing them through `json_each` would need them to be text.

use std::{
    collections::{HashMap, HashSet},
    time::{SystemTime, UNIX_EPOCH},
};

use sqlx::{Connection, QueryBuilder, Sqlite, SqliteConnection};
use store::{
    Commit, Group, Key, Op, Revision, StoreError, Token,
    batch::{Head, Row, plan},
};
use tokio::sync::watch;

use crate::error::{failed, from_sql, to_sql};

/// Rows of one INSERT: few sizes, so that the statements stay prepared.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// The state of the only writer.
pub(crate) struct Writer {
    pub(crate) connection: SqliteConnection,
    /// The newest revision.
    pub(crate) base: Revision,
    /// False while a call is under way: if it never ends, `base` is read anew.
    pub(crate) sound: bool,
    /// Batches that were given up. A late one can only come from this process.
    fenced: HashSet<Token>,
}

impl Writer {
    pub(crate) fn new(connection: SqliteConnection) -> Self {
        Self {
            connection,
            base: Revision(0),
            sound: false,
            fenced: HashSet::new(),
        }
    }

    /// Reads the newest revision, unless it is known for certain.
    pub(crate) async fn recover(
        &mut self,
        committed: &watch::Sender<Revision>,
    ) -> Result<(), StoreError> {
        if self.sound {
            return Ok(());
        }
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(revision) FROM log")
            .fetch_one(&mut self.connection)
            .await
            .map_err(failed)?;
        self.base = from_sql(newest.unwrap_or(0), "log", "revision", "")?;
        self.sound = true;
        committed.send_replace(self.base);
        Ok(())
    }

    pub(crate) async fn write(
        &mut self,
        committed: &watch::Sender<Revision>,
        token: Token,
        batch: &[Group],
    ) -> Result<Vec<Commit>, StoreError> {
        if self.fenced.contains(&token) {
            return Err(StoreError::Unavailable {
                message: "the batch was given up before it arrived".into(),
                source: None,
            });
        }
        self.recover(committed).await?;
        self.sound = false;
        let mut transaction = self
            .connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        let heads = heads(&mut transaction, batch).await?;
        let plan = plan(self.base, heads, batch);
        let Some(newest) = plan.rows.last().map(|row| row.revision) else {
            transaction.rollback().await.map_err(failed)?;
            self.sound = true;
            return Ok(plan.commits);
        };
        insert_rows(&mut transaction, token, &plan.rows).await?;
        raise_heads(&mut transaction, self.base).await?;
        if let Err(error) = transaction.commit().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a commit failed: whether it is on the disk will be asked"
            );
            return Err(StoreError::Ambiguous);
        }
        self.base = newest;
        self.sound = true;
        committed.send_replace(newest);
        Ok(plan.commits)
    }

    pub(crate) async fn find_token(
        &mut self,
        committed: &watch::Sender<Revision>,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        self.recover(committed).await?;
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT key, revision
             FROM log
             WHERE revision > ?1 AND token = ?2
             ORDER BY revision",
        )
        .bind(to_sql(after))
        .bind(token.0.cast_signed())
        .fetch_all(&mut self.connection)
        .await
        .map_err(failed)?;
        if rows.is_empty() {
            self.fenced.insert(token);
        }
        rows.into_iter()
            .map(|(key, revision)| {
                let revision = from_sql(revision, "log", "revision", &key)?;
                Ok((parse_key(key, "log")?, revision))
            })
            .collect()
    }
}

/// The newest rows of all keys that a batch names.
async fn heads(
    connection: &mut SqliteConnection,
    batch: &[Group],
) -> Result<HashMap<Key, Head>, StoreError> {
    let keys: HashSet<&str> = batch
        .iter()
        .flat_map(|group| &group.ops)
        .map(|op: &Op| op.key().as_str())
        .collect();
    let keys = serde_json::Value::from_iter(keys).to_string();
    let rows: Vec<(String, i64, i64, bool)> = sqlx::query_as(
        "SELECT heads.key, heads.revision, heads.created, heads.deleted
         FROM json_each(?1) AS wanted
         CROSS JOIN heads ON heads.key = wanted.value",
    )
    .bind(keys)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|(key, revision, created, deleted)| {
            let head = Head {
                revision: from_sql(revision, "heads", "revision", &key)?,
                created: from_sql(created, "heads", "created", &key)?,
                deleted,
            };
            Ok((parse_key(key, "heads")?, head))
        })
        .collect()
}

async fn insert_rows(
    connection: &mut SqliteConnection,
    token: Token,
    rows: &[Row<'_>],
) -> Result<(), StoreError> {
    let time = microseconds();
    let mut rest = rows;
    while !rest.is_empty() {
        let size = CHUNKS
            .into_iter()
            .find(|size| *size <= rest.len())
            .unwrap_or(1);
        let (chunk, after) = rest.split_at(size);
        rest = after;
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO log (revision, key, created, previous, deleted, token, time, value) ",
        );
        insert.push_values(chunk, |mut tuple, row| {
            tuple
                .push_bind(to_sql(row.revision))
                .push_bind(row.key.as_str())
                .push_bind(to_sql(row.created))
                .push_bind(to_sql(row.previous))
                .push_bind(row.deleted)
                .push_bind(token.0.cast_signed())
                .push_bind(time)
                .push_bind(&row.value[..]);
        });
        insert
            .build()
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Points the heads at the rows that were just written, in their order.
async fn raise_heads(connection: &mut SqliteConnection, base: Revision) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO heads (key, revision, created, deleted)
         SELECT key, revision, created, deleted
         FROM log
         WHERE revision > ?1
         ORDER BY revision
         ON CONFLICT (key) DO UPDATE
         SET revision = excluded.revision,
             created = excluded.created,
             deleted = excluded.deleted",
    )
    .bind(to_sql(base))
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The time of the commit, for people; the order is the revisions'.
fn microseconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn parse_key(key: String, table: &'static str) -> Result<Key, StoreError> {
    Key::parse(&key).ok_or(StoreError::Corrupt {
        table,
        column: "key",
        key,
    })
}
