//! What fails: opening a database, in words for a user; and a statement, as a `StoreError`.

use std::{io, path::PathBuf};

use store::{Revision, StoreError};

/// Why a data directory cannot be opened.
#[derive(thiserror::Error, Debug)]
pub enum OpenError {
    /// Another process holds it.
    #[error("the data directory {} is in use by another wk process{}", directory.display(), pid_text(*pid))]
    InUse {
        directory: PathBuf,
        pid: Option<u32>,
    },
    /// It cannot be made, or not written to.
    #[error("the data directory {} is not writable", directory.display())]
    Unwritable {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is not a database that this program wrote.
    #[error(
        "the database {} is damaged ({message}): restore it from a backup or move it away",
        path.display()
    )]
    Damaged { path: PathBuf, message: String },
    /// A later version of this program changed its tables.
    #[error(
        "the database {} was written by a newer version of wk (migration {migration})",
        path.display()
    )]
    Newer { path: PathBuf, migration: i64 },
    /// Anything else: a full disk, no file handles.
    #[error("the database {} cannot be opened", path.display())]
    Failed {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// SQLite's primary result codes that mean that the file is damaged: CORRUPT and NOTADB.
const DAMAGED: [u32; 2] = [11, 26];
/// Those that mean that it may not be written: PERM, READONLY and CANTOPEN.
const REFUSED: [u32; 3] = [3, 8, 14];

/// The primary part of an error's result code.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    primary_code(error).is_some_and(|code| DAMAGED.contains(&code))
}

pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    primary_code(error).is_some_and(|code| REFUSED.contains(&code))
}

/// A failed statement. Nothing of it was committed.
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    if is_damage(&error) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the database is damaged"
        );
        return StoreError::Corrupt {
            table: "any",
            column: "any",
            key: "unknown: the file is malformed".into(),
        };
    }
    StoreError::Unavailable {
        message: "the database did not carry out a statement".into(),
        source: Some(Box::new(error)),
    }
}

/// A revision as SQLite keeps it; its integers have a sign.
pub(crate) fn to_sql(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// A revision as it was kept.
pub(crate) fn from_sql(
    revision: i64,
    table: &'static str,
    column: &'static str,
    key: &str,
) -> Result<Revision, StoreError> {
    match u64::try_from(revision) {
        Ok(revision) => Ok(Revision(revision)),
        Err(_) => Err(StoreError::Corrupt {
            table,
            column,
            key: key.into(),
        }),
    }
}
