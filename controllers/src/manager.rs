//! What a controller is started with: the context, and workers that begin once the caches are filled.

use std::sync::Arc;

use kube::Resource;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::Listener;
use crate::context::Context;
use crate::error::Error;
use crate::inventory::Inventory;
use crate::key::Key;
use crate::queue::{Action, Queue};

/// Starts a queue's workers.
type Work = Box<dyn FnOnce(&mut JoinSet<()>, &CancellationToken) + Send>;

/// Each controller's `start` adds its listeners to the caches, and its workers here.
pub(crate) struct Manager {
    pub(crate) context: Arc<Context>,
    pub(crate) inventory: Arc<Inventory>,
    work: Vec<Work>,
}

impl Manager {
    pub(crate) fn new(context: Arc<Context>, inventory: Arc<Inventory>) -> Self {
        let work = Vec::new();
        Self {
            context,
            inventory,
            work,
        }
    }

    /// Adds a controller that works on several keys at a time.
    pub(crate) fn work<F, R>(&mut self, queue: Queue<Key>, reconcile: F)
    where
        F: Fn(Arc<Context>, Key) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        self.work_at_once(self.context.config.workers, queue, reconcile);
    }

    /// The same with a number of workers of its own.
    pub(crate) fn work_at_once<F, R>(&mut self, workers: usize, queue: Queue<Key>, reconcile: F)
    where
        F: Fn(Arc<Context>, Key) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let context = self.context.clone();
        self.work.push(Box::new(move |tasks, stop| {
            let stop = stop.clone();
            tasks.spawn(async move {
                let reconcile = |key| reconcile(context.clone(), key);
                queue.run(workers, stop, reconcile).await;
            });
        }));
    }

    /// Adds work that is not on keys of objects.
    pub(crate) fn task<R>(&mut self, task: impl FnOnce(CancellationToken) -> R + Send + 'static)
    where
        R: Future<Output = ()> + Send + 'static,
    {
        self.work.push(Box::new(move |tasks, stop| {
            tasks.spawn(task(stop.clone()));
        }));
    }

    /// Starts all workers; the caches must hold their first lists.
    pub(crate) fn run(self, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        for work in self.work {
            work(tasks, stop);
        }
    }
}

/// Every change of an object wakes it.
pub(crate) fn changed<K: Resource>(queue: &Queue<Key>) -> Listener<K> {
    let queue = queue.clone();
    Box::new(move |old, new| {
        let object = new.or(old).into_iter();
        object.for_each(|object| queue.add(Key::of(&**object)));
    })
}
