//! The network namespace in which a node's Wasm pods have their sockets.
//!
//! Kept by a bind mount under `/run/netns`, so it outlives the process and is adopted by the next.
//! Threads are moved into it; the process as a whole never is.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::Context;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

const DIRECTORY: &str = "/run/netns";

/// An open network namespace.
#[derive(Clone)]
pub(crate) struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// Opens the namespace of that name, making it if there is none.
    pub(crate) fn ensure(name: &str) -> anyhow::Result<Self> {
        let path = path(name);
        if let Some(file) = open(&path).with_context(|| format!("open {}", path.display()))? {
            return Ok(Self {
                file: Arc::new(file),
            });
        }
        fs::create_dir_all(DIRECTORY).context("create /run/netns")?;
        File::create(&path).with_context(|| format!("create {}", path.display()))?;
        // A thread of its own: unshare moves the calling thread for good.
        thread::scope(|scope| scope.spawn(|| pin(&path)).join())
            .expect("pin does not panic")
            .context("make a network namespace: this needs root (or run rootless)")?;
        let file = open(&path)?.context("the new network namespace is gone again")?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// Lets the name go; the namespace itself ends with the last socket in it.
    pub(crate) fn remove(name: &str) -> io::Result<()> {
        let path = path(name);
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match fs::remove_file(&path) {
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

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The namespace mounted at `path`; `None` if there is only a plain file or nothing.
fn open(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mounted = fstatfs(&file)?.filesystem_type() == NSFS_MAGIC;
    Ok(mounted.then_some(file))
}

fn pin(path: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = Some("/proc/thread-self/ns/net");
    mount(own, path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}
