//! Static pods: pods that a directory of manifests holds, run without being asked by the API and before it answers.
//!
//! - [`manifest`]: from a file to a pod; pure.
//! - [`directory`]: the files, and what became of them.
//! - [`mirror`]: the API's picture of a static pod; what to do about it is pure.
//!
//! [`StaticPods`] is driven by the loop over the node's pods, which runs a worker for each and tells which mirrors it
//! sees. Creates and deletes mirror pods, of this node only; their status is written by the pods' workers. What the API
//! does to a mirror never touches the pod: a mirror that is deleted comes back.

mod directory;
mod manifest;
mod mirror;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use self::{
    directory::Directory,
    mirror::{Mirror, Step},
};
use crate::{deadline::call, inotify::Changes, logs};

/// Between tries to make or delete a mirror pod.
const RETRY: Duration = Duration::from_secs(10);

/// A pod of the directory.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct StaticPod {
    /// Its uid: a digest of the file and the node.
    pub(crate) uid: String,
    /// With a nodelet's defaults and no status.
    pub(crate) pod: Arc<Pod>,
    /// As the API is to show it, but for its owner.
    mirror: Arc<Pod>,
}

/// Namespace and name.
type Key = (String, String);

fn key(pod: &Pod) -> Key {
    let metadata = &pod.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// As which objects the API knows static pods; shared with their workers.
#[derive(Clone, Default, Debug)]
pub(crate) struct Mirrors(Arc<Mutex<HashMap<String, Option<String>>>>);

impl Mirrors {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The uid under which the API knows a pod of this node: a static pod's mirror's, any other's own. `None` while
    /// there is no mirror.
    pub(crate) fn api_uid(&self, uid: &str) -> Option<String> {
        match self.lock().get(uid) {
            None => Some(uid.to_owned()),
            Some(mirror) => mirror.clone(),
        }
    }

    /// Whether this is a static pod's uid.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.lock().contains_key(uid)
    }
}

type Call = BoxFuture<'static, (Key, Result<(), String>)>;

/// The node's static pods and their mirrors.
pub(crate) struct StaticPods {
    directory: Option<Directory>,
    /// The files may have changed since they were read.
    stale: bool,
    mirrors: Mirrors,
    node: watch::Receiver<Option<Arc<Node>>>,
    client: Client,
    /// Mirror pods of this node that the API has.
    seen: BTreeMap<Key, Mirror>,
    /// What `seen` becomes once the list is complete.
    listing: BTreeMap<Key, Mirror>,
    /// There has been a complete list.
    listed: bool,
    calls: FuturesUnordered<Call>,
    busy: HashSet<Key>,
    /// Not tried before.
    retry: BTreeMap<Key, Instant>,
    /// What was last said of a mirror's trouble.
    warned: BTreeMap<Key, String>,
}

impl StaticPods {
    pub(crate) fn new(
        path: Option<&Path>,
        node_name: &str,
        changes: &Changes,
        mirrors: Mirrors,
        node: watch::Receiver<Option<Arc<Node>>>,
        client: Client,
    ) -> StaticPods {
        StaticPods {
            directory: path.map(|path| Directory::new(path, node_name, changes.clone())),
            stale: true,
            mirrors,
            node,
            client,
            seen: BTreeMap::new(),
            listing: BTreeMap::new(),
            listed: false,
            calls: FuturesUnordered::new(),
            busy: HashSet::new(),
            retry: BTreeMap::new(),
            warned: BTreeMap::new(),
        }
    }

