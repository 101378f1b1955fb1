//! What the node keeps of each pod's volumes, and the task that keeps files as the API has them.
//!
//! A pod is looked at again when an object that its volumes are made of changed, when its own labels or annotations
//! did, and when a token is to be renewed: [`Stale`] is the queue of those, each pod in it once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use runtimes::PodRef;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    objects::{Key, Objects},
    refresh,
    token::Tokens,
};
use crate::pod::worker::Context;

/// Pods whose files are written at a time.
const CONCURRENT: usize = 16;

/// Where a volume is on the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    /// Its files are replaced when what they are made of changes.
    pub(crate) replaced: bool,
}

/// The volumes of the node's pods.
pub(crate) struct Volumes {
    pub(crate) objects: Objects,
    pub(crate) tokens: Tokens,
    /// This node's object, for the node affinity of PersistentVolumes.
    pub(crate) node: watch::Receiver<Option<Arc<Node>>>,
    pub(super) stale: Arc<Stale>,
    /// Where Secrets and tokens are kept; `None` as long as that is on disk.
    memory: Mutex<Option<PathBuf>>,
    pods: Mutex<HashMap<Arc<str>, Arc<PodVolumes>>>,
}

/// The volumes of one pod.
pub(crate) struct PodVolumes {
    pub(crate) uid: Arc<str>,
    pub(crate) pod_ref: PodRef,
    /// Held while files are gathered: set-up and refresh take turns.
    pub(super) busy: tokio::sync::Mutex<()>,
    /// Told when something that the volumes wait for has changed.
    pub(super) changed: Notify,
    /// Held while the directories are written to; true once they are removed.
    pub(super) removed: Mutex<bool>,
    pub(super) known: Mutex<Known>,
}

/// What is known of a pod's volumes.
pub(crate) struct Known {
    pub(crate) pod: Arc<Pod>,
    /// Those that are set up, by name.
    pub(crate) sources: BTreeMap<String, Source>,
    /// The objects that they are made of.
    pub(super) keys: BTreeSet<Key>,
    /// A digest of the files of each volume, as they were last written.
    pub(super) written: HashMap<String, u64>,
}

impl Volumes {
    pub(crate) fn new(client: Client, node: watch::Receiver<Option<Arc<Node>>>) -> Volumes {
        let stale = Arc::new(Stale::default());
        Volumes {
            objects: Objects::new(client.clone(), stale.clone()),
            tokens: Tokens::new(client),
            node,
            stale,
            memory: Mutex::default(),
            pods: Mutex::default(),
        }
    }

    /// Keeps Secrets and tokens below this directory, which is in memory.
    pub(crate) fn keep_in_memory(&self, directory: PathBuf) {
        *lock(&self.memory) = Some(directory);
    }

    pub(crate) fn memory(&self) -> Option<PathBuf> {
        lock(&self.memory).clone()
    }

    /// What is kept of a pod; made if it is not there.
    pub(super) fn enter(&self, pod: &Arc<Pod>, pod_ref: &PodRef) -> Arc<PodVolumes> {
        let uid: Arc<str> = pod_ref.uid.as_str().into();
        let mut pods = lock(&self.pods);
        let entry = pods.entry(uid.clone()).or_insert_with(|| {
            Arc::new(PodVolumes {
                uid,
                pod_ref: pod_ref.clone(),
                busy: tokio::sync::Mutex::default(),
                changed: Notify::new(),
                removed: Mutex::new(false),
                known: Mutex::new(Known {
                    pod: pod.clone(),
                    sources: BTreeMap::new(),
                    keys: BTreeSet::new(),
                    written: HashMap::new(),
                }),
            })
        });
        entry.clone()
    }

    pub(crate) fn find(&self, uid: &str) -> Option<Arc<PodVolumes>> {
        lock(&self.pods).get(uid).cloned()
    }

    /// Forgets a pod; its objects are no longer watched for it.
    pub(super) fn leave(&self, uid: &str) -> Option<Arc<PodVolumes>> {
        let entry = lock(&self.pods).remove(uid)?;
        self.stale.remove(uid);
        let mut known = lock(&entry.known);
        known.sources.clear();
        let keys = std::mem::take(&mut known.keys);
        drop(known);
        self.objects.release(uid, &keys);
        Some(entry)
    }

