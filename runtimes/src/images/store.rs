//! The content store of a node.
//!
//! `blobs/sha256/<hex>` are the contents, `index.json` says which reference is which. A content appears
//! under its name by a rename, once its digest is verified: a file in `blobs` is always whole.
//!
//! With `IfNotPresent`, a reference to a file is read again when the file has changed since (size, time or
//! inode): a developer who rebuilds a component sees the new one in the next pod.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::sync::Semaphore;

use super::{
    Credentials, Image, ImageError, ImageKind, Images, PullPolicy, digest_of, file,
    index::{Entry, Index},
    packed, registry,
};

/// How the store pulls.
#[derive(Clone, Debug)]
pub struct Config {
    /// No module above this size is taken.
    pub max_bytes: u64,
    /// How long one pull may take in all.
    pub pull_deadline: Duration,
    /// Pulls from registries at once; further ones wait.
    pub concurrent_pulls: usize,
    /// Holds `<registry>/hosts.toml`: mirrors, certificates; see `hosts`.
    pub hosts_dir: Option<PathBuf>,
}

impl Default for Config {
    /// 256 MiB, five minutes, four at once, no mirrors.
    fn default() -> Self {
        Config {
            max_bytes: 256 << 20,
            pull_deadline: Duration::from_secs(300),
            concurrent_pulls: 4,
            hosts_dir: None,
        }
    }
}

/// The images of a node, in a directory.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    config: Config,
    index: Mutex<Index>,
    turns: Semaphore,
    /// Pulls under way; a dead entry is replaced by the next pull of its reference.
    pulls: Mutex<HashMap<PullKey, WeakShared<Pull>>>,
}

/// An account sees only what it may: so pulls with different accounts are not shared.
type PullKey = (String, Vec<Credentials>);
type Pull = BoxFuture<'static, Result<Image, ImageError>>;

impl ImageStore {
    /// Opens the store in `dir`, made if it is not there. Contents that no reference names are removed.
    ///
    /// # Errors
    /// The directory cannot be made or written, or its index is no index.
    pub fn open(dir: impl Into<PathBuf>, config: Config) -> std::io::Result<ImageStore> {
        // oci-client brings no cryptography of its own; if the process has chosen, that choice stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = dir.into();
        std::fs::create_dir_all(dir.join("blobs/sha256"))?;
        let index = Index::open(&dir)?;
        remove_unnamed(&dir, &index)?;
        Ok(ImageStore {
            inner: Arc::new(Inner {
                dir,
                turns: Semaphore::new(config.concurrent_pulls.max(1)),
                config,
                index: Mutex::new(index),
                pulls: Mutex::default(),
            }),
        })
    }

    /// The pull of this reference that is under way, or a new one.
    fn pull(&self, reference: &str, credentials: &[Credentials]) -> Shared<Pull> {
        let mut pulls = lock(&self.inner.pulls);
        let key = (reference.to_owned(), credentials.to_vec());
        if let Some(pull) = pulls.get(&key).and_then(WeakShared::upgrade) {
            return pull;
        }
        pulls.retain(|_, pull| pull.upgrade().is_some());
        let inner = self.inner.clone();
        let (reference, credentials) = key.clone();
        let pull = async move { inner.pull(&reference, &credentials).await };
        let pull = pull.boxed().shared();
        if let Some(weak) = pull.downgrade() {
            pulls.insert(key, weak);
        }
        pull
    }
}

#[async_trait]
impl Images for ImageStore {
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: &[Credentials],
    ) -> Result<Image, ImageError> {
        let present = self.inner.find(reference);
        match policy {
            PullPolicy::Always => {}
            PullPolicy::IfNotPresent => {
                if let Some(image) = present
                    && !self.inner.is_edited(reference)
                {
                    return Ok(image);
                }
            }
            PullPolicy::Never => {
                return present.ok_or_else(|| ImageError::NeverPull {
                    reference: reference.to_owned(),
                });
            }
        }
        self.pull(reference, credentials).await
    }

    async fn list(&self) -> Result<Vec<Image>, ImageError> {
        let index = lock(&self.inner.index);
        let images = index.list();
        let images = images.map(|(reference, entry)| self.inner.image(reference, entry));
        Ok(images.collect())
    }

    async fn remove(&self, reference: &str) -> Result<u64, ImageError> {
        let removed = || {
            let mut index = lock(&self.inner.index);
            match index.remove(reference)? {
                // Under the lock: a pull that names the same content comes before or after.
                Some((entry, true)) => match std::fs::remove_file(self.inner.blob(&entry.digest)) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
                    removed => removed.map(|()| entry.size_bytes),
                },
                _ => Ok(0),
            }
        };
        removed().map_err(|error: std::io::Error| ImageError::Remove {
            reference: reference.to_owned(),
            message: error.to_string(),
        })
    }
}

