//! The data directory: where one `wk` process keeps what it must find again.
//!
//! Layout: `wk.lock`, `cluster`, `admin.kubeconfig`, `pki/`, `store/`, `images/`, `code/`, `logs/`, `state/`;
//! the nodelet makes `pods/` and `memory/`, the runtime of containers `oci/`.
//! Everything is the owner's alone (directories 0700, keys and kubeconfig 0600). Only one process
//! may hold it.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// A data directory that this process holds.
pub(crate) struct DataDir {
    root: PathBuf,
    _lock: Flock<File>,
}

/// Where data goes when the user does not say: `/var/lib/wk` as root, else below `$XDG_DATA_HOME`.
pub(crate) fn default_root() -> Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib/wk".into());
    }
    if let Some(data) = std::env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()) {
        return Ok(PathBuf::from(data).join("wk"));
    }
    let home = std::env::var_os("HOME")
        .context("neither XDG_DATA_HOME nor HOME is set: name --data-dir")?;
    Ok(PathBuf::from(home).join(".local/share/wk"))
}

impl DataDir {
    /// Makes the directory if it is not there and takes it, or says who has it.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let make = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
        };
        make(root).with_context(|| format!("cannot use the data directory {}", root.display()))?;
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot use the data directory {}", root.display()))?;
        let path = root.join("wk.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write to the data directory {}", root.display()))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                bail!(
                    "the data directory {} is in use by another wk (process {}): stop it, or name another with --data-dir",
                    root.display(),
                    holder.trim()
                );
            }
            Err((_, errno)) => {
                return Err(errno)
                    .with_context(|| format!("cannot lock the data directory {}", root.display()));
            }
        };
        lock.set_len(0)
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .with_context(|| format!("cannot write to the data directory {}", root.display()))?;
        for name in ["pki", "store", "images", "code", "logs", "state"] {
            let path = root.join(name);
            make(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self { root, _lock: lock })
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// Writes a file that only its owner can read, wholly or not at all.
pub(crate) fn write_private(path: &Path, contents: &str) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let _ = fs::remove_file(&temporary);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(held);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_private_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.kubeconfig");
        write_private(&path, "a").unwrap();
        write_private(&path, "b").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
