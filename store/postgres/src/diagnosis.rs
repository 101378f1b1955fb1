//! Why a database cannot be used, in one sentence that says what to do. Pure.
//!
//! Names the server, the database and the user; never the password, and nothing of a URL that could
//! not be read.

use sqlx::{migrate::MigrateError, postgres::PgConnectOptions};
use store::StoreError;

/// Older servers lack what the schema and its functions are written for.
pub(crate) const OLDEST: u32 = 140_000;

/// What a session that could not be opened or prepared means.
pub(crate) fn explain(options: &PgConnectOptions, error: sqlx::Error) -> StoreError {
    let server = server(options);
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    let message = match &error {
        sqlx::Error::Io(cause) => {
            format!("Postgres cannot be reached at {server} ({cause}): check the host and the port")
        }
        sqlx::Error::Tls(cause) => {
            format!(
                "no TLS connection with Postgres at {server} ({cause}): check sslmode and sslrootcert"
            )
        }
        sqlx::Error::Database(refusal) => match refusal.code().as_deref() {
            Some("28P01" | "28000") => format!(
                "Postgres at {server} does not let user {user:?} in: check the user, the password and pg_hba.conf"
            ),
            Some("3D000") => format!(
                "there is no database {database:?} at {server}: make it with CREATE DATABASE \"{database}\" OWNER \"{user}\""
            ),
            Some("42501") => format!(
                "user {user:?} may not write to database {database:?} at {server}: \
                 make it the owner with ALTER DATABASE \"{database}\" OWNER TO \"{user}\""
            ),
            Some("25006") => format!(
                "database {database:?} at {server} is read-only: name the primary server, not a standby"
            ),
            Some("53300") => format!(
                "Postgres at {server} has no connection left: raise max_connections, each wk process takes 10"
            ),
            _ => {
                format!("Postgres at {server} refuses database {database:?}: {refusal}")
            }
        },
        _ => format!("Postgres at {server} gave no answer that is understood: {error}"),
    };
    StoreError::Unavailable {
        message,
        source: None,
    }
}

/// What a migration that failed means.
pub(crate) fn explain_migration(options: &PgConnectOptions, error: MigrateError) -> StoreError {
    let message = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            return explain(options, error);
        }
        MigrateError::VersionMissing(version) => format!(
            "the database was brought to version {version} by a newer wk: start that one, or a newer"
        ),
        error => format!("the database's tables cannot be brought up to date: {error}"),
    };
    StoreError::Unavailable {
        message,
        source: None,
    }
}

/// Refuses a server that is too old. One that does not tell its version is taken for new.
pub(crate) fn check_version(
    options: &PgConnectOptions,
    version: Option<u32>,
) -> Result<(), StoreError> {
    match version.filter(|version| *version < OLDEST) {
        None => Ok(()),
        Some(version) => Err(StoreError::Unavailable {
            message: format!(
                "Postgres at {} is version {}: wk needs {} or newer",
                server(options),
                version / 10_000,
                OLDEST / 10_000
            ),
            source: None,
        }),
    }
}

/// Where the server is, as the user would name it.
pub(crate) fn server(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
