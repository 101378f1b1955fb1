//! Sessions with the database: how they are set up, which database they must find, and what their
//! errors mean.

use std::{future::Future, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, PgPool, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use store::{Revision, StoreError};
use tokio::time::timeout;

use crate::diagnosis;

/// How long one call may take. Postgres gives up a statement a little earlier.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long another process may take to migrate.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(120);
/// Connections that read.
const READERS: u32 = 8;

/// Settings that every session needs: bounds, durability, and snapshots per statement.
const SETTINGS: &str = "
    SET statement_timeout = '8s';
    SET idle_in_transaction_session_timeout = '10s';
    SET synchronous_commit = on;
    SET default_transaction_isolation = 'read committed';
    SET client_min_messages = warning;
";
/// With stale statistics the planner would scan a whole table for one key.
const WRITER_SETTINGS: &str = "
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
";

/// Makes sessions with one database.
#[derive(Clone)]
pub(crate) struct Sessions {
    options: PgConnectOptions,
}

/// Which store a database holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    /// Raised by a restore or a promotion that may have lost commits.
    pub(crate) incarnation: i64,
}

impl Sessions {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        // The URL has a password: it is not part of any message.
        let ours = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        let parsed: Option<PgConnectOptions> = ours.then(|| url.parse().ok()).flatten();
        let options = parsed.ok_or_else(|| StoreError::Unavailable {
            message: "the database URL is not of the form postgres://user:password@host/database"
                .into(),
            source: None,
        })?;
        let options = options.application_name("wk").disable_statement_logging();
        Ok(Self { options })
    }

    /// Migrates, and gives a session for the writer and what it found.
    pub(crate) async fn prepare(&self) -> Result<(PgConnection, Identity), StoreError> {
        let options = &self.options;
        let mut session = self.explained(options.connect()).await?;
        diagnosis::check_version(options, session.server_version_num())?;
        // Migrations take as long as they take: the settings come later.
        timeout(
            MIGRATION_DEADLINE,
            migrator().run_direct(None, &mut session, false),
        )
        .await
        .map_err(|_| late())?
        .map_err(|error| diagnosis::explain_migration(options, error))?;
        self.explained(set_up(&mut session, true)).await?;
        let identity = self.explained(identify(&mut session)).await?;
        Ok((session, identity))
    }

    /// The answer of a call at the start, in time; its error tells the user what to do.
    async fn explained<T>(
        &self,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match timeout(DEADLINE, call).await {
            Ok(answer) => answer.map_err(|error| diagnosis::explain(&self.options, error)),
            Err(_) => Err(StoreError::Unavailable {
                message: format!(
                    "Postgres at {} did not answer within {} s: check the host and the port",
                    diagnosis::server(&self.options),
                    DEADLINE.as_secs()
                ),
                source: None,
            }),
        }
    }

    /// A session for the writer, with the same store as before.
    pub(crate) async fn writer(&self, expected: &Identity) -> Result<PgConnection, StoreError> {
        let mut session = within(self.options.connect()).await?;
        within(set_up(&mut session, true)).await?;
        let found = within(identify(&mut session)).await?;
        if found != *expected {
            return Err(StoreError::Unavailable {
                message: format!(
                    "the database changed beneath this process: it was {} incarnation {}, it is {} \
                     incarnation {}; restart this process if that is meant",
                    expected.cluster_id, expected.incarnation, found.cluster_id, found.incarnation
                ),
                source: None,
            });
        }
        Ok(session)
    }

    /// Sessions that read.
    pub(crate) fn pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(DEADLINE)
            .after_connect(|session, _| Box::pin(set_up(session, false)))
            .connect_lazy_with(self.options.clone())
    }

    /// The one session that listens; it is never replaced while it works.
    pub(crate) fn listener_pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(DEADLINE)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.options.clone())
    }
}

async fn set_up(session: &mut PgConnection, writer: bool) -> Result<(), sqlx::Error> {
    session.execute(SETTINGS).await?;
    if writer {
        session.execute(WRITER_SETTINGS).await?;
    }
    Ok(())
}

async fn identify(session: &mut PgConnection) -> Result<Identity, sqlx::Error> {
    let (cluster_id, incarnation) = sqlx::query_as(
        "SELECT cluster_id::text, incarnation
         FROM wk.meta
         WHERE id = 1",
    )
    .fetch_one(session)
    .await?;
    Ok(Identity {
        cluster_id,
        incarnation,
    })
}

/// Closes a session without waiting for a server that may not answer.
pub(crate) async fn hang_up(session: PgConnection) {
    // Whatever comes of it, the session is over.
    drop(timeout(Duration::from_millis(100), session.close()).await);
}

/// The answer of a call that changes nothing, in time.
pub(crate) async fn within<T>(
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unavailable("the database did not carry out a call", error)),
        Err(_) => Err(late()),
    }
}

pub(crate) fn unavailable(message: &str, error: sqlx::Error) -> StoreError {
    StoreError::Unavailable {
        message: message.into(),
        source: Some(Box::new(error)),
    }
}

fn late() -> StoreError {
    StoreError::Unavailable {
        message: "the database did not answer in time".into(),
        source: None,
    }
}

/// A revision as Postgres keeps it; its integers have a sign.
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

/// The migrations in order; one that is merged is never edited.
fn migrator() -> Migrator {
    let mut migrator = Migrator::with_migrations(vec![Migration::new(
        1,
        "store".into(),
        MigrationType::Simple,
        include_str!("../../../migrations/postgres/0001_store.sql").into_sql_str(),
        false,
    )]);
    migrator.create_schema("wk");
    migrator.dangerous_set_table_name("wk.migrations");
    migrator
}