    /// Takes in that the API changed the pod.
    pub(crate) fn update(&self, uid: &str, pod: &Arc<Pod>) {
        let Some(entry) = self.find(uid) else { return };
        let old = std::mem::replace(&mut lock(&entry.known).pod, pod.clone());
        let same = old.metadata.labels == pod.metadata.labels
            && old.metadata.annotations == pod.metadata.annotations
            && old.spec == pod.spec;
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        if !same && volumes.into_iter().any(super::files::shows_pod) {
            self.stale.add([entry.uid.clone()]);
        }
    }
}

impl PodVolumes {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

/// Looks after the files of all pods until dropped.
pub(crate) async fn run(context: Arc<Context>) {
    loop {
        let due = context.volumes.stale.next().await;
        stream::iter(due)
            .for_each_concurrent(CONCURRENT, |uid| {
                let context = &context;
                async move {
                    let Some(entry) = context.volumes.find(&uid) else {
                        return;
                    };
                    entry.changed.notify_waiters();
                    refresh(context, &entry).await;
                }
            })
            .await;
    }
}

/// The pods that are to be looked at again, now or later. Bounded by the number of pods.
#[derive(Default)]
pub(crate) struct Stale {
    queue: Mutex<Queue>,
    woken: Notify,
}

#[derive(Default)]
struct Queue {
    now: BTreeSet<Arc<str>>,
    later: BTreeSet<(Instant, Arc<str>)>,
    times: HashMap<Arc<str>, Instant>,
}

impl Stale {
    /// These are to be looked at now.
    pub(crate) fn add(&self, uids: impl IntoIterator<Item = Arc<str>>) {
        lock(&self.queue).now.extend(uids);
        self.woken.notify_one();
    }

    /// This one is to be looked at after a while, in place of any other time that was said.
    pub(crate) fn add_later(&self, uid: &Arc<str>, after: Duration) {
        let at = Instant::now() + after;
        let mut queue = lock(&self.queue);
        if let Some(old) = queue.times.insert(uid.clone(), at) {
            queue.later.remove(&(old, uid.clone()));
        }
        queue.later.insert((at, uid.clone()));
        drop(queue);
        self.woken.notify_one();
    }

    fn remove(&self, uid: &str) {
        let mut queue = lock(&self.queue);
        queue.now.remove(uid);
        if let Some((uid, at)) = queue.times.remove_entry(uid) {
            queue.later.remove(&(at, uid));
        }
    }

    /// Waits for pods that are to be looked at.
    async fn next(&self) -> Vec<Arc<str>> {
        loop {
            let (due, wake_at) = lock(&self.queue).take(Instant::now());
            if !due.is_empty() {
                return due;
            }
            let sleep = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.woken.notified() => {}
                () = sleep => {}
            }
        }
    }
}

impl Queue {
    /// Those that are due, and when the next one is.
    fn take(&mut self, now: Instant) -> (Vec<Arc<str>>, Option<Instant>) {
        while let Some((at, uid)) = self.later.pop_first() {
            if at > now {
                self.later.insert((at, uid));
                break;
            }
            self.times.remove(&uid);
            self.now.insert(uid);
        }
        let due = std::mem::take(&mut self.now).into_iter().collect();
        (due, self.later.first().map(|(at, _)| *at))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_looked_at_once_now_and_once_later() {
        let (stale, a, b): (_, Arc<str>, Arc<str>) = (Stale::default(), "a".into(), "b".into());
        let start = Instant::now();
        stale.add_later(&a, Duration::from_secs(60));
        stale.add_later(&a, Duration::from_secs(30));
        stale.add([b.clone(), b.clone()]);
        assert_eq!(stale.next().await, std::slice::from_ref(&b));
        assert_eq!(stale.next().await, std::slice::from_ref(&a));
        assert_eq!(start.elapsed().as_secs(), 30);
        stale.add_later(&a, Duration::from_secs(10));
        stale.add_later(&b, Duration::from_secs(20));
        stale.remove("a");
        assert_eq!(stale.next().await, [b]);
        assert_eq!(start.elapsed().as_secs(), 50);
    }
}