impl Inner {
    fn find(&self, reference: &str) -> Option<Image> {
        let index = lock(&self.index);
        let image = self.image(reference, index.find(reference)?);
        image.path.exists().then_some(image)
    }

    fn image(&self, reference: &str, entry: &Entry) -> Image {
        Image {
            reference: reference.to_owned(),
            digest: entry.digest.clone(),
            kind: ImageKind::Wasm,
            path: self.blob(&entry.digest),
            size_bytes: entry.size_bytes,
        }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.dir.join("blobs/sha256").join(hex)
    }

    /// Whether the reference is to a file that is another than when it was read. A file that is gone
    /// is not edited: its content is still here.
    fn is_edited(&self, reference: &str) -> bool {
        let Some(stamp) = file::find_path(reference).and_then(|path| file::find_stamp(&path))
        else {
            return false;
        };
        let index = lock(&self.index);
        index
            .find(reference)
            .is_some_and(|entry| entry.file != Some(stamp))
    }

    async fn pull(
        self: &Arc<Self>,
        reference: &str,
        credentials: &[Credentials],
    ) -> Result<Image, ImageError> {
        let failed = |message| ImageError::Pull {
            reference: reference.to_owned(),
            message,
        };
        let entry = match file::find_path(reference) {
            Some(path) => self.pull_file(path).await.map_err(failed)?,
            None => {
                let source =
                    registry::parse(reference).map_err(|message| ImageError::InvalidName {
                        reference: reference.to_owned(),
                        message,
                    })?;
                // A turn is waited for before the deadline begins.
                let _turn = self.turns.acquire().await;
                let deadline = self.config.pull_deadline;
                let pull = self.pull_registry(reference, &source, credentials);
                let entry = tokio::time::timeout(deadline, pull).await;
                entry
                    .unwrap_or_else(|_| Err(format!("took longer than {} s", deadline.as_secs())))
                    .map_err(failed)?
            }
        };
        lock(&self.index)
            .insert(reference, entry.clone())
            .map_err(|error| failed(format!("write the image index: {error}")))?;
        Ok(self.image(reference, &entry))
    }

    async fn pull_file(self: &Arc<Self>, path: PathBuf) -> Result<Entry, String> {
        let inner = self.clone();
        let read = move || {
            let (bytes, stamp) = file::read(&path, inner.config.max_bytes)?;
            check_module(&bytes)?;
            let digest = digest_of(&bytes);
            let blob = inner.blob(&digest);
            if !blob.exists() {
                write_atomically(&blob, &bytes)
                    .map_err(|error| format!("write to the content store: {error}"))?;
            }
            Ok(Entry {
                digest,
                size_bytes: bytes.len() as u64,
                manifest: None,
                file: Some(stamp),
            })
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| Err(format!("read was interrupted: {error}")))
    }

    async fn pull_registry(
        self: &Arc<Self>,
        reference: &str,
        source: &oci_client::Reference,
        credentials: &[Credentials],
    ) -> Result<Entry, String> {
        let hosts_dir = self.config.hosts_dir.as_deref();
        let found = registry::find(source, credentials, hosts_dir).await?;
        match found.digest() {
            Some(digest) => self.pull_module(&found, digest).await,
            None => self.pull_packed(reference, &found).await,
        }
    }

    /// A module that is a layer by itself.
    async fn pull_module(&self, found: &registry::Found, digest: &str) -> Result<Entry, String> {
        check_digest(digest)?;
        let entry = |size_bytes| Entry {
            digest: digest.to_owned(),
            size_bytes,
            manifest: None,
            file: None,
        };
        let blob = self.blob(digest);
        if let Ok(metadata) = std::fs::metadata(&blob) {
            return Ok(entry(metadata.len()));
        }
        let store = |error: std::io::Error| format!("write to the content store: {error}");
        let [layer] = found.layers() else {
            return Err("holds more than one layer".to_owned());
        };
        let temporary = self.download(found, layer).await?;
        let bytes = tokio::fs::read(temporary.path()).await.map_err(store)?;
        check_module(&bytes)?;
        temporary
            .persist(&blob)
            .map_err(|error| store(error.error))?;
        Ok(entry(bytes.len() as u64))
    }

