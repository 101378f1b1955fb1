//! Removes what nothing names any more: uploads that were given up, repositories of namespaces that are gone, blobs
//! that no manifest names, content that no repository has.
//!
//! Safe beside pushes: whatever is younger than the grace period stays; whoever links to content holds the gate open,
//! and what is removed is looked at once more with the gate closed. Repairs links that a manifest needs.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectMeta;

use crate::{
    digest::Digest,
    error::Error,
    manifest::Parsed,
    name::Repository,
    registry::{Inner, Registry},
    storage,
    uploads::unreadable,
};

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    /// Uploads that were given up.
    pub uploads: u64,
    /// Manifests that no tag, list or subject named, if such are removed.
    pub manifests: u64,
    /// Blobs that repositories had for nothing.
    pub links: u64,
    /// Content that was removed, and
    pub blobs: u64,
    /// its size.
    pub freed_bytes: u64,
    /// Content that is left, and
    pub kept_blobs: u64,
    /// its size.
    pub kept_bytes: u64,
}

/// What manifests say, and how old their links are.
type Manifests = HashMap<Digest, (Option<Parsed>, Duration)>;

impl Registry {
    /// Removes what nothing names, once.
    ///
    /// # Errors
    /// The storage or the cluster failed; what was not looked at stays.
    pub async fn collect(&self) -> Result<Collected, Error> {
        let begun = tokio::time::Instant::now();
        let collected = self.0.collect().await;
        self.0.metrics.collected(&collected, begun.elapsed());
        collected
    }
}

impl Inner {
    async fn collect(&self) -> Result<Collected, Error> {
        let mut collected = Collected::default();
        let _turn = self.collecting.lock().await;
        let _watch = self.touched.watch();
        self.expire_uploads(&mut collected).await?;
        self.remove_orphans().await?;
        let mut kept = HashSet::new();
        for namespace in self.storage.directories(&storage::repositories()).await? {
            for repository in self.repositories(&namespace).await? {
                self.mark(&repository, &mut kept, &mut collected).await?;
            }
        }
        self.sweep(&kept, &mut collected).await?;
        self.forget_touched().await?;
        if let Some(root) = self.storage.root() {
            let grace = self.config.grace;
            let swept = tokio::task::spawn_blocking(move || storage::local::sweep(&root, grace));
            swept
                .await
                .map_err(std::io::Error::other)
                .flatten()
                .map_err(unreadable)?;
        }
        Ok(collected)
    }

    async fn expire_uploads(&self, collected: &mut Collected) -> Result<(), Error> {
        for id in self.storage.directories(&storage::uploads()).await? {
            let objects: Vec<ObjectMeta> = self
                .storage
                .list(&storage::upload(&id))
                .try_collect()
                .await?;
            let ages = objects.iter().map(age);
            if ages
                .min()
                .is_some_and(|age| age >= self.config.upload_expiry)
                && self.sessions.expire(&id)
            {
                self.storage.remove_all(&storage::upload(&id)).await?;
                collected.uploads += 1;
            }
        }
        Ok(())
    }

    /// Adds what a repository needs to `kept`, and removes what it has for nothing.
    async fn mark(
        &self,
        repository: &Repository,
        kept: &mut HashSet<Digest>,
        collected: &mut Collected,
    ) -> Result<(), Error> {
        // Pushes wait while the gate is closed: what a digest names does not change, and is read before.
        let before = self.read_manifests(repository, HashMap::new()).await?;
        let _gate = self.gate.write().await;
        let mut manifests = self.read_manifests(repository, before).await?;
        self.drop_untagged(repository, &mut manifests, collected)
            .await?;
        let mut named = HashSet::new();
        for (digest, (parsed, _)) in &manifests {
            kept.insert(*digest);
            named.extend(
                parsed
                    .iter()
                    .flat_map(|parsed| parsed.blobs.iter().copied()),
            );
        }
        let links = storage::links(repository, "_blobs");
        let links: Vec<ObjectMeta> = self.storage.list(&links).try_collect().await?;
        for link in links {
            let Some(digest) = storage::digest_at(&link.location) else {
                continue;
            };
            let is_named = named.remove(&digest);
            if is_named || age(&link) < self.config.grace {
                kept.insert(digest);
            } else {
                self.storage.remove(&link.location).await?;
                collected.links += 1;
            }
        }
        for digest in named {
            kept.insert(digest);
            if self
                .storage
                .find_meta(&storage::content(&digest))
                .await?
                .is_some()
            {
                let link = storage::blob_link(repository, &digest);
                self.storage.put(&link, Bytes::new()).await?;
            }
        }
        Ok(())
    }

