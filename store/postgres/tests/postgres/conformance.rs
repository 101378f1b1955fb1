//! It passes what every back end must.

use std::sync::Arc;

use async_trait::async_trait;
use store::{Store, conformance::Subject};

use crate::server::Database;

#[async_trait]
impl Subject for Database {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(store_postgres::connect(&self.url).await.unwrap())
    }
}

store::conformance!(Database::create().await);
