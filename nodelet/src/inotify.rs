//! Learns from the kernel when the files of a directory change, so that nobody looks in vain.
//!
//! One inotify instance a nodelet, since a user has few, and none before something is watched; where the kernel gives
//! none, [`Watch::changed`] answers when its time is up, and everything goes on a little later. Never reads a file.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
    time::timeout,
};
use tracing::{debug, warn};

/// What of a directory is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// Every write, and files that come, go and are renamed.
    Writes,
    /// Files that have been written, come, go and are renamed: none is half written.
    Files,
}

impl What {
    fn flags(self) -> AddWatchFlags {
        let files = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        match self {
            What::Files => files,
            What::Writes => files | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE,
        }
    }
}

/// The node's directories that somebody watches; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Changes(Arc<Instance>);

/// The instance, once something is watched; `None` if the kernel gives none.
#[derive(Default)]
struct Instance {
    shared: OnceLock<Option<Arc<Shared>>>,
    /// Told when it was asked for.
    asked: Notify,
}

impl Instance {
    fn shared(&self) -> Option<&Arc<Shared>> {
        let shared = self.shared.get_or_init(|| {
            self.asked.notify_one();
            let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
            match Inotify::init(flags) {
                Ok(inotify) => Some(Arc::new(Shared {
                    inotify,
                    listeners: Mutex::default(),
                })),
                Err(error) => {
                    warn!(%error, "the kernel tells of no changed files: logs are followed with a delay");
                    None
                }
            }
        });
        shared.as_ref()
    }
}

struct Shared {
    inotify: Inotify,
    listeners: Mutex<HashMap<WatchDescriptor, Vec<Arc<Notify>>>>,
}

impl Shared {
    fn listeners(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, Vec<Arc<Notify>>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the async runtime polls.
struct Readable(Arc<Shared>);

impl AsRawFd for Readable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.inotify.as_fd().as_raw_fd()
    }
}

impl Changes {
    pub(crate) fn new() -> Changes {
        Changes::default()
    }

    /// Tells the watches of changes, until dropped.
    pub(crate) async fn run(self) {
        self.0.asked.notified().await;
        let Some(shared) = self.0.shared().cloned() else {
            return;
        };
        #[expect(
            unsafe_code,
            reason = "the runtime must be told that a descriptor stays open"
        )]
        // SAFETY: `Readable` shares ownership of the instance, whose descriptor is closed only when it is dropped, and
        // always answers this one.
        let registered =
            unsafe { AsyncFd::register_with_interest(Readable(shared), Interest::READABLE) };
        let readable = match registered {
            Ok(readable) => readable,
            Err(error) => return warn!(%error, "wait for changed files"),
        };
        loop {
            let Ok(mut ready) = readable.readable().await else {
                return;
            };
            let read = ready.try_io(|readable| {
                let events = readable.get_ref().0.inotify.read_events();
                events.map_err(io::Error::from)
            });
            let Ok(events) = read else { continue };
            let events = match events {
                Ok(events) => events,
                Err(error) => return warn!(%error, "read which files changed"),
            };
            let shared = &readable.get_ref().0;
            let mut listeners = shared.listeners();
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    listeners.values().flatten().for_each(|l| l.notify_one());
                }
                for listener in listeners.get(&event.wd).into_iter().flatten() {
                    listener.notify_one();
                }
                // The directory is gone, and its number may be another's next.
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    listeners.remove(&event.wd);
                }
            }
        }
    }

    /// Watches a directory from now on.
    pub(crate) fn watch(&self, directory: &Path, what: What) -> Watch {
        let notify = Arc::new(Notify::new());
        let place = self.0.shared().and_then(|shared| {
            let mut listeners = shared.listeners();
            match shared.inotify.add_watch(directory, what.flags()) {
                Ok(number) => {
                    listeners.entry(number).or_default().push(notify.clone());
                    Some((shared.clone(), number))
                }
                Err(error) => {
                    debug!(%error, directory = %directory.display(), "watch a directory");
                    None
                }
            }
        });
        Watch { notify, place }
    }
}

/// One listener to a directory.
pub(crate) struct Watch {
    notify: Arc<Notify>,
    place: Option<(Arc<Shared>, WatchDescriptor)>,
}

impl Watch {
    /// Whether the kernel tells; if not, [`Watch::changed`] waits for nothing but time.
    pub(crate) fn works(&self) -> bool {
        self.place.is_some()
    }

    /// Waits for a change since the last time, or for so long.
    pub(crate) async fn changed(&self, at_most: Duration) {
        // Late is as good as a change: the caller looks.
        let _ = timeout(at_most, self.notify.notified()).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some((shared, number)) = &self.place else {
            return;
        };
        let mut listeners = shared.listeners();
        if let Some(of) = listeners.get_mut(number) {
            of.retain(|listener| !Arc::ptr_eq(listener, &self.notify));
            if of.is_empty() {
                listeners.remove(number);
                let _ = shared.inotify.rm_watch(*number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn every_listener_of_a_directory_hears_of_a_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let changes = Changes::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(changes.clone().run());
        let gone = changes.watch(directory.path(), What::Writes);
        let watches = [
            changes.watch(directory.path(), What::Writes),
            changes.watch(directory.path(), What::Writes),
        ];
        drop(gone);
        std::fs::write(directory.path().join("a"), "b").expect("write");
        for watch in &watches {
            let began = tokio::time::Instant::now();
            watch.changed(Duration::from_secs(60)).await;
            assert!(began.elapsed() < Duration::from_secs(60));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_is_not_there_is_looked_at_when_time_is_up() {
        let watch = Changes::new().watch(Path::new("/nonexistent"), What::Files);
        assert!(!watch.works());
        watch.changed(Duration::from_secs(1)).await;
    }
}
