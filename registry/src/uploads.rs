//! Blobs on their way: begun, sent in one piece or in chunks, one after the other, committed or cancelled.
//!
//! What has come is kept as objects ([`storage::upload_part`]), so that a client, or another process with the same
//! storage, can go on after a broken connection or the end of a process. A digest over what came is kept while the
//! process lives, and read again otherwise. Nothing of an upload can be pulled before it is committed.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    digest::{Digest, Hasher},
    error::{Code, Error},
    name::Repository,
    registry::Inner,
    storage,
};

/// Uploads that a process knows at once.
const MAX_UPLOADS: usize = 10_000;
/// How long a chunk waits for the one before it to be written.
const TURN: Duration = Duration::from_secs(30);

/// What a body is.
pub(crate) type Body = BoxStream<'static, io::Result<Bytes>>;

/// The uploads that this process has seen.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Upload>>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<Upload>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

/// An upload.
pub(crate) struct Upload {
    id: String,
    repository: String,
    size: u64,
    /// Where each part begins.
    parts: Vec<u64>,
    hasher: Hasher,
    /// Committed or cancelled.
    over: bool,
}

/// A handle on an upload, which nobody else writes to meanwhile.
pub(crate) type Turn = tokio::sync::OwnedMutexGuard<Upload>;

#[derive(Serialize, Deserialize)]
struct Begun {
    repository: String,
}

/// What a chunk says of itself.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Chunk {
    /// First and last byte, as `Content-Range` has them.
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) length: Option<u64>,
}

impl Upload {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Refuses what does not follow what has come.
    fn check(&self, chunk: &Chunk) -> Result<(), Error> {
        let Some((first, last)) = chunk.range else {
            return Ok(());
        };
        let detail =
            json!({"uuid": self.id, "offset": self.size, "range": format!("{first}-{last}")});
        if first != self.size {
            let message = format!(
                "the chunk begins at {first}, and {} bytes have come: it must begin there",
                self.size
            );
            return Err(Error::new(Code::RangeInvalid, message, detail));
        }
        match (last.checked_sub(first), chunk.length) {
            (None, _) => Err(Error::new(
                Code::RangeInvalid,
                "Content-Range ends before it begins",
                detail,
            )),
            (Some(more), Some(length)) if more + 1 != length => Err(Error::size(more + 1, length)),
            _ => Ok(()),
        }
    }
}

impl Inner {
    /// Begins an upload.
    pub(crate) async fn begin(&self, repository: &Repository) -> Result<String, Error> {
        if self.sessions.count() >= MAX_UPLOADS {
            return Err(Error::new(
                Code::TooManyRequests,
                format!("{MAX_UPLOADS} uploads are under way: try again later"),
                json!(null),
            ));
        }
        let id = Uuid::new_v4().to_string();
        let begun = Begun {
            repository: repository.to_string(),
        };
        let begun = serde_json::to_vec(&begun).expect("a text can be JSON");
        self.storage
            .put(&storage::upload_begun(&id), begun.into())
            .await?;
        let upload = Upload {
            id: id.clone(),
            repository: repository.to_string(),
            size: 0,
            parts: Vec::new(),
            hasher: Hasher::sha256(),
            over: false,
        };
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        self.sessions.lock().insert(id.clone(), upload);
        Ok(id)
    }