    /// The pods that should run.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &StaticPod> {
        self.directory.iter().flat_map(Directory::pods)
    }

    /// Reads the files.
    pub(crate) async fn read(&mut self) {
        if let Some(directory) = &mut self.directory {
            self.stale = true;
            directory.read().await;
            self.stale = false;
            for pod in directory.pods() {
                self.mirrors.lock().entry(pod.uid.clone()).or_default();
            }
        }
    }

    /// Waits until the files have been read again, a call has ended, or there is something to try again. Dropped
    /// halfway, it forgets nothing.
    pub(crate) async fn changed(&mut self) {
        if self.stale && self.directory.is_some() {
            return self.read().await;
        }
        let retry = self.retry.values().min().copied();
        let again = async {
            match retry {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let files = async {
            match &self.directory {
                Some(directory) => directory.changed().await,
                None => std::future::pending().await,
            }
        };
        // Before the node is registered there is no owner for mirrors.
        let waits = self.directory.is_some() && self.node.borrow().is_none();
        tokio::select! {
            () = files => self.read().await,
            Some((key, outcome)) = self.calls.next(), if !self.calls.is_empty() => {
                self.busy.remove(&key);
                match outcome {
                    Ok(()) => {
                        self.warned.remove(&key);
                    }
                    Err(message) => {
                        self.retry.insert(key.clone(), Instant::now() + RETRY);
                        if self.warned.get(&key) != Some(&message) {
                            let (namespace, name) = &key;
                            warn!(namespace, name, error = message, "mirror a static pod: it runs without being shown");
                            self.warned.insert(key, message);
                        }
                    }
                }
            }
            _ = self.node.changed(), if waits => {}
            () = again => {}
        }
        let now = Instant::now();
        self.retry.retain(|_, at| *at > now);
    }

    /// A complete list of the node's pods begins.
    pub(crate) fn list_begins(&mut self) {
        self.listing.clear();
    }

    /// Takes a pod of the list; false if it is no mirror.
    pub(crate) fn lists(&mut self, pod: &Pod) -> bool {
        let mirror = Mirror::of(pod);
        let is = mirror.is_some();
        self.listing.extend(mirror.map(|mirror| (key(pod), mirror)));
        is
    }

    /// The list is complete.
    pub(crate) fn list_ends(&mut self) {
        self.seen = std::mem::take(&mut self.listing);
        self.listed = true;
    }

    /// Takes a pod as it now is; false if it is no mirror.
    pub(crate) fn sees(&mut self, pod: &Pod) -> bool {
        let mirror = Mirror::of(pod);
        let is = mirror.is_some();
        self.seen.extend(mirror.map(|mirror| (key(pod), mirror)));
        is
    }

    /// Takes a pod that is gone; false if it was no mirror.
    pub(crate) fn loses(&mut self, pod: &Pod) -> bool {
        let Some(mirror) = Mirror::of(pod) else {
            return false;
        };
        let key = key(pod);
        if self
            .seen
            .get(&key)
            .is_some_and(|seen| seen.uid == mirror.uid)
        {
            self.seen.remove(&key);
        }
        true
    }

    /// Brings the mirrors in line with the files; answers the uids of the pods whose mirror is another one now, or has
    /// come or gone.
    pub(crate) fn mirror(&mut self) -> Vec<String> {
        let wanted: BTreeMap<Key, StaticPod> = self
            .wanted()
            .map(|pod| (key(&pod.pod), pod.clone()))
            .collect();
        let mut changed = Vec::new();
        for (key, pod) in &wanted {
            let mirror = self.seen.get(key).filter(|mirror| mirror.shows(&pod.uid));
            let uid = mirror.map(|mirror| mirror.uid.clone());
            let mut known = self.mirrors.lock();
            let known = known.entry(pod.uid.clone()).or_default();
            if *known != uid {
                *known = uid;
                changed.push(pod.uid.clone());
            }
        }
        let Some(node_uid) = self.node_uid().filter(|_| self.listed) else {
            return changed;
        };
        let keys: HashSet<Key> = wanted.keys().chain(self.seen.keys()).cloned().collect();
        for key in keys {
            if self.busy.contains(&key) || self.retry.contains_key(&key) {
                continue;
            }
            let pod = wanted.get(&key);
            let step = mirror::step(pod.map(|pod| pod.uid.as_str()), self.seen.get(&key));
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
            let call = match (step, pod) {
                (Step::Create, Some(pod)) => {
                    let object = mirror::object(&pod.mirror, &node_uid);
                    create(pods, object).boxed()
                }
                (Step::Delete(uid), _) => {
                    info!(namespace = key.0, name = key.1, "delete a mirror pod");
                    delete(pods, key.1.clone(), uid).boxed()
                }
                _ => continue,
            };
            self.busy.insert(key.clone());
            self.calls.push(async move { (key, call.await) }.boxed());
        }
        changed
    }

    fn node_uid(&self) -> Option<String> {
        let node = self.node.borrow();
        node.as_ref()?.metadata.uid.clone()
    }

    /// Forgets a pod that has ended and is wanted no more.
    pub(crate) fn forget(&mut self, uid: &str) {
        if !self.wanted().any(|pod| pod.uid == uid) {
            self.mirrors.lock().remove(uid);
        }
    }
}

async fn create(pods: Api<Pod>, object: Pod) -> Result<(), String> {
    match call(pods.create(&PostParams::default(), &object)).await {
        Ok(_) => Ok(()),
        // The watch will show it, and whose it is.
        Err(error) if error.code() == Some(409) => {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            match call(pods.get_opt(name)).await {
                Ok(Some(other)) if Mirror::of(&other).is_none() => {
                    Err(format!("the API has another pod named {name:?}"))
                }
                // It is no pod of this node.
                Err(error) if error.code() == Some(403) => {
                    Err(format!("the API has another pod named {name:?}"))
                }
                _ => Ok(()),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn delete(pods: Api<Pod>, name: String, uid: String) -> Result<(), String> {
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match call(pods.delete(&name, &parameters)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// A static pod as its worker begins with it: its containers are of the attempt after the newest that left a log.
pub(crate) fn first_seen(pod: &StaticPod, log_dir: &Path) -> Arc<Pod> {
    let (namespace, name) = key(&pod.pod);
    let pod_ref = runtimes::PodRef {
        namespace,
        name,
        uid: pod.uid.clone(),
    };
    let directory = logs::pod_directory(log_dir, &pod_ref);
    let spec = pod.pod.spec.as_ref();
    let statuses = |containers: &[k8s_openapi::api::core::v1::Container]| {
        let list: Vec<_> = containers
            .iter()
            .filter_map(|container| {
                let newest = logs::newest_attempt(&directory.join(&container.name))?;
                Some(k8s_openapi::api::core::v1::ContainerStatus {
                    name: container.name.clone(),
                    restart_count: i32::try_from(newest).ok()?.saturating_add(1),
                    ..Default::default()
                })
            })
            .collect();
        (!list.is_empty()).then_some(list)
    };
    let status = k8s_openapi::api::core::v1::PodStatus {
        container_statuses: spec.and_then(|spec| statuses(&spec.containers)),
        init_container_statuses: spec
            .and_then(|spec| statuses(spec.init_containers.as_deref().unwrap_or_default())),
        ..Default::default()
    };
    Arc::new(Pod {
        status: Some(status),
        ..Pod::clone(&pod.pod)
    })
}
