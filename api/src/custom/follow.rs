//! Keeps the catalog as the definitions say.
//!
//! Reads the definitions in the watch cache, so whichever apiserver wrote them, every one serves what
//! they define. A definition is read again only when it changed. A request for a path that is not
//! served looks for itself, so that nobody who saw a definition established finds it missing.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use store::{Cache, Item, ResourceKey, Revision};
use tokio_util::sync::CancellationToken;

use super::{
    definition::{Defined, define},
    status,
};
use crate::{
    catalog::Catalog,
    server::state::{Resource, Server},
};

/// Where definitions are stored.
pub(crate) static DEFINITIONS: LazyLock<ResourceKey> =
    LazyLock::new(|| ResourceKey::new("apiextensions.k8s.io", "customresourcedefinitions"));

/// How soon a watch that has ended is begun again.
const AGAIN: Duration = Duration::from_millis(100);

/// What the definitions that were last seen define, by name.
#[derive(Default)]
pub(crate) struct Known(Mutex<BTreeMap<String, (Revision, Arc<Defined>)>>);

impl Known {
    /// Serves what the definitions in the cache define; says whether that is anything new.
    pub(crate) fn refresh(&self, cache: &Cache, catalog: &Catalog) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = cache.list(&DEFINITIONS, None);
        let same = snapshot.items.len() == known.len()
            && snapshot.items.iter().all(|item| {
                let found = known.get(item.key.name());
                found.is_some_and(|(revision, _)| *revision == item.revision)
            });
        if same {
            return false;
        }
        let mut next = BTreeMap::new();
        for item in &snapshot.items {
            let name = item.key.name().to_owned();
            let defined = match known.remove(&name) {
                Some((revision, defined)) if revision == item.revision => defined,
                _ => Arc::new(read(item, cache)),
            };
            next.insert(name, (item.revision, defined));
        }
        *known = next;
        let served = known.values().flat_map(|(_, defined)| &defined.served);
        catalog.serve(served.cloned());
        true
    }

    /// The resource that the objects of a definition are stored as.
    pub(crate) fn stored(&self, name: &str) -> Option<Arc<Resource>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name)?.1.stored.clone()
    }
}

fn read(item: &Item, cache: &Cache) -> Defined {
    let definition: Value = serde_json::from_slice(&item.decoded.value).unwrap_or_default();
    if status::holds(&definition["status"], "Established") {
        define(&definition, cache)
    } else {
        Defined {
            served: Vec::new(),
            stored: None,
        }
    }
}

/// Follows the definitions until `stop`.
pub(crate) async fn run(server: &Arc<Server>, stop: CancellationToken) {
    loop {
        let watcher = server.cache.watch(&DEFINITIONS, server.cache.revision());
        server.refresh();
        if let Ok(mut watcher) = watcher {
            loop {
                let ended = tokio::select! {
                    () = stop.cancelled() => return,
                    events = watcher.next() => events.is_err(),
                };
                server.refresh();
                if ended {
                    break;
                }
            }
        }
        // The cache has gone on without this watch, or has ended with the process.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
