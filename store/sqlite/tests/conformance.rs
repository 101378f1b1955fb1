//! The SQLite back end passes what every back end must.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use store::{Store, conformance::Subject};
use tempfile::TempDir;

struct Directory(TempDir);

#[async_trait]
impl Subject for Directory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(store_sqlite::open(self.0.path()).await.unwrap())
    }
}

store::conformance!(Directory(tempfile::tempdir().unwrap()));
