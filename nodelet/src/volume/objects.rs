//! The ConfigMaps and Secrets that volumes are made of, each watched once however many pods use it.
//!
//! A watch of one object begins with its first user and ends with its last: a node may read what its pods name and
//! nothing else, so there is no watch of a whole namespace. An immutable object is read and not watched.
//! Whenever an object changed, its users are put into the queue of [`Stale`].

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tracing::debug;

use super::{
    live::{Stale, lock},
    payload::{Contents, Kind},
};

/// How long a volume waits for the first look at an object.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Which object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What is known of an object.
#[derive(Clone, Debug)]
enum Known {
    Nothing,
    Missing,
    Found(Arc<Contents>),
    /// It could not be read, and why.
    Refused(String),
}

struct Entry {
    known: watch::Sender<Known>,
    users: Users,
    task: AbortHandle,
}

/// The pods, by uid, that an object's volumes belong to.
type Users = Arc<Mutex<HashSet<Arc<str>>>>;

/// The objects in use.
pub(crate) struct Objects {
    client: Client,
    stale: Arc<Stale>,
    entries: Mutex<HashMap<Key, Entry>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Objects {
    pub(crate) fn new(client: Client, stale: Arc<Stale>) -> Objects {
        Objects {
            client,
            stale,
            entries: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// What an object holds, `None` if there is no such object; from now on `user` is told of its changes.
    ///
    /// # Errors
    /// The API refused or did not answer.
    pub(crate) async fn get(
        &self,
        user: &Arc<str>,
        key: &Key,
    ) -> Result<Option<Arc<Contents>>, String> {
        let mut known = self.enter(user, key);
        let looked = known.wait_for(|known| !matches!(known, Known::Nothing));
        let found = match tokio::time::timeout(FIRST_LOOK, looked).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) | Err(_) => Known::Nothing,
        };
        match found {
            Known::Found(contents) => Ok(Some(contents)),
            Known::Missing => Ok(None),
            Known::Refused(message) => Err(message),
            Known::Nothing => Err(format!(
                "failed to read {} {:?}: the apiserver did not answer within {} s",
                key.kind.as_str(),
                key.name,
                FIRST_LOOK.as_secs()
            )),
        }
    }

    /// The user needs these no more.
    pub(crate) fn release<'a>(&self, user: &str, keys: impl IntoIterator<Item = &'a Key>) {
        let mut entries = lock(&self.entries);
        for key in keys {
            let Some(entry) = entries.get(key) else {
                continue;
            };
            let mut users = lock(&entry.users);
            users.remove(user);
            if users.is_empty() {
                drop(users);
                entry.task.abort();
                entries.remove(key);
            }
        }
    }

    fn enter(&self, user: &Arc<str>, key: &Key) -> watch::Receiver<Known> {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get(key) {
            lock(&entry.users).insert(user.clone());
            return entry.known.subscribe();
        }
        let (known, seen) = watch::channel(Known::Nothing);
        let users: Users = Arc::new(Mutex::new(HashSet::from([user.clone()])));
        let told = Told {
            known: known.clone(),
            users: users.clone(),
            stale: self.stale.clone(),
        };
        let (client, namespace, name) = (self.client.clone(), &key.namespace, key.name.clone());
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        let task = match key.kind {
            Kind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(client, namespace);
                tasks.spawn(follow(api, name, told))
            }
            Kind::Secret => {
                let api: Api<Secret> = Api::namespaced(client, namespace);
                tasks.spawn(follow(api, name, told))
            }
        };
        entries.insert(key.clone(), Entry { known, users, task });
        seen
    }
}

/// Where a watch puts what it sees.
struct Told {
    known: watch::Sender<Known>,
    users: Users,
    stale: Arc<Stale>,
}

impl Told {
    fn tell(&self, now: Known) {
        let changed = self.known.send_if_modified(|known| {
            let same = match (&*known, &now) {
                (Known::Missing, Known::Missing) => true,
                (Known::Found(old), Known::Found(new)) => old == new,
                (Known::Refused(old), Known::Refused(new)) => old == new,
                _ => false,
            };
            *known = now;
            !same
        });
        if changed {
            self.stale.add(lock(&self.users).iter().cloned());
        }
    }
}

/// What volumes take of an object.
trait Source: Resource<DynamicType = (), Scope = NamespaceResourceScope> {
    fn contents(self) -> Contents;
}

impl Source for ConfigMap {
    fn contents(self) -> Contents {
        let text = self.data.unwrap_or_default().into_iter();
        let bytes = self.binary_data.unwrap_or_default().into_iter();
        Contents {
            entries: text
                .map(|(key, value)| (key, value.into_bytes()))
                .chain(bytes.map(|(key, value)| (key, value.0)))
                .collect(),
            immutable: self.immutable == Some(true),
        }
    }
}

impl Source for Secret {
    fn contents(self) -> Contents {
        let data = self.data.unwrap_or_default().into_iter();
        Contents {
            entries: data.map(|(key, value)| (key, value.0)).collect(),
            immutable: self.immutable == Some(true),
        }
    }
}

/// Watches one object until dropped, or until it is one that never changes.
async fn follow<K>(api: Api<K>, name: String, told: Told)
where
    K: Source + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let objects = watcher::watch_object(api, &name).default_backoff();
    pin_mut!(objects);
    while let Some(seen) = objects.next().await {
        match seen {
            Ok(Some(object)) => {
                let contents = object.contents();
                let immutable = contents.immutable;
                told.tell(Known::Found(Arc::new(contents)));
                if immutable {
                    return;
                }
            }
            Ok(None) => told.tell(Known::Missing),
            Err(error) => {
                debug!(%error, name, "watch an object that volumes are made of");
                // What was seen before is better than nothing.
                if matches!(*told.known.borrow(), Known::Nothing | Known::Refused(_)) {
                    told.tell(Known::Refused(error.to_string()));
                }
            }
        }
    }
}
