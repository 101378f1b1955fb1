//! Blobs on their way: begun, sent in one piece or in chunks, one after the other, committed or cancelled.
//!
//! What has come is kept as objects ([`storage::upload_part`]), each written once, so that a client, or another process
//! with the same storage, can go on after a broken connection or the end of a process. A digest over what came is kept
//! while the process lives, and read again otherwise, or if another process went on. Nothing of an upload can be pulled
//! before it is committed.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{ObjectMeta, path::Path};
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

/// Uploads that a process knows at once, and those of one namespace.
const MAX_UPLOADS: usize = 10_000;
const MAX_OF_NAMESPACE: usize = 100;
/// An upload that a process has not seen for so long is forgotten, and read again if it goes on.
const MAX_IDLE: Duration = Duration::from_secs(3600);
/// How long a chunk waits for the one before it to be written.
const TURN: Duration = Duration::from_secs(30);

/// What a body is.
pub(crate) type Body = BoxStream<'static, io::Result<Bytes>>;

/// The uploads that this process has seen.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

struct Session {
    namespace: String,
    seen: Instant,
    /// How much came, also of the chunk that is being written.
    size: Arc<AtomicU64>,
    upload: Arc<tokio::sync::Mutex<Upload>>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Option<Arc<tokio::sync::Mutex<Upload>>> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id)?;
        session.seen = Instant::now();
        Some(session.upload.clone())
    }

    /// Refuses one more than there may be; otherwise what is known by this id from now on.
    fn admit(&self, upload: Upload) -> Result<Arc<tokio::sync::Mutex<Upload>>, Error> {
        let mut sessions = self.lock();
        if let Some(known) = sessions.get(&upload.id) {
            return Ok(known.upload.clone());
        }
        sessions.retain(|_, session| {
            session.seen.elapsed() < MAX_IDLE || session.upload.try_lock().is_err()
        });
        let (id, namespace) = (upload.id.clone(), upload.namespace().to_owned());
        let own = sessions
            .values()
            .filter(|other| other.namespace == namespace);
        let refused = match (own.count() >= MAX_OF_NAMESPACE, sessions.len()) {
            (true, _) => format!("{MAX_OF_NAMESPACE} uploads to namespace {namespace:?}"),
            (false, MAX_UPLOADS..) => format!("{MAX_UPLOADS} uploads"),
            (false, _) => {
                let session = Session {
                    namespace,
                    seen: Instant::now(),
                    size: upload.came.clone(),
                    upload: Arc::new(tokio::sync::Mutex::new(upload)),
                };
                let upload = session.upload.clone();
                sessions.insert(id, session);
                return Ok(upload);
            }
        };
        Err(Error::new(
            Code::TooManyRequests,
            format!("{refused} are under way: finish or cancel some, or try again later"),
            json!(null),
        ))
    }

    /// How much came of a namespace's uploads that are not committed.
    fn came(&self, namespace: &str) -> u64 {
        let sessions = self.lock();
        let own = sessions.values().filter(|one| one.namespace == namespace);
        own.map(|one| one.size.load(Ordering::Relaxed)).sum()
    }

    /// Forgets an upload; false if somebody writes to it.
    pub(crate) fn expire(&self, id: &str) -> bool {
        let mut sessions = self.lock();
        let Some(session) = sessions.get(id) else {
            return true;
        };
        match session.upload.try_lock() {
            Ok(mut upload) => upload.over = true,
            Err(_) => return false,
        }
        sessions.remove(id);
        true
    }

    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }
}

/// An upload.
pub(crate) struct Upload {
    id: String,
    repository: String,
    size: u64,
    /// The same, and what is being written.
    came: Arc<AtomicU64>,
    /// What the digest is of.
    parts: Vec<Part>,
    hasher: Hasher,
    /// Committed or cancelled.
    over: bool,
}

