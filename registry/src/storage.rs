//! The object store beneath, and where what lies in it.
//!
//! ```text
//! blobs/sha256/ab/abcd…                          content by its digest: blobs and manifests alike
//! repositories/NAMESPACE/NAME/_blobs/sha256/…    this repository has that blob (an empty object)
//! repositories/NAMESPACE/NAME/_manifests/sha256/…  and that manifest: {"mediaType", "size"}
//! repositories/NAMESPACE/NAME/_tags/latest       the digest that the tag names
//! repositories/NAMESPACE/NAME/_referrers/sha256/SUBJECT/sha256-…  a descriptor that names that subject
//! repositories/NAMESPACE/_owner                  the uid of the namespace that has them
//! touched/sha256/…, condemned/sha256/…           of shared storage: content that is being linked to, or removed
//! uploads/ID/begun, uploads/ID/00000000000000000000-NONCE  an upload, and what came of it from that offset on
//! ```
//!
//! An object appears whole or not at all, and is on the disk before it is acknowledged; content appears before what
//! links to it, links before tags. So a process may end at any moment. Never reads its own directory otherwise but
//! for the remains of writes that broke off ([`local`]).

pub(crate) mod local;
mod open;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    GetOptions, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutPayload,
    WriteMultipart, path::Path,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::{digest::Digest, name::Repository};

/// What is written at once; also the parts of a multipart upload, of which S3 takes ten thousand.
const PART: usize = 8 << 20;
/// Parts of one object on their way at once; then its source waits.
const PARTS: usize = 2;
/// What is read of a file at once.
const READ: usize = 256 << 10;
/// How long a source may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// The most that S3 copies by itself.
const MAX_COPY: u64 = 4 << 30;

/// The registry's objects. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    /// Of a directory: where it is.
    root: Option<Arc<PathBuf>>,
    /// For people.
    shown: Arc<str>,
}

/// What came of a source.
pub(crate) struct Written {
    pub(crate) size: u64,
    /// It ended otherwise than it should.
    pub(crate) broken: Option<io::Error>,
}

impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Storage {
    /// True for storage that only this process reaches.
    pub fn is_local(&self) -> bool {
        self.root.is_some()
    }

    pub(crate) fn root(&self) -> Option<Arc<PathBuf>> {
        self.root.clone()
    }

    /// Writes an object whole.
    pub(crate) async fn put(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        self.store
            .put(path, PutPayload::from_bytes(bytes))
            .await
            .map(drop)
    }

    /// A small object's bytes.
    pub(crate) async fn find(&self, path: &Path) -> object_store::Result<Option<Bytes>> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(error) => absent(error),
        }
    }

    /// What is known of an object without reading it.
    pub(crate) async fn find_meta(&self, path: &Path) -> object_store::Result<Option<ObjectMeta>> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) => absent(error),
        }
    }

    /// An object's bytes from `range.start` up to `range.end`, as they are read.
    pub(crate) async fn read(
        &self,
        path: &Path,
        range: std::ops::Range<u64>,
    ) -> object_store::Result<BoxStream<'static, io::Result<Bytes>>> {
        if range.is_empty() {
            return Ok(futures::stream::empty().boxed());
        }
        let (start, length) = (range.start, range.end - range.start);
        let options = GetOptions {
            range: Some(range.into()),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(path, options).await?;
        if let GetResultPayload::File(file, _) = found.payload {
            let mut file = tokio::fs::File::from_std(file);
            let sought = file.seek(io::SeekFrom::Start(start)).await;
            sought.map_err(|source| object_store::Error::Generic {
                store: "registry",
                source: source.into(),
            })?;
            return Ok(ReaderStream::with_capacity(file.take(length), READ).boxed());
        }
        Ok(found.into_stream().map_err(io::Error::other).boxed())
    }

    /// Writes what a source gives as an object, `see`ing it pass; what came before it broke off is kept.
    pub(crate) async fn write(
        &self,
        path: &Path,
        source: impl Stream<Item = io::Result<Bytes>> + Send,
        mut see: impl FnMut(&[u8]) + Send,
    ) -> object_store::Result<Written> {
        let mut source = std::pin::pin!(source);
        let mut written = Written {
            size: 0,
            broken: None,
        };
        let mut held: Vec<Bytes> = Vec::new();
        let mut parts: Option<WriteMultipart> = None;
        loop {
            let chunk = match tokio::time::timeout(SILENCE, source.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => {
                    written.broken = Some(error);
                    break;
                }
                Err(_) => {
                    written.broken = Some(io::ErrorKind::TimedOut.into());
                    break;
                }
            };
            see(&chunk);
            written.size += chunk.len() as u64;
            match &mut parts {
                Some(begun) => {
                    begun.put(chunk);
                    if let Err(error) = begun.wait_for_capacity(PARTS).await {
                        abort(parts).await;
                        return Err(error);
                    }
                }
                None => {
                    held.push(chunk);
                    if written.size > PART as u64 {
                        let upload = self.store.put_multipart(path).await?;
                        let mut begun = WriteMultipart::new_with_chunk_size(upload, PART);
                        held.drain(..).for_each(|chunk| begun.put(chunk));
                        parts = Some(begun);
                    }
                }
            }
        }
        match parts {
            Some(parts) => drop(parts.finish().await?),
            // Nothing is no object.
            None if written.size == 0 => {}
            None => drop(self.store.put(path, PutPayload::from_iter(held)).await?),
        }
        Ok(written)
    }

    /// Gives an object another name, in place of what has it.
    pub(crate) async fn rename(
        &self,
        from: &Path,
        to: &Path,
        size: u64,
    ) -> object_store::Result<()> {
        if self.is_local() || size <= MAX_COPY {
            return self.store.rename(from, to).await;
        }
        let source = self.read(from, 0..size).await?;
        let written = self.write(to, source, |_| {}).await?;
        match written.broken {
            None => self.store.delete(from).await,
            Some(error) => Err(object_store::Error::Generic {
                store: "registry",
                source: error.into(),
            }),
        }
    }

    /// Removes an object; one that is not there is no error.
    pub(crate) async fn remove(&self, path: &Path) -> object_store::Result<()> {
        match self.store.delete(path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Every object whose path begins with this one.
    pub(crate) fn list(
        &self,
        prefix: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list(Some(prefix))
    }

    /// The objects right below a path, by name.
    pub(crate) async fn names(&self, prefix: &Path) -> object_store::Result<Vec<ObjectMeta>> {
        let mut listed = self.store.list_with_delimiter(Some(prefix)).await?.objects;
        listed.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(listed)
    }

    /// The names right below a path that others are below.
    pub(crate) async fn directories(&self, prefix: &Path) -> object_store::Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(prefix)).await?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        Ok(listed.common_prefixes.iter().filter_map(name).collect())
    }

    /// True if anything is below a path.
    pub(crate) async fn is_used(&self, prefix: &Path) -> object_store::Result<bool> {
        self.list(prefix)
            .next()
            .await
            .transpose()
            .map(|first| first.is_some())
    }

    /// Removes everything below a path.
    pub(crate) async fn remove_all(&self, prefix: &Path) -> object_store::Result<u64> {
        let mut removed = 0;
        let objects: Vec<ObjectMeta> = self.list(prefix).try_collect().await?;
        for object in objects {
            self.remove(&object.location).await?;
            removed += 1;
        }
        Ok(removed)
    }
}

