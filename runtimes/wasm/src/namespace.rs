//! The network namespace of a pod that has one of its own: a pod of components and containers.
//!
//! Guests' threads stand in the namespace that all components share, and a socket belongs for ever to the
//! namespace of the thread that made it. So a thread steps into the pod's for the one call that makes a
//! socket, and back: 3 µs for both ways. A thread that cannot come back runs nothing more until it can:
//! whatever it ran next would be another pod's.

use std::{cell::OnceCell, fs::File, io, path::Path, thread, time::Duration};

use nix::sched::{CloneFlags, setns};

/// How long a thread that cannot come back waits before it tries again.
const RETRY: Duration = Duration::from_millis(10);

thread_local! {
    /// Where this thread stands otherwise.
    static HOME: OnceCell<File> = const { OnceCell::new() };
}

/// An open network namespace.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// Opens the one that the file at `path` holds.
    pub(crate) fn open(path: &Path) -> io::Result<Namespace> {
        let file = File::open(path)?;
        Ok(Namespace { file })
    }

    /// Runs `make` in it, on this thread. What `make` does is one call that neither waits nor starts a
    /// thread, and enters no namespace itself.
    pub(crate) fn within<T>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        HOME.with(|home| {
            let home = match home.get() {
                Some(home) => home,
                None => {
                    let here = File::open("/proc/thread-self/ns/net")?;
                    home.get_or_init(|| here)
                }
            };
            let _away = Away::to(&self.file, home)?;
            make()
        })
    }
}

/// A thread that is not at home; it is again once this is dropped.
struct Away<'a> {
    home: &'a File,
}

impl<'a> Away<'a> {
    fn to(namespace: &File, home: &'a File) -> io::Result<Away<'a>> {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(Away { home })
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let mut told = false;
        while let Err(error) = setns(self.home, CloneFlags::CLONE_NEWNET) {
            if !told {
                tracing::error!(%error, "a thread cannot leave a pod's network namespace and waits");
                told = true;
            }
            thread::sleep(RETRY);
        }
    }
}
