//! What happens inside a container and that its pod's Events are to tell.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use runtimes::{ContainerSpec, Notice};
use tokio::sync::mpsc;

/// Notices that wait to be taken; more are dropped.
pub(crate) const QUEUE: usize = 1024;

/// A container says no more than one thing in this time: a server may fail at every request.
const INTERVAL: Duration = Duration::from_secs(10);

/// One container's way to tell.
pub(crate) struct Notices {
    /// `None`: there is no pod to tell it of.
    queue: Option<mpsc::Sender<Notice>>,
    last: Mutex<Option<Instant>>,
}

impl Notices {
    pub(crate) fn new(queue: Option<mpsc::Sender<Notice>>) -> Notices {
        Notices {
            queue,
            last: Mutex::default(),
        }
    }

    /// Tells it, unless something was told a moment ago; whether it was told.
    pub(crate) fn tell(&self, spec: &ContainerSpec, reason: &'static str, message: String) -> bool {
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now < last + INTERVAL) {
                return false;
            }
            *last = Some(now);
        }
        let Some(queue) = &self.queue else {
            return true;
        };
        let notice = Notice {
            pod: spec.pod.clone(),
            container: spec.name.clone(),
            reason,
            message,
        };
        // Full: whoever takes them is behind, and more would not help.
        queue.try_send(notice).is_ok()
    }
}
