//! How much a namespace may keep: the sizes of the content that its repositories have, each digest once.
//!
//! Only namespaces with a quota pay for the count. Those who commit to one of them wait for each other; of several
//! processes with one storage, each may exceed the quota by what the others commit at that moment.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures::TryStreamExt as _;
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use crate::{
    digest::Digest,
    error::{Code, Error},
    name::Repository,
    registry::Inner,
    storage,
};

/// The resource that a ResourceQuota limits.
pub(crate) const RESOURCE: &str = "registry.wk.dev/storage";

/// Sizes that are remembered.
const REMEMBERED: usize = 100_000;

/// The sizes of content, which never change.
#[derive(Default)]
pub(crate) struct Sizes(Mutex<HashMap<Digest, u64>>);

impl Sizes {
    fn find(&self, digest: &Digest) -> Option<u64> {
        let sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.get(digest).copied()
    }

    fn remember(&self, digest: Digest, size: u64) {
        let mut sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() >= REMEMBERED {
            sizes.clear();
        }
        sizes.insert(digest, size);
    }
}

impl Inner {
    /// Refuses what a quota of the namespace does not leave room for; otherwise nobody else commits to the namespace
    /// while the answer is held.
    pub(crate) async fn charge(
        &self,
        repository: &Repository,
        content: &[(Digest, u64)],
    ) -> Result<Option<OwnedMutexGuard<()>>, Error> {
        let quotas = self.access.quotas(repository.namespace()).await?;
        if quotas.is_empty() {
            return Ok(None);
        }
        let turn = {
            let mut committing = self
                .committing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            committing.retain(|_, turn| Arc::strong_count(turn) > 1);
            let turn = committing.entry(repository.namespace().to_owned());
            turn.or_default().clone()
        };
        let turn = turn.lock_owned().await;
        let kept = self.kept(repository.namespace()).await?;
        let mut used: u64 = 0;
        for digest in &kept {
            used = used.saturating_add(self.size(digest).await?);
        }
        let new = content.iter().filter(|(digest, _)| !kept.contains(digest));
        let requested: u64 = new.map(|(_, size)| size).sum();
        for (name, limit) in &quotas {
            if requested > 0 && used.saturating_add(requested) > *limit {
                return Err(Error::new(
                    Code::Denied,
                    format!(
                        "exceeded quota: {name}, requested: {RESOURCE}={requested}, used: {RESOURCE}={used}, limited: {RESOURCE}={limit}"
                    ),
                    json!({"quota": name, "requested": requested, "used": used, "limited": limit}),
                ));
            }
        }
        Ok(Some(turn))
    }

    /// The content that a namespace's repositories have.
    async fn kept(&self, namespace: &str) -> Result<HashSet<Digest>, Error> {
        let mut kept = HashSet::new();
        let mut objects = self.storage.list(&storage::namespace(namespace));
        while let Some(object) = objects.try_next().await? {
            let path = object.location.as_ref();
            if path.contains("/_blobs/") || path.contains("/_manifests/") {
                kept.extend(storage::digest_at(&object.location));
            }
        }
        Ok(kept)
    }

    async fn size(&self, digest: &Digest) -> Result<u64, Error> {
        if let Some(size) = self.sizes.find(digest) {
            return Ok(size);
        }
        let Some(meta) = self.storage.find_meta(&storage::content(digest)).await? else {
            return Ok(0);
        };
        self.sizes.remember(*digest, meta.size);
        Ok(meta.size)
    }
}