    /// A repository's manifests and the ages of their links; those that were `read` before are not read again.
    async fn read_manifests(
        &self,
        repository: &Repository,
        mut read: Manifests,
    ) -> Result<Manifests, Error> {
        let mut manifests = Manifests::new();
        let links = storage::links(repository, "_manifests");
        let links: Vec<ObjectMeta> = self.storage.list(&links).try_collect().await?;
        for link in links {
            if let Some(digest) = storage::digest_at(&link.location) {
                let parsed = match read.remove(&digest) {
                    Some((Some(parsed), _)) => Some(parsed),
                    _ => self.read_manifest(repository, &digest).await?,
                };
                manifests.insert(digest, (parsed, age(&link)));
            }
        }
        Ok(manifests)
    }

    /// Removes the manifests that nothing names, if the operator wants that. The gate is closed.
    async fn drop_untagged(
        &self,
        repository: &Repository,
        manifests: &mut Manifests,
        collected: &mut Collected,
    ) -> Result<(), Error> {
        let Some(min_age) = self.config.untagged else {
            return Ok(());
        };
        let tags = self.tags_with_digests(repository).await?;
        let mut wanted: HashSet<Digest> = HashSet::new();
        let mut next: Vec<Digest> = tags.into_iter().map(|(_, digest)| digest).collect();
        let young = manifests.iter().filter(|(_, (_, age))| *age < min_age);
        next.extend(young.map(|(digest, _)| *digest));
        while let Some(digest) = next.pop() {
            if !wanted.insert(digest) {
                continue;
            }
            if let Some((Some(parsed), _)) = manifests.get(&digest) {
                next.extend(&parsed.manifests);
            }
            let attached = manifests.iter().filter(|(_, (parsed, _))| {
                parsed
                    .as_ref()
                    .is_some_and(|parsed| parsed.subject == Some(digest))
            });
            next.extend(attached.map(|(digest, _)| *digest));
        }
        let unwanted: Vec<Digest> = manifests
            .keys()
            .filter(|digest| !wanted.contains(*digest))
            .copied()
            .collect();
        for digest in unwanted {
            self.remove_manifest(repository, &digest).await?;
            manifests.remove(&digest);
            collected.manifests += 1;
        }
        Ok(())
    }

    /// Removes content that no repository has.
    pub(crate) async fn sweep(
        &self,
        kept: &HashSet<Digest>,
        collected: &mut Collected,
    ) -> Result<(), Error> {
        let mut objects = self.storage.list(&storage::blobs());
        while let Some(object) = objects.try_next().await? {
            let Some(digest) = storage::digest_at(&object.location) else {
                continue;
            };
            if !kept.contains(&digest) && age(&object) >= self.config.grace {
                let _gate = self.gate.write().await;
                if self.remove_content(&digest).await? {
                    collected.blobs += 1;
                    collected.freed_bytes += object.size;
                    continue;
                }
            }
            collected.kept_blobs += 1;
            collected.kept_bytes += object.size;
        }
        Ok(())
    }
}

/// How long ago an object was written. One from the future is new.
pub(crate) fn age(object: &ObjectMeta) -> Duration {
    let written: SystemTime = object.last_modified.into();
    SystemTime::now()
        .duration_since(written)
        .unwrap_or_default()
}
