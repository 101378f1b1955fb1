//! The files of a content store: `blobs/sha256/<hex>`, and `partial/` for what is not whole yet.
//!
//! A file appears under its digest's name by a rename, once its digest is verified and it is on the disk: what is
//! in `blobs` is always whole. A download that breaks stays in `partial` under the same name, for the next pull.
//! Who uses a blob that no image of the index names (yet) holds a [`Lease`]; only what is neither named nor
//! leased is ever removed.

use std::{
    collections::HashMap,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::OwnedMutexGuard;

use super::manifest;

/// The directories of a store.
pub(super) struct Blobs {
    whole: PathBuf,
    partial: PathBuf,
    leases: Mutex<HashMap<String, Leased>>,
}

/// Who uses a blob now.
#[derive(Default)]
struct Leased {
    holders: usize,
    /// Of who writes it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Blobs {
    /// The store in `dir`; its directories are made.
    pub(super) fn open(dir: &Path) -> std::io::Result<Arc<Blobs>> {
        let (whole, partial) = (dir.join("blobs/sha256"), dir.join("partial"));
        std::fs::create_dir_all(&whole)?;
        std::fs::create_dir_all(&partial)?;
        Ok(Arc::new(Blobs {
            whole,
            partial,
            leases: Mutex::default(),
        }))
    }

    /// The file of a blob, whether it is here or not.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.whole
            .join(digest.strip_prefix("sha256:").unwrap_or(digest))
    }

    /// Keeps a blob from being removed, whether it is here already or not.
    pub(super) fn lease(self: &Arc<Self>, digest: &str) -> Result<Lease, String> {
        manifest::check_sha256(digest)?;
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest).to_owned();
        self.lock().entry(hex.clone()).or_default().holders += 1;
        Ok(Lease {
            blobs: self.clone(),
            hex,
        })
    }

    /// A file of no name yet, where [`persist`](Self::persist) can take it from.
    pub(super) fn temporary(&self) -> std::io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(&self.partial)
    }

    /// Writes a blob of which the bytes are here and verified; the lease is to be held until the index names it.
    pub(super) fn write(&self, lease: &Lease, bytes: &[u8]) -> Result<(), String> {
        let path = lease.path();
        if path.exists() {
            return Ok(());
        }
        let write = || {
            let mut file = self.temporary()?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|error| self.in_words(&error))
    }

    /// Gives a file the name of its digest. It was verified.
    pub(super) fn persist(&self, from: &Path, lease: &Lease) -> Result<(), String> {
        std::fs::rename(from, lease.path()).map_err(|error| self.in_words(&error))
    }

    /// Removes these blobs, those in use excepted; the bytes freed.
    pub(super) fn remove<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a str>,
    ) -> std::io::Result<u64> {
        let leases = self.lock();
        let mut freed = 0;
        for digest in digests {
            let path = self.path(digest);
            let is_leased = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|hex| leases.contains_key(hex));
            if !is_leased {
                freed += remove(&path)?;
            }
        }
        Ok(freed)
    }

    /// Removes what nobody has written to for `min_age`, and is neither `named` (a digest's digits) nor in use;
    /// the bytes freed.
    pub(super) fn sweep(
        &self,
        named: impl Fn(&str) -> bool,
        min_age: Duration,
    ) -> std::io::Result<u64> {
        let leases = self.lock();
        let mut freed = 0;
        for dir in [&self.whole, &self.partial] {
            for file in std::fs::read_dir(dir)? {
                let file = file?;
                let name = file.file_name();
                let name = name.to_string_lossy();
                if leases.contains_key(&*name) || (dir == &self.whole && named(&name)) {
                    continue;
                }
                let written = file.metadata().and_then(|metadata| metadata.modified());
                let age = written.map(|written| SystemTime::now().duration_since(written));
                // A clock that was set back makes no file old.
                if age.is_ok_and(|age| age.unwrap_or_default() >= min_age) {
                    freed += remove(&file.path())?;
                }
            }
        }
        Ok(freed)
    }

    /// What a user should know of a disk that refuses.
    pub(super) fn in_words(&self, error: &std::io::Error) -> String {
        let dir = self.partial.parent().unwrap_or(&self.partial).display();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                format!("write to the content store {dir}: no space left on device")
            }
            _ => format!("write to the content store {dir}: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Leased>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a file, if it is there; its size.
fn remove(path: &Path) -> std::io::Result<u64> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    std::fs::remove_file(path)?;
    Ok(size)
}

/// Keeps a blob while it lives.
pub(super) struct Lease {
    blobs: Arc<Blobs>,
    hex: String,
}

impl Lease {
    pub(super) fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    pub(super) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Where the whole blob is, or will be.
    pub(super) fn path(&self) -> PathBuf {
        self.blobs.whole.join(&self.hex)
    }

    /// Where it is until it is whole.
    pub(super) fn partial_path(&self) -> PathBuf {
        self.blobs.partial.join(&self.hex)
    }

    /// Waits until nobody else writes this blob.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        let turn = {
            let mut leases = self.blobs.lock();
            leases.entry(self.hex.clone()).or_default().turn.clone()
        };
        turn.lock_owned().await
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        let mut leases = self.blobs.lock();
        leases.entry(self.hex.clone()).or_default().holders += 1;
        Lease {
            blobs: self.blobs.clone(),
            hex: self.hex.clone(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.blobs.lock();
        if let Some(leased) = leases.get_mut(&self.hex) {
            leased.holders -= 1;
            if leased.holders == 0 {
                leases.remove(&self.hex);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_neither_named_nor_in_use_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digests = [1, 2, 3].map(|n| format!("sha256:{n:064}"));
        for digest in &digests {
            let lease = blobs.lease(digest).unwrap();
            blobs.write(&lease, digest.as_bytes()).unwrap();
        }
        let held = blobs.lease(&digests[0]).unwrap();
        let again = held.clone();
        drop(held);
        let all = || digests.iter().map(String::as_str);
        assert_eq!(
            blobs.sweep(|_| false, Duration::from_secs(3600)).unwrap(),
            0
        );
        let named = |hex: &str| digests[1].ends_with(hex);
        assert_eq!(blobs.sweep(named, Duration::ZERO).unwrap(), 71);
        let here: Vec<bool> = all().map(|digest| blobs.path(digest).exists()).collect();
        assert_eq!(here, [true, true, false]);
        assert_eq!(blobs.remove(all()).unwrap(), 71);
        drop(again);
        assert_eq!(blobs.remove(all()).unwrap(), 71);
        assert_eq!(blobs.remove(all()).unwrap(), 0);
    }

    #[test]
    fn only_a_sha256_names_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        for digest in ["", "sha256:", "sha256:../../../../etc/passwd", "sha512:00"] {
            assert!(blobs.lease(digest).is_err(), "{digest}");
        }
    }
}
