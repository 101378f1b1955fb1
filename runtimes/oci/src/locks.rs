//! One lock for each name in use, and a bell that rings when something changed for those who wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Notify, OwnedMutexGuard};

/// Locks by name; those that nobody holds or waits for are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    by_name: Mutex<HashMap<String, Weak<Lock>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Lock {
    held: Arc<tokio::sync::Mutex<()>>,
    /// Rings when what the lock is for has changed.
    pub(crate) changed: Notify,
}

/// The lock is held until the last clone is gone: who does something in another thread takes one there, and so what was
/// given up halfway is over before the next one begins.
#[derive(Clone)]
pub(crate) struct Held {
    _guard: Arc<OwnedMutexGuard<()>>,
    _lock: Arc<Lock>,
}

impl Locks {
    pub(crate) fn of(&self, name: &str) -> Arc<Lock> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = by_name.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        // Now and then, so that the cost is spread.
        if by_name.len() == by_name.capacity() {
            by_name.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::<Lock>::default();
        by_name.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    pub(crate) async fn hold(&self, name: &str) -> Held {
        let lock = self.of(name);
        let guard = Arc::clone(&lock.held).lock_owned().await;
        Held {
            _guard: Arc::new(guard),
            _lock: lock,
        }
    }

    /// `None` if somebody else holds it.
    pub(crate) fn try_hold(&self, name: &str) -> Option<Held> {
        let lock = self.of(name);
        let guard = Arc::clone(&lock.held).try_lock_owned().ok()?;
        Some(Held {
            _guard: Arc::new(guard),
            _lock: lock,
        })
    }
}

impl Held {
    /// Runs what blocks in a thread of its own, where the lock is held too.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let held = self.clone();
        let work = move || {
            let result = work();
            drop(held);
            result
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_held_by_one_at_a_time() {
        let locks = Locks::default();
        let held = locks.hold("a").await;
        assert!(locks.try_hold("a").is_none());
        assert!(locks.try_hold("b").is_some());
        let elsewhere = held.clone();
        drop(held);
        assert!(locks.try_hold("a").is_none());
        drop(elsewhere);
        assert!(locks.try_hold("a").is_some());
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let locks = Locks::default();
        for number in 0..1000 {
            locks.of(&number.to_string());
        }
        assert!(locks.by_name.lock().unwrap().len() < 10);
    }
}
