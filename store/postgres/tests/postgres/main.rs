//! The Postgres back end, on a real server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod conformance;
mod errors;
mod sharing;

use postgres_server::Database;

/// Makes a database without keeping this thread's other tasks from working.
async fn create_database() -> Database {
    tokio::task::spawn_blocking(Database::create).await.unwrap()
}
