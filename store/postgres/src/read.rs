//! Reads, each of one consistent state: one statement, so one snapshot and one round trip.

use bytes::Bytes;
use sqlx::{FromRow, PgPool, Row, postgres::PgRow};
use store::{Change, Entry, Key, Page, Revision, StoreError, key::prefix_end};

use crate::connection::{from_sql, to_sql, within};

/// Where the history begins and ends, beside one of the rows that were asked for, if there is any.
struct Found<T> {
    floor: i64,
    newest: i64,
    row: Option<T>,
}

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

impl<'r, T: FromRow<'r, PgRow>> FromRow<'r, PgRow> for Found<T> {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let key: Option<&str> = row.try_get("key")?;
        Ok(Self {
            floor: row.try_get("floor")?,
            newest: row.try_get("newest")?,
            row: key.map(|_| T::from_row(row)).transpose()?,
        })
    }
}

impl FromRow<'_, PgRow> for EntryRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            key: row.try_get("key")?,
            revision: row.try_get("revision")?,
            created: row.try_get("created")?,
            value: row.try_get("value")?,
        })
    }
}

impl FromRow<'_, PgRow> for ChangeRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
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

pub(crate) fn parse_key(key: String, table: &'static str) -> Result<Key, StoreError> {
    Key::parse(&key).ok_or(StoreError::Corrupt {
        table,
        column: "key",
        key,
    })
}

/// Refuses a past state that is gone or a future one; answers the newest revision and the rows.
fn reach<T>(
    found: Vec<Found<T>>,
    asked: Option<Revision>,
) -> Result<(Revision, impl Iterator<Item = T>), StoreError> {
    let Some(first) = found.first() else {
        return Err(StoreError::Corrupt {
            table: "meta",
            column: "id",
            key: "1".into(),
        });
    };
    let floor = from_sql(first.floor, "meta", "floor", "")?;
    let current = from_sql(first.newest, "log", "revision", "")?;
    match asked {
        Some(asked) if asked < floor => Err(StoreError::Compacted { asked, floor }),
        Some(asked) if asked > current => Err(StoreError::Future { asked, current }),
        _ => Ok((current, found.into_iter().filter_map(|found| found.row))),
    }
}

pub(crate) async fn revision(pool: &PgPool) -> Result<Revision, StoreError> {
    let newest =
        within(sqlx::query_scalar("SELECT coalesce(max(revision), 0) FROM wk.log").fetch_one(pool))
            .await?;
    from_sql(newest, "log", "revision", "")
}

pub(crate) async fn floor(pool: &PgPool) -> Result<Revision, StoreError> {
    let floor =
        within(sqlx::query_scalar("SELECT floor FROM wk.meta WHERE id = 1").fetch_one(pool))
            .await?;
    from_sql(floor, "meta", "floor", "")
}

pub(crate) async fn get(pool: &PgPool, key: &Key) -> Result<Option<Entry>, StoreError> {
    let row: Option<EntryRow> = within(
        sqlx::query_as(
            "SELECT l.key, l.revision, l.created, l.value
             FROM wk.heads AS h
             JOIN wk.log AS l ON l.revision = h.revision
             WHERE h.key = $1 AND NOT h.deleted",
        )
        .bind(key.as_str())
        .fetch_optional(pool),
    )
    .await?;
    row.map(EntryRow::decode).transpose()
}

pub(crate) async fn list(
    pool: &PgPool,
    prefix: &str,
    at: Option<Revision>,
    after: Option<&Key>,
    limit: usize,
) -> Result<Page, StoreError> {
    // $2 is excluded itself.
    let statement = if at.is_none() {
        "SELECT b.floor, b.newest, e.*
         FROM (
             SELECT floor, coalesce((SELECT max(revision) FROM wk.log), 0) AS newest
             FROM wk.meta
             WHERE id = 1
         ) AS b
         LEFT JOIN LATERAL (
             SELECT h.key, l.revision, l.created, l.value
             FROM wk.heads AS h
             JOIN wk.log AS l ON l.revision = h.revision
             WHERE h.key >= $1 AND h.key <> $2 AND h.key < $3
               AND NOT h.deleted AND h.revision <= $4
             ORDER BY h.key
             LIMIT $5
         ) AS e ON true"
    } else {
        // Walks back from each head to the row that was newest then.
        "SELECT b.floor, b.newest, e.*
         FROM (
             SELECT floor, coalesce((SELECT max(revision) FROM wk.log), 0) AS newest
             FROM wk.meta
             WHERE id = 1
         ) AS b
         LEFT JOIN LATERAL (
             SELECT h.key, l.revision, l.created, l.value
             FROM wk.heads AS h
             CROSS JOIN LATERAL (
                 WITH RECURSIVE versions (revision) AS (
                     SELECT h.revision
                     UNION ALL
                     SELECT newer.previous
                     FROM versions
                     JOIN wk.log AS newer ON newer.revision = versions.revision
                     WHERE versions.revision > $4
                 )
                 SELECT revision FROM versions WHERE revision <= $4
             ) AS v
             JOIN wk.log AS l ON l.revision = v.revision AND NOT l.deleted
             WHERE h.key >= $1 AND h.key <> $2 AND h.key < $3
             ORDER BY h.key
             LIMIT $5
         ) AS e ON true"
    };
    let after = after.map_or("", Key::as_str);
    let found: Vec<Found<EntryRow>> = within(
        sqlx::query_as(statement)
            .bind(prefix.max(after))
            .bind(after)
            .bind(prefix_end(prefix))
            .bind(to_sql(at.unwrap_or(Revision(u64::MAX))))
            .bind(count(limit).saturating_add(1))
            .fetch_all(pool),
    )
    .await?;
    let (newest, rows) = reach(found, at)?;
    let mut rows: Vec<EntryRow> = rows.collect();
    // The outer statement promises no order; they nearly always have it.
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let more = rows.len() > limit;
    let entries = rows.into_iter().take(limit).map(EntryRow::decode);
    Ok(Page {
        revision: at.unwrap_or(newest),
        entries: entries.collect::<Result<_, _>>()?,
        more,
    })
}

pub(crate) async fn changes(
    pool: &PgPool,
    after: Revision,
    limit: usize,
) -> Result<Vec<Change>, StoreError> {
    let found: Vec<Found<ChangeRow>> = within(
        sqlx::query_as(
            "SELECT b.floor, b.newest, c.*
             FROM (
                 SELECT floor, coalesce((SELECT max(revision) FROM wk.log), 0) AS newest
                 FROM wk.meta
                 WHERE id = 1
             ) AS b
             LEFT JOIN LATERAL (
                 SELECT key, revision, created, value, previous, deleted
                 FROM wk.log
                 WHERE revision > $1
                 ORDER BY revision
                 LIMIT $2
             ) AS c ON true",
        )
        .bind(to_sql(after))
        .bind(count(limit))
        .fetch_all(pool),
    )
    .await?;
    let (_, rows) = reach(found, Some(after))?;
    let mut rows: Vec<ChangeRow> = rows.collect();
    rows.sort_by_key(|row| row.entry.revision);
    rows.into_iter().map(ChangeRow::decode).collect()
}

/// Moves the floor by one window at most; answers it, and whether that was all.
pub(crate) async fn compact_window(
    pool: &PgPool,
    until: Revision,
) -> Result<(Revision, bool), StoreError> {
    let (floor, finished) = within(
        sqlx::query_as("SELECT reached, finished FROM wk.compact($1)")
            .bind(to_sql(until))
            .fetch_one(pool),
    )
    .await?;
    Ok((from_sql(floor, "meta", "floor", "")?, finished))
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
