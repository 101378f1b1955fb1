//! Reads, each of one consistent state.

use bytes::Bytes;
use sqlx::{FromRow, Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use store::{Change, Entry, Key, Page, Revision, StoreError, key::prefix_end};

use crate::{
    error::{failed, from_sql, to_sql},
    write::parse_key,
};

struct EntryRow {
    key: String,
    revision: i64,
    created: i64,
    value: Vec<u8>,
}

struct ChangeRow {
    entry: EntryRow,
    previous: i64,
    deleted: bool,
}

impl FromRow<'_, SqliteRow> for EntryRow {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            key: row.try_get("key")?,
            revision: row.try_get("revision")?,
            created: row.try_get("created")?,
            value: row.try_get("value")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for ChangeRow {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            entry: EntryRow::from_row(row)?,
            previous: row.try_get("previous")?,
            deleted: row.try_get("deleted")?,
        })
    }
}

impl EntryRow {
    fn decode(self) -> Result<Entry, StoreError> {
        Ok(Entry {
            revision: from_sql(self.revision, "log", "revision", &self.key)?,
            created: from_sql(self.created, "log", "created", &self.key)?,
            key: parse_key(self.key, "log")?,
            value: Bytes::from(self.value),
        })
    }
}

impl ChangeRow {
    fn decode(self) -> Result<Change, StoreError> {
        let linked = from_sql(self.previous, "log", "previous", &self.entry.key)?;
        let entry = self.entry.decode()?;
        Ok(Change {
            previous: Change::shown_previous(entry.revision, entry.created, linked),
            deleted: self.deleted,
            entry,
        })
    }
}

/// Where the history begins and ends.
struct Bounds {
    floor: Revision,
    newest: Revision,
}

impl Bounds {
    async fn read(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let (floor, newest): (i64, i64) = sqlx::query_as(
            "SELECT floor, coalesce((SELECT max(revision) FROM log), 0)
             FROM meta
             WHERE id = 1",
        )
        .fetch_one(connection)
        .await
        .map_err(failed)?;
        Ok(Self {
            floor: from_sql(floor, "meta", "floor", "")?,
            newest: from_sql(newest, "log", "revision", "")?,
        })
    }

    /// Refuses a past state that is gone or a future one.
    fn reach(&self, asked: Revision) -> Result<(), StoreError> {
        if asked < self.floor {
            let floor = self.floor;
            return Err(StoreError::Compacted { asked, floor });
        }
        if asked > self.newest {
            let current = self.newest;
            return Err(StoreError::Future { asked, current });
        }
        Ok(())
    }
}

pub(crate) async fn floor(pool: &SqlitePool) -> Result<Revision, StoreError> {
    let mut connection = pool.acquire().await.map_err(failed)?;
    Ok(Bounds::read(&mut connection).await?.floor)
}

pub(crate) async fn get(pool: &SqlitePool, key: &Key) -> Result<Option<Entry>, StoreError> {
    let row: Option<EntryRow> = sqlx::query_as(
        "SELECT log.key, log.revision, log.created, log.value
         FROM heads
         CROSS JOIN log ON log.revision = heads.revision
         WHERE heads.key = ?1 AND NOT heads.deleted",
    )
    .bind(key.as_str())
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    row.map(EntryRow::decode).transpose()
}

pub(crate) async fn list(
    pool: &SqlitePool,
    prefix: &str,
    at: Option<Revision>,
    after: Option<&Key>,
    limit: usize,
) -> Result<Page, StoreError> {
    // One transaction is one state. Dropping it ends it.
    let mut state = pool.begin().await.map_err(failed)?;
    let bounds = Bounds::read(&mut state).await?;
    let at = at.unwrap_or(bounds.newest);
    bounds.reach(at)?;
    // CROSS JOIN keeps the walk along the keys outermost. ?2 is excluded itself.
    let statement = if at == bounds.newest {
        "SELECT heads.key, log.revision, log.created, log.value
         FROM heads
         CROSS JOIN log ON log.revision = heads.revision
         WHERE heads.key >= ?1 AND heads.key <> ?2 AND heads.key < ?3
           AND NOT heads.deleted AND heads.revision <= ?4
         ORDER BY heads.key
         LIMIT ?5"
    } else {
        // Walks back from each head to the row that was newest then.
        "SELECT heads.key, log.revision, log.created, log.value
         FROM heads
         CROSS JOIN log ON log.revision = (
             WITH RECURSIVE versions (revision) AS (
                 SELECT heads.revision
                 UNION ALL
                 SELECT newer.previous
                 FROM versions
                 CROSS JOIN log AS newer ON newer.revision = versions.revision
                 WHERE versions.revision > ?4
             )
             SELECT revision FROM versions WHERE revision <= ?4
         )
         WHERE heads.key >= ?1 AND heads.key <> ?2 AND heads.key < ?3
           AND NOT log.deleted
         ORDER BY heads.key
         LIMIT ?5"
    };
    let after = after.map_or("", Key::as_str);
    let rows: Vec<EntryRow> = sqlx::query_as(statement)
        .bind(prefix.max(after))
        .bind(after)
        .bind(prefix_end(prefix))
        .bind(to_sql(at))
        .bind(count(limit).saturating_add(1))
        .fetch_all(&mut *state)
        .await
        .map_err(failed)?;
    let more = rows.len() > limit;
    let entries = rows.into_iter().take(limit).map(EntryRow::decode);
    Ok(Page {
        revision: at,
        entries: entries.collect::<Result<_, _>>()?,
        more,
    })
}

pub(crate) async fn changes(
    pool: &SqlitePool,
    after: Revision,
    limit: usize,
) -> Result<Vec<Change>, StoreError> {
    let mut state = pool.begin().await.map_err(failed)?;
    Bounds::read(&mut state).await?.reach(after)?;
    let rows: Vec<ChangeRow> = sqlx::query_as(
        "SELECT key, revision, created, value, previous, deleted
         FROM log
         WHERE revision > ?1
         ORDER BY revision
         LIMIT ?2",
    )
    .bind(to_sql(after))
    .bind(count(limit))
    .fetch_all(&mut *state)
    .await
    .map_err(failed)?;
    rows.into_iter().map(ChangeRow::decode).collect()
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
