//! From an image's packed layers to a container's root file system.
//!
//! In a directory of its own, `<hex of the diff id>/tree` is a layer, unpacked once whatever images have it, as a
//! lower directory of an overlay. A layer appears under its name by a rename, once its digest is verified and the
//! disk has it: what is there is whole. What begins with a dot is not: left over from a crash, it is removed when
//! the directory is opened.
//!
//! Layers come from strangers: nothing outside their directory is touched, whatever they hold, and one that
//! unpacks to more than the limits is refused. The node's own users cannot reach them, nor the programs in them. `stream` decompresses, `archive` (with `header`, `pax`, `sparse`)
//! reads, `tree` writes, `unpack` makes it all or nothing, `overlay` mounts, [`removal`] removes.
//!
//! Never pulls; never removes a layer that a mounted container, or a call under way, uses.

mod archive;
mod failure;
mod header;
mod overlay;
mod pax;
mod sparse;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;
mod uses;

use std::{
    collections::{BTreeSet, HashMap},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use runtimes::{
    images::{ContainerImage, Layer},
    removal,
    runtime::RuntimeError,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use failure::Failure;
use uses::{Lease, Uses};

/// What a layer may be at most.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Of its archive, unpacked. Holes of sparse files are not in it.
    pub(crate) archive_bytes: u64,
    pub(crate) entries: u64,
    /// Of a path from the layer's root, symlinks resolved.
    pub(crate) path_bytes: usize,
    /// Directories within directories.
    pub(crate) depth: usize,
}

impl Default for Limits {
    /// 32 GiB and four million entries, beyond the largest images in use; paths as long as the kernel takes
    /// them, 256 directories deep.
    fn default() -> Self {
        Limits {
            archive_bytes: 32 << 30,
            entries: 4_000_000,
            path_bytes: 4095,
            depth: 256,
        }
    }
}

/// The unpacked layers of a node.
#[derive(Clone)]
pub(crate) struct Layers {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    limits: Limits,
    /// One for each layer that is unpacked at the same time; further ones wait.
    turns: Arc<Semaphore>,
    /// Layers that are being unpacked, by the hex of their diff id; a dead entry is replaced by the next call.
    unpacking: Mutex<HashMap<String, WeakShared<Unpacking>>>,
    uses: Arc<Uses>,
    /// Two calls for one container would mount it twice; a mount takes less than a millisecond.
    mounting: Mutex<()>,
}

type Unpacking = BoxFuture<'static, Result<(), Failure>>;

/// What an overlay needs below it when an image has no layer.
const EMPTY: &str = ".empty";

impl Layers {
    /// Opens the layers in `dir`, made if it is not there. What a crash left half-done is removed.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub(crate) fn open(dir: &Path, limits: Limits) -> std::io::Result<Layers> {
        std::fs::create_dir_all(dir.join(EMPTY).join(unpack::TREE))?;
        overlay::make_private(dir)?;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(unpack::UNFINISHED.as_bytes())
            {
                removal::remove(&entry.path())?;
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Layers {
            inner: Arc::new(Inner {
                uses: Arc::new(Uses::open(dir)?),
                dir: dir.to_owned(),
                limits,
                turns: Arc::new(Semaphore::new(cores)),
                unpacking: Mutex::default(),
                mounting: Mutex::default(),
            }),
        })
    }

    /// Unpacks the image's layers that are not there, side by side. Layers that another call is unpacking are
    /// waited for; when nobody waits for a layer any more, its unpacking ends and leaves nothing.
    ///
    /// # Errors
    /// `Invalid` if a layer is not what it should be, `Unavailable` if the node cannot take it.
    pub(crate) async fn prepare(&self, image: &ContainerImage) -> Result<(), RuntimeError> {
        self.ensure(image).await?;
        Ok(())
    }

    /// Mounts a container's root file system at `<container>/root` and answers its path; one that is mounted
    /// stays as it is. What the container writes is in `<container>/upper`, also after an unmount.
    ///
    /// # Errors
    /// As [`Layers::prepare`]; or the overlay cannot be mounted.
    pub(crate) async fn mount(
        &self,
        image: &ContainerImage,
        container: &Path,
    ) -> Result<PathBuf, RuntimeError> {
        let lease = self.ensure(image).await?;
        let (inner, container) = (self.inner.clone(), container.to_owned());
        let root = blocking(move || {
            let _one = lock(&inner.mounting);
            inner.uses.record(&container, lease.layers())?;
            let mut layers: Vec<PathBuf> = lease
                .layers()
                .iter()
                .map(|hex| inner.dir.join(hex))
                .collect();
            if layers.is_empty() {
                layers.push(inner.dir.join(EMPTY));
            }
            overlay::mount(&layers, &container)
        });
        Ok(root.await.map_err(|failure| of_image(image, failure))?)
    }

    /// Unmounts a container's root file system; `Ok` if it is not mounted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) async fn unmount(&self, container: &Path) -> Result<(), RuntimeError> {
        let (inner, container) = (self.inner.clone(), container.to_owned());
        let unmounted = blocking(move || {
            overlay::unmount(&container)?;
            inner.uses.forget(&container)
        });
        Ok(unmounted.await?)
    }

    /// Unmounts a container's root and removes the container's whole directory, however deep its contents are.
    /// `Ok` if it is not there.
    ///
    /// # Errors
    /// Something is mounted in it, or the disk refuses.
    pub(crate) async fn remove(&self, container: &Path) -> Result<(), RuntimeError> {
        self.unmount(container).await?;
        let container = container.to_owned();
        let removed = blocking(move || {
            removal::remove(&container)
                .map_err(|error| Failure::node("remove", &container, error))?;
            Ok(())
        });
        Ok(removed.await?)
    }

    /// The bytes of the disk that a container has written to its root file system; 0 if it has none.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) async fn usage(&self, container: &Path) -> Result<u64, RuntimeError> {
        let upper = overlay::upper(container);
        let bytes = blocking(move || {
            removal::usage(&upper).map_err(|error| Failure::node("read", &upper, error))
        });
        Ok(bytes.await?)
    }

    /// Removes the layers that none of these images has, but for those in use; answers the bytes freed.
    ///
    /// # Errors
    /// The disk refuses; what was removed until then is gone.
    pub(crate) async fn keep_only(&self, images: &[ContainerImage]) -> Result<u64, RuntimeError> {
        let layers = images.iter().flat_map(|image| &image.layers);
        let kept: BTreeSet<String> = layers
            .filter_map(|layer| hex(layer).ok().map(str::to_owned))
            .collect();
        let inner = self.inner.clone();
        let freed = blocking(move || {
            // A layer loses its name at once, so that nobody takes it while it is being removed.
            let mut freed = 0;
            for path in inner.uses.take_unused(&inner.dir, &kept)? {
                freed += removal::remove(&path)
                    .map_err(|error| Failure::node("remove", &path, error))?;
            }
            Ok(freed)
        });
        Ok(freed.await?)
    }

    /// Makes the image's layers be there, and stay while the lease is held.
    async fn ensure(&self, image: &ContainerImage) -> Result<Lease, Failure> {
        let failed = |failure| of_image(image, failure);
        let mut names = Vec::new();
        for layer in &image.layers {
            names.push(hex(layer).map_err(failed)?.to_owned());
        }
        // An overlay takes no directory twice: of equal layers, the uppermost hides the others.
        let mut seen = BTreeSet::new();
        let mut distinct: Vec<String> = names
            .iter()
            .rev()
            .filter(|hex| seen.insert(*hex))
            .cloned()
            .collect();
        distinct.reverse();
        let lease = Uses::lease(&self.inner.uses, distinct);
        let missing = names.iter().zip(&image.layers);
        let missing = missing.filter(|(hex, _)| !self.inner.dir.join(hex).exists());
        let unpacking = missing.map(|(hex, layer)| self.unpack(hex, layer));
        futures::future::try_join_all(unpacking)
            .await
            .map_err(failed)?;
        Ok(lease)
    }

    /// The unpacking of this layer that is under way, or a new one.
    fn unpack(&self, hex: &str, layer: &Layer) -> Shared<Unpacking> {
        let mut unpacking = lock(&self.inner.unpacking);
        if let Some(shared) = unpacking.get(hex).and_then(WeakShared::upgrade) {
            return shared;
        }
        unpacking.retain(|_, shared| shared.upgrade().is_some());
        let (inner, name, layer) = (self.inner.clone(), hex.to_owned(), layer.clone());
        let shared = async move { inner.unpack(name, layer).await };
        let shared = shared.boxed().shared();
        if let Some(weak) = shared.downgrade() {
            unpacking.insert(hex.to_owned(), weak);
        }
        shared
    }
}

