//! Places for requests that are answered at once, and a queue before them.
//!
//! Who runs the cluster is never kept out by who uses it: the control plane's components, the nodes, and everybody
//! else have places of their own, as Kubernetes' priority levels have. Within a level the first to come is the first
//! to be answered. Never looks at what is asked.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::auth::{NODES, User};

/// Requests of one level that may wait; each holds its head, its body is read later.
const QUEUE: usize = 4096;

/// Whose places a request takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Components,
    Nodes,
    Everybody,
}

impl Level {
    fn of(user: Option<&User>) -> Level {
        match user {
            Some(user) if user.is_component() => Level::Components,
            Some(user) if user.is_in(NODES) => Level::Nodes,
            _ => Level::Everybody,
        }
    }
}

/// Places of one kind of request.
#[derive(Debug)]
pub(super) struct Room {
    /// Of each level.
    places: usize,
    levels: [Queued; 3],
}

#[derive(Debug)]
struct Queued {
    free: Semaphore,
    waiting: AtomicUsize,
}

impl Room {
    /// So many places for each level.
    pub(super) fn new(places: usize) -> Room {
        let level = || Queued {
            free: Semaphore::new(places),
            waiting: AtomicUsize::new(0),
        };
        Room {
            places,
            levels: [level(), level(), level()],
        }
    }

    /// A place, as soon as there is one; `None` if there is none in time, or too many wait already.
    pub(super) async fn place(
        &self,
        user: Option<&User>,
        at_most: Duration,
    ) -> Option<SemaphorePermit<'_>> {
        let level = &self.levels[Level::of(user) as usize];
        if let Ok(place) = level.free.try_acquire() {
            return Some(place);
        }
        let _waiting = Waiting::begin(&level.waiting)?;
        let place = timeout(at_most, level.free.acquire()).await;
        place.ok()?.ok()
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        let taken = |level: &Queued| self.places.saturating_sub(level.free.available_permits());
        self.levels.iter().map(taken).sum()
    }
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// `None` if too many wait.
    fn begin(count: &'a AtomicUsize) -> Option<Waiting<'a>> {
        let waiting = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < QUEUE).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_all_places_are_taken_waits_in_turn_but_not_for_ever() {
        let room = Room::new(1);
        let alice = User::new("alice", &[]);
        let first = room.place(Some(&alice), LONG).await;
        assert!(first.is_some() && room.taken() == 1);
        let mut second = Box::pin(room.place(Some(&alice), LONG));
        let mut third = Box::pin(room.place(Some(&alice), LONG));
        assert!(poll!(second.as_mut()).is_pending() && poll!(third.as_mut()).is_pending());
        drop(first);
        assert!(poll!(third.as_mut()).is_pending());
        let _second = second.await.expect("it is its turn");
        assert!(third.await.is_none(), "its time is up");
        assert_eq!(
            room.levels[Level::Everybody as usize]
                .waiting
                .load(Ordering::Relaxed),
            0
        );
    }

    #[tokio::test]
    async fn users_keep_neither_nodes_nor_components_out() {
        let room = Room::new(1);
        let users = [User::new("alice", &[]), User::node("n1"), User::scheduler()];
        let mut places = Vec::new();
        for user in &users {
            places.push(
                room.place(Some(user), Duration::ZERO)
                    .await
                    .expect("a place"),
            );
        }
        assert!(
            room.place(Some(&User::controller_manager()), Duration::ZERO)
                .await
                .is_none()
        );
        assert_eq!(room.taken(), 3);
    }

    #[tokio::test]
    async fn the_queue_has_an_end() {
        let count = AtomicUsize::new(QUEUE - 1);
        let last = Waiting::begin(&count);
        assert!(last.is_some() && Waiting::begin(&count).is_none());
        drop(last);
        assert_eq!(count.into_inner(), QUEUE - 1);
    }
}
