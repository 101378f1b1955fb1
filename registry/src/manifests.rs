//! Manifests: kept byte for byte, named by digest and by tags.
//!
//! Content first, then the link that makes it one of the repository's manifests, then what names it: a subject's list,
//! a tag. Removed in the opposite order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    access::{Action, Caller},
    digest::{Digest, Hasher},
    error::{Code, Error},
    manifest::{self, Parsed},
    name::{Reference, Repository},
    registry::{Inner, Registry},
    storage,
};

/// A manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// As which it was pushed.
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Byte for byte.
    pub bytes: Bytes,
}

/// What the link to a manifest says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Link {
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

impl Registry {
    /// The manifest that a tag or digest names. Asks nobody whether the caller may.
    ///
    /// # Errors
    /// The repository does not have it.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        self.0.check_owner(repository).await?;
        self.0.manifest(repository, reference).await
    }
}

impl Inner {
    pub(crate) async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        let unknown = || Error::manifest_unknown(repository, &reference.to_string());
        let digest = self.resolve(repository, reference).await?;
        let digest = digest.ok_or_else(unknown)?;
        let link = self
            .find_link(repository, &digest)
            .await?
            .ok_or_else(unknown)?;
        let bytes = self.storage.find(&storage::content(&digest)).await?;
        Ok(Manifest {
            media_type: link.media_type,
            digest,
            bytes: bytes.ok_or_else(unknown)?,
        })
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>, Error> {
        match reference {
            Reference::Digest(digest) => Ok(Some(*digest)),
            Reference::Tag(tag) => self.find_tag(repository, tag).await,
        }
    }

    pub(crate) async fn find_link(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Link>, Error> {
        let link = storage::manifest_link(repository, digest);
        let link = self.storage.find(&link).await?;
        Ok(link.and_then(|link| serde_json::from_slice(&link).ok()))
    }

    /// Stores a manifest under its digest, and a tag if one is named. Answers its digest and its subject.
    pub(crate) async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        content_type: Option<&str>,
        bytes: Bytes,
        caller: &dyn Caller,
    ) -> Result<(Digest, Option<Digest>), Error> {
        let parsed = manifest::parse(&bytes, content_type)?;
        let digest = match reference {
            Reference::Tag(_) => Digest::of(&bytes),
            Reference::Digest(wanted) => {
                let mut hasher = Hasher::like(wanted);
                hasher.update(&bytes);
                let actual = hasher.finish();
                if actual != *wanted {
                    return Err(Error::new(
                        Code::DigestInvalid,
                        format!("the manifest is {actual}, not {wanted}"),
                        json!({"digest": wanted.to_string(), "actual": actual.to_string()}),
                    ));
                }
                actual
            }
        };
        if let Reference::Tag(tag) = reference {
            let now = self.find_tag(repository, tag).await?;
            if now.is_some_and(|now| now != digest) {
                let may = caller.may(Action::Retag, repository);
                may.map_err(|why| Error::new(Code::Denied, why, json!({"tag": tag})))?;
            }
        }
        let _turn = self
            .charge(repository, &[(digest, bytes.len() as u64)])
            .await?;
        let _gate = self.gate.read().await;
        self.check_named(repository, &parsed).await?;
        let link = Link {
            media_type: parsed.media_type.clone(),
            size: bytes.len() as u64,
        };
        let link = serde_json::to_vec(&link).expect("texts and numbers can be JSON");
        let size = bytes.len();
        self.storage.put(&storage::content(&digest), bytes).await?;
        let path = storage::manifest_link(repository, &digest);
        self.storage.put(&path, link.into()).await?;
        if let Some(subject) = &parsed.subject {
            let descriptor = parsed.descriptor(&digest, size).to_string();
            let path = storage::referrer(repository, subject, &digest);
            self.storage.put(&path, descriptor.into()).await?;
        }
        if let Reference::Tag(tag) = reference {
            let path = storage::tag(repository, tag);
            self.storage.put(&path, digest.to_string().into()).await?;
        }
        Ok((digest, parsed.subject))
    }

    /// Refuses a manifest that names what the repository does not have. A subject may come later.
    async fn check_named(&self, repository: &Repository, parsed: &Parsed) -> Result<(), Error> {
        let mut missing = Vec::new();
        for digest in &parsed.blobs {
            self.renew_link(repository, digest).await?;
            if self.find_blob(repository, digest).await?.is_none() {
                missing.push(digest.to_string());
            }
        }
        for digest in &parsed.manifests {
            if self.find_link(repository, digest).await?.is_none() {
                missing.push(digest.to_string());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        missing.dedup();
        Err(Error::new(
            Code::ManifestBlobUnknown,
            format!(
                "the manifest names what is not in repository {repository}: push it before: {}",
                missing.join(", ")
            ),
            json!({"name": repository.as_str(), "digests": missing}),
        ))
    }

    /// Removes a tag; or a manifest with the tags that name it.
    pub(crate) async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(), Error> {
        let digest = match reference {
            Reference::Tag(tag) => {
                if self.find_tag(repository, tag).await?.is_none() {
                    return Err(Error::manifest_unknown(repository, tag));
                }
                return Ok(self.storage.remove(&storage::tag(repository, tag)).await?);
            }
            Reference::Digest(digest) => digest,
        };
        // Not while one that names it comes.
        let _gate = self.gate.write().await;
        let link = self.find_link(repository, digest).await?;
        if link.is_none() {
            return Err(Error::manifest_unknown(repository, &digest.to_string()));
        }
        self.remove_manifest(repository, digest).await
    }

    /// Removes a manifest and what names it. The gate is closed.
    pub(crate) async fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        for (tag, named) in self.tags_with_digests(repository).await? {
            if named == *digest {
                self.storage.remove(&storage::tag(repository, &tag)).await?;
            }
        }
        let parsed = self.read_manifest(repository, digest).await?;
        if let Some(subject) = parsed.and_then(|parsed| parsed.subject) {
            let path = storage::referrer(repository, &subject, digest);
            self.storage.remove(&path).await?;
        }
        let link = storage::manifest_link(repository, digest);
        Ok(self.storage.remove(&link).await?)
    }

    /// What a manifest of the repository says; `None` if it is not there.
    pub(crate) async fn read_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Parsed>, Error> {
        let Some(link) = self.find_link(repository, digest).await? else {
            return Ok(None);
        };
        let Some(bytes) = self.storage.find(&storage::content(digest)).await? else {
            return Ok(None);
        };
        Ok(manifest::parse(&bytes, Some(&link.media_type)).ok())
    }
}
