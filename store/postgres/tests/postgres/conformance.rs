//! It passes what every back end must.

use std::sync::Arc;

use async_trait::async_trait;
use postgres_server::Database;
use store::{Store, conformance::Subject};

use crate::create_database;

struct Empty(Database);

#[async_trait]
impl Subject for Empty {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(store_postgres::connect(&self.0.url).await.unwrap())
    }
}

store::conformance!(Empty(create_database().await));
