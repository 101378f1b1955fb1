//! The controllers' view of one kind: one watch, one map, looked up by key and by index.
//!
//! Fed by a watch and by the answers to our own writes, so that a controller sees at once what it
//! did itself. Listeners hear of every change with the object before and after it. The cache never
//! goes back: of two versions of an object the one with the higher resourceVersion stays.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::within;
use crate::key::Key;

/// How many removed objects are remembered, so that a late answer to a write revives none of them.
const REMEMBERED_REMOVALS: usize = 16_384;

/// How often it is tried to find out whether an object is there, and the pause between.
const CHECKS: usize = 10;
const BETWEEN_CHECKS: Duration = Duration::from_millis(200);

/// Gives the values under which an object is found in an index.
pub(crate) type IndexFn<K> = fn(&K) -> Vec<String>;

/// Called with an object before and after a change; must not block.
pub(crate) type Listener<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

/// All objects of one kind, as last seen.
pub(crate) struct Cache<K: 'static> {
    indexes: &'static [(&'static str, IndexFn<K>)],
    strip: fn(&mut K),
    state: RwLock<State<K>>,
    listeners: RwLock<Vec<Listener<K>>>,
    ready: watch::Sender<bool>,
}

/// In the order of their keys.
type Objects<K> = BTreeMap<Arc<Key>, Arc<K>>;

struct State<K> {
    objects: Objects<K>,
    indexed: HashMap<(&'static str, String), Objects<K>>,
    removed: HashSet<String>,
    removed_order: VecDeque<String>,
    /// While a list comes in: what was first seen meanwhile, which the list may be too old to hold.
    since_list: Option<HashSet<Key>>,
}

impl<K> Cache<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// An empty cache; `strip` takes out of every object what no controller reads.
    pub(crate) fn new(
        indexes: &'static [(&'static str, IndexFn<K>)],
        strip: fn(&mut K),
    ) -> Arc<Self> {
        Arc::new(Self {
            indexes,
            strip,
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                indexed: HashMap::new(),
                removed: HashSet::new(),
                removed_order: VecDeque::new(),
                since_list: None,
            }),
            listeners: RwLock::default(),
            ready: watch::Sender::new(false),
        })
    }

    /// Adds one who hears of changes from now on.
    pub(crate) fn listen(&self, listener: Listener<K>) {
        self.listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(listener);
    }

    /// Follows the kind until `stop`.
    pub(crate) async fn run(&self, api: Api<K>, config: watcher::Config, stop: CancellationToken) {
        let mut events = watcher::watcher(api.clone(), config)
            .default_backoff()
            .boxed();
        let mut listed = Vec::new();
        let mut checks = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = checks.next() => continue,
                event = events.try_next() => event,
            };
            match event {
                Ok(Some(Event::Init)) => {
                    self.begin_list();
                    listed.clear();
                }
                Ok(Some(Event::InitApply(object))) => listed.push(object),
                Ok(Some(Event::InitDone)) => {
                    let doubtful = self.replace(std::mem::take(&mut listed));
                    checks.push(self.check(&api, doubtful));
                }
                Ok(Some(Event::Apply(object))) => self.apply(object),
                Ok(Some(Event::Delete(object))) => self.remove(&object),
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "watch failed; trying again"),
            }
        }
    }

    /// Waits until the first list is in.
    pub(crate) async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // An error says that the sender is gone, and `self` holds the sender.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Takes in a version of an object: from the watch, or the answer to a write of ours.
    pub(crate) fn apply(&self, mut object: K) {
        object.managed_fields_mut().clear();
        (self.strip)(&mut object);
        let key = Arc::new(Key::of(&object));
        let object = Arc::new(object);
        let old = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if object
                .meta()
                .uid
                .as_ref()
                .is_some_and(|uid| state.removed.contains(uid))
            {
                return;
            }
            let old = state.objects.get(&key).cloned();
            if old.as_ref().is_some_and(|old| !newer(&*object, &**old)) {
                return;
            }
            if let Some(old) = &old {
                state.unindex(self.indexes, &key, old);
            }
            state.index(self.indexes, &key, &object);
            // An answer about one that is going may be the last that is heard of it.
            let stays = object.meta().deletion_timestamp.is_none();
            if let Some(fresh) = state.since_list.as_mut()
                && old.is_none()
                && stays
            {
                fresh.insert((*key).clone());
            }
            state.objects.insert(key, object.clone());
            old
        };
        let uid = &object.meta().uid;
        if old.as_ref().is_some_and(|old| old.meta().uid != *uid) {
            // Another object of the same name: the one before went unseen.
            self.tell(old.as_ref(), None);
            self.tell(None, Some(&object));
        } else {
            self.tell(old.as_ref(), Some(&object));
        }
    }

    /// Takes an object out, unless another one has taken its name meanwhile.
    pub(crate) fn remove(&self, object: &K) {
        let key = Key::of(object);
        let old = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(uid) = &object.meta().uid {
                state.remember_removed(uid.clone());
            }
            let same = state
                .objects
                .get(&key)
                .is_some_and(|old| old.meta().uid == object.meta().uid);
            if !same {
                return;
            }
            let old = state.objects.remove(&key);
            if let Some(old) = &old {
                state.unindex(self.indexes, &key, old);
            }
            old
        };
        self.tell(old.as_ref(), None);
    }

    /// A list begins: what is first seen from here on may be newer.
    fn begin_list(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.since_list = Some(HashSet::new());
    }

    /// Asks for objects that a list did not hold and that may be newer: those that are not there go.
    async fn check(&self, api: &Api<K>, doubtful: Vec<Arc<K>>) {
        for object in doubtful {
            let named = format!("metadata.name={}", object.name_any());
            let params = ListParams::default().fields(&named);
            for _ in 0..CHECKS {
                match within(api.list_metadata(&params)).await {
                    Ok(found) => {
                        let uid = &object.meta().uid;
                        if !found.items.iter().any(|item| item.metadata.uid == *uid) {
                            self.remove(&object);
                        }
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "look for an object; trying again");
                        tokio::time::sleep(BETWEEN_CHECKS).await;
                    }
                }
            }
        }
    }

    /// Makes the cache hold what a list said: what is not in it, and was there before, has been deleted unseen.
    /// Answers those that were first seen meanwhile and are not in it.
    fn replace(&self, listed: Vec<K>) -> Vec<Arc<K>> {
        let kept: HashSet<Key> = listed.iter().map(Key::of).collect();
        let (doubtful, gone): (Vec<_>, Vec<_>) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let fresh = state.since_list.take().unwrap_or_default();
            let missing = state.objects.iter();
            let missing = missing.filter(|(key, _)| !kept.contains(&***key));
            missing
                .map(|(key, object)| (fresh.contains(&**key), object.clone()))
                .partition(|(fresh, _)| *fresh)
        };
        for (_, object) in gone {
            self.remove(&object);
        }
        for object in listed {
            self.apply(object);
        }
        self.ready.send_replace(true);
        doubtful.into_iter().map(|(_, object)| object).collect()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .objects
            .get(key)
            .cloned()
    }

    /// Every object, in the order of their keys.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .objects
            .values()
            .cloned()
            .collect()
    }

    /// The objects that an index has under a value, in the order of their keys.
    pub(crate) fn by(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let found = state.indexed.get(&(index, value.to_owned()));
        found.map_or_else(Vec::new, |found| found.values().cloned().collect())
    }

    fn tell(&self, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let listeners = self.listeners.read();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter() {
            listener(old, new);
        }
    }
}

