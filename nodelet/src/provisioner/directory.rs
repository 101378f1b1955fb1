//! The directories of this node's volumes: each is beneath one root and named as its volume is.
//!
//! The root is the nodelet's alone; a volume's directory is open to every user of the pods that mount it. Nothing is
//! removed but a directory of such a name directly beneath the root, and none through a symbolic link.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};

use super::quota;

/// Beneath one root. Calls may block on the disk.
pub(super) struct Directories {
    root: PathBuf,
    /// Held while a directory gets its project, of which no two may be the same.
    projects: Mutex<()>,
}

impl Directories {
    /// `root` is absolute, and made when it is needed.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            projects: Mutex::new(()),
        }
    }

    /// Makes sure of a volume's directory, and that it holds so many bytes and no more, where the file system can
    /// see to that; says where it is.
    pub(super) fn ensure(&self, name: &str, bytes: u64) -> anyhow::Result<PathBuf> {
        let path = self.path(name)?;
        make(&self.root, 0o700)?;
        make(&path, 0o777)?;
        // Whoever reads of the volume finds the directory, whenever this machine loses power.
        File::open(&self.root)
            .and_then(|root| root.sync_all())
            .with_context(|| format!("sync {}", self.root.display()))?;
        let _projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        quota::limit(&self.root, &path, bytes)
            .with_context(|| format!("limit what {} holds", path.display()))?;
        Ok(path)
    }

    /// Removes a volume's directory and all that is in it; `said` is where its object says that it is.
    pub(super) fn remove(&self, name: &str, said: &Path) -> anyhow::Result<()> {
        let path = self.path(name)?;
        ensure!(
            said == path,
            "volume {name} is at {}, which is not this node's directory {}: remove it by hand",
            said.display(),
            path.display()
        );
        if let Err(error) = quota::unlimit(&path) {
            tracing::debug!(%error, path = %path.display(), "the limit of a directory stays");
        }
        let removed = runtimes::removal::remove(&path);
        removed.with_context(|| format!("remove {}", path.display()))?;
        Ok(())
    }

    /// Removes a directory that was made for a volume that never came to be. One that holds anything stays.
    pub(super) fn remove_empty(&self, name: &str) -> anyhow::Result<()> {
        let path = self.path(name)?;
        match fs::remove_dir(&path) {
            Err(error)
                if [ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty].contains(&error.kind()) =>
            {
                Ok(())
            }
            removed => removed.with_context(|| format!("remove {}", path.display())),
        }
    }

    /// The volumes that there are directories of.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_volume(name)).collect()
    }

    fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        ensure!(
            is_volume(name),
            "{name:?} is not the name of a volume that this node makes"
        );
        Ok(self.root.join(name))
    }
}

/// Whether a name is one that this provisioner gives: a single step of a path, whatever it says.
fn is_volume(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    name.strip_prefix("pvc-")
        .is_some_and(|uid| !uid.is_empty() && uid.chars().all(allowed))
}

fn make(path: &Path, mode: u32) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.and_then(|()| fs::symlink_metadata(path))
        .and_then(|metadata| match metadata.is_dir() {
            // Not what the umask left of it.
            true => fs::set_permissions(path, Permissions::from_mode(mode)),
            false => Err(ErrorKind::NotADirectory.into()),
        })
        .with_context(|| format!("make the directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_directory_is_open_beneath_a_closed_root_and_goes_with_what_it_holds() {
        let temporary = TempDir::new().expect("a directory");
        let root = temporary.path().join("volumes");
        let directories = Directories::new(root.clone());
        let path = directories.ensure("pvc-a", 1 << 20).expect("made");
        assert_eq!(
            path,
            directories.ensure("pvc-a", 2 << 20).expect("made again")
        );
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&root), mode(&path)), (0o700, 0o777));
        fs::create_dir(path.join("deep")).expect("made");
        fs::write(path.join("deep/file"), "data").expect("written");
        directories.remove_empty("pvc-a").expect("nothing to do");
        assert_eq!(directories.names(), ["pvc-a"]);
        directories.remove("pvc-a", &path).expect("removed");
        directories.remove("pvc-a", &path).expect("gone already");
        assert!(directories.names().is_empty());
    }

    #[test]
    fn nothing_beyond_the_root_is_removed() {
        let temporary = TempDir::new().expect("a directory");
        let root = temporary.path().join("volumes");
        let kept = temporary.path().join("kept");
        fs::create_dir_all(&root).expect("made");
        fs::create_dir(&kept).expect("made");
        fs::write(kept.join("file"), "data").expect("written");
        let directories = Directories::new(root.clone());
        for name in ["..", "pvc-../kept", "kept", "pvc-", "pvc-a/../../kept"] {
            assert!(
                directories.remove(name, &root.join(name)).is_err(),
                "{name}"
            );
        }
        assert!(directories.remove("pvc-a", &kept).is_err());
        std::os::unix::fs::symlink(&kept, root.join("pvc-link")).expect("linked");
        assert!(directories.ensure("pvc-link", 1).is_err());
        let _ = directories.remove("pvc-link", &root.join("pvc-link"));
        assert!(kept.join("file").exists());
    }
}
