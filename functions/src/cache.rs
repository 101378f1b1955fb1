//! The controller's view of one kind: one watch, objects found by key and by the Function that they are for.
//!
//! Objects are kept as text, and read when they are needed: ten thousand Functions at rest take as little as they
//! can. Fed by a watch and by the answers to our own writes. The cache never goes back: of two versions of an
//! object the one with the higher resourceVersion stays. Listeners hear of every change.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use function_kinds::FUNCTION_LABEL;
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Resource, ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::key::Key;

/// Called with an object before and after a change; must not block.
pub(crate) type Listener =
    Box<dyn Fn(Option<&DynamicObject>, Option<&DynamicObject>) + Send + Sync>;

/// All objects of one kind, as last seen.
pub(crate) struct Cache {
    state: Mutex<State>,
    listeners: Vec<Listener>,
    ready: watch::Sender<bool>,
}

struct Kept {
    revision: u64,
    uid: String,
    /// The Function that it is for.
    function: Option<Key>,
    text: Arc<str>,
}

#[derive(Default)]
struct State {
    objects: HashMap<Key, Kept>,
    /// Names by Function.
    of: HashMap<Key, BTreeMap<String, Key>>,
    /// The newest of what was removed: an answer that is older revives nothing.
    removed: u64,
}

impl Cache {
    /// An empty cache.
    pub(crate) fn new(listeners: Vec<Listener>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            listeners,
            ready: watch::Sender::new(false),
        })
    }

    /// Follows the kind until `stop`.
    pub(crate) async fn run(
        &self,
        api: Api<DynamicObject>,
        config: watcher::Config,
        stop: CancellationToken,
    ) {
        let mut events = watcher::watcher(api, config).default_backoff().boxed();
        let mut listed = HashSet::new();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.try_next() => event,
            };
            match event {
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(object))) => {
                    listed.insert(Key::of(&object));
                    self.apply(object);
                }
                Ok(Some(Event::InitDone)) => {
                    self.keep(&std::mem::take(&mut listed));
                    self.ready.send_replace(true);
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
    pub(crate) fn apply(&self, mut object: DynamicObject) {
        object.managed_fields_mut().clear();
        let key = Key::of(&object);
        let kept = Kept {
            revision: revision(&object),
            uid: object.uid().unwrap_or_default(),
            function: function_of(&object),
            text: match serde_json::to_string(&object) {
                Ok(text) => text.into(),
                Err(error) => return tracing::error!(%error, object = %key, "keep an object"),
            },
        };
        let old = {
            let mut state = self.state();
            let old = state.objects.get(&key);
            let known = old.map_or(state.removed, |old| old.revision);
            if kept.revision <= known && kept.revision != 0 {
                return;
            }
            state.insert(key, kept)
        };
        let old = old.and_then(|old| parse(&old.text));
        self.tell(old.as_ref(), Some(&object));
    }

    fn remove(&self, object: &DynamicObject) {
        let key = Key::of(object);
        let old = {
            let mut state = self.state();
            state.removed = state.removed.max(revision(object));
            let uid = object.uid().unwrap_or_default();
            if state.objects.get(&key).is_none_or(|kept| kept.uid != uid) {
                return;
            }
            state.take(&key)
        };
        self.tell(old.and_then(|old| parse(&old.text)).as_ref(), None);
    }

    /// Drops what a list did not hold.
    fn keep(&self, listed: &HashSet<Key>) {
        let gone: Vec<Kept> = {
            let mut state = self.state();
            let keys: Vec<Key> = state.objects.keys().cloned().collect();
            let gone = keys.into_iter().filter(|key| !listed.contains(key));
            gone.filter_map(|key| state.take(&key)).collect()
        };
        for kept in gone {
            self.tell(parse(&kept.text).as_ref(), None);
        }
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<DynamicObject> {
        let text = self.state().objects.get(key)?.text.clone();
        parse(&text)
    }

    /// The objects that are for a Function, in the order of their names.
    pub(crate) fn of(&self, function: &Key) -> Vec<DynamicObject> {
        let texts: Vec<Arc<str>> = {
            let state = self.state();
            let keys = state
                .of
                .get(function)
                .into_iter()
                .flat_map(BTreeMap::values);
            keys.filter_map(|key| Some(state.objects.get(key)?.text.clone()))
                .collect()
        };
        texts.iter().filter_map(|text| parse(text)).collect()
    }

    /// The keys of all objects.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.state().objects.keys().cloned().collect()
    }

    fn tell(&self, old: Option<&DynamicObject>, new: Option<&DynamicObject>) {
        for listener in &self.listeners {
            listener(old, new);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, key: Key, kept: Kept) -> Option<Kept> {
        let old = self.take(&key);
        if let Some(function) = &kept.function {
            let names = self.of.entry(function.clone()).or_default();
            names.insert(key.name.clone(), key.clone());
        }
        self.objects.insert(key, kept);
        old
    }

    fn take(&mut self, key: &Key) -> Option<Kept> {
        let old = self.objects.remove(key)?;
        if let Some(function) = &old.function
            && let Some(names) = self.of.get_mut(function)
        {
            names.remove(&key.name);
            if names.is_empty() {
                self.of.remove(function);
            }
        }
        Some(old)
    }
}

/// The Function that an object is for, by its label.
pub(crate) fn function_of(object: &DynamicObject) -> Option<Key> {
    let name = object.labels().get(FUNCTION_LABEL)?;
    Some(Key::new(&object.namespace()?, name))
}

fn revision(object: &DynamicObject) -> u64 {
    let text = object.meta().resource_version.as_deref();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn parse(text: &str) -> Option<DynamicObject> {
    // It was written by this process.
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, revision: &str, function: &str) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {
            "name": name, "namespace": "ns", "uid": name, "resourceVersion": revision,
            "labels": {FUNCTION_LABEL: function},
        }}))
        .unwrap()
    }

    fn names(cache: &Cache, function: &str) -> Vec<String> {
        let found = cache.of(&Key::new("ns", function));
        found.iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn an_object_is_found_by_its_function_until_it_is_of_another() {
        let cache = Cache::new(Vec::new());
        cache.apply(object("a", "1", "f"));
        cache.apply(object("b", "2", "f"));
        assert_eq!(names(&cache, "f"), ["a", "b"]);
        cache.apply(object("a", "3", "g"));
        assert_eq!(names(&cache, "f"), ["b"]);
        assert_eq!(names(&cache, "g"), ["a"]);
    }

    #[test]
    fn a_late_answer_changes_nothing_and_revives_nothing() {
        let cache = Cache::new(Vec::new());
        cache.apply(object("a", "5", "f"));
        cache.apply(object("a", "4", "g"));
        assert_eq!(names(&cache, "f"), ["a"]);
        cache.remove(&object("a", "7", "f"));
        cache.apply(object("a", "6", "f"));
        assert_eq!(names(&cache, "f"), Vec::<String>::new());
    }

    #[test]
    fn what_a_list_lacks_is_gone() {
        let cache = Cache::new(Vec::new());
        cache.apply(object("a", "1", "f"));
        cache.keep(&HashSet::new());
        assert!(cache.keys().is_empty());
    }
}
