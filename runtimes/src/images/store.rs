//! The content store of a node.
//!
//! `blobs/sha256/<hex>` are the contents (modules; manifests, configurations and packed layers of container images),
//! `index.json` says which reference is which, `partial/` has what is not whole yet.
//!
//! With `IfNotPresent`, a reference to a file is read again when the file has changed since (size, time or
//! inode): a developer who rebuilds a component sees the new one in the next pod.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    ArchiveError, Credentials, Image, ImageError, Images, Progress, PullPolicy, archive,
    blobs::Blobs,
    download::{Meter, blocking},
    file,
    index::{Entry, Index},
    name::{self, normal_name},
    pull::Puller,
    source::Source,
};

/// What an unfinished pull left is kept that long at a start.
const UNFINISHED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How the store pulls.
#[derive(Clone, Debug)]
pub struct Config {
    /// No module above this size is taken.
    pub max_bytes: u64,
    /// No container image above this size (its layers, packed) is taken.
    pub max_image_bytes: u64,
    /// How long one pull may take in all.
    pub pull_deadline: Duration,
    /// Pulls from registries at once; further ones wait.
    pub concurrent_pulls: usize,
    /// Holds `<registry>/hosts.toml`: mirrors, certificates; see `hosts`.
    pub hosts_dir: Option<PathBuf>,
    /// The registry in this process, if there is one.
    pub source: Option<Arc<dyn Source>>,
}

impl Config {
    /// The registry in this process, if it goes by that name.
    pub(super) fn source_of(&self, registry: &str) -> Option<Arc<dyn Source>> {
        self.source.clone().filter(|source| source.is(registry))
    }
}

impl Default for Config {
    /// Modules of 256 MiB, images of 32 GiB, a quarter of an hour, four at once, no mirrors.
    fn default() -> Self {
        Config {
            max_bytes: 256 << 20,
            max_image_bytes: 32 << 30,
            pull_deadline: Duration::from_secs(900),
            concurrent_pulls: 4,
            hosts_dir: None,
            source: None,
        }
    }
}

/// The images of a node, in a directory.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    blobs: Arc<Blobs>,
    config: Config,
    index: Mutex<Index>,
    turns: Semaphore,
    /// Pulls under way; a dead entry is replaced by the next pull of its reference.
    pulls: Mutex<HashMap<PullKey, Started>>,
}

/// A pull under way.
struct Started {
    pull: WeakShared<Pull>,
    meter: Arc<Meter>,
}

/// By normal name. An account sees only what it may: so pulls with different accounts are not shared.
type PullKey = (String, Vec<Credentials>);
type Pull = BoxFuture<'static, Result<Image, ImageError>>;