/// What came in one request.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    path: Path,
    size: u64,
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
    fn new(id: String, repository: String) -> Upload {
        Upload {
            id,
            repository,
            size: 0,
            came: Arc::default(),
            parts: Vec::new(),
            hasher: Hasher::sha256(),
            over: false,
        }
    }

    fn namespace(&self) -> &str {
        let parts = self.repository.split_once('/');
        parts.map_or(&self.repository, |(namespace, _)| namespace)
    }

    fn add(&mut self, part: Part, hasher: Hasher) {
        self.size += part.size;
        self.came.store(self.size, Ordering::Relaxed);
        self.parts.push(part);
        self.hasher = hasher;
    }

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
        let id = Uuid::new_v4().to_string();
        self.sessions
            .admit(Upload::new(id.clone(), repository.to_string()))?;
        let begun = Begun {
            repository: repository.to_string(),
        };
        let begun = serde_json::to_vec(&begun).expect("a text can be JSON");
        let put = self
            .storage
            .put(&storage::upload_begun(&id), begun.into())
            .await;
        if put.is_err() {
            self.sessions.forget(&id);
        }
        put?;
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
        let known = match self.sessions.find(id) {
            Some(known) => known,
            None => {
                let found = self.find_upload(id).await?.ok_or_else(unknown)?;
                self.sessions.admit(found)?
            }
        };
        let turn = tokio::time::timeout(TURN, known.lock_owned()).await;
        let mut turn = turn.map_err(|_| {
            Error::new(
                Code::TooManyRequests,
                "another chunk of this upload is being written: send one after the other",
                json!({"uuid": id}),
            )
        })?;
        if turn.over || turn.repository != repository.as_str() {
            return Err(unknown());
        }
        // Another process may have gone on, or ended it.
        if !self.storage.is_local() && !self.catch_up(&mut turn).await? {
            turn.over = true;
            self.sessions.forget(id);
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
        let mut upload = Upload::new(id.to_owned(), begun.repository);
        let is_there = self.catch_up(&mut upload).await?;
        Ok(is_there.then_some(upload))
    }

    /// Reads what came that the digest is not of yet; false if the upload is over.
    async fn catch_up(&self, upload: &mut Upload) -> Result<bool, Error> {
        let begun = storage::upload_begun(&upload.id);
        let objects = self.storage.names(&storage::upload(&upload.id)).await?;
        if !objects.iter().any(|object| object.location == begun) {
            return Ok(false);
        }
        let parts = following(&objects);
        if !parts.starts_with(&upload.parts) {
            upload.size = 0;
            upload.parts.clear();
            upload.hasher = Hasher::sha256();
        }
        for part in parts.into_iter().skip(upload.parts.len()) {
            let mut hasher = upload.hasher.clone();
            let mut bytes = self.storage.read(&part.path, 0..part.size).await?;
            while let Some(chunk) = bytes.try_next().await.map_err(unreadable)? {
                hasher.update(&chunk);
            }
            upload.add(part, hasher);
        }
        Ok(true)
    }

    /// Adds a chunk. What came before a connection broke is kept; the client asks how much that is.
    pub(crate) async fn append(
        &self,
        upload: &mut Upload,
        chunk: Chunk,
        body: Body,
    ) -> Result<(), Error> {
        upload.check(&chunk)?;
        let quotas = self.access.quotas(upload.namespace()).await?;
        let quota = quotas.into_iter().min_by_key(|(_, limit)| *limit);
        let namespace = upload.namespace().to_owned();
        let is_over = |more: u64| {
            let came = || self.sessions.came(&namespace).saturating_add(more);
            quota.as_ref().is_some_and(|(_, limit)| came() > *limit)
        };
        let denied = || {
            let (name, limit) = quota.clone().unwrap_or_default();
            Error::new(
                Code::Denied,
                format!(
                    "exceeded quota: {name}: the uploads to namespace {namespace:?} that are under way are more than {limit} bytes"
                ),
                json!({"quota": name, "limited": limit}),
            )
        };
        if is_over(chunk.length.unwrap_or(0)) {
            return Err(denied());
        }
        // Written once, by whoever names it: what the digest is of does not change.
        let nonce = Uuid::new_v4().simple().to_string();
        let path = storage::upload_part(&upload.id, upload.size, &nonce);
        // A chunk that cannot be kept must not count.
        let mut hasher = upload.hasher.clone();
        let mut was_over = false;
        let body = body.map(|bytes| {
            let bytes = bytes?;
            upload.came.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            was_over = is_over(0);
            match was_over {
                true => Err(io::ErrorKind::QuotaExceeded.into()),
                false => Ok(bytes),
            }
        });
        let written = self
            .storage
            .write(&path, body, |bytes| hasher.update(bytes))
            .await;
        upload.came.store(upload.size, Ordering::Relaxed);
        let written = written?;
        self.metrics.received(written.size);
        if written.size > 0 {
            let part = Part {
                path,
                size: written.size,
            };
            upload.add(part, hasher);
        }
        if was_over {
            return Err(denied());
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
            [part] => self.publish(&part.path, &content, upload).await?,
            _ => {
                let whole = storage::upload(&upload.id).join("whole");
                let mut hasher = Hasher::like(digest);
                let bytes = self.bytes(upload);
                let see = |bytes: &[u8]| hasher.update(bytes);
                let written = self.storage.write(&whole, bytes, see).await?;
                if let Some(error) = written.broken {
                    return Err(unreadable(error));
                }
                if hasher.finish() != *digest {
                    return Err(unreadable(io::ErrorKind::InvalidData.into()));
                }
                self.publish(&whole, &content, upload).await?;
            }
        }
        self.link_blob(repository, digest).await
    }

    /// Makes an object of the upload content.
    async fn publish(&self, from: &Path, content: &Path, upload: &Upload) -> Result<(), Error> {
        let renamed = self.storage.rename(from, content, upload.size).await;
        renamed.map_err(|error| match error {
            // Another process has ended the upload.
            object_store::Error::NotFound { .. } => Error::upload_unknown(&upload.id),
            error => error.into(),
        })
    }

    /// What came, from its first byte.
    fn bytes(&self, upload: &Upload) -> Body {
        let parts = upload.parts.clone();
        let storage = self.storage.clone();
        futures::stream::iter(parts)
            .then(move |Part { path, size }| {
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

/// The parts that follow each other from the first byte on. Of several from one offset, which processes wrote that did
/// not know of each other, the one that brings most: so all processes see the same.
fn following(objects: &[ObjectMeta]) -> Vec<Part> {
    let offset = |object: &ObjectMeta| {
        let (offset, _) = object.location.filename()?.split_once('-')?;
        offset.parse::<u64>().ok()
    };
    let (mut parts, mut size) = (Vec::new(), 0);
    loop {
        let next = objects
            .iter()
            .filter(|object| object.size > 0 && offset(object) == Some(size));
        let Some(next) = next.max_by_key(|object| (object.size, &object.location)) else {
            return parts;
        };
        size += next.size;
        parts.push(Part {
            path: next.location.clone(),
            size: next.size,
        });
    }
}

/// Of content that is in the storage and cannot be read.
pub(crate) fn unreadable(error: io::Error) -> Error {
    Error::Storage(object_store::Error::Generic {
        store: "registry",
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, Storage, in_memory};

    fn body(text: &'static str) -> Body {
        futures::stream::iter([Ok(Bytes::from(text))]).boxed()
    }

    async fn send(to: &Registry, id: &str, text: &'static str) -> Result<u64, Error> {
        let mut turn = to.0.upload(&in_memory::repository("a/x"), id).await?;
        let chunk = Chunk::default();
        to.0.append(&mut turn, chunk, body(text)).await?;
        Ok(turn.size)
    }

    #[tokio::test]
    async fn processes_that_write_to_one_upload_publish_what_its_digest_says() {
        let storage = Storage::in_memory();
        let registry = || in_memory::registry(storage.clone(), None, Duration::from_secs(60));
        let (one, other) = (registry(), registry());
        let repository = in_memory::repository("a/x");
        let id = one.0.begin(&repository).await.unwrap();
        // Both are about to write the first bytes.
        let mut stale = other.0.upload(&repository, &id).await.unwrap();
        assert_eq!(send(&one, &id, "hello").await.unwrap(), 5);
        let written = other
            .0
            .append(&mut stale, Chunk::default(), body("jelly fish"));
        written.await.unwrap();
        drop(stale);
        // The longer one is what came, for both.
        for registry in [&one, &other] {
            let turn = registry.0.upload(&repository, &id).await.unwrap();
            assert_eq!(turn.size, 10);
        }
        let digest = Digest::of(b"jelly fish!");
        assert_eq!(send(&one, &id, "!").await.unwrap(), 11);
        let turn = other.0.upload(&repository, &id).await.unwrap();
        other.0.commit(turn, &repository, &digest).await.unwrap();
        let kept = storage.find(&storage::content(&digest)).await.unwrap();
        assert_eq!(kept.as_deref(), Some(&b"jelly fish!"[..]));
        // It is over for the other too.
        let over = one.0.upload(&repository, &id).await.err();
        assert_eq!(over.unwrap().code(), Some(Code::BlobUploadUnknown));
    }

    #[tokio::test]
    async fn a_namespace_has_so_many_uploads_and_so_much_of_them() {
        let registry = in_memory::registry(Storage::in_memory(), Some(8), Duration::ZERO);
        let repository = in_memory::repository("a/x");
        let id = registry.0.begin(&repository).await.unwrap();
        assert_eq!(send(&registry, &id, "123456").await.unwrap(), 6);
        let second = registry.0.begin(&repository).await.unwrap();
        let denied = send(&registry, &second, "123").await.unwrap_err();
        assert_eq!(denied.code(), Some(Code::Denied));
        assert_eq!(send(&registry, &second, "12").await.unwrap(), 2);
        for _ in 2..MAX_OF_NAMESPACE {
            registry.0.begin(&repository).await.unwrap();
        }
        let refused = registry.0.begin(&repository).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::TooManyRequests));
        let other = in_memory::repository("b/x");
        registry.0.begin(&other).await.unwrap();
        // Whoever writes to an upload keeps it.
        let turn = registry.0.upload(&repository, &id).await.unwrap();
        assert!(!registry.0.sessions.expire(&id));
        drop(turn);
        assert!(registry.0.sessions.expire(&id));
        registry.0.begin(&repository).await.unwrap();
    }
}
