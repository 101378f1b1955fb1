//! How long the store takes: `wk_store_request_duration_seconds`, `wk_store_request_errors_total`.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use store::{Change, Commit, Entry, Group, Key, Page, Revision, Store, StoreError, Token};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// A store whose calls are measured.
pub struct Measured {
    inner: Arc<dyn Store>,
    durations: Family<Operation, Histogram>,
    errors: Family<Operation, Counter>,
    groups: Histogram,
}

impl Measured {
    /// Puts the metrics of a store into a registry.
    pub fn new(inner: Arc<dyn Store>, registry: &mut Registry) -> Self {
        let made = Self {
            inner,
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_1, 2.0, 16))
            }),
            errors: Family::default(),
            groups: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
        };
        registry.register(
            "wk_store_request_duration_seconds",
            "How long the store took to answer, by operation",
            made.durations.clone(),
        );
        registry.register(
            "wk_store_request_errors",
            "Calls that the store did not answer, by operation",
            made.errors.clone(),
        );
        registry.register(
            "wk_store_batch_groups",
            "Groups of operations that were committed together",
            made.groups.clone(),
        );
        made
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let answer = call.await;
        let operation = Operation { operation };
        let seconds = begun.elapsed().as_secs_f64();
        self.durations.get_or_create(&operation).observe(seconds);
        if answer.is_err() {
            self.errors.get_or_create(&operation).inc();
        }
        answer
    }
}

#[async_trait]
impl Store for Measured {
    async fn write(&self, token: Token, batch: &[Group]) -> Result<Vec<Commit>, StoreError> {
        let groups = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.groups.observe(f64::from(groups));
        self.measure("write", self.inner.write(token, batch)).await
    }

    async fn find_token(
        &self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        let call = self.inner.find_token(token, after);
        self.measure("find_token", call).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.measure("revision", self.inner.revision()).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.measure("get", self.inner.get(key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let call = self.inner.list(prefix, at, after, limit);
        self.measure("list", call).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        let call = self.inner.changes(after, limit);
        self.measure("changes", call).await
    }

    async fn floor(&self) -> Result<Revision, StoreError> {
        self.measure("floor", self.inner.floor()).await
    }

    async fn compact(&self, until: Revision) -> Result<Revision, StoreError> {
        self.measure("compact", self.inner.compact(until)).await
    }

    async fn wait(&self, after: Revision) {
        self.inner.wait(after).await;
    }
}