impl ImageStore {
    /// Opens the store in `dir`, made if it is not there. Contents that no reference names are removed, but for
    /// what a pull that did not come to its end left lately.
    ///
    /// # Errors
    /// The directory cannot be made or written, or its index is no index.
    pub fn open(dir: impl Into<PathBuf>, config: Config) -> std::io::Result<ImageStore> {
        // oci-client brings no cryptography of its own; if the process has chosen, that choice stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = dir.into();
        let blobs = Blobs::open(&dir)?;
        let index = Index::open(&dir)?;
        blobs.sweep(is_needed(&index), UNFINISHED_KEPT)?;
        Ok(ImageStore {
            inner: Arc::new(Inner {
                blobs,
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
        let key = (normal_name(reference), credentials.to_vec());
        if let Some(pull) = pulls.get(&key).and_then(|started| started.pull.upgrade()) {
            return pull;
        }
        pulls.retain(|_, started| started.pull.upgrade().is_some());
        let inner = self.inner.clone();
        let (reference, credentials) = (reference.to_owned(), key.1.clone());
        let meter = Arc::new(Meter::default());
        let own = meter.clone();
        let pull = async move { inner.pull(&reference, &credentials, &own).await };
        let pull = pull.boxed().shared();
        if let Some(weak) = pull.downgrade() {
            pulls.insert(key, Started { pull: weak, meter });
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
        self.inner.allow(reference, credentials).await?;
        let present = self.inner.find(reference);
        let named = |image| Image {
            reference: reference.to_owned(),
            ..image
        };
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
        // Other registries know nothing of ServiceAccounts, and the own one was asked: so pods share pulls.
        let is_known =
            |account: &&Credentials| !matches!(account, Credentials::ServiceAccount { .. });
        let credentials: Vec<Credentials> = credentials.iter().filter(is_known).cloned().collect();
        // A pull may be shared with who wrote another name of it.
        self.pull(reference, &credentials).await.map(named)
    }

    async fn find(&self, reference: &str) -> Option<Image> {
        self.inner.find(reference)
    }

    async fn list(&self) -> Result<Vec<Image>, ImageError> {
        let index = lock(&self.inner.index);
        let images = index.list();
        let images = images.map(|(reference, entry)| self.inner.image(reference, entry));
        Ok(images.collect())
    }

    async fn pin(&self, image: &Image, name: &str) -> Result<Image, ImageError> {
        let failed = |message: String| ImageError::Pull {
            reference: image.reference.clone(),
            message,
        };
        let mut index = lock(&self.inner.index);
        let found = index.list().find(|(_, entry)| entry.digest == image.digest);
        let Some((_, entry)) = found else {
            return Err(failed(format!("{} is not here any more", image.digest)));
        };
        let entry = Entry {
            // It stays what it is, whatever becomes of a file.
            file: None,
            ..entry.clone()
        };
        let pinned = self.inner.image(name, &entry);
        let written = index.insert(name, entry);
        written.map_err(|error| failed(format!("keep it as {name}: {error}")))?;
        Ok(pinned)
    }

    async fn remove(&self, reference: &str) -> Result<u64, ImageError> {
        let removed = || {
            // Under the lock: a pull that names the same content comes before or after.
            let mut index = lock(&self.inner.index);
            let free = index.remove(reference)?;
            self.inner.blobs.remove(free.iter().map(String::as_str))
        };
        removed().map_err(|error: std::io::Error| ImageError::Remove {
            reference: reference.to_owned(),
            message: error.to_string(),
        })
    }

    async fn tidy(&self, min_age: Duration) -> Result<u64, ImageError> {
        let index = lock(&self.inner.index);
        let swept = self.inner.blobs.sweep(is_needed(&index), min_age);
        swept.map_err(|error| ImageError::Remove {
            reference: "unfinished pulls".to_owned(),
            message: error.to_string(),
        })
    }

    async fn import(
        &self,
        archive: Box<dyn Read + Send>,
        name: Option<&str>,
    ) -> Result<Vec<Image>, ArchiveError> {
        let (inner, name) = (self.inner.clone(), name.map(str::to_owned));
        let import = move || {
            let imported = archive::import(&inner.blobs, &inner.config, archive, name.as_deref())?;
            let mut images = Vec::with_capacity(imported.entries.len());
            let mut index = lock(&inner.index);
            for (name, entry) in imported.entries {
                images.push(inner.image(&name, &entry));
                let inserted = index.insert(&name, entry);
                inserted
                    .map_err(|error| ArchiveError::Unavailable(inner.blobs.in_words(&error)))?;
            }
            // The index names now what they keep.
            drop(imported.leases);
            Ok(images)
        };
        let imported = blocking(import).await;
        imported.map_err(ArchiveError::Unavailable)?
    }

    async fn export(
        &self,
        references: &[String],
        archive: Box<dyn Write + Send>,
    ) -> Result<(), ArchiveError> {
        let find = |reference: &String| {
            self.inner
                .find(reference)
                .ok_or_else(|| ArchiveError::NotFound {
                    reference: reference.clone(),
                })
        };
        let images: Vec<Image> = references.iter().map(find).collect::<Result<_, _>>()?;
        let blobs = self.inner.blobs.clone();
        let exported = blocking(move || archive::export(&blobs, &images, archive)).await;
        exported.map_err(ArchiveError::Unavailable)?
    }

    fn progress(&self, reference: &str) -> Option<Progress> {
        let name = normal_name(reference);
        let pulls = lock(&self.inner.pulls);
        let under_way = pulls
            .iter()
            .filter(|((other, _), started)| *other == name && started.pull.upgrade().is_some());
        let furthest = under_way.map(|(_, started)| started.meter.now());
        furthest.max_by_key(|progress| progress.received_bytes)
    }
}

impl Inner {
    /// Asks the registry in this process, of one of its images, whether these accounts may have it.
    async fn allow(&self, reference: &str, accounts: &[Credentials]) -> Result<(), ImageError> {
        if file::find_path(reference).is_some() {
            return Ok(());
        }
        let Ok(parsed) = name::parse(reference) else {
            return Ok(());
        };
        let Some(source) = self.config.source_of(parsed.registry()) else {
            return Ok(());
        };
        let allowed = source.allow(parsed.repository(), accounts).await;
        allowed.map_err(|error| ImageError::Pull {
            reference: reference.to_owned(),
            message: format!("{}: {error}", parsed.registry()),
        })
    }

    fn find(&self, reference: &str) -> Option<Image> {
        let index = lock(&self.index);
        let image = self.image(reference, index.find(reference)?);
        image.path.exists().then_some(image)
    }

    fn image(&self, reference: &str, entry: &Entry) -> Image {
        Image {
            reference: reference.to_owned(),
            digest: entry.digest.clone(),
            origin: entry.origin().map(str::to_owned),
            kind: entry.kind,
            path: self.blobs.path(&entry.digest),
            size_bytes: entry.size_bytes,
        }
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
        &self,
        reference: &str,
        credentials: &[Credentials],
        meter: &Meter,
    ) -> Result<Image, ImageError> {
        let failed = |message| ImageError::Pull {
            reference: reference.to_owned(),
            message,
        };
        let puller = Puller {
            blobs: &self.blobs,
            config: &self.config,
            meter,
            known: lock(&self.index).find(reference).cloned(),
        };
        let pulled = match file::find_path(reference) {
            Some(path) => puller.pull_file(path).await.map_err(failed)?,
            None => {
                let source = name::parse(reference).map_err(|message| ImageError::InvalidName {
                    reference: reference.to_owned(),
                    message,
                })?;
                // A turn is waited for before the deadline begins.
                let _turn = self.turns.acquire().await;
                let seconds = self.config.pull_deadline.as_secs();
                let deadline = Instant::now() + self.config.pull_deadline;
                let pull = puller.pull_registry(&source, credentials, deadline);
                let pulled = tokio::time::timeout_at(deadline, pull).await;
                pulled
                    .unwrap_or_else(|_| {
                        let host = source.resolve_registry();
                        Err(format!("the pull from {host} took longer than {seconds} s"))
                    })
                    .map_err(failed)?
            }
        };
        // The leases last until the index names what they keep.
        lock(&self.index)
            .insert(reference, pulled.entry.clone())
            .map_err(|error| failed(self.blobs.in_words(&error)))?;
        drop(pulled.leases);
        Ok(self.image(reference, &pulled.entry))
    }
}

/// Whether an image of the index needs the blob of these digits.
fn is_needed(index: &Index) -> impl Fn(&str) -> bool {
    let needed = index.needed();
    let needed: HashSet<String> = needed
        .into_iter()
        .filter_map(|digest| digest.strip_prefix("sha256:").map(str::to_owned))
        .collect();
    move |hex| needed.contains(hex)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
