//! A blob on its way into the store: its file, and the digest of what has come.
//!
//! It outlives a pull that fails, and the process: the next pull goes on where it ended. The digest is of the whole
//! file, so what an earlier pull left is as good as what came now, or none of it is used.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::{blobs::Lease, hex};

/// A blob that is not whole yet. Its calls block.
pub(super) struct Partial {
    file: File,
    sha256: Sha256,
    size: u64,
    /// An earlier pull's bytes are in it.
    found: bool,
    lease: Lease,
    /// Nobody else writes this file.
    _turn: OwnedMutexGuard<()>,
}

impl Partial {
    /// What an earlier pull left of the blob, or nothing yet.
    pub(super) fn open(lease: Lease, turn: OwnedMutexGuard<()>) -> std::io::Result<Partial> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(lease.partial_path())?;
        let mut sha256 = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            sha256.update(&buffer[..read]);
            size += read as u64;
        }
        Ok(Partial {
            file,
            sha256,
            size,
            found: size > 0,
            lease,
            _turn: turn,
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether some of it came with an earlier pull.
    pub(super) fn is_found(&self) -> bool {
        self.found
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Begins again.
    pub(super) fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.sha256, self.size, self.found) = (Sha256::new(), 0, false);
        Ok(())
    }

    /// Removes it.
    pub(super) fn discard(self) -> std::io::Result<()> {
        std::fs::remove_file(self.lease.partial_path())
    }

    /// Checks the whole; `Err` gives it back, if it is something else than its name says.
    pub(super) fn finish(self) -> std::io::Result<Result<Verified, Partial>> {
        let digest = format!("sha256:{}", hex(&self.sha256.clone().finalize()));
        if digest != self.lease.digest() {
            return Ok(Err(self));
        }
        self.file.sync_all()?;
        Ok(Ok(Verified { partial: self }))
    }
}

/// A whole blob, verified and on the disk, that does not have its name yet.
pub(super) struct Verified {
    partial: Partial,
}

impl Verified {
    /// Where it is now.
    pub(super) fn path(&self) -> PathBuf {
        self.partial.lease.partial_path()
    }

    /// Gives it its name.
    pub(super) fn persist(self) -> Result<(), String> {
        let lease = &self.partial.lease;
        lease.blobs().persist(&self.path(), lease)
    }

    /// Removes it.
    pub(super) fn discard(self) -> std::io::Result<()> {
        self.partial.discard()
    }
}
