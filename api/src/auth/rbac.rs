//! The authorizer: Roles and their bindings decide.
//!
//! Reading order:
//! - [`rule`]: what one rule allows, and whether rules cover others. Pure.
//! - [`index`]: roles and bindings by the names they are asked for. Pure.
//! - [`escalation`]: nobody grants what they do not have.
//! - [`defaults`]: the roles that every cluster has. Pure. [`bootstrap`]: keeps them in the store.
//!
//! The index follows the watch cache: before a question is answered it takes in what changed, so whoever
//! wrote a binding through this process finds it at work. Members of `system:masters` may do everything.

pub(crate) mod bootstrap;
mod defaults;
pub(crate) mod escalation;
mod index;
pub(crate) mod rule;

use std::sync::{PoisonError, RwLock};

use store::{Cache, ResourceKey, StoreError, Watcher};

use super::{Attributes, Decision, MASTERS, User};
use index::{Index, Table};
use rule::Rule;

/// The API group of roles.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// Answers from the watch cache.
pub(crate) struct Rbac {
    cache: Cache,
    followed: RwLock<Followed>,
}

/// The index and the watches that keep it current.
#[derive(Default)]
struct Followed {
    index: Index,
    /// Empty before the first question, and after a watch fell behind: then everything is listed.
    watches: Vec<(Table, Watcher)>,
}

impl Rbac {
    pub(crate) fn new(cache: Cache) -> Self {
        Self {
            cache,
            followed: RwLock::default(),
        }
    }

    /// True if the user may.
    pub(crate) fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool {
        user.is_in(MASTERS) || self.with(|index| index.find(user, attributes).is_some())
    }

    /// The same with the reason.
    pub(crate) fn decide(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision {
                allowed: true,
                reason: String::new(),
            };
        }
        self.with(|index| index.decide(user, attributes))
    }

    /// Every rule that holds for a user in a namespace (empty: at the cluster scope).
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.with(|index| index.rules(user, namespace))
    }

    /// The rules of a role; `None` if there is no such role. An empty namespace means a ClusterRole.
    pub(crate) fn role(&self, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.with(|index| index.role(namespace, name).map(<[Rule]>::to_vec))
    }

    /// Asks the index once it has everything that the cache has.
    fn with<T>(&self, ask: impl FnOnce(&Index) -> T) -> T {
        {
            let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
            if followed.is_current() {
                return ask(&followed.index);
            }
        }
        let mut followed = self
            .followed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        followed.catch_up(&self.cache);
        ask(&followed.index)
    }
}

impl Followed {
    fn is_current(&self) -> bool {
        !self.watches.is_empty() && self.watches.iter().all(|(_, watch)| !watch.is_behind())
    }

    fn catch_up(&mut self, cache: &Cache) {
        if self.watches.is_empty() || self.take_changes().is_err() {
            self.start(cache);
        }
    }

    fn take_changes(&mut self) -> Result<(), StoreError> {
        for (table, watch) in &mut self.watches {
            for event in watch.take()? {
                if event.deleted {
                    self.index.remove(*table, &event.item.key);
                } else {
                    self.index
                        .put(*table, &event.item.key, &event.item.decoded.value);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, cache: &Cache) {
        *self = Self::default();
        for table in Table::ALL {
            let resource = ResourceKey::new(GROUP, table.plural());
            let snapshot = cache.list(&resource, None);
            match cache.watch(&resource, snapshot.revision) {
                Ok(watch) => self.watches.push((table, watch)),
                // Changes came in between and are forgotten already: the next question starts again.
                Err(error) => {
                    tracing::warn!(%error, "the roles cannot be followed");
                    self.watches.clear();
                    return;
                }
            }
            for item in snapshot.items {
                self.index.put(table, &item.key, &item.decoded.value);
            }
        }
        // What came between the list and the watch, of which the watch does not tell.
        if self.take_changes().is_err() {
            self.watches.clear();
        }
    }
}