impl Inner {
    async fn unpack(self: Arc<Self>, hex: String, layer: Layer) -> Result<(), Failure> {
        let turn = self.turns.clone().acquire_owned().await;
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        let digest = layer.digest.clone();
        let unpacked = blocking(move || {
            let _turn = turn;
            if self.dir.join(&hex).exists() {
                return Ok(());
            }
            let begun = Instant::now();
            unpack::unpack(&layer, &hex, &self.dir, &self.limits, &stop)?;
            let (layer, seconds) = (&layer.digest, begun.elapsed().as_secs_f64());
            tracing::debug!(layer, seconds, "unpacked");
            Ok(())
        });
        let unpacked = unpacked.await;
        unpacked.map_err(|failure| failure.of(format!("layer {digest}")))
    }
}

fn of_image(image: &ContainerImage, failure: Failure) -> Failure {
    failure.of(format!("image {}", image.digest))
}

/// A diff id names a directory: so it is exactly `sha256:` and 64 lower hexadecimal digits.
fn hex(layer: &Layer) -> Result<&str, Failure> {
    let hex = layer.diff_id.strip_prefix("sha256:").unwrap_or_default();
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() == 64 && hex.bytes().all(is_digit) {
        return Ok(hex);
    }
    Err(Failure::Image(format!(
        "diff id {:?} of layer {} is not a sha256",
        layer.diff_id, layer.digest
    )))
}

/// Runs to its end on a thread of its own, also when the caller no longer waits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::Node(format!("interrupted: {error}"))))
}

fn is_absent<T>(result: &std::io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::NotFound)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
