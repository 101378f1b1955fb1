//! Network namespaces: the one in which a node's Wasm pods have their sockets, and isolated pods' own.
//!
//! Kept by a bind mount, so they outlive the process and are adopted by the next. Threads are moved
//! into them; the process as a whole never is.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
    thread,
};

use anyhow::Context;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

/// An open network namespace.
#[derive(Clone)]
pub(crate) struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// Opens the namespace that is kept at a path, making it if there is none; `prepare` is run in one
    /// that is new, before it is seen at the path.
    pub(crate) fn ensure(
        path: &Path,
        prepare: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Self> {
        if let Some(found) = Self::find(path).with_context(|| format!("open {}", path.display()))? {
            return Ok(found);
        }
        let directory = path
            .parent()
            .context("a namespace is kept in a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        File::create(path).with_context(|| format!("create {}", path.display()))?;
        // A thread of its own: unshare moves the calling thread for good.
        thread::scope(|scope| scope.spawn(|| pin(path, prepare)).join())
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread in the namespace panicked")))?;
        Self::find(path)?.context("the new network namespace is gone again")
    }

    /// The namespace kept at a path; `None` if there is only a plain file or nothing.
    pub(crate) fn find(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mounted = fstatfs(&file)?.filesystem_type() == NSFS_MAGIC;
        Ok(mounted.then(|| Self {
            file: Arc::new(file),
        }))
    }

    /// Lets the path go; the namespace itself ends with the last process or socket in it.
    pub(crate) fn remove(path: &Path) -> io::Result<()> {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves the calling thread into it, for good.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&*self.file, CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `work` in it, on a thread of its own.
    pub(crate) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let inside = || {
            self.enter()?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    }

    /// The descriptor that netlink names it by.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

fn pin(path: &Path, prepare: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .context("make a network namespace: this needs root (or run rootless)")?;
    prepare()?;
    let own = Some("/proc/thread-self/ns/net");
    mount(own, path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("mount the network namespace at {}", path.display()))
}