async fn abort(parts: Option<WriteMultipart>) {
    if let Some(parts) = parts
        && let Err(error) = parts.abort().await
    {
        tracing::warn!(%error, "the remains of a write to the registry's storage could not be removed");
    }
}

fn absent<T>(error: object_store::Error) -> object_store::Result<Option<T>> {
    match error {
        object_store::Error::NotFound { .. } => Ok(None),
        error => Err(error),
    }
}

/// Everything by its digest.
pub(crate) fn blobs() -> Path {
    Path::from("blobs")
}

/// Content.
pub(crate) fn content(digest: &Digest) -> Path {
    let hex = digest.hex();
    Path::from(format!("blobs/{}/{}/{hex}", digest.algorithm(), &hex[..2]))
}

/// The digest that an object below [`blobs`] or a directory of links is named by.
pub(crate) fn digest_at(path: &Path) -> Option<Digest> {
    let parts: Vec<_> = path.parts().collect();
    let hex = parts.last()?.as_ref().to_owned();
    let algorithms = ["sha256", "sha512"];
    let algorithm = parts
        .iter()
        .rev()
        .find_map(|part| algorithms.into_iter().find(|name| *name == part.as_ref()))?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Of shared storage: content that was just linked to.
pub(crate) fn touches() -> Path {
    Path::from("touched")
}

pub(crate) fn touched(digest: &Digest) -> Path {
    touches().join(digest.algorithm()).join(digest.hex())
}

/// Of shared storage: content that is being removed.
pub(crate) fn condemnations() -> Path {
    Path::from("condemned")
}

pub(crate) fn condemned(digest: &Digest) -> Path {
    condemnations().join(digest.algorithm()).join(digest.hex())
}

/// All namespaces' repositories.
pub(crate) fn repositories() -> Path {
    Path::from("repositories")
}

/// All repositories of a namespace.
pub(crate) fn namespace(name: &str) -> Path {
    Path::from(format!("repositories/{name}"))
}

/// The namespace that the repositories are of: its uid.
pub(crate) fn owner(name: &str) -> Path {
    namespace(name).join("_owner")
}

/// What a repository links to, of one sort: `_blobs`, `_manifests`, `_tags`, `_referrers`.
pub(crate) fn links(repository: &Repository, sort: &str) -> Path {
    Path::from(format!("repositories/{repository}/{sort}"))
}

pub(crate) fn blob_link(repository: &Repository, digest: &Digest) -> Path {
    link(repository, "_blobs", digest)
}

pub(crate) fn manifest_link(repository: &Repository, digest: &Digest) -> Path {
    link(repository, "_manifests", digest)
}

fn link(repository: &Repository, sort: &str, digest: &Digest) -> Path {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    Path::from(format!(
        "repositories/{repository}/{sort}/{algorithm}/{hex}"
    ))
}

pub(crate) fn tag(repository: &Repository, tag: &str) -> Path {
    Path::from(format!("repositories/{repository}/_tags/{tag}"))
}

/// What names a subject.
pub(crate) fn referrers(repository: &Repository, subject: &Digest) -> Path {
    link(repository, "_referrers", subject)
}

pub(crate) fn referrer(repository: &Repository, subject: &Digest, digest: &Digest) -> Path {
    let name = format!("{}-{}", digest.algorithm(), digest.hex());
    referrers(repository, subject).join(name)
}

pub(crate) fn uploads() -> Path {
    Path::from("uploads")
}

pub(crate) fn upload(id: &str) -> Path {
    Path::from(format!("uploads/{id}"))
}

/// When and for whom an upload began.
pub(crate) fn upload_begun(id: &str) -> Path {
    upload(id).join("begun")
}

/// What came from an offset on, of one request.
pub(crate) fn upload_part(id: &str, offset: u64, nonce: &str) -> Path {
    upload(id).join(format!("{offset:020}-{nonce}"))
}
