//! Makes a database or finds it, and brings its tables up to date.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use store::{Revision, StoreError};
use tokio::sync::{Mutex, watch};

use crate::{
    OpenError, SqliteStore,
    error::{is_damage, is_refusal},
    lock::DirectoryLock,
    write::Writer,
};

/// The database's file in the data directory.
const FILE: &str = "store.db";
/// Connections that read.
const READERS: u32 = 4;
/// How long a call waits for a free one.
const ACQUIRE: Duration = Duration::from_secs(10);

/// Opens the database in `directory`, making both if they are absent, readable by their owner only.
pub async fn open(directory: &Path) -> Result<SqliteStore, OpenError> {
    let path = directory.join(FILE);
    let unwritable = |source: io::Error| OpenError::Unwritable {
        directory: directory.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(unwritable)?;
    let lock = DirectoryLock::take(directory)?;
    // SQLite gives its log and its index the mode of the database.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(unwritable)?;

    let failed = |error: sqlx::Error| open_error(directory, &path, error);
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .disable_statement_logging();
    let mut connection = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .map_err(failed)?;
    migrator()
        .run_direct(None, &mut connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(migration) => OpenError::Newer {
                path: path.clone(),
                migration,
            },
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                failed(error)
            }
            error => OpenError::Failed {
                path: path.clone(),
                source: Box::new(error),
            },
        })?;
    let cluster_id: String = sqlx::query_scalar("SELECT cluster_id FROM meta WHERE id = 1")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;

    let committed = watch::Sender::new(Revision(0));
    let mut writer = Writer::new(connection);
    writer
        .recover(&committed)
        .await
        .map_err(|error| match error {
            StoreError::Corrupt { table, column, .. } => OpenError::Damaged {
                path: path.clone(),
                message: format!("table {table}, column {column}"),
            },
            error => OpenError::Failed {
                path: path.clone(),
                source: Box::new(error),
            },
        })?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE)
        .connect_lazy_with(options.read_only(true));
    Ok(SqliteStore {
        writer: Mutex::new(writer),
        readers,
        committed,
        cluster_id,
        _lock: lock,
    })
}

fn open_error(directory: &Path, path: &Path, error: sqlx::Error) -> OpenError {
    if is_damage(&error) || matches!(error, sqlx::Error::RowNotFound) {
        let message = match error.as_database_error() {
            Some(error) => error.message().to_owned(),
            None => "table meta has no row".to_owned(),
        };
        return OpenError::Damaged {
            path: path.to_owned(),
            message,
        };
    }
    if is_refusal(&error) {
        return OpenError::Unwritable {
            directory: directory.to_owned(),
            source: io::Error::other(error),
        };
    }
    OpenError::Failed {
        path: path.to_owned(),
        source: Box::new(error),
    }
}

/// The migrations in order; one that is merged is never edited.
fn migrator() -> Migrator {
    Migrator::with_migrations(vec![Migration::new(
        1,
        "store".into(),
        MigrationType::Simple,
        include_str!("../../../migrations/sqlite/0001_store.sql").into_sql_str(),
        false,
    )])
}
