//! For tests: registries over storage that several share, in a cluster with the namespaces that it is given.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::Extensions;

use crate::{
    Access, Action, Caller, Config, Registry, Repository, Storage, Unavailable,
    metrics::RegistryMetrics,
};

pub(crate) struct Cluster {
    pub(crate) namespaces: BTreeMap<String, String>,
    pub(crate) quota: Option<u64>,
}

/// May everything.
pub(crate) struct Admin;

impl Caller for Admin {
    fn name(&self) -> &str {
        "admin"
    }

    fn may(&self, _: Action, _: &Repository) -> Result<(), String> {
        Ok(())
    }
}

#[async_trait]
impl Access for Cluster {
    async fn identify(&self, _: &Extensions, _: Option<&str>) -> Option<Arc<dyn Caller>> {
        Some(Arc::new(Admin))
    }

    async fn namespace(&self, name: &str) -> Result<Option<String>, Unavailable> {
        Ok(self.namespaces.get(name).cloned())
    }

    async fn namespaces(&self) -> Result<BTreeMap<String, String>, Unavailable> {
        Ok(self.namespaces.clone())
    }

    async fn quotas(&self, _: &str) -> Result<Vec<(String, u64)>, Unavailable> {
        let quota = self.quota.map(|bytes| ("images".to_owned(), bytes));
        Ok(quota.into_iter().collect())
    }
}

/// One whose namespace `a` has that quota.
pub(crate) fn registry(storage: Storage, quota: Option<u64>, grace: Duration) -> Registry {
    let cluster = Cluster {
        namespaces: [("a".to_owned(), "1".to_owned())].into(),
        quota,
    };
    let config = Config {
        grace,
        ..Config::default()
    };
    Registry::new(
        storage,
        Arc::new(cluster),
        config,
        RegistryMetrics::default(),
    )
}

pub(crate) fn repository(name: &str) -> Repository {
    Repository::parse(name).expect("tests name repositories")
}
