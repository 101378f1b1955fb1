//! Which layers are in use: by calls under way, and by containers whose root is mounted.
//!
//! A mounted container is told by a file in `.uses`, which outlives the process as the mount does: the container's
//! directory, then its layers, with a NUL between each. The file is there before the mount is, and goes after it; one
//! whose container's directory is gone counts for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use runtimes::images::digest_of;

use super::{failure::Failure, is_absent, lock, unpack::temporary};

pub(super) struct Uses {
    dir: PathBuf,
    /// How many calls use a layer.
    leases: Mutex<BTreeMap<String, usize>>,
}

/// While it is held, these layers stay.
pub(super) struct Lease {
    uses: Arc<Uses>,
    layers: Vec<String>,
}

impl Uses {
    /// The uses of the layers in `dir`.
    pub(super) fn open(dir: &Path) -> std::io::Result<Uses> {
        let dir = dir.join(".uses");
        std::fs::create_dir_all(&dir)?;
        Ok(Uses {
            dir,
            leases: Mutex::default(),
        })
    }

    pub(super) fn lease(uses: &Arc<Uses>, layers: Vec<String>) -> Lease {
        let mut leases = lock(&uses.leases);
        for layer in &layers {
            *leases.entry(layer.clone()).or_default() += 1;
        }
        drop(leases);
        Lease {
            uses: uses.clone(),
            layers,
        }
    }

    /// A container is about to use these layers.
    pub(super) fn record(&self, container: &Path, layers: &[String]) -> Result<(), Failure> {
        let path = self.file(container);
        let mut text = container.as_os_str().as_encoded_bytes().to_vec();
        for layer in layers {
            text.push(0);
            text.extend_from_slice(layer.as_bytes());
        }
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            std::io::Write::write_all(&mut file, &text)?;
            file.persist(&path).map_err(|error| error.error)
        };
        write().map_err(|error| Failure::node("write", &path, error))?;
        Ok(())
    }

    /// A container uses no layers any more.
    pub(super) fn forget(&self, container: &Path) -> Result<(), Failure> {
        let path = self.file(container);
        let removed = std::fs::remove_file(&path);
        if is_absent(&removed) {
            return Ok(());
        }
        removed.map_err(|error| Failure::node("remove", &path, error))
    }

    /// Takes the names from the layers in `dir` that are neither kept nor in use; answers where they are now.
    pub(super) fn take_unused(
        &self,
        dir: &Path,
        kept: &BTreeSet<String>,
    ) -> Result<Vec<PathBuf>, Failure> {
        // Held to the end: a lease that is taken later finds the layer gone, and unpacks it again.
        let leases = lock(&self.leases);
        let failed = |error| Failure::node("read", dir, error);
        let used = self.recorded().map_err(failed)?;
        let mut taken = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_used =
                kept.contains(&name) || used.contains(&name) || leases.contains_key(&name);
            if name.starts_with('.') || is_used {
                continue;
            }
            let path = temporary(dir, &name);
            std::fs::rename(entry.path(), &path)
                .map_err(|error| Failure::node("rename", &entry.path(), error))?;
            taken.push(path);
        }
        Ok(taken)
    }

    fn recorded(&self) -> std::io::Result<BTreeSet<String>> {
        let mut layers = BTreeSet::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let text = std::fs::read(entry?.path());
            if is_absent(&text) {
                continue;
            }
            let text = text?;
            let mut parts = text.split(|byte| *byte == 0);
            let container = parts.next().unwrap_or_default();
            if Path::new(OsStr::from_bytes(container)).exists() {
                layers.extend(parts.map(|layer| String::from_utf8_lossy(layer).into_owned()));
            }
        }
        Ok(layers)
    }

    fn file(&self, container: &Path) -> PathBuf {
        let digest = digest_of(container.as_os_str().as_encoded_bytes());
        self.dir.join(digest.trim_start_matches("sha256:"))
    }
}

impl Lease {
    /// From the lowest to the uppermost, each once.
    pub(super) fn layers(&self) -> &[String] {
        &self.layers
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = lock(&self.uses.leases);
        for layer in &self.layers {
            if let Some(count) = leases.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    leases.remove(layer);
                }
            }
        }
    }
}
