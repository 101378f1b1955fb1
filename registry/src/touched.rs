//! What was linked to while content is collected: it stays, however old it is.
//!
//! In a process, the collection looks at a set that whoever links to content adds to. Processes that share a storage
//! have objects instead: who links writes `touched/DIGEST` and then looks for `condemned/DIGEST`; who removes writes
//! that and then looks for the former. So of the two at least one sees the other.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::json;

use crate::{
    collect::age,
    digest::Digest,
    error::{Code, Error},
    registry::Inner,
    storage,
};

/// How long who links waits for a removal to be over, and how often they look.
const WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);
/// After that long a removal is over, or its process is: longer than the storage is asked again.
const MAX_REMOVAL: Duration = Duration::from_secs(600);

/// The digests that were linked to since the collection under way began; `None`: none is under way.
#[derive(Default)]
pub(crate) struct Touched(Mutex<Option<HashSet<Digest>>>);

/// A collection is under way until this is dropped.
pub(crate) struct Watch<'a>(&'a Touched);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Touched {
    fn lock(&self) -> MutexGuard<'_, Option<HashSet<Digest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of several collections only one may be under way.
    pub(crate) fn watch(&self) -> Watch<'_> {
        *self.lock() = Some(HashSet::new());
        Watch(self)
    }

    fn add(&self, digest: &Digest) {
        if let Some(touched) = self.lock().as_mut() {
            touched.insert(*digest);
        }
    }

    fn has(&self, digest: &Digest) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|touched| touched.contains(digest))
    }
}

impl Inner {
    /// Keeps content from being removed in this process: the caller has seen a link to it, and holds the gate.
    pub(crate) fn keep_here(&self, digest: &Digest) {
        self.touched.add(digest);
    }

    /// Keeps content from being removed, before it is linked to. The caller holds the gate.
    pub(crate) async fn touch(&self, digest: &Digest) -> Result<(), Error> {
        self.keep_here(digest);
        if self.storage.is_local() {
            return Ok(());
        }
        self.storage
            .put(&storage::touched(digest), Bytes::new())
            .await?;
        let over = async {
            while self.is_condemned(digest).await? {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(WAIT, over).await;
        waited.unwrap_or_else(|_| {
            Err(Error::new(
                Code::TooManyRequests,
                format!("{digest} is being removed: try again later"),
                json!({"digest": digest.to_string()}),
            ))
        })
    }

    async fn is_condemned(&self, digest: &Digest) -> Result<bool, Error> {
        let found = self.storage.find_meta(&storage::condemned(digest)).await?;
        Ok(found.is_some_and(|found| age(&found) < MAX_REMOVAL))
    }

    /// Removes content that no repository had when it was looked at, unless it was made new or linked to meanwhile.
    /// The gate is closed. True if it is gone.
    pub(crate) async fn remove_content(&self, digest: &Digest) -> Result<bool, Error> {
        if self.touched.has(digest) {
            return Ok(false);
        }
        if self.storage.is_local() {
            return self.remove_old(digest).await;
        }
        let condemned = storage::condemned(digest);
        self.storage.put(&condemned, Bytes::new()).await?;
        let touched = self.storage.find_meta(&storage::touched(digest)).await;
        let removed = match touched {
            Ok(Some(touched)) if age(&touched) < self.config.grace => Ok(false),
            Ok(_) => self.remove_old(digest).await,
            Err(error) => Err(error.into()),
        };
        self.storage.remove(&condemned).await?;
        removed
    }

    async fn remove_old(&self, digest: &Digest) -> Result<bool, Error> {
        let content = storage::content(digest);
        // Who pushed it meanwhile has made it new.
        let now = self.storage.find_meta(&content).await?;
        let is_old = now.is_some_and(|now| age(&now) >= self.config.grace);
        if is_old {
            self.storage.remove(&content).await?;
        }
        Ok(is_old)
    }

    /// Removes what says nothing any more.
    pub(crate) async fn forget_touched(&self) -> Result<(), Error> {
        let marks = [
            (storage::touches(), self.config.grace),
            (storage::condemnations(), MAX_REMOVAL),
        ];
        for (path, min_age) in marks {
            let mut marks = self.storage.list(&path);
            while let Some(mark) = marks.try_next().await? {
                if age(&mark) >= min_age {
                    self.storage.remove(&mark.location).await?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Collected, Registry, Storage, in_memory};

    async fn sweep(registry: &Registry) -> u64 {
        let mut collected = Collected::default();
        let swept = registry.0.sweep(&HashSet::new(), &mut collected).await;
        swept.unwrap();
        collected.blobs
    }

    #[tokio::test]
    async fn what_is_linked_to_between_mark_and_sweep_stays() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::directory(dir.path()).unwrap();
        let registry = in_memory::registry(storage, None, Duration::ZERO);
        let digest = Digest::of(b"shared");
        let content = storage::content(&digest);
        let put = registry.0.storage.put(&content, "shared".into());
        put.await.unwrap();
        let (from, to) = (in_memory::repository("a/x"), in_memory::repository("a/y"));
        registry.0.link_blob(&from, &digest).await.unwrap();
        let watch = registry.0.touched.watch();
        let mounted = registry
            .0
            .mount(&to, &digest, Some(&from), &in_memory::Admin);
        assert!(mounted.await.unwrap());
        assert_eq!(sweep(&registry).await, 0);
        drop(watch);
        let watch = registry.0.touched.watch();
        // Also what it has already and is about to name.
        let mounted = registry.0.mount(&to, &digest, Some(&to), &in_memory::Admin);
        assert!(mounted.await.unwrap());
        assert_eq!(sweep(&registry).await, 0);
        drop(watch);
        assert_eq!(sweep(&registry).await, 1);
    }

    #[tokio::test]
    async fn what_another_process_links_to_stays() {
        let storage = Storage::in_memory();
        let grace = Duration::from_secs(60);
        let one = in_memory::registry(storage.clone(), None, grace);
        let other = in_memory::registry(storage, None, Duration::ZERO);
        let digest = Digest::of(b"shared");
        let content = storage::content(&digest);
        one.0.storage.put(&content, "shared".into()).await.unwrap();
        let to = in_memory::repository("a/y");
        other.0.link_blob(&to, &digest).await.unwrap();
        let touched = storage::touched(&digest);
        assert!(one.0.storage.find_meta(&touched).await.unwrap().is_some());
        assert!(!one.0.remove_content(&digest).await.unwrap());
        // While it is removed nobody links to it.
        let condemned = storage::condemned(&digest);
        let put = one.0.storage.put(&condemned, Bytes::new());
        put.await.unwrap();
        tokio::time::pause();
        let refused = other.0.link_blob(&to, &digest).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::TooManyRequests));
    }
}
