//! Blobs that are there: found, read, mounted from elsewhere, let go.

use std::{io, ops::Range};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::json;

use crate::{
    access::{Action, Caller},
    collect::age,
    digest::Digest,
    error::{Code, Error},
    name::Repository,
    registry::{Inner, Registry},
    storage,
};

/// A blob's bytes, as they are read.
pub struct Blob {
    /// Of the whole blob.
    pub size_bytes: u64,
    /// Those that were asked for.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl Registry {
    /// A blob of a repository from `offset` on. Asks nobody whether the caller may.
    ///
    /// # Errors
    /// The repository does not have it, or it ends before `offset`.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
    ) -> Result<Blob, Error> {
        self.0.check_owner(repository).await?;
        let size_bytes = self.0.blob_size(repository, digest).await?;
        let bytes = self.0.blob_bytes(digest, size_bytes, offset..size_bytes);
        Ok(Blob {
            size_bytes,
            bytes: bytes.await?,
        })
    }
}

impl Inner {
    /// How long a blob is that the repository has.
    pub(crate) async fn blob_size(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<u64, Error> {
        let found = self.find_blob(repository, digest).await?;
        found.ok_or_else(|| Error::blob_unknown(repository, digest))
    }

    pub(crate) async fn find_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let link = storage::blob_link(repository, digest);
        if self.storage.find_meta(&link).await?.is_none() {
            return Ok(None);
        }
        let content = self.storage.find_meta(&storage::content(digest)).await?;
        Ok(content.map(|meta| meta.size))
    }

    /// Those bytes of a blob of that size.
    pub(crate) async fn blob_bytes(
        &self,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, Error> {
        if range.start > size || range.end > size {
            return Err(Error::new(
                Code::RangeInvalid,
                format!("blob {digest} is {size} bytes"),
                json!({"digest": digest.to_string(), "size": size}),
            ));
        }
        let bytes = self.storage.read(&storage::content(digest), range).await?;
        let metrics = self.metrics.clone();
        let counted = bytes.inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                metrics.sent(chunk.len() as u64);
            }
        });
        Ok(counted.boxed())
    }

    /// Makes content that is there a blob of the repository.
    pub(crate) async fn link_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        self.touch(digest).await?;
        let link = storage::blob_link(repository, digest);
        self.storage.put(&link, Bytes::new()).await?;
        // Another process may have taken it for old a moment before it was new.
        let content = self.storage.find_meta(&storage::content(digest)).await?;
        match content {
            Some(_) => Ok(()),
            None => Err(Error::blob_unknown(repository, digest)),
        }
    }

    /// Keeps a blob that nothing names yet from being taken for old: who asks for it is about to name it.
    pub(crate) async fn renew_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        let _gate = self.gate.read().await;
        self.renew_link(repository, digest).await
    }

    /// The same; the caller holds the gate.
    pub(crate) async fn renew_link(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        let link = storage::blob_link(repository, digest);
        let Some(meta) = self.storage.find_meta(&link).await? else {
            return Ok(());
        };
        self.keep_here(digest);
        // A younger one outlives the collections that are under way anywhere.
        if age(&meta) > self.config.grace / 2 {
            self.touch(digest).await?;
            self.storage.put(&link, Bytes::new()).await?;
        }
        Ok(())
    }

    /// Takes a blob from another repository, or any of the same namespace, that the caller may pull from. False if
    /// there is none.
    pub(crate) async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
        caller: &dyn Caller,
    ) -> Result<bool, Error> {
        let candidates = match from {
            Some(from) => vec![from.clone()],
            None => self.repositories(repository.namespace()).await?,
        };
        for candidate in candidates {
            let is_open = caller.may(Action::Pull, &candidate).is_ok();
            // What an earlier namespace of that name had is nobody's; what cannot be mounted is sent.
            if !is_open || self.check_owner(&candidate).await.is_err() {
                continue;
            }
            let Some(size) = self.find_blob(&candidate, digest).await? else {
                continue;
            };
            let _turn = match candidate == *repository {
                true => None,
                false => self.charge(repository, &[(*digest, size)]).await?,
            };
            let _gate = self.gate.read().await;
            // It may have gone while there was no gate.
            if self.find_blob(&candidate, digest).await?.is_none() {
                continue;
            }
            match candidate == *repository {
                true => self.renew_link(repository, digest).await?,
                false => self.link_blob(repository, digest).await?,
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Lets a blob go: the repository has it no more.
    pub(crate) async fn unlink_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        self.blob_size(repository, digest).await?;
        let link = storage::blob_link(repository, digest);
        Ok(self.storage.remove(&link).await?)
    }
}
