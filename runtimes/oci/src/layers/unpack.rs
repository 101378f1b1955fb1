//! Unpacks one layer into a directory that has its name only once it is whole.

use std::{
    collections::BTreeSet,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use runtimes::images::Layer;
use tokio_util::sync::CancellationToken;

use super::{Limits, archive::Archive, failure::Failure, removal, stream, tree::Tree};

/// What begins the names of directories that are not whole, or not wanted any more.
pub(super) const UNFINISHED: &str = ".new-";

/// The entries of a layer, as a lower directory of an overlay.
pub(super) const TREE: &str = "tree";
/// The directories that the layer implies, each ended by a NUL; not there if there are none.
const IMPLIED: &str = "implied";

/// Unpacks a layer to `dir/<hex>`, unless it is there: everything, or nothing.
pub(super) fn unpack(
    layer: &Layer,
    hex: &str,
    dir: &Path,
    limits: &Limits,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let unfinished = Unfinished::create(dir, hex)?;
    let tree = unfinished.0.join(TREE);
    let (implied, digest) = stream::read(layer, limits, stop, |chunks| {
        let mut archive = Archive::new(chunks);
        let mut tree = Tree::new(&tree, limits)?;
        while let Some(entry) = archive.next()? {
            tree.put(&entry, &mut archive)?;
        }
        archive.finish()?;
        tree.finish()
    })?;
    if digest != hex {
        return Err(Failure::Image(format!(
            "its archive is sha256:{digest}, but the image's configuration says sha256:{hex}"
        )));
    }
    unfinished.finish(&implied, &dir.join(hex))
}

/// The directories that an unpacked layer implies, from its root.
pub(super) fn read_implied(layer: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let paths = match std::fs::read(layer.join(IMPLIED)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        paths => paths?,
    };
    let mut paths: Vec<&[u8]> = paths.split(|byte| *byte == 0).collect();
    // What follows the last NUL.
    paths.pop();
    let path = |path: &&[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(path));
    Ok(paths.iter().map(path).collect())
}

/// A name for what is not a layer yet, or not any more.
pub(super) fn temporary(dir: &Path, hex: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!("{UNFINISHED}{hex}-{}-{number}", std::process::id()))
}

/// A directory under a temporary name; removed when dropped.
struct Unfinished(PathBuf);

impl Unfinished {
    fn create(dir: &Path, hex: &str) -> Result<Unfinished, Failure> {
        let path = temporary(dir, hex);
        let tree = path.join(TREE);
        std::fs::create_dir_all(&tree).map_err(|error| Failure::node("make", &tree, error))?;
        Ok(Unfinished(path))
    }

    /// Gives the directory its name, once the disk has all of it.
    fn finish(self, implied: &BTreeSet<Vec<u8>>, path: &Path) -> Result<(), Failure> {
        let failed = |error| Failure::node("write", &self.0, error);
        if !implied.is_empty() {
            let mut list = Vec::new();
            for path in implied {
                list.extend_from_slice(path);
                list.push(0);
            }
            std::fs::write(self.0.join(IMPLIED), list).map_err(failed)?;
        }
        let sync = || {
            let dir = std::fs::File::open(&self.0)?;
            rustix::fs::syncfs(&dir)?;
            Ok(())
        };
        sync().map_err(failed)?;
        match std::fs::rename(&self.0, path) {
            // Another was faster: its own is as good.
            Err(_) if path.is_dir() => Ok(()),
            renamed => renamed.map_err(failed),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = removal::remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "an unfinished layer is left over");
        }
    }
}