    /// An upload to this repository, once nobody else writes to it.
    pub(crate) async fn upload(&self, repository: &Repository, id: &str) -> Result<Turn, Error> {
        let unknown = || Error::upload_unknown(id);
        // Also keeps what is no id out of paths.
        let is_id = Uuid::parse_str(id).is_ok_and(|parsed| parsed.to_string() == id);
        if !is_id {
            return Err(unknown());
        }
        let known = self.sessions.lock().get(id).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let found = self.find_upload(id).await?.ok_or_else(unknown)?;
                let found = Arc::new(tokio::sync::Mutex::new(found));
                let mut sessions = self.sessions.lock();
                sessions.entry(id.to_owned()).or_insert(found).clone()
            }
        };
        let turn = tokio::time::timeout(TURN, known.lock_owned()).await;
        let turn = turn.map_err(|_| {
            Error::new(
                Code::TooManyRequests,
                "another chunk of this upload is being written: send one after the other",
                json!({"uuid": id}),
            )
        })?;
        if turn.over || turn.repository != repository.as_str() {
            return Err(unknown());
        }
        Ok(turn)
    }

    /// An upload that another process began, or this one in an earlier life.
    async fn find_upload(&self, id: &str) -> Result<Option<Upload>, Error> {
        let Some(begun) = self.storage.find(&storage::upload_begun(id)).await? else {
            return Ok(None);
        };
        let Ok(begun) = serde_json::from_slice::<Begun>(&begun) else {
            return Ok(None);
        };
        let mut upload = Upload {
            id: id.to_owned(),
            repository: begun.repository,
            size: 0,
            parts: Vec::new(),
            hasher: Hasher::sha256(),
            over: false,
        };
        for part in self.storage.names(&storage::upload(id)).await? {
            let offset = part.location.filename().and_then(|name| name.parse().ok());
            // What does not follow is what another write will replace.
            if offset != Some(upload.size) {
                continue;
            }
            let mut bytes = self.storage.read(&part.location, 0..part.size).await?;
            while let Some(chunk) = bytes.try_next().await.map_err(unreadable)? {
                upload.hasher.update(&chunk);
            }
            upload.parts.push(upload.size);
            upload.size += part.size;
        }
        Ok(Some(upload))
    }

    /// Adds a chunk. What came before a connection broke is kept; the client asks how much that is.
    pub(crate) async fn append(
        &self,
        upload: &mut Upload,
        chunk: Chunk,
        body: Body,
    ) -> Result<(), Error> {
        upload.check(&chunk)?;
        let path = storage::upload_part(&upload.id, upload.size);
        // A chunk that cannot be kept must not count.
        let mut hasher = upload.hasher.clone();
        let written = self
            .storage
            .write(&path, body, |bytes| hasher.update(bytes))
            .await?;
        self.metrics.received(written.size);
        if written.size > 0 {
            upload.parts.push(upload.size);
            upload.size += written.size;
            upload.hasher = hasher;
        }
        let said = chunk.length.or(chunk
            .range
            .and_then(|(first, last)| last.checked_sub(first).map(|more| more + 1)));
        match (written.broken, said) {
            (Some(error), _) => Err(Error::new(
                Code::BlobUploadInvalid,
                format!("the body broke off: {error}"),
                json!({"uuid": upload.id, "offset": upload.size}),
            )),
            (None, Some(said)) if said != written.size => Err(Error::size(said, written.size)),
            _ => Ok(()),
        }
    }

    /// Makes what came the blob of that digest, if it is.
    pub(crate) async fn commit(
        &self,
        upload: Turn,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        let actual = match digest {
            Digest::Sha256(_) => upload.hasher.clone().finish(),
            Digest::Sha512(_) => {
                let mut hasher = Hasher::like(digest);
                let mut bytes = self.bytes(&upload);
                while let Some(chunk) = bytes.try_next().await.map_err(unreadable)? {
                    hasher.update(&chunk);
                }
                hasher.finish()
            }
        };
        if actual != *digest {
            let size = upload.size;
            self.cancel(upload).await?;
            return Err(Error::new(
                Code::DigestInvalid,
                format!("the {size} bytes that came are {actual}, not {digest}"),
                json!({"digest": digest.to_string(), "actual": actual.to_string(), "size": size}),
            ));
        }
        let committed = self.keep(&upload, repository, digest).await;
        // Whatever became of it, a client that comes again begins anew.
        if let Err(error) = self.cancel(upload).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an upload's remains stay until they are old"
            );
        }
        committed
    }

    async fn keep(
        &self,
        upload: &Upload,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Error> {
        let _turn = self.charge(repository, &[(*digest, upload.size)]).await?;
        let _gate = self.gate.read().await;
        let content = storage::content(digest);
        match upload.parts.as_slice() {
            // Also over what is there already: it is the same, and new again for whoever collects what is old.
            [] => self.storage.put(&content, Bytes::new()).await?,
            [part] => {
                let part = storage::upload_part(&upload.id, *part);
                self.storage.rename(&part, &content, upload.size).await?;
            }
            _ => {
                let bytes = self.bytes(upload);
                let written = self.storage.write(&content, bytes, |_| {}).await?;
                if let Some(error) = written.broken {
                    self.storage.remove(&content).await?;
                    return Err(unreadable(error));
                }
            }
        }
        self.link_blob(repository, digest).await
    }

    /// What came, from its first byte.
    fn bytes(&self, upload: &Upload) -> Body {
        let ends = upload.parts.iter().skip(1).copied().chain([upload.size]);
        let parts: Vec<_> = upload
            .parts
            .iter()
            .zip(ends)
            .map(|(start, end)| (storage::upload_part(&upload.id, *start), end - start))
            .collect();
        let storage = self.storage.clone();
        futures::stream::iter(parts)
            .then(move |(path, size)| {
                let storage = storage.clone();
                async move { storage.read(&path, 0..size).await.map_err(io::Error::other) }
            })
            .try_flatten()
            .boxed()
    }

    /// Forgets an upload and what came of it.
    pub(crate) async fn cancel(&self, mut upload: Turn) -> Result<(), Error> {
        upload.over = true;
        self.sessions.forget(&upload.id);
        self.storage
            .remove_all(&storage::upload(&upload.id))
            .await?;
        Ok(())
    }
}

/// Of content that is in the storage and cannot be read.
pub(crate) fn unreadable(error: io::Error) -> Error {
    Error::Storage(object_store::Error::Generic {
        store: "registry",
        source: error.into(),
    })
}