    /// A module that is a file in a container image: only it is kept.
    async fn pull_packed(
        self: &Arc<Self>,
        reference: &str,
        found: &registry::Found,
    ) -> Result<Entry, String> {
        let known = lock(&self.index).find(reference).cloned();
        if let Some(known) = known
            && known.manifest.as_deref() == Some(&found.manifest)
            && self.blob(&known.digest).exists()
        {
            return Ok(known);
        }
        let path = found.entry_point().unwrap_or_default().to_owned();
        for layer in found.layers() {
            check_digest(&layer.digest)?;
            let temporary = self.download(found, layer).await?;
            let (inner, path, manifest) = (self.clone(), path.clone(), found.manifest.clone());
            let unpack = move || -> Result<Option<Entry>, String> {
                let mut file = temporary.reopen().map_err(|error| error.to_string())?;
                let Some(bytes) = packed::find(&mut file, &path, inner.config.max_bytes)? else {
                    return Ok(None);
                };
                check_module(&bytes)?;
                let digest = digest_of(&bytes);
                write_atomically(&inner.blob(&digest), &bytes)
                    .map_err(|error| format!("write to the content store: {error}"))?;
                Ok(Some(Entry {
                    digest,
                    size_bytes: bytes.len() as u64,
                    manifest: Some(manifest),
                    file: None,
                }))
            };
            let unpacked = tokio::task::spawn_blocking(unpack).await;
            let unpacked =
                unpacked.unwrap_or_else(|error| Err(format!("unpacking was interrupted: {error}")));
            if let Some(entry) = unpacked? {
                return Ok(entry);
            }
        }
        Err(format!("its entry point {path} is in none of its layers"))
    }

    /// Downloads a layer into a file of the store's own, and checks that it is what its digest says.
    async fn download(
        &self,
        found: &registry::Found,
        layer: &oci_client::manifest::OciDescriptor,
    ) -> Result<tempfile::NamedTempFile, String> {
        let max_bytes = self.config.max_bytes;
        let size = u64::try_from(layer.size).unwrap_or(0);
        if size > max_bytes {
            return Err(registry::too_big(size, max_bytes));
        }
        let store = |error: std::io::Error| format!("write to the content store: {error}");
        let temporary = tempfile::NamedTempFile::new_in(&self.dir).map_err(store)?;
        let mut file = tokio::fs::File::from_std(temporary.reopen().map_err(store)?);
        found.download(layer, &mut file, max_bytes).await?;
        file.sync_all().await.map_err(store)?;
        let bytes = tokio::fs::read(temporary.path()).await.map_err(store)?;
        if digest_of(&bytes) != layer.digest {
            return Err(format!("content is not what {} names", layer.digest));
        }
        Ok(temporary)
    }
}

/// A digest names a file: so it is exactly `sha256:` and 64 hexadecimal digits.
fn check_digest(digest: &str) -> Result<(), String> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(format!("layer digest {digest:?} is not a sha256"))
}

/// Refuses what is plainly no module, so that the user reads it at the pull.
fn check_module(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(b"\0asm") || is_module_text(bytes) {
        return Ok(());
    }
    Err("neither a WebAssembly component nor a module (binary or text)".to_owned())
}

/// WebAssembly text starts with `(component` or `(module` after white space and comments.
fn is_module_text(bytes: &[u8]) -> bool {
    let Ok(mut text) = std::str::from_utf8(bytes) else {
        return false;
    };
    loop {
        text = text.trim_start();
        let rest = match text.get(..2) {
            Some(";;") => text.split_once('\n').map(|(_, rest)| rest),
            Some("(;") => text.split_once(";)").map(|(_, rest)| rest),
            _ => {
                let word = text.strip_prefix('(').unwrap_or_default().trim_start();
                return word.starts_with("component") || word.starts_with("module");
            }
        };
        match rest {
            Some(rest) => text = rest,
            None => return false,
        }
    }
}

fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn remove_unnamed(dir: &Path, index: &Index) -> std::io::Result<()> {
    let named: std::collections::HashSet<&str> = index
        .list()
        .filter_map(|(_, entry)| entry.digest.strip_prefix("sha256:"))
        .collect();
    for file in std::fs::read_dir(dir.join("blobs/sha256"))? {
        let file = file?;
        if !file
            .file_name()
            .to_str()
            .is_some_and(|name| named.contains(name))
        {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