impl<K> State<K> {
    fn index(&mut self, indexes: &[(&'static str, IndexFn<K>)], key: &Arc<Key>, object: &Arc<K>) {
        for (name, values) in indexes {
            for value in values(object) {
                self.indexed
                    .entry((*name, value))
                    .or_default()
                    .insert(key.clone(), object.clone());
            }
        }
    }

    fn unindex(&mut self, indexes: &[(&'static str, IndexFn<K>)], key: &Key, object: &K) {
        for (name, values) in indexes {
            for value in values(object) {
                let place = (*name, value);
                if let Some(keys) = self.indexed.get_mut(&place) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.indexed.remove(&place);
                    }
                }
            }
        }
    }

    fn remember_removed(&mut self, uid: String) {
        if self.removed.insert(uid.clone()) {
            self.removed_order.push_back(uid);
        }
        if self.removed_order.len() > REMEMBERED_REMOVALS
            && let Some(oldest) = self.removed_order.pop_front()
        {
            self.removed.remove(&oldest);
        }
    }
}

/// resourceVersions are numbers that grow with every change; one that is none is always taken in.
fn newer<K: Resource>(new: &K, old: &K) -> bool {
    let revision =
        |object: &K| -> Option<u64> { object.meta().resource_version.as_deref()?.parse().ok() };
    match (revision(new), revision(old)) {
        (Some(new), Some(old)) => new > old,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, uid: &str, revision: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(revision.into());
        object
    }

    fn cache() -> (Arc<Cache<ConfigMap>>, Arc<Mutex<Vec<String>>>) {
        let cache =
            Cache::<ConfigMap>::new(&[("uid", |o| vec![o.uid().unwrap_or_default()])], |_| ());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = heard.clone();
        cache.listen(Box::new(move |old, new| {
            let show = |o: Option<&Arc<ConfigMap>>| {
                o.and_then(|o| o.resource_version()).unwrap_or("-".into())
            };
            to.lock()
                .unwrap()
                .push(format!("{}>{}", show(old), show(new)));
        }));
        (cache, heard)
    }

    #[test]
    fn an_older_version_changes_nothing() {
        let (cache, heard) = cache();
        cache.apply(object("a", "1", "10"));
        cache.apply(object("a", "1", "9"));
        assert_eq!(*heard.lock().unwrap(), ["->10"]);
        assert_eq!(cache.by("uid", "1").len(), 1);
    }

    #[test]
    fn a_late_answer_does_not_revive_a_removed_object() {
        let (cache, heard) = cache();
        cache.apply(object("a", "1", "10"));
        cache.remove(&object("a", "1", "12"));
        cache.apply(object("a", "1", "11"));
        assert_eq!(*heard.lock().unwrap(), ["->10", "10>-"]);
        assert!(cache.by("uid", "1").is_empty());
    }

    #[test]
    fn a_list_tells_of_what_was_deleted_unseen() {
        let (cache, heard) = cache();
        cache.apply(object("a", "1", "10"));
        cache.replace(vec![object("b", "2", "12")]);
        assert_eq!(*heard.lock().unwrap(), ["->10", "10>-", "->12"]);
    }

    #[test]
    fn what_was_made_while_a_list_came_in_stays() {
        let (cache, heard) = cache();
        cache.apply(object("a", "1", "10"));
        cache.begin_list();
        cache.apply(object("b", "2", "12"));
        let doubtful = cache.replace(vec![object("a", "1", "10")]);
        assert_eq!(doubtful.len(), 1);
        cache.apply(object("b", "2", "12"));
        assert_eq!(*heard.lock().unwrap(), ["->10", "->12"]);
        cache.begin_list();
        cache.replace(vec![object("a", "1", "10")]);
        assert!(cache.get(&Key::new("", "b")).is_none());
    }
}
