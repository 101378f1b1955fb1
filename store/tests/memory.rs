//! The reference back end passes what every back end must.

use std::sync::Arc;

use async_trait::async_trait;
use store::{MemoryStore, Store, conformance::Subject};

#[derive(Default)]
struct Memory(Arc<MemoryStore>);

#[async_trait]
impl Subject for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        self.0.clone()
    }
}

store::conformance!(Memory::default());
